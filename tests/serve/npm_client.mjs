// The npm package `openai` against a live server: node client.mjs BASE_URL PICTURE QUESTION; prints one JSON object.
import fs from "node:fs";
import OpenAI from "openai";

const [baseURL, picture, question] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey: "none", maxRetries: 0 });
const model = "fovea-nano";
const url = "data:image/png;base64," + fs.readFileSync(picture).toString("base64");

function ask(part) {
  return [{ role: "user", content: [part, { type: "text", text: question }] }];
}

const inline = ask({ type: "image_url", image_url: { url } });
const told = {};

const whole = await client.chat.completions.create({ model, messages: inline });
told.whole = whole.choices[0].message.content;

told.streamed = "";
for await (const chunk of await client.chat.completions.create({ model, messages: inline, stream: true })) {
  told.streamed += chunk.choices[0]?.delta?.content ?? "";
}

const left = await client.chat.completions.create({ model, messages: inline, stream: true, max_tokens: 400 });
for await (const chunk of left) break; // closes the connection

const budgeted = await client.chat.completions.create({ model, messages: inline, visual_budget: "25%" });
told.tokens = budgeted.usage.image_tokens;
told.kept = budgeted.usage.image_tokens_kept;

const file = await client.files.create({ file: fs.createReadStream(picture), purpose: "vision" });
const stored = ask({ type: "file", file: { file_id: file.id } });
told.uploaded = (await client.chat.completions.create({ model, messages: stored })).choices[0].message.content;
await client.files.delete(file.id);

function schema(properties) {
  return { type: "object", properties, required: Object.keys(properties), additionalProperties: false };
}

const counted = await client.chat.completions.create({
  model,
  messages: inline,
  response_format: {
    type: "json_schema",
    json_schema: { name: "count", schema: schema({ n: { type: "integer", minimum: 0, maximum: 9 } }) },
  },
});
told.schema = JSON.parse(counted.choices[0].message.content);

const called = await client.chat.completions.create({
  model,
  messages: inline,
  tools: [
    { type: "function", function: { name: "paint", parameters: schema({ colour: { enum: ["red", "blue"] } }) } },
  ],
  tool_choice: "required",
});
const call = called.choices[0].message.tool_calls[0].function;
told.tool = call.name;
told.arguments = JSON.parse(call.arguments);

try {
  await client.chat.completions.create({ model, messages: inline, temprature: 1 });
} catch (error) {
  Object.assign(told, { status: error.status, code: error.code, param: error.param });
}

told.models = (await client.models.list()).data.map((one) => one.id);
console.log(JSON.stringify(told));

// Taking results along: a link, a JSON file, a picture.

import { budgetLabel } from "./budget.js";
import { plainOf, shownRun } from "./conversation.js";
import { facts } from "./metrics.js";
import { canvasBlob, uriOf } from "./pictures.js";
import { MOST_SEED } from "./sources.js";

/**
 * The part of a link behind the #. It holds settings and question, and a scene's seed; never a picture or a key, and
 * being a fragment it never reaches a server.
 */
export function fragmentOf({ scene, question, budget, reducer, comparing }) {
  const parameters = new URLSearchParams();
  if (scene) parameters.set("scene", `${scene.seed}.${scene.difficulty}`);
  if (question) parameters.set("q", question);
  parameters.set("budget", budget);
  if (reducer) parameters.set("reducer", reducer);
  if (comparing) parameters.set("compare", "1");
  return `#${parameters}`;
}

/** The settings in a fragment; what is not valid is left out. */
export function settingsIn(fragment) {
  const parameters = new URLSearchParams(fragment.replace(/^#/, ""));
  const [, seed, difficulty] = /^(\d{1,10})\.([1-3])$/.exec(parameters.get("scene") ?? "") ?? [];
  const scene = seed !== undefined && Number(seed) <= MOST_SEED ? { seed: Number(seed), difficulty: Number(difficulty) } : null;
  return {
    scene,
    question: parameters.get("q"),
    budget: /^(full|\d{1,3}%)$/.exec(parameters.get("budget") ?? "")?.[0] ?? null,
    reducer: parameters.get("reducer"),
    comparing: parameters.get("compare") === "1",
  };
}

/** Hands a file to the browser. */
export function download(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

const fileName = (conversation, ending) => `foveate-${new Date(conversation.at).toISOString().slice(0, 19).replaceAll(":", "-")}.${ending}`;

/** Everything of a conversation, with pictures as data: URIs. */
export async function exportJson(conversation) {
  const plain = plainOf(conversation);
  const data = await Promise.all(conversation.pictures.map(({ blob }) => uriOf(blob)));
  plain.pictures = plain.pictures.map((picture, index) => ({ ...picture, data: data[index] }));
  const file = { format: "foveate-playground", version: 1, exported: new Date().toISOString(), conversation: plain };
  const blob = new Blob([JSON.stringify(file, null, 1)], { type: "application/json" });
  download(blob, fileName(conversation, "json"));
}

function wrap(pen, text, width) {
  const lines = [""];
  for (const word of text.split(/\s+/)) {
    const longer = `${lines.at(-1)} ${word}`.trim();
    if (lines.at(-1) && pen.measureText(longer).width > width) lines.push(word);
    else lines[lines.length - 1] = longer;
  }
  return lines;
}

const FONT = "system-ui, sans-serif";
const GAP = 24;
const WIDE = 560;

/** What is seen as one picture: overlays, question, and each shown budget's answer with its numbers. */
export async function exportPng(conversation, { canvases, turn, runs }) {
  const width = Math.max(WIDE, canvases.length * WIDE + (canvases.length - 1) * GAP) + 2 * GAP;
  const pen = document.createElement("canvas").getContext("2d");
  const lines = [];
  const write = (text, font, colour) => {
    pen.font = font;
    for (const line of wrap(pen, text, width - 2 * GAP)) lines.push({ line, font, colour });
  };
  if (turn) write(turn.question, `600 20px ${FONT}`, "#14171f");
  for (const run of runs) {
    const method = run.budget === "full" ? "" : ` by ${run.reducer}`;
    write(`${budgetLabel(run.budget)}${method}: ${run.answer}`, `18px ${FONT}`, "#14171f");
    write(facts(run).join(" · "), `14px ${FONT}`, "#545a6b");
  }
  write(`Foveate playground · ${conversation.model}`, `13px ${FONT}`, "#545a6b");
  const pictureHeight = Math.max(0, ...canvases.map((canvas) => canvas.height));
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = pictureHeight + 2 * GAP + lines.length * 28 + 8;
  const context = canvas.getContext("2d");
  context.fillStyle = "#ffffff";
  context.fillRect(0, 0, canvas.width, canvas.height);
  canvases.forEach((one, index) => context.drawImage(one, GAP + index * (WIDE + GAP), GAP));
  lines.forEach(({ line, font, colour }, index) => {
    context.font = font;
    context.fillStyle = colour;
    context.fillText(line, GAP, pictureHeight + 2 * GAP + 14 + index * 28);
  });
  download(await canvasBlob(canvas, "image/png"), fileName(conversation, "png"));
}

export const EXPORT_WIDTH = WIDE;

/** The runs of a turn that are on show: full first while comparing. */
export function runsOnShow(turn, comparing) {
  if (!turn) return [];
  const shown = shownRun(turn);
  const full = turn.runs.find((run) => run.budget === "full" && run.state === "done");
  return [...new Set([comparing ? full : null, shown])].filter((run) => run?.state === "done");
}

// Whether the server is there, and what it serves: the light in the header, the list of methods.

import { ServerError } from "./api.js";
import { byId, fill, make } from "./dom.js";

const PAUSES = [2, 4, 8, 15]; // seconds between looks for a lost server

const sentence = (words) => `${words[0].toUpperCase()}${words.slice(1).replace(/\.$/, "")}.`;

export class Link {
  #model = "";
  #reducers = [];
  #looking = false;

  /** @param {object} hooks `back()`: a lost server answers again. */
  constructor(server, hooks) {
    this.server = server;
    this.hooks = hooks;
    byId("reducer").addEventListener("change", () => this.#describe());
  }

  get model() {
    return this.#model;
  }

  /** Asks what is served. @throws {ServerError} */
  async learn() {
    const [models, reducers] = await Promise.all([this.server.get("v1/models"), this.server.get("foveate/reducers")]);
    this.#model = models.data[0]?.id ?? "";
    this.#reducers = reducers.data;
    byId("model").textContent = this.#model;
    const chosen = byId("reducer").value || reducers.default;
    const options = reducers.data.map(({ name, refused }) => make("option", { value: name, text: refused ? `${name} (not with this model)` : name, disabled: Boolean(refused) }));
    fill(byId("reducer"), ...options);
    this.choose(chosen);
    this.say("ready", "ready");
  }

  /** Selects a method, if it can be. */
  choose(name) {
    const known = this.#reducers.find((one) => one.name === name && !one.refused);
    if (known) byId("reducer").value = name;
    this.#describe();
    return Boolean(known);
  }

  #describe() {
    const card = this.#reducers.find((one) => one.name === byId("reducer").value);
    const words = card ? [card.description, card.needs ? `Reads: ${card.needs}` : "", card.paper ?? ""] : [];
    byId("reducer-about").textContent = words.filter(Boolean).map(sentence).join(" ");
  }

  say(state, words) {
    byId("status").dataset.state = state;
    byId("status-words").textContent = words;
  }

  /** Looks for a lost server until it answers. */
  async lookFor() {
    if (this.#looking) return;
    this.#looking = true;
    this.say("gone", "not reachable");
    for (let tries = 0; ; tries += 1) {
      await new Promise((resolve) => setTimeout(resolve, 1000 * PAUSES[Math.min(tries, PAUSES.length - 1)]));
      if (await this.server.isThere()) break;
    }
    this.#looking = false;
    try {
      await this.learn();
    } catch (error) {
      if (!(error instanceof ServerError)) throw error;
      return this.hooks.back(error);
    }
    return this.hooks.back(null);
  }
}

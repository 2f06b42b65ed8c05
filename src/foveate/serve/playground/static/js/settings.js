// The reader's own settings: look, key, sampling. The key lives as long as the tab does and goes nowhere but the server.

import { byId } from "./dom.js";

const KEY = "foveate.key"; // in sessionStorage: gone with the tab
const LOOK = "foveate.look";

/** A stored value; null where the browser lets the page store nothing. */
function stored(storage, name) {
  try {
    return window[storage].getItem(name);
  } catch (error) {
    if (!(error instanceof DOMException)) throw error;
    return null;
  }
}

function store(storage, name, value) {
  try {
    if (value) window[storage].setItem(name, value);
    else window[storage].removeItem(name);
  } catch (error) {
    if (!(error instanceof DOMException)) throw error; // it holds until the page is left
  }
}

export class Settings {
  #key = stored("sessionStorage", KEY) ?? "";
  #dialog = byId("settings");
  #sampling = { temperature: 0, max_completion_tokens: 256 };

  /** @param {object} hooks `keyChanged()`. */
  constructor(hooks) {
    this.hooks = hooks;
    byId("open-settings").addEventListener("click", () => this.open());
    byId("settings-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#apply();
    });
    byId("settings-close").addEventListener("click", () => this.#dialog.close());
    byId("look").value = stored("localStorage", LOOK) ?? "auto";
    byId("look").addEventListener("change", () => this.#setLook());
    this.#setLook();
  }

  get key() {
    return this.#key;
  }

  /** Opens the dialog; at the key's field where that is what is missing. */
  open({ atKey = false } = {}) {
    byId("key").value = this.#key;
    byId("temperature").value = String(this.#sampling.temperature);
    byId("longest").value = String(this.#sampling.max_completion_tokens);
    if (!this.#dialog.open) this.#dialog.showModal();
    if (atKey) byId("key").focus();
  }

  /** The fields of a request that say how to answer. */
  get sampling() {
    return this.#sampling;
  }

  #apply() {
    const key = byId("key").value.trim();
    const changed = key !== this.#key;
    this.#key = key;
    this.#sampling = { temperature: Number(byId("temperature").value), max_completion_tokens: Number(byId("longest").value) };
    store("sessionStorage", KEY, key);
    this.#dialog.close();
    if (changed) this.hooks.keyChanged();
  }

  #setLook() {
    const look = byId("look").value;
    if (look === "auto") delete document.documentElement.dataset.look;
    else document.documentElement.dataset.look = look;
    store("localStorage", LOOK, look === "auto" ? "" : look);
  }
}

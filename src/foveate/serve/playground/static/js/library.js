// The dialog with the conversations that this browser keeps.

import { titleOf } from "./conversation.js";
import { byId, fill, make } from "./dom.js";
import { StorageError } from "./history.js";

export class Library {
  #dialog = byId("library");

  /** @param {History} history @param {object} hooks `open(conversation, lost)`, `failed(words)`. */
  constructor(history, hooks) {
    this.history = history;
    this.hooks = hooks;
    byId("open-library").addEventListener("click", () => {
      this.#show();
      this.#dialog.showModal();
    });
    byId("library-close").addEventListener("click", () => this.#dialog.close());
    byId("library-clear").addEventListener("click", () => this.#guard(() => this.history.clear()));
  }

  #show() {
    const items = this.history.list().map((one) => this.#item(one));
    fill(byId("library-list"), ...items);
    byId("library-empty").hidden = items.length > 0;
    byId("library-clear").hidden = items.length === 0;
  }

  #item(one) {
    const when = new Date(one.at).toLocaleString();
    const title = titleOf(one);
    const turns = one.turns.length === 1 ? "1 question" : `${one.turns.length} questions`;
    const open = make(
      "button",
      { type: "button", class: "library-open", on: { click: () => this.#open(one.id) } },
      make("span", { class: "library-title", text: title }),
      make("span", { class: "library-facts", text: `${when} · ${turns} · ${one.model}` }),
    );
    const label = `Delete: ${title}`;
    const remove = make("button", { type: "button", class: "quiet", text: "Delete", "aria-label": label, on: { click: () => this.#guard(() => this.history.remove(one.id)) } });
    return make("li", {}, open, remove);
  }

  async #open(id) {
    await this.#guard(async () => {
      const found = await this.history.load(id);
      if (found) this.hooks.open(found.conversation, found.lost);
    });
    this.#dialog.close();
  }

  async #guard(work) {
    try {
      await work();
    } catch (error) {
      if (!(error instanceof StorageError)) throw error;
      this.hooks.failed(error.message);
    }
    this.#show();
  }
}

// The strip that says what is in the way: a busy server, a lost one, a refused picture.

import { fill, make } from "./dom.js";

export class Notices {
  #place;

  constructor(place) {
    this.#place = place;
  }

  /** `tone`: "note", "warning" or "error". `actions`: [words, function] pairs, each a button. */
  show(text, { tone = "note", actions = [], counting = null } = {}) {
    const close = ["Dismiss", () => this.clear()];
    const buttons = [...actions, ...(counting ? [] : [close])].map(([words, act]) =>
      make("button", { type: "button", class: "quiet", text: words, on: { click: act } }),
    );
    this.#place.className = `notice ${tone}`;
    const kind = { note: "Note", warning: "Wait", error: "Problem" }[tone];
    fill(this.#place, make("strong", { text: kind }), make("span", { class: "notice-text", text }), counting, ...buttons);
    this.#place.hidden = false;
  }

  clear() {
    this.#place.hidden = true;
    fill(this.#place);
  }

  /**
   * Counts down to the next try.
   * @returns {Promise<boolean>} true when it is time or the reader is in a hurry, false if they give up.
   */
  countDown(text, seconds, signal) {
    return new Promise((resolve) => {
      const counter = make("span", { class: "notice-count", "aria-hidden": "true" });
      const end = Date.now() + seconds * 1000;
      let timer = 0;
      const finish = (again) => {
        clearInterval(timer);
        signal.removeEventListener("abort", giveUp);
        this.clear();
        resolve(again);
      };
      const giveUp = () => finish(false);
      const tick = () => {
        const left = Math.ceil((end - Date.now()) / 1000);
        counter.textContent = `Next try in ${Math.max(0, left)} s`;
        if (left <= 0) finish(true);
      };
      signal.addEventListener("abort", giveUp);
      const actions = [["Try now", () => finish(true)], ["Give up", giveUp]];
      this.show(text, { tone: "warning", actions, counting: counter });
      timer = setInterval(tick, 250);
      tick();
    });
  }
}

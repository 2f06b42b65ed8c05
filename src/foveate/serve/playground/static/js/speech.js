// What a screen reader hears of an answer that streams: whole phrases, not every token.

const QUIET = 900; // milliseconds between announcements

export class Speech {
  #region;
  #heard = 0;
  #last = 0;

  /** @param {HTMLElement} region with aria-live; hidden from sight only. */
  constructor(region) {
    this.#region = region;
  }

  begin() {
    this.#region.replaceChildren();
    this.#heard = 0;
    this.#last = Date.now();
  }

  /** Announces what is new up to the last whole word; all of it once the answer is complete. */
  update(text, complete) {
    if (!complete && Date.now() - this.#last < QUIET) return;
    const end = complete ? text.length : text.lastIndexOf(" ");
    const news = text.slice(this.#heard, end).trim();
    if (news) {
      this.say(news);
      this.#heard = end;
    }
  }

  say(words) {
    const line = document.createElement("span");
    line.textContent = `${words} `;
    this.#region.append(line);
    this.#last = Date.now();
  }
}

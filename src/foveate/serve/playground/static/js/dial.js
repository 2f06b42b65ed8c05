// The controls of a question: visual budget, method, comparison; and the link that holds them.

import { budgetAt, budgetLabel, budgetSpoken, positionOf } from "./budget.js";
import { byId } from "./dom.js";
import { fragmentOf } from "./share.js";

const PAUSE = 300; // milliseconds: arrow keys move the slider many steps, and only the last is asked for

export class Dial {
  #timer = 0;

  /** @param {Link} link knows the methods. @param {object} hooks `changed()`: to be asked again. */
  constructor(link, hooks) {
    this.link = link;
    byId("budget").addEventListener("input", () => this.#show());
    byId("budget").addEventListener("change", () => {
      this.settle();
      this.#timer = setTimeout(() => hooks.changed(), PAUSE);
    });
    for (const name of ["reducer", "compare"]) byId(name).addEventListener("change", () => hooks.changed());
  }

  /** The settings are being asked with: a move of the slider just before needs no asking of its own. */
  settle() {
    clearTimeout(this.#timer);
  }

  get budget() {
    return budgetAt(Number(byId("budget").value));
  }

  get reducer() {
    return byId("reducer").value;
  }

  get comparing() {
    return byId("compare").checked;
  }

  /** Sets what is given; budgets that are no share leave the slider where it is. */
  set({ budget = null, reducer = null, comparing = this.comparing }) {
    const position = budget === null ? null : positionOf(budget);
    if (position !== null) byId("budget").value = String(position);
    if (reducer) this.link.choose(reducer);
    byId("compare").checked = comparing;
    this.#show();
  }

  #show() {
    byId("budget-words").textContent = budgetLabel(this.budget);
    byId("budget").setAttribute("aria-valuetext", budgetSpoken(this.budget));
  }

  /** Puts the state into the page's address, in place of the one before. */
  writeLink(conversation) {
    const scene = conversation.pictures[0]?.scene ?? null;
    const question = byId("question").value || conversation.turns.at(-1)?.question || "";
    const { budget, reducer, comparing } = this;
    history.replaceState(null, "", fragmentOf({ scene, question, budget, reducer, comparing }));
  }
}

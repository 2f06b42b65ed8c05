// The conversation as it is read: questions, answers, and what the same question got at other budgets.

import { budgetLabel } from "./budget.js";
import { shownRun } from "./conversation.js";
import { fill, make } from "./dom.js";
import { STAGES, duration, facts, sameAnswer } from "./metrics.js";

const FINISH = { length: "The answer stopped at the length limit.", content_filter: "The server withheld the rest." };

/** The words in place of an answer, or under it. */
function stateOf(run) {
  if (run.state === "waiting") return "Waiting for the first token …";
  if (run.state === "stopped") return "Stopped.";
  if (run.state === "failed") return run.error.message;
  if (run.state === "done" && run.answer === "") return "The model answered with nothing.";
  return FINISH[run.finish] ?? "";
}

/** Right or wrong, where the exact answer is known. */
function verdictOf(turn, run) {
  if (turn.truth === null || run.state !== "done") return null;
  const right = sameAnswer(turn.truth, run.answer);
  const words = right ? "✓ that is the exact answer" : `✗ the exact answer is: ${turn.truth}`;
  return make("p", { class: right ? "verdict right" : "verdict wrong", text: words });
}

function timesOf(run) {
  const times = run.trace?.times;
  if (!times) return null;
  const known = STAGES.filter((stage) => times[stage] !== null && times[stage] !== undefined);
  const sum = known.reduce((total, stage) => total + times[stage], 0) || 1;
  const bar = make("div", { class: "stages", "aria-hidden": "true" });
  const list = make("dl", { class: "stage-list" });
  for (const stage of known) {
    bar.append(make("span", { class: `stage ${stage}`, style: { "flex-grow": String(times[stage] / sum) } }));
    list.append(make("div", {}, make("dt", { class: `stage-name ${stage}`, text: stage }), make("dd", { text: duration(times[stage]) })));
  }
  return make("details", { class: "times" }, make("summary", { text: `The server's ${duration(times.total ?? sum)} by stage` }), bar, list);
}

class TurnCard {
  #answer = make("p", { class: "answer" });
  #state = make("p", { class: "answer-state" });
  #under = make("div", { class: "under" });
  #runs = make("div", { class: "runs", role: "group", "aria-label": "Answers by budget" });
  #signature = "";

  constructor(turn, { choose }) {
    this.turn = turn;
    this.choose = choose;
    this.element = make(
      "li",
      { class: "turn" },
      make("p", { class: "question" }, make("span", { class: "visually-hidden", text: "Question: " }), turn.question),
      make("div", { class: "reply" }, this.#answer, this.#state, this.#under, this.#runs),
    );
  }

  update() {
    const run = shownRun(this.turn);
    if (!run) return;
    this.#answer.textContent = run.answer;
    this.#answer.hidden = run.answer === "";
    this.#answer.classList.toggle("streaming", run.state === "streaming");
    const state = stateOf(run);
    this.#state.textContent = state;
    this.#state.hidden = state === "";
    this.#state.classList.toggle("failed", run.state === "failed");
    const signature = JSON.stringify(this.turn.runs.map((one) => [one.budget, one.reducer, one.state, one.state === "done" && one.answer]).concat(this.turn.shown));
    if (signature === this.#signature) return;
    this.#signature = signature;
    this.#showFacts(run);
    this.#showRuns(run);
  }

  #showFacts(run) {
    if (run.state !== "done") return fill(this.#under);
    const open = this.#under.querySelector("details")?.open ?? false;
    const line = make("p", { class: "facts" }, ...facts(run).map((fact) => make("span", { class: "fact", text: fact })));
    const times = timesOf(run);
    if (times) times.open = open;
    return fill(this.#under, verdictOf(this.turn, run), line, times);
  }

  #showRuns(shown) {
    const focused = [...this.#runs.children].indexOf(document.activeElement);
    const full = this.turn.runs.find((run) => run.state === "done" && run.budget === "full");
    this.#runs.hidden = this.turn.runs.length < 2;
    const several = new Set(this.turn.runs.filter((run) => run.budget !== "full").map((run) => run.reducer)).size > 1;
    const buttons = this.turn.runs.map((run, index) => {
      const differs = full && run !== full && run.state === "done" && !sameAnswer(run.answer, full.answer);
      const label = several && run.budget !== "full" ? `${budgetLabel(run.budget)} ${run.reducer}` : budgetLabel(run.budget);
      return make(
        "button",
        { type: "button", class: differs ? "run differs" : "run", "aria-pressed": String(run === shown), on: { click: () => this.choose(this.turn, index) } },
        make("span", { class: "run-budget", text: label }),
        make("span", { class: "run-answer", text: run.state === "done" ? run.answer.trim() || "(nothing)" : run.state }),
        differs ? make("span", { class: "run-mark", text: "≠ full" }) : "",
      );
    });
    fill(this.#runs, ...buttons);
    this.#runs.children[focused]?.focus();
  }
}

/** The list of turns. */
export class Turns {
  #cards = new Map();

  /** @param {HTMLElement} list @param {object} hooks `choose(turn, index of the run)`. */
  constructor(list, hooks) {
    this.list = list;
    this.hooks = hooks;
  }

  /** Shows a conversation; only what changed is touched. */
  render(conversation) {
    for (const [turn, card] of this.#cards) {
      if (conversation.turns.includes(turn)) continue;
      card.element.remove();
      this.#cards.delete(turn);
    }
    for (const turn of conversation.turns) {
      let card = this.#cards.get(turn);
      if (!card) {
        card = new TurnCard(turn, this.hooks);
        this.#cards.set(turn, card);
        this.list.append(card.element);
        card.element.scrollIntoView({ block: "nearest" });
      }
      card.update();
    }
  }
}

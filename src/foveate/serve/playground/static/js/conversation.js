// What was asked and answered. Plain data, so that it can be kept, exported and read again.
//
// A conversation has pictures and turns; a turn has a question and runs: the same question at different budgets.

import { newId } from "./pictures.js";

export const newConversation = (pictures = []) => ({ id: newId(), at: Date.now(), model: "", pictures, turns: [] });

/** `truth` is the exact answer, where the question came with a scene of the world. */
export const newTurn = (question, truth = null) => ({ question, truth, runs: [], shown: -1 });

/** `state`: waiting, streaming, done, stopped or failed. Times are seconds by this browser's clock. */
export const newRun = (budget, reducer) => ({
  budget,
  reducer,
  answer: "",
  finish: null,
  usage: null,
  trace: null,
  first: null,
  total: null,
  state: "waiting",
  error: null,
});

export const shownRun = (turn) => turn.runs[turn.shown] ?? null;

/** Adds a run; those that came to nothing make room. Returns it. */
export function addRun(turn, run, shown) {
  const before = shownRun(turn);
  turn.runs = [...turn.runs.filter((one) => one.state === "done"), run];
  turn.shown = turn.runs.indexOf(shown ? run : before);
  return run;
}

/** The complete run of a turn at a budget, if there is one. At the full budget no method has anything to choose. */
export function findRun(turn, budget, reducer) {
  const fits = (run) => run.state === "done" && run.budget === budget && (budget === "full" || run.reducer === reducer);
  return turn.runs.findIndex(fits);
}

/** The messages of a request that asks for `turn`: the turns before it that have an answer, with the one shown. */
export function messagesFor(conversation, turn, uris) {
  const before = conversation.turns.slice(0, conversation.turns.indexOf(turn)).filter((one) => shownRun(one)?.answer);
  const messages = [];
  for (const [index, one] of [...before, turn].entries()) {
    const pictures = index === 0 ? uris.map((url) => ({ type: "image_url", image_url: { url } })) : [];
    const content = pictures.length ? [...pictures, { type: "text", text: one.question }] : one.question;
    messages.push({ role: "user", content });
    if (one !== turn) messages.push({ role: "assistant", content: shownRun(one).answer });
  }
  return messages;
}

/** What a list calls it. */
export function titleOf(conversation) {
  const [turn] = conversation.turns;
  return turn ? turn.question.slice(0, 120) : "nothing asked";
}

/** The conversation without its pictures' pixels, ready for JSON. Runs that are under way are left out. */
export function plainOf(conversation) {
  const pictures = conversation.pictures.map(({ id, name, width, height, note, scene }) => ({ id, name, width, height, note, scene }));
  const turns = conversation.turns.map((turn) => {
    const runs = turn.runs.filter((run) => ["done", "stopped"].includes(run.state));
    const shown = runs.indexOf(shownRun(turn));
    return { ...turn, runs, shown: shown < 0 ? runs.length - 1 : shown };
  });
  return { ...conversation, pictures, turns: turns.filter((turn) => turn.runs.length) };
}

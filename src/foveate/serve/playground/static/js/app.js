// The page: what is asked, at which budget, and where the answers go. The parts are in the files beside this one.

import { Server, ServerError } from "./api.js";
import { perform } from "./asking.js";
import { addRun, findRun, messagesFor, newConversation, newRun, newTurn, shownRun } from "./conversation.js";
import { Dial } from "./dial.js";
import { byId } from "./dom.js";
import { History, StorageError } from "./history.js";
import { Library } from "./library.js";
import { Link } from "./link.js";
import { facts } from "./metrics.js";
import { Notices } from "./notices.js";
import { uriOf } from "./pictures.js";
import { Settings } from "./settings.js";
import { EXPORT_WIDTH, exportJson, exportPng, runsOnShow, settingsIn } from "./share.js";
import { Sources } from "./sources.js";
import { Speech } from "./speech.js";
import { Stage } from "./stage.js";
import { Turns } from "./turns.js";

const FIRST_SCENE = { seed: 7, difficulty: 2 };

class Playground {
  conversation = newConversation();
  #running = null; // the AbortController of what is being asked
  #drawn = null; // the conversation whose pictures are on the stage

  constructor() {
    this.settings = new Settings({ keyChanged: () => this.start() });
    this.server = new Server(() => this.settings.key);
    this.notices = new Notices(byId("notice"));
    this.link = new Link(this.server, { back: (error) => (error ? this.#explain(error) : this.#welcomeBack()) });
    this.dial = new Dial(this.link, { changed: () => this.#askAgain() });
    this.stage = new Stage();
    this.turns = new Turns(byId("turns"), { choose: (turn, index) => this.#choose(turn, index) });
    this.speech = new Speech(byId("speech"));
    this.history = new History();
    const failed = (words, error) => (error ? this.#explain(error) : this.notices.show(words, { tone: "error" }));
    this.sources = new Sources({ server: this.server, failed, pictures: (list) => this.#begin(list) });
    this.library = new Library(this.history, { failed, open: (conversation, lost) => this.#reopen(conversation, lost) });
    this.#listen();
  }

  #listen() {
    byId("composer").addEventListener("submit", (event) => {
      event.preventDefault();
      this.ask();
    });
    byId("question").addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      this.ask();
    });
    byId("question").addEventListener("input", () => this.dial.writeLink(this.conversation));
    document.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && !document.querySelector("dialog[open]")) this.stop();
    });
    byId("stop").addEventListener("click", () => this.stop());
    byId("new").addEventListener("click", () => this.#begin(this.conversation.pictures));
    byId("copy-link").addEventListener("click", () => this.#copyLink());
    byId("export-json").addEventListener("click", () => exportJson(this.conversation));
    byId("export-png").addEventListener("click", () => this.#exportPng());
    window.addEventListener("hashchange", () => this.#follow(settingsIn(location.hash)));
  }

  // -- life ------------------------------------------------------------------------------------------------------

  /** Takes up the settings of a link. */
  async #follow(settings) {
    this.dial.set(settings);
    const { seed, difficulty } = settings.scene ?? FIRST_SCENE;
    if (settings.scene || !this.conversation.pictures.length) await this.sources.scene(seed, difficulty);
    if (settings.question !== null) byId("question").value = settings.question;
    this.dial.writeLink(this.conversation);
  }

  async start() {
    const settings = settingsIn(location.hash); // before anything writes it anew
    try {
      await this.link.learn();
    } catch (error) {
      if (!(error instanceof ServerError)) throw error;
      this.#explain(error);
      return;
    }
    this.notices.clear();
    if (!this.conversation.turns.length) await this.#follow(settings);
  }

  #explain(error) {
    if (error.kind === "gone") {
      this.notices.show("The server cannot be reached. It may have been stopped; this page looks for it every few seconds.", { tone: "error" });
      this.link.lookFor();
    } else if (error.kind === "key") {
      this.link.say("key", "needs a key");
      this.notices.show(error.message, { tone: "error", actions: [["Enter a key", () => this.settings.open({ atKey: true })]] });
    } else if (error.kind === "busy") {
      this.link.say("busy", "busy");
      this.notices.show(`${error.message} Try again in ${error.retryAfter} s.`, { tone: "warning" });
    } else this.notices.show(error.message, { tone: "error" });
  }

  #welcomeBack() {
    const turn = this.conversation.turns.at(-1);
    const failed = turn && shownRun(turn)?.state === "failed";
    const actions = failed ? [["Ask again", () => this.#askAgain()]] : [];
    this.notices.show("The server is back.", { actions });
    if (!turn) this.start();
  }

  /** A new conversation about these pictures. */
  #begin(pictures) {
    this.stop();
    this.conversation = newConversation(pictures);
    const scene = pictures[0]?.scene;
    byId("question").value = scene?.question ?? "";
    this.#render();
    this.dial.writeLink(this.conversation);
  }

  #reopen(conversation, lost) {
    this.stop();
    this.conversation = conversation;
    byId("question").value = "";
    this.#render();
    this.dial.writeLink(this.conversation);
    if (lost) this.notices.show(`The browser no longer has ${lost === 1 ? "one picture" : `${lost} pictures`} of this conversation.`, { tone: "warning" });
  }

  // -- asking ----------------------------------------------------------------------------------------------------

  stop() {
    this.#running?.abort();
    this.#running = null;
  }

  async ask() {
    const question = byId("question").value.trim();
    if (!question) {
      byId("question").focus();
      return;
    }
    const scene = this.conversation.pictures[0]?.scene;
    const turn = newTurn(question, scene && scene.question === question ? scene.answer : null);
    this.conversation.turns.push(turn);
    byId("question").value = "";
    await this.#askAbout(turn);
  }

  /** The last question once more, with the settings as they are now. */
  async #askAgain() {
    this.dial.writeLink(this.conversation);
    const turn = this.conversation.turns.at(-1);
    if (turn) await this.#askAbout(turn);
  }

  /**
   * Asks at the chosen budget, and at full while comparing: one after the other, so that neither slows the other. The
   * reduced goes first, without the caches that the first fills. What was asked before is shown again instead.
   */
  async #askAbout(turn) {
    this.stop();
    this.dial.settle();
    const controller = new AbortController();
    this.#running = controller;
    const budgets = this.dial.comparing && this.dial.budget !== "full" ? [this.dial.budget, "full"] : [this.dial.budget];
    this.#showBusy(true);
    try {
      for (const [index, budget] of budgets.entries()) {
        if (controller.signal.aborted || (index > 0 && shownRun(turn)?.state !== "done")) break;
        await this.#runAt(turn, budget, { shown: index === 0, controller });
      }
    } finally {
      if (this.#running === controller) this.#running = null;
      this.#showBusy(this.#running !== null);
    }
  }

  async #runAt(turn, budget, { shown, controller }) {
    const { conversation } = this;
    const { reducer } = this.dial;
    const known = findRun(turn, budget, reducer);
    if (known >= 0) {
      if (shown) turn.shown = known;
      this.#render();
      return;
    }
    const run = addRun(turn, newRun(budget, reducer), shown);
    if (shown) this.speech.begin();
    this.#render();
    await perform(this.server, run, await this.#bodyFor(conversation, turn, run), {
      signal: controller.signal,
      changed: () => this.#changed(turn, run, conversation),
      wait: (error) => this.#waitFor(error, controller.signal),
    });
    await this.#ended(run, conversation);
  }

  async #bodyFor(conversation, turn, run) {
    conversation.model ||= this.link.model;
    const uris = await Promise.all(conversation.pictures.map(({ blob }) => uriOf(blob)));
    const body = {
      model: this.link.model,
      messages: messagesFor(conversation, turn, uris),
      stream_options: { include_usage: true },
      foveate_trace: true,
      visual_budget: run.budget,
      ...this.settings.sampling,
    };
    return run.budget === "full" ? body : { ...body, reducer: run.reducer };
  }

  #changed(turn, run, conversation) {
    if (this.conversation !== conversation) return;
    if (run === shownRun(turn)) this.speech.update(run.answer, run.state === "done");
    this.#render();
  }

  async #waitFor(error, signal) {
    this.link.say("busy", "busy");
    return this.notices.countDown(error.message, error.retryAfter, signal);
  }

  async #ended(run, conversation) {
    if (run.state === "failed") {
      this.#explain(run.error);
      return;
    }
    if (run.state !== "done") return;
    this.link.say("ready", "ready");
    if (this.conversation === conversation) this.speech.say(facts(run).join(", "));
    try {
      await this.history.save(conversation);
    } catch (error) {
      if (!(error instanceof StorageError)) throw error;
      this.notices.show(error.message, { tone: "warning" });
    }
  }

  #choose(turn, index) {
    turn.shown = index;
    const { budget, reducer } = turn.runs[index];
    if (turn === this.conversation.turns.at(-1)) this.dial.set({ budget, reducer: budget === "full" ? null : reducer });
    this.#render();
    this.dial.writeLink(this.conversation);
  }

  // -- showing ---------------------------------------------------------------------------------------------------

  #render() {
    const turn = this.conversation.turns.at(-1) ?? null;
    const shown = turn ? shownRun(turn) : null;
    const full = turn?.runs.find((run) => run.budget === "full") ?? null;
    this.turns.render(this.conversation);
    if (this.#drawn !== this.conversation) this.stage.setConversation(this.conversation);
    this.#drawn = this.conversation;
    this.stage.setRuns({ full, shown, comparing: this.dial.comparing && shown !== null });
    byId("welcome").hidden = turn !== null;
    byId("take-along").hidden = turn === null;
  }

  #showBusy(busy) {
    byId("stop").hidden = !busy;
    byId("ask").hidden = busy;
  }

  async #copyLink() {
    this.dial.writeLink(this.conversation);
    const scene = this.conversation.pictures[0]?.scene;
    const rest = scene || !this.conversation.pictures.length ? "" : " It holds question and settings, not your picture.";
    if (!navigator.clipboard) {
      // Browsers give the clipboard to https pages and to this machine's own only.
      this.notices.show(`Copy the page's address from the address bar.${rest}`);
      return;
    }
    await navigator.clipboard.writeText(location.href);
    this.notices.show(`The link is in the clipboard.${rest}`);
  }

  async #exportPng() {
    const turn = this.conversation.turns.at(-1);
    const canvases = this.stage.canvases(EXPORT_WIDTH);
    await exportPng(this.conversation, { canvases, turn, runs: runsOnShow(turn, this.dial.comparing) });
  }
}

const playground = new Playground();
await playground.start();

// The pictures of a conversation with their overlays: one, or full beside reduced.

import { budgetLabel } from "./budget.js";
import { byId, fill, make } from "./dom.js";
import { comparedTimes, facts, sameAnswer, share, tokensOf } from "./metrics.js";
import { hasLayers, hasScores } from "./overlay.js";
import { View } from "./view.js";

const imageOf = (run, index) => run?.trace?.images?.[index] ?? null;

function countOf(image) {
  return image ? `${image.tokens_kept} of ${image.tokens} tokens (${share(image.tokens_kept, image.tokens)})` : "";
}

/** What the comparison says, once both runs are there. */
export function comparison(full, reduced) {
  if (!full || !reduced) return "";
  if (reduced.budget === "full") return "Move the slider below full to compare.";
  if (full.state !== "done" || reduced.state !== "done") return "Asking at both budgets, one after the other …";
  const [all, few] = [tokensOf(full), tokensOf(reduced)];
  const words = [sameAnswer(full.answer, reduced.answer) ? "The same answer." : "The answers differ."];
  if (all && few) words.push(`${few.kept} instead of ${all.kept} visual tokens.`);
  words.push(comparedTimes(reduced, full));
  return words.join(" ");
}

export class Stage {
  #full = new View({ hint: false });
  #shown = new View();
  #picture = 0;
  #looks = { opacity: 0.7, mode: "mask", layer: "parts" };
  #conversation = null;
  #name = "";

  constructor() {
    this.#full.element.id = "view-full";
    this.#shown.element.id = "view-shown";
    this.#full.element.hidden = true;
    byId("views").append(this.#full.element, this.#shown.element);
    byId("opacity").addEventListener("input", () => this.#readLooks());
    byId("layer").addEventListener("change", () => this.#readLooks());
    for (const name of ["mode-mask", "mode-scores"]) byId(name).addEventListener("change", () => this.#readLooks());
    this.#readLooks();
  }

  #readLooks() {
    const opacity = byId("opacity");
    opacity.setAttribute("aria-valuetext", `${opacity.value} per cent`);
    const mode = byId("mode-scores").checked ? "scores" : "mask";
    this.#looks = { opacity: Number(opacity.value) / 100, mode, layer: byId("layer").value };
    this.#full.setLooks(this.#looks);
    this.#shown.setLooks(this.#looks);
    byId("legend-scores").hidden = mode !== "scores";
    byId("legend-mask").hidden = mode === "scores";
  }

  /** The pictures of a conversation; keeps the one that is looked at where it is still there. */
  setConversation(conversation) {
    if (this.#conversation !== conversation) this.#picture = 0;
    this.#conversation = conversation;
    this.#choose(Math.min(this.#picture, Math.max(0, conversation.pictures.length - 1)));
  }

  #choose(index) {
    this.#picture = index;
    const { pictures } = this.#conversation;
    const picture = pictures[index] ?? null;
    for (const view of [this.#full, this.#shown]) view.setBitmap(picture?.bitmap ?? null);
    byId("picture-note").textContent = picture?.note ?? "";
    this.#name = picture?.name ?? "";
    byId("views").hidden = pictures.length === 0;
    byId("empty").hidden = pictures.length > 0;
    const buttons = pictures.map((one, at) => {
      const label = `Picture ${at + 1}: ${one.name}`;
      const act = () => {
        this.#choose(at);
        this.setRuns(this.#runs);
        byId("thumbs").children[at].focus();
      };
      const button = make("button", { type: "button", class: "thumb", "aria-pressed": String(at === index), "aria-label": label, on: { click: act } });
      button.append(thumbnail(one.bitmap));
      return button;
    });
    fill(byId("thumbs"), ...buttons);
    byId("thumbs").hidden = pictures.length < 2;
  }

  #runs = { full: null, shown: null, comparing: false };

  /** The runs to draw: `shown`, and beside it `full` while comparing. */
  setRuns(runs) {
    this.#runs = runs;
    const { full, shown, comparing } = runs;
    const image = imageOf(shown, this.#picture);
    this.#full.element.hidden = !comparing;
    byId("views").classList.toggle("comparing", comparing);
    const beside = (run) => ({ answer: run ? run.answer || "…" : null, facts: run?.state === "done" ? facts(run).slice(1).join(" · ") : "" });
    this.#shown.setRun({
      image,
      title: shown ? `${budgetLabel(shown.budget)}${shown.budget === "full" ? "" : ` by ${shown.reducer}`}` : this.#name,
      count: image ? countOf(image) : shown ? this.#name : "",
      ...beside(shown),
    });
    const fullImage = imageOf(full, this.#picture);
    this.#full.setRun({ image: fullImage, title: "full", count: countOf(fullImage), ...beside(full) });
    byId("comparison").hidden = !comparing;
    byId("comparison").textContent = comparing ? comparison(full, shown) : "";
    byId("overlay-controls").hidden = !image;
    byId("layer-choice").hidden = !image || !hasLayers(image);
    const scored = Boolean(image && hasScores(image));
    byId("mode-scores").disabled = !scored;
    byId("no-scores").hidden = !image || scored;
    if (!scored && byId("mode-scores").checked) {
      byId("mode-mask").checked = true;
      this.#readLooks();
    }
  }

  /** The views as they are seen, for export. */
  canvases(width) {
    const views = this.#runs.comparing ? [this.#full, this.#shown] : [this.#shown];
    return views.map((view) => view.toCanvas(width)).filter((canvas) => canvas !== null);
  }
}

function thumbnail(bitmap) {
  const canvas = make("canvas", { width: "64", height: "64", "aria-hidden": "true" });
  const side = Math.min(bitmap.width, bitmap.height);
  const [x, y] = [(bitmap.width - side) / 2, (bitmap.height - side) / 2];
  canvas.getContext("2d").drawImage(bitmap, x, y, side, side, 0, 0, 64, 64);
  return canvas;
}

// One picture with its overlay: a canvas that can be pointed at and walked with the arrow keys.

import { fill, make } from "./dom.js";
import { cellAt, cellFacts, draw, layerTiles, neighbour, paddingCells } from "./overlay.js";

const STEPS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const HINT = "Point at the picture, or focus it and use the arrow keys, to read a token's score.";

export class View {
  #canvas = make("canvas", { class: "view-canvas", tabindex: "0", role: "application" });
  #title = make("span", { class: "view-title" });
  #count = make("span", { class: "view-count" });
  #readout = make("p", { class: "view-readout", role: "status" });
  #answer = make("p", { class: "view-answer" });
  #facts = make("p", { class: "view-facts" });
  #stage = make("div", { class: "view-stage" }, this.#canvas);
  #bitmap = null;
  #image = null;
  #cursor = null;
  #looks = { opacity: 0.7, mode: "mask", layer: "parts" };

  /** `hint`: whether it says how tokens are read; once on a page is enough. */
  constructor({ hint = true } = {}) {
    this.hint = hint ? HINT : "";
    this.element = make(
      "figure",
      { class: "view" },
      make("figcaption", { class: "view-caption" }, this.#title, this.#count),
      this.#stage,
      this.#readout,
      this.#answer,
      this.#facts,
    );
    this.#canvas.addEventListener("pointermove", (event) => this.#point(event));
    this.#canvas.addEventListener("pointerdown", (event) => this.#point(event));
    this.#canvas.addEventListener("pointerleave", () => this.#moveTo(null));
    this.#canvas.addEventListener("blur", () => this.#moveTo(null));
    this.#canvas.addEventListener("keydown", (event) => this.#key(event));
    new ResizeObserver(() => this.#paint()).observe(this.#stage);
  }

  /** The picture, or null for none. */
  setBitmap(bitmap) {
    this.#bitmap = bitmap;
    this.#cursor = null;
    this.#paint();
  }

  /** What is told of it: the picture of a trace or null, and the words around. */
  setRun({ image, title = "", count = "", answer = null, facts = "" }) {
    if (image !== this.#image) this.#cursor = null;
    this.#image = image;
    this.#title.textContent = title;
    this.#count.textContent = count;
    this.#answer.hidden = answer === null;
    this.#answer.textContent = answer ?? "";
    this.#facts.hidden = answer === null;
    this.#facts.textContent = facts;
    this.#paint();
  }

  /** `opacity` 0 to 1, `mode` "mask" or "scores", `layer` "parts" or "overview". */
  setLooks(looks) {
    if (looks.layer !== this.#looks.layer) this.#cursor = null;
    this.#looks = looks;
    this.#paint();
  }

  /** The picture with its overlay at a size of its own, for export; null without one. */
  toCanvas(width) {
    if (!this.#bitmap) return null;
    const canvas = document.createElement("canvas");
    canvas.width = width;
    canvas.height = Math.round((width * this.#bitmap.height) / this.#bitmap.width);
    draw(canvas.getContext("2d"), this.#bitmap, this.#settings(1, null));
    return canvas;
  }

  get #tiles() {
    return this.#image ? layerTiles(this.#image, this.#looks.layer) : [];
  }

  #settings(device, cursor) {
    const { opacity, mode } = this.#looks;
    return { image: this.#image, tiles: this.#tiles, opacity, mode, cursor, device };
  }

  #paint() {
    this.#describe();
    if (!this.#bitmap) {
      this.#canvas.hidden = true;
      return;
    }
    this.#canvas.hidden = false;
    const most = Math.max(220, Math.min(520, window.innerHeight * 0.46));
    const { width, height } = this.#bitmap;
    const scale = Math.min(this.#stage.clientWidth / width, most / height);
    const device = window.devicePixelRatio || 1;
    const [wide, high] = [Math.max(1, width * scale), Math.max(1, height * scale)];
    this.#canvas.width = Math.round(wide * device);
    this.#canvas.height = Math.round(high * device);
    this.#canvas.style.setProperty("width", `${wide}px`);
    this.#canvas.style.setProperty("height", `${high}px`);
    draw(this.#canvas.getContext("2d"), this.#bitmap, this.#settings(device, this.#cursor));
  }

  #describe() {
    const image = this.#image;
    let label = "The picture, not asked about yet.";
    let told = "";
    if (image) {
      const padding = paddingCells(image, this.#tiles);
      label = `The picture: ${image.tokens_kept} of ${image.tokens} visual tokens kept by ${image.method}. Arrow keys walk over them.`;
      told = padding ? `${this.hint} ${padding} tokens lie on padding around the picture.` : this.hint;
      if (this.#cursor) told = this.#words(this.#cursor);
    }
    this.#canvas.setAttribute("aria-label", label);
    this.#canvas.setAttribute("aria-roledescription", "token map");
    if (this.#readout.textContent !== told) fill(this.#readout, told);
  }

  #words(cell) {
    const { kept, score, rank, of } = cellFacts(this.#tiles, cell);
    const place = `Row ${cell.row + 1}, column ${cell.column + 1}`;
    const tile = this.#tiles.length > 1 ? `, tile ${cell.tile + 1}` : "";
    const worth = score === null ? "no score from this method" : `score ${Number(score.toPrecision(4))}, rank ${rank} of ${of}`;
    return `${place}${tile}: ${kept ? "kept" : "dropped"} · ${worth}`;
  }

  #moveTo(cell) {
    this.#cursor = cell;
    this.#paint();
  }

  #point(event) {
    if (!this.#image) return;
    const box = this.#canvas.getBoundingClientRect();
    const x = ((event.clientX - box.left) / box.width) * this.#image.width;
    const y = ((event.clientY - box.top) / box.height) * this.#image.height;
    this.#moveTo(cellAt(this.#tiles, x, y));
  }

  #key(event) {
    if (!this.#image || !(event.key in STEPS)) return;
    event.preventDefault();
    const middle = cellAt(this.#tiles, this.#image.width / 2, this.#image.height / 2);
    this.#moveTo(this.#cursor ? neighbour(this.#tiles, this.#cursor, ...STEPS[event.key]) : middle);
  }
}

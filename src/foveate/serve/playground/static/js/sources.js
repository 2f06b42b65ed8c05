// Where pictures come from: files, drops, the clipboard, the server's world, cameras and videos.

import { ServerError } from "./api.js";
import { FrameDialog } from "./camera.js";
import { byId } from "./dom.js";
import { PictureError, blobOf, filesIn, pictureOf } from "./pictures.js";

export const MOST_SEED = 2 ** 31 - 1;

export class Sources {
  /** @param {object} hooks `pictures(list)`: new ones to ask about; `failed(words)`; `server`. */
  constructor(hooks) {
    this.hooks = hooks;
    this.frames = new FrameDialog({ frames: (list) => this.#take(list) });
    byId("open").addEventListener("click", () => byId("file").click());
    byId("file").addEventListener("change", (event) => this.#files([...event.target.files]));
    byId("camera").addEventListener("click", () => this.frames.openCamera());
    byId("next-scene").addEventListener("click", () => this.#nextScene());
    for (const name of ["seed", "difficulty"]) byId(name).addEventListener("change", () => this.#drawAsked());
    document.addEventListener("paste", (event) => this.#paste(event));
    this.#acceptDrops();
  }

  #paste(event) {
    const files = filesIn(event.clipboardData);
    if (!files.length) return; // words go where the cursor is
    event.preventDefault();
    this.#files(files);
  }

  #acceptDrops() {
    const zone = document.documentElement;
    const carriesFiles = (event) => event.dataTransfer?.types.includes("Files");
    zone.addEventListener("dragover", (event) => {
      if (!carriesFiles(event)) return;
      event.preventDefault();
      zone.classList.add("dropping");
    });
    zone.addEventListener("dragleave", (event) => {
      if (!event.relatedTarget) zone.classList.remove("dropping");
    });
    zone.addEventListener("drop", (event) => {
      zone.classList.remove("dropping");
      if (!carriesFiles(event)) return;
      event.preventDefault();
      this.#files(filesIn(event.dataTransfer));
    });
  }

  async #files(files) {
    byId("file").value = ""; // the same file may be chosen again
    const video = files.find((file) => file.type.startsWith("video/"));
    if (video) return this.frames.openVideo(video);
    return this.#take(files.map((file) => ({ blob: file, name: file.name || "pasted picture" })));
  }

  async #take(files) {
    if (!files.length) return;
    try {
      this.hooks.pictures(await Promise.all(files.map(({ blob, name }) => pictureOf(blob, name))));
    } catch (error) {
      if (!(error instanceof PictureError)) throw error;
      this.hooks.failed(error.message);
    }
  }

  async #nextScene() {
    byId("seed").value = String((Number(byId("seed").value) + 1) % MOST_SEED);
    await this.#drawAsked();
  }

  async #drawAsked() {
    const seed = byId("seed");
    if (!seed.reportValidity()) return;
    await this.scene(Number(seed.value), Number(byId("difficulty").value));
  }

  /**
   * Draws a scene of the world, with its question.
   * @returns {Promise<boolean>} false if the server gave none; the reader has been told then.
   */
  async scene(seed, difficulty) {
    byId("seed").value = String(seed);
    byId("difficulty").value = String(difficulty);
    try {
      const told = await this.hooks.server.get(`foveate/scene?seed=${seed}&difficulty=${difficulty}`);
      const scene = { seed, difficulty, question: told.question, answer: told.answer ?? null };
      const name = `world scene ${seed}, difficulty ${difficulty}`;
      this.hooks.pictures([await pictureOf(blobOf(told.image), name, { scene })]);
      return true;
    } catch (error) {
      if (!(error instanceof ServerError || error instanceof PictureError)) throw error;
      this.hooks.failed(error.message, error);
      return false;
    }
  }
}

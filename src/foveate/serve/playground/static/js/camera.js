// Frames of a camera or of a video file, in a dialog of their own. Nothing is sent before frames are taken.

import { byId } from "./dom.js";
import { PictureError, canvasBlob } from "./pictures.js";

const FAR = 1e7; // seconds; seeking there makes a browser find the length of a recording that does not say it

/** Waits for an event of a video; an error of it, or the dialog's closing, ends the wait. */
const once = (video, event, closed) =>
  new Promise((resolve, reject) => {
    const settled = new AbortController();
    const listen = (target, name, act) => {
      const settle = () => {
        settled.abort();
        act();
      };
      target.addEventListener(name, settle, { signal: settled.signal });
    };
    listen(video, event, resolve);
    listen(video, "error", () => reject(new PictureError("This browser cannot play the video.")));
    listen(closed, "abort", () => reject(new PictureError("The video was closed.")));
  });

const CAMERA_TROUBLE = {
  NotAllowedError: "The browser does not let this page use the camera. Allow it in the address bar and try again.",
  NotFoundError: "There is no camera.",
  NotReadableError: "Another program is using the camera.",
};

export class FrameDialog {
  #dialog = byId("frames");
  #video = byId("frames-video");
  #stream = null;
  #address = "";
  #name = "";
  #busy = false;
  #open = new AbortController(); // aborted when the dialog closes

  /** @param {object} hooks `frames(list of {blob, name})`. */
  constructor(hooks) {
    this.hooks = hooks;
    byId("frames-take").addEventListener("click", () => this.#take());
    byId("frames-close").addEventListener("click", () => this.#dialog.close());
    byId("frames-seek").addEventListener("input", (event) => this.#seek(event.target.value));
    this.#dialog.addEventListener("close", () => this.#release());
  }

  async openCamera() {
    this.#show("Camera", { camera: true });
    if (!navigator.mediaDevices?.getUserMedia) {
      // Browsers give cameras to https pages and to this machine's own only.
      return this.#say("The browser gives no camera to this page: open it at localhost or over https.");
    }
    try {
      this.#stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
    } catch (error) {
      if (!(error instanceof DOMException)) throw error;
      return this.#say(CAMERA_TROUBLE[error.name] ?? error.message);
    }
    if (!this.#dialog.open) return this.#release(); // closed while the browser asked
    this.#video.srcObject = this.#stream;
    await this.#video.play();
    return this.#ready("camera", "The camera stays on this machine; only frames that you take are sent.");
  }

  async openVideo(file) {
    this.#show(file.name || "Video", { camera: false });
    this.#address = URL.createObjectURL(file);
    this.#video.src = this.#address;
    try {
      await once(this.#video, "loadeddata", this.#open.signal);
      if (!Number.isFinite(this.#video.duration)) await this.#findLength();
    } catch (error) {
      if (!(error instanceof PictureError)) throw error;
      return this.#say(error.message);
    }
    return this.#ready(file.name || "video", `${this.#video.duration.toFixed(1)} s. Several frames are taken evenly from all of it.`);
  }

  async #findLength() {
    const known = once(this.#video, "durationchange", this.#open.signal);
    this.#video.currentTime = FAR;
    await known;
    await this.#jump(0);
  }

  #show(title, { camera }) {
    this.#release();
    this.#open = new AbortController();
    byId("frames-title").textContent = title;
    byId("frames-interval-choice").hidden = !camera;
    byId("frames-seek-choice").hidden = camera;
    byId("frames-seek").value = "0";
    byId("frames-take").disabled = true;
    this.#say("Opening …");
    this.#dialog.showModal();
  }

  #ready(name, words) {
    this.#name = name;
    byId("frames-take").disabled = false;
    this.#say(words);
  }

  #say(words) {
    byId("frames-status").textContent = words;
  }

  #release() {
    this.#open.abort();
    for (const track of this.#stream?.getTracks() ?? []) track.stop();
    this.#stream = null;
    this.#video.srcObject = null;
    if (this.#address) {
      this.#video.removeAttribute("src");
      this.#video.load(); // lets go of the file
      URL.revokeObjectURL(this.#address);
      this.#address = "";
    }
  }

  #seek(permille) {
    if (this.#address && !this.#busy) this.#video.currentTime = (permille / 1000) * this.#video.duration;
  }

  async #jump(seconds) {
    const there = once(this.#video, "seeked", this.#open.signal);
    this.#video.currentTime = seconds;
    await there;
  }

  async #take() {
    const count = Number(byId("frames-count").value);
    this.#busy = true;
    byId("frames-take").disabled = true;
    try {
      const frames = this.#stream ? await this.#fromCamera(count) : await this.#fromFile(count);
      if (!this.#dialog.open) return; // closed meanwhile: not wanted any more
      this.#dialog.close();
      this.hooks.frames(frames);
    } catch (error) {
      if (!(error instanceof PictureError)) throw error;
      this.#say(error.message);
    } finally {
      this.#busy = false;
      byId("frames-take").disabled = false;
    }
  }

  async #fromCamera(count) {
    const pause = Number(byId("frames-interval").value) * 1000;
    const frames = [];
    for (let at = 0; at < count; at += 1) {
      if (at) await new Promise((resolve) => setTimeout(resolve, pause));
      if (!this.#dialog.open) break;
      this.#say(`Frame ${at + 1} of ${count}`);
      frames.push({ blob: await this.#grab(), name: `camera frame ${at + 1}` });
    }
    return frames;
  }

  /** One frame: where the slider stands. Several: the middles of as many equal parts. */
  async #fromFile(count) {
    const { duration } = this.#video;
    const frames = [];
    for (let at = 0; at < count; at += 1) {
      const seconds = count === 1 ? this.#video.currentTime : ((at + 0.5) / count) * duration;
      if (count > 1) await this.#jump(seconds);
      this.#say(`Frame ${at + 1} of ${count}`);
      frames.push({ blob: await this.#grab(), name: `${this.#name} at ${seconds.toFixed(1)} s` });
    }
    return frames;
  }

  #grab() {
    const canvas = document.createElement("canvas");
    canvas.width = this.#video.videoWidth;
    canvas.height = this.#video.videoHeight;
    canvas.getContext("2d").drawImage(this.#video, 0, 0);
    return canvasBlob(canvas, "image/jpeg", 0.92);
  }
}

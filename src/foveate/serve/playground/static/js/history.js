// Conversations kept in this browser: words and keep-maps in localStorage, pictures in IndexedDB. Nothing leaves it.

import { plainOf } from "./conversation.js";
import { pictureOf } from "./pictures.js";

const KEY = "foveate.history";
const MOST = 40;

const asPromise = (request) =>
  new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });

/** Why the browser keeps nothing: private windows, blocked storage, a full disk. */
export class StorageError extends Error {}

async function guarded(work) {
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof DOMException)) throw error;
    throw new StorageError(`This browser keeps no history for the page (${error.name}).`);
  }
}

export class History {
  #opened = null;

  #pictures(mode) {
    this.#opened ??= (() => {
      const request = indexedDB.open("foveate", 1);
      request.onupgradeneeded = () => request.result.createObjectStore("pictures");
      return asPromise(request);
    })();
    return this.#opened.then((database) => database.transaction("pictures", mode).objectStore("pictures"));
  }

  /** Those kept, the newest first. */
  list() {
    try {
      return JSON.parse(localStorage.getItem(KEY) ?? "[]");
    } catch (error) {
      if (error instanceof SyntaxError) return []; // written by something else: nothing to show
      if (error instanceof DOMException) return [];
      throw error;
    }
  }

  /**
   * Keeps a conversation as it is now; the oldest make room.
   * @returns {Promise<number>} how many old ones were dropped.
   * @throws {StorageError}
   */
  save(conversation) {
    return guarded(async () => {
      const plain = plainOf(conversation);
      if (!plain.turns.length) return 0;
      const others = this.list().filter((one) => one.id !== plain.id);
      const kept = [plain, ...others].slice(0, MOST);
      this.#write(kept);
      const store = await this.#pictures("readwrite");
      await Promise.all(conversation.pictures.map(({ id, blob }) => asPromise(store.put(blob, id))));
      const dropped = others.filter((one) => !kept.includes(one));
      await this.#forget(dropped);
      return dropped.length;
    });
  }

  /** Writes the list; where the browser's limit is reached, with fewer of the oldest. */
  #write(kept) {
    for (;;) {
      try {
        localStorage.setItem(KEY, JSON.stringify(kept));
        return;
      } catch (error) {
        if (error.name !== "QuotaExceededError" || kept.length <= 1) throw error;
        kept.pop();
      }
    }
  }

  /** A conversation with its pictures. Pictures that the browser has lost are left out and counted in `lost`. */
  load(id) {
    return guarded(async () => {
      const plain = this.list().find((one) => one.id === id);
      if (!plain) return null;
      const store = await this.#pictures("readonly");
      const blobs = await Promise.all(plain.pictures.map((picture) => asPromise(store.get(picture.id))));
      const there = plain.pictures.map((picture, index) => [picture, blobs[index]]).filter(([, blob]) => blob);
      const pictures = await Promise.all(there.map(([picture, blob]) => pictureOf(blob, picture.name, picture)));
      return { conversation: { ...plain, pictures }, lost: plain.pictures.length - pictures.length };
    });
  }

  remove(id) {
    return guarded(async () => {
      const all = this.list();
      this.#write(all.filter((one) => one.id !== id));
      await this.#forget(all.filter((one) => one.id === id));
    });
  }

  clear() {
    return guarded(async () => {
      localStorage.removeItem(KEY);
      const store = await this.#pictures("readwrite");
      await asPromise(store.clear());
    });
  }

  async #forget(conversations) {
    const ids = conversations.flatMap((one) => one.pictures.map((picture) => picture.id));
    if (!ids.length) return;
    const store = await this.#pictures("readwrite");
    await Promise.all(ids.map((id) => asPromise(store.delete(id))));
  }
}

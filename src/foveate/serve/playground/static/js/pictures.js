// Pictures on their way in: from files, the clipboard, frames and the server's scenes, to bytes that a request carries.

const AS_THEY_ARE = new Set(["image/png", "image/jpeg", "image/webp"]);
const MOST_BYTES = 8 * 2 ** 20;
const LONGEST_SIDE = 4096;

/** A file that is no picture this browser can read. */
export class PictureError extends Error {}

export const newId = () => `${Date.now().toString(36)}-${Math.random().toString(36).slice(2, 10)}`;

/** Drawings have no pixels before an element lays them out; all other kinds are decoded off the page. */
async function bitmapOf(blob) {
  if (blob.type !== "image/svg+xml") return createImageBitmap(blob);
  const element = new Image();
  element.src = URL.createObjectURL(blob);
  try {
    await element.decode();
    return await createImageBitmap(element);
  } finally {
    URL.revokeObjectURL(element.src);
  }
}

async function decode(blob, name) {
  try {
    return await bitmapOf(blob);
  } catch (error) {
    if (!(error instanceof DOMException)) throw error;
    throw new PictureError(`${name} is no picture that this browser can read. PNG, JPEG and WebP always work.`);
  }
}

/** A canvas's picture as a file. */
export function canvasBlob(canvas, type, quality) {
  return new Promise((resolve, reject) => {
    canvas.toBlob((blob) => (blob ? resolve(blob) : reject(new PictureError("The picture is too large to draw."))), type, quality);
  });
}

async function smaller(bitmap, type) {
  const scale = Math.min(1, LONGEST_SIDE / Math.max(bitmap.width, bitmap.height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(bitmap.width * scale));
  canvas.height = Math.max(1, Math.round(bitmap.height * scale));
  canvas.getContext("2d").drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  return canvasBlob(canvas, type, 0.92);
}

/**
 * A picture: {id, name, width, height, blob, bitmap, note, scene}. `note` says what was changed before sending.
 * @throws {PictureError}
 */
export async function pictureOf(blob, name, { id = newId(), note = "", scene = null } = {}) {
  const bitmap = await decode(blob, name);
  const tooLarge = blob.size > MOST_BYTES || Math.max(bitmap.width, bitmap.height) > LONGEST_SIDE;
  if (!tooLarge && AS_THEY_ARE.has(blob.type)) {
    return { id, name, width: bitmap.width, height: bitmap.height, blob, bitmap, note, scene };
  }
  const type = tooLarge ? "image/jpeg" : "image/png";
  const sent = await smaller(bitmap, type);
  const shown = await decode(sent, name);
  const change = `Sent as ${type.slice(6).toUpperCase()}, ${shown.width} × ${shown.height}; the file is ${blob.type || "of no known type"}, ${bitmap.width} × ${bitmap.height}.`;
  return { id, name, width: shown.width, height: shown.height, blob: sent, bitmap: shown, note: change, scene };
}

/** The bytes of a base64 data: URI. Not by fetch: the page's policy lets it connect to its server only. */
export function blobOf(uri) {
  const [, type, data] = /^data:([^;,]+);base64,(.*)$/s.exec(uri) ?? [];
  if (!data) throw new PictureError("The picture is no base64 data: URI.");
  return new Blob([Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0))], { type });
}

/** A file as a data: URI. */
export function uriOf(blob) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(blob);
  });
}

/** Files among what was dropped or pasted. */
export const filesIn = (transfer) => [...(transfer?.files ?? [])];

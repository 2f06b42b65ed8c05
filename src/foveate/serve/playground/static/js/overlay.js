// Drawing what was kept of a picture. Owns geometry and colours; knows the trace's form, no elements but a canvas.
//
// Kept and dropped differ in brightness and in hatching, so that they are told apart without any colour.

const VEIL = [10, 12, 22];
const EDGE = "#ffb000";
const HATCH_STEP = 7; // CSS pixels between hatching lines
// Cividis (Nuñez, Anderton and Renslow 2018): brightness rises evenly, and it looks alike to colour-blind readers.
const SCALE = ["#00224e", "#123570", "#3b496c", "#575d6d", "#707173", "#8a8678", "#a59c74", "#c3b369", "#e1cc55", "#fee838"];

/** Of the tiles of a picture those to draw: its parts, or the overview of the whole where a model has both. */
export function layerTiles(image, layer) {
  const parts = image.tiles.filter((tile) => !tile.overview);
  const overview = image.tiles.filter((tile) => tile.overview);
  if (!parts.length || !overview.length) return image.tiles;
  return layer === "overview" ? overview : parts;
}

/** Whether there are two layers to choose from. */
export const hasLayers = (image) => new Set(image.tiles.map((tile) => Boolean(tile.overview))).size > 1;

/** Whether the method gave its tokens scores. */
export const hasScores = (image) => image.tiles.some((tile) => tile.scores?.some((score) => score !== null));

/** The rectangle of a cell, in pixels of the picture. */
export function cellBox(tile, row, column) {
  const [left, top, right, bottom] = tile.box;
  const [rows, columns] = tile.grid;
  const wide = (right - left) / columns;
  const high = (bottom - top) / rows;
  return [left + column * wide, top + row * high, wide, high];
}

/** The cell under a point of the picture: {tile, row, column}, or null. */
export function cellAt(tiles, x, y) {
  for (const [index, tile] of tiles.entries()) {
    const [left, top, right, bottom] = tile.box;
    if (x < left || x >= right || y < top || y >= bottom) continue;
    const [rows, columns] = tile.grid;
    const row = Math.min(rows - 1, Math.floor(((y - top) / (bottom - top)) * rows));
    const column = Math.min(columns - 1, Math.floor(((x - left) / (right - left)) * columns));
    return { tile: index, row, column };
  }
  return null;
}

/** The cell beside one, also across the border of two tiles; the same cell at the picture's edge. */
export function neighbour(tiles, cell, across, down) {
  const [left, top, wide, high] = cellBox(tiles[cell.tile], cell.row, cell.column);
  return cellAt(tiles, left + wide * (0.5 + across), top + high * (0.5 + down)) ?? cell;
}

/** What is known of a cell: {kept, score, rank, of}. The rank is among all scored tokens of these tiles, from 1. */
export function cellFacts(tiles, cell) {
  const tile = tiles[cell.tile];
  const id = cell.row * tile.grid[1] + cell.column;
  const score = tile.scores?.[id] ?? null;
  const known = tiles.flatMap((one) => one.scores ?? []).filter((one) => one !== null);
  const rank = score === null ? null : 1 + known.filter((one) => one > score).length;
  return { kept: tile.kept.includes(id), score, rank, of: known.length };
}

/** How many cells of the tiles have their middle outside the picture: padding around it. */
export function paddingCells(image, tiles) {
  let count = 0;
  for (const tile of tiles) {
    for (let id = 0; id < tile.grid[0] * tile.grid[1]; id += 1) {
      const [left, top, wide, high] = cellBox(tile, Math.floor(id / tile.grid[1]), id % tile.grid[1]);
      const x = left + wide / 2;
      const y = top + high / 2;
      if (x < 0 || y < 0 || x > image.width || y > image.height) count += 1;
    }
  }
  return count;
}

function colourOf(fraction) {
  const at = Math.min(1, Math.max(0, fraction)) * (SCALE.length - 1);
  const low = Math.floor(at);
  const mix = at - low;
  const parse = (text) => [1, 3, 5].map((start) => Number.parseInt(text.slice(start, start + 2), 16));
  const from = parse(SCALE[low]);
  const to = parse(SCALE[Math.min(SCALE.length - 1, low + 1)]);
  return from.map((value, index) => Math.round(value + (to[index] - value) * mix));
}

/** Of each score its place among all, 0 for the lowest to 1: scores of methods differ by orders of magnitude. */
function placesOf(tiles) {
  const sorted = tiles.flatMap((tile) => tile.scores ?? []).filter((score) => score !== null);
  sorted.sort((one, other) => one - other);
  const places = new Map();
  sorted.forEach((score, index) => places.set(score, sorted.length > 1 ? index / (sorted.length - 1) : 1));
  return places;
}

function hatching(context, scale) {
  const step = Math.max(4, Math.round(HATCH_STEP * scale));
  const cell = document.createElement("canvas");
  cell.width = cell.height = step;
  const pen = cell.getContext("2d");
  pen.strokeStyle = "#fff";
  pen.lineWidth = Math.max(1, step / 7);
  pen.beginPath();
  for (const shift of [-step, 0, step]) {
    pen.moveTo(shift - 1, step + 1);
    pen.lineTo(shift + step + 1, -1);
  }
  pen.stroke();
  return context.createPattern(cell, "repeat");
}

/** Kept cells' borders with dropped ones. */
function borders(tile, kept) {
  const path = new Path2D();
  const [rows, columns] = tile.grid;
  const dropped = (row, column) =>
    row >= 0 && column >= 0 && row < rows && column < columns && !kept.has(row * columns + column);
  for (const id of kept) {
    const row = Math.floor(id / columns);
    const column = id % columns;
    const [x, y, wide, high] = cellBox(tile, row, column);
    const sides = [
      [dropped(row - 1, column), x, y, x + wide, y],
      [dropped(row + 1, column), x, y + high, x + wide, y + high],
      [dropped(row, column - 1), x, y, x, y + high],
      [dropped(row, column + 1), x + wide, y, x + wide, y + high],
    ];
    for (const [is, fromX, fromY, toX, toY] of sides) {
      if (!is) continue;
      path.moveTo(fromX, fromY);
      path.lineTo(toX, toY);
    }
  }
  return path;
}

function droppedCells(tile, kept) {
  const path = new Path2D();
  for (let id = 0; id < tile.grid[0] * tile.grid[1]; id += 1) {
    if (!kept.has(id)) path.rect(...cellBox(tile, Math.floor(id / tile.grid[1]), id % tile.grid[1]));
  }
  return path;
}

function drawScores(context, tiles, opacity) {
  const places = placesOf(tiles);
  for (const tile of tiles) {
    (tile.scores ?? []).forEach((score, id) => {
      if (score === null) return;
      const [red, green, blue] = colourOf(places.get(score));
      context.fillStyle = `rgba(${red}, ${green}, ${blue}, ${0.9 * opacity})`;
      context.fillRect(...cellBox(tile, Math.floor(id / tile.grid[1]), id % tile.grid[1]));
    });
  }
}

function drawMask(context, tile, kept, opacity, scale) {
  const dropped = droppedCells(tile, kept);
  context.fillStyle = `rgba(${VEIL.join(", ")}, ${0.86 * opacity})`;
  context.fill(dropped);
  const pattern = hatching(context, scale.device);
  pattern.setTransform(new DOMMatrix().scale(1 / scale.pixels));
  context.fillStyle = pattern;
  context.globalAlpha = 0.3 * opacity;
  context.fill(dropped);
  context.globalAlpha = 1;
}

function stroke(context, path, width, colour) {
  context.lineWidth = width;
  context.strokeStyle = colour;
  context.stroke(path);
}

/**
 * Draws a picture and over it what was kept.
 * @param {CanvasRenderingContext2D} context of a canvas whose whole area the picture fills.
 * @param {CanvasImageSource} bitmap
 * @param {object} settings `image` (of the trace, or null), `tiles`, `opacity` (0 to 1), `mode` ("mask" or "scores"),
 *   `cursor` (a cell or null), `device` (device pixels per CSS pixel).
 */
export function draw(context, bitmap, { image, tiles, opacity, mode, cursor = null, device = 1 }) {
  const { width, height } = context.canvas;
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.clearRect(0, 0, width, height);
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, width, height);
  if (!image) return;
  const pixels = width / image.width; // canvas pixels per pixel of the picture
  context.setTransform(pixels, 0, 0, height / image.height, 0, 0);
  const line = device / pixels;
  if (mode === "scores") drawScores(context, tiles, opacity);
  for (const tile of tiles) {
    const kept = new Set(tile.kept);
    if (mode === "mask") drawMask(context, tile, kept, opacity, { pixels, device });
    const edges = borders(tile, kept);
    context.lineCap = "square";
    context.globalAlpha = Math.min(1, opacity * 2);
    stroke(context, edges, 3.5 * line, "rgb(10, 12, 22)");
    stroke(context, edges, 1.6 * line, EDGE);
    context.globalAlpha = 1;
  }
  if (cursor) {
    const path = new Path2D();
    path.rect(...cellBox(tiles[cursor.tile], cursor.row, cursor.column));
    stroke(context, path, 5 * line, "rgb(10, 12, 22)");
    stroke(context, path, 2.5 * line, "#fff");
  }
}

/**
 * Where tiles lie while a shape is being drawn: the arithmetic of the daemon (`edge/vision/tiles.py`), so that the picture follows
 * the hand. Whether a tile at the border of a polygon counts is settled by the node, which measures it on the network's own grid.
 */

import { cornersOf, isRectangle, shareInside } from "./shapes.js";

const MIN_SIDE = 0.5;
const MAX_TILES = 10000;

/** Boxes [x, y, w, h] of the tiles; none where the region is too small or has too many. */
export function layTiles({ size, tilePx, inputPx, overlap, region, zones }) {
  const [x, y, w, h] = windowOf(region, size);
  const least = Math.ceil(tilePx * MIN_SIDE);
  if (w < least || h < least) return [];
  const ratio = inputPx / tilePx;
  const columns = spans(Math.max(1, roundHalfEven(w * ratio)), w, inputPx, overlap);
  const rows = spans(Math.max(1, roundHalfEven(h * ratio)), h, inputPx, overlap);
  if (columns.length * rows.length > MAX_TILES) return [];
  const boxes = [];
  for (const [top, bottom] of rows) {
    for (const [left, right] of columns) {
      const box = [x + left, y + top, right - left, bottom - top];
      if (region && !isRectangle(region) && shareInside(region, box, size) < 0.5) continue;
      if (zones.some((zone) => shareInside(zone, box, size) > 0.5)) continue;
      boxes.push(box);
    }
  }
  return boxes;
}

function windowOf(region, size) {
  const corners = cornersOf(region, size);
  const [xs, ys] = [corners.map(([x]) => x), corners.map(([, y]) => y)];
  const [left, top] = [Math.max(0, Math.min(...xs)), Math.max(0, Math.min(...ys))];
  return [left, top, Math.min(size[0], Math.max(...xs)) - left, Math.min(size[1], Math.max(...ys)) - top];
}

function spans(length, full, side, overlap) {
  const scale = full / length;
  return positions(length, side, overlap).map((start) => [roundHalfEven(start * scale), Math.min(full, roundHalfEven((start + side) * scale))]);
}

function positions(length, side, overlap) {
  if (length <= side) return [0];
  const shared = overlap * side;
  const count = Math.min(Math.ceil((length - shared) / (side - shared) - 1e-9), length - side + 1);
  return Array.from({ length: count }, (_, i) => roundHalfEven((i * (length - side)) / (count - 1)));
}

/** As Python rounds. */
function roundHalfEven(value) {
  const floor = Math.floor(value);
  if (value - floor !== 0.5) return Math.round(value);
  return floor % 2 === 0 ? floor : floor + 1;
}

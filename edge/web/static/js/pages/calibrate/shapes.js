/**
 * Regions as the node takes them: `[x, y, w, h]`, or corners `[[x, y], ...]`, in whole pixels of the frame; null is the whole frame.
 * The editor knows corners alone.
 */

export function isRectangle(shape) {
  return Array.isArray(shape) && typeof shape[0] === "number";
}

/** The corners of any shape in a frame of `size` [width, height]. */
export function cornersOf(shape, [width, height]) {
  if (!shape) return cornersOf([0, 0, width, height], [width, height]);
  if (!isRectangle(shape)) return shape;
  const [x, y, w, h] = shape;
  return [[x, y], [x + w, y], [x + w, y + h], [x, y + h]];
}

/** The shape of corners: an upright rectangle is one again. */
export function shapeOf(corners) {
  const [xs, ys] = [corners.map(([x]) => x), corners.map(([, y]) => y)];
  const [left, top, right, bottom] = [Math.min(...xs), Math.min(...ys), Math.max(...xs), Math.max(...ys)];
  const isUpright = corners.every(([x, y], place) => {
    const [nextX, nextY] = corners[(place + 1) % 4];
    return (x === left || x === right) && (y === top || y === bottom) && (x === nextX) !== (y === nextY);
  });
  return corners.length === 4 && isUpright ? [left, top, right - left, bottom - top] : corners;
}

/** "600 x 180 px at 20, 30", or "5 corners". */
export function described(shape, size) {
  const [x, y, w, h] = isRectangle(shape) ? shape : !shape ? [0, 0, ...size] : [];
  return w === undefined ? `${shape.length} corners` : `${w} x ${h} px at ${x}, ${y}`;
}

/** The area of a shape inside a box x y w h, as a share of the box. */
export function shareInside(shape, [x, y, w, h], size) {
  let corners = cornersOf(shape, size);
  for (const [axis, limit, keepsAbove] of [[0, x, true], [0, x + w, false], [1, y, true], [1, y + h, false]]) {
    corners = clipped(corners, axis, limit, keepsAbove);
  }
  let twice = 0;
  for (const [place, [x1, y1]] of corners.entries()) {
    const [x2, y2] = corners[(place + 1) % corners.length];
    twice += x1 * y2 - x2 * y1;
  }
  return Math.abs(twice) / 2 / (w * h);
}

/** What of a polygon lies on one side of an upright line. Source: Sutherland and Hodgman, 1974. */
function clipped(corners, axis, limit, keepsAbove) {
  const isKept = (corner) => (keepsAbove ? corner[axis] >= limit : corner[axis] <= limit);
  const found = [];
  for (const [place, corner] of corners.entries()) {
    const before = corners[(place + corners.length - 1) % corners.length];
    if (isKept(corner) !== isKept(before)) {
      const t = (limit - before[axis]) / (corner[axis] - before[axis]);
      found.push([before[0] + t * (corner[0] - before[0]), before[1] + t * (corner[1] - before[1])]);
    }
    if (isKept(corner)) found.push(corner);
  }
  return found;
}

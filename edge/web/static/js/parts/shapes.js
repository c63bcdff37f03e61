/**
 * Regions of a picture: `[x, y, w, h]`, or corners `[[x, y], ...]`, in whole pixels of the frame; null is the whole frame.
 * Every function returns a new shape and leaves the given one as it is.
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

/** The rectangle between two points, at least a pixel each way. */
export function rectangleOf([x1, y1], [x2, y2]) {
  return [Math.min(x1, x2), Math.min(y1, y2), Math.max(1, Math.abs(x2 - x1)), Math.max(1, Math.abs(y2 - y1))];
}

/** The point inside the frame, in whole pixels; on the border when it is within `snap` px of it. */
export function inside([x, y], [width, height], snap = 0) {
  const within = (value, most) => (value <= snap ? 0 : value >= most - snap ? most : Math.round(value));
  return [within(x, width), within(y, height)];
}

/** The shape with one corner elsewhere; a rectangle stays one. */
export function withCorner(shape, place, point, size) {
  const corners = cornersOf(shape, size);
  if (shape && !isRectangle(shape)) return corners.map((corner, other) => (other === place ? point : corner));
  return rectangleOf(point, corners[(place + 2) % 4]);
}

/** A polygon with a further corner in the middle of the side after `place`. */
export function withInserted(shape, place, size, point = null) {
  const corners = cornersOf(shape, size);
  const [x1, y1] = corners[place];
  const [x2, y2] = corners[(place + 1) % corners.length];
  const middle = point ?? [Math.round((x1 + x2) / 2), Math.round((y1 + y2) / 2)];
  return corners.toSpliced(place + 1, 0, middle);
}

/** A polygon without one corner; with three corners it stays as it is. */
export function withoutCorner(shape, place, size) {
  const corners = cornersOf(shape, size);
  return corners.length > 3 ? corners.toSpliced(place, 1) : shape;
}

/** The shape moved by dx, dy, as far as the frame allows. */
export function movedBy(shape, [dx, dy], size) {
  const corners = cornersOf(shape, size);
  const [xs, ys] = [corners.map(([x]) => x), corners.map(([, y]) => y)];
  const right = Math.round(Math.min(Math.max(dx, -Math.min(...xs)), size[0] - Math.max(...xs)));
  const down = Math.round(Math.min(Math.max(dy, -Math.min(...ys)), size[1] - Math.max(...ys)));
  if (isRectangle(shape)) return [shape[0] + right, shape[1] + down, shape[2], shape[3]];
  return corners.map(([x, y]) => [x + right, y + down]);
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

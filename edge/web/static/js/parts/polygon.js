/** Plain geometry of polygons in pixels: points are [x, y]. */

/** Whether edges cross or touch each other, apart from neighbours at their common point. */
export function crossesItself(points) {
  const count = points.length;
  for (let one = 0; one < count; one += 1) {
    for (let other = one + 2; other < count; other += 1) {
      if (one === 0 && other === count - 1) continue;
      if (cross(points[one], points[one + 1], points[other], points[(other + 1) % count])) return true;
    }
  }
  return false;
}

function cross(a, b, c, d) {
  const turn = (p, q, r) => Math.sign((q[0] - p[0]) * (r[1] - p[1]) - (q[1] - p[1]) * (r[0] - p[0]));
  return turn(a, b, c) !== turn(a, b, d) && turn(c, d, a) !== turn(c, d, b);
}

/** Square pixels inside. */
export function area(points) {
  let sum = 0;
  for (const [index, [x, y]] of points.entries()) {
    const [nextX, nextY] = points[(index + 1) % points.length];
    sum += x * nextY - nextX * y;
  }
  return Math.abs(sum) / 2;
}

export function contains(points, [x, y]) {
  let isInside = false;
  for (const [index, [x1, y1]] of points.entries()) {
    const [x2, y2] = points[(index + 1) % points.length];
    if (y1 > y !== y2 > y && x < ((x2 - x1) * (y - y1)) / (y2 - y1) + x1) isInside = !isInside;
  }
  return isInside;
}

/** The point inside the picture that is nearest. */
export function kept([x, y], [width, height]) {
  return [Math.min(width, Math.max(0, Math.round(x))), Math.min(height, Math.max(0, Math.round(y)))];
}

/** All points moved by the same way, which is shortened so that all stay inside. */
export function shifted(points, [dx, dy], [width, height]) {
  const xs = points.map(([x]) => x);
  const ys = points.map(([, y]) => y);
  const byX = Math.round(Math.min(width - Math.max(...xs), Math.max(-Math.min(...xs), dx)));
  const byY = Math.round(Math.min(height - Math.max(...ys), Math.max(-Math.min(...ys), dy)));
  return points.map(([x, y]) => [x + byX, y + byY]);
}

/**
 * A point drawn to the edges of the picture and to lines through other points, where it is nearer than `reach`.
 * Returns {point, guides: [["x", value] or ["y", value]]}: what it was drawn to.
 */
export function snapped(point, others, [width, height], reach) {
  const guides = [];
  const [x, y] = ["x", "y"].map((axis, index) => {
    const places = [0, index ? height : width, ...others.map((other) => other[index])];
    const nearest = places.reduce((best, place) => (Math.abs(place - point[index]) < Math.abs(best - point[index]) ? place : best), Infinity);
    if (Math.abs(nearest - point[index]) > reach) return point[index];
    guides.push([axis, nearest]);
    return nearest;
  });
  return { point: kept([x, y], [width, height]), guides };
}

/** What is wrong with a polygon, as text, or null. */
export function problemOf(points) {
  if (points.length < 3) return "needs at least three points";
  if (crossesItself(points)) return "its edges cross";
  if (area(points) < 16) return "is too small";
  return null;
}

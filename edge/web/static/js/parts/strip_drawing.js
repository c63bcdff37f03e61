/** Draws the strip map on a canvas. Everything it needs comes as arguments: it is the same on the live page and on a coil's. */

import { theme } from "../theme.js";
import { duration, number } from "./format.js";
import { drawClass } from "./icons.js";

const RANK = { minor: 0, major: 1, critical: 2 };
const COVER_PX = 8;
const LANE_GAP_PX = 6;
const AXIS_PX = 18;
const OVERVIEW_PX = 42;
const TOP_PX = 5;
const MAX_MARKS = 4000;

/** Where things lie on a canvas of that size. view: {from, to} along the strip. whole: {from, to} of the strip below. */
export class StripScale {
  /** textPx: 12 on a desk; everything but the strip itself grows with it. */
  constructor(width, height, map, view, whole, textPx = 12) {
    this.isSmall = width < 600;
    this.grown = textPx / 12;
    this.left = this.isSmall ? 36 : 66 * this.grown;
    this.right = width - (this.isSmall ? 8 : 14);
    this.view = view;
    this.whole = whole;
    this.width = width;
    this.height = height;
    this.lanes = map.lanes;
    this.acrossMm = map.width_mm || Math.max(1, ...map.defects.map((defect) => defect.across_mm ?? 0));
    this.overviewHeight = OVERVIEW_PX * Math.min(this.grown, 1.2);
    this.overviewTop = height - this.overviewHeight - 3;
    this.axisTop = this.overviewTop - AXIS_PX * this.grown;
    const room = this.axisTop - TOP_PX;
    this.laneHeight = Math.max(24, room / Math.max(1, map.lanes.length) - LANE_GAP_PX);
  }

  x(along) {
    return this.left + ((along - this.view.from) / (this.view.to - this.view.from)) * (this.right - this.left);
  }

  along(x) {
    return this.view.from + ((x - this.left) / (this.right - this.left)) * (this.view.to - this.view.from);
  }

  overviewX(along) {
    return this.left + ((along - this.whole.from) / (this.whole.to - this.whole.from)) * (this.right - this.left);
  }

  overviewAlong(x) {
    return this.whole.from + ((x - this.left) / (this.right - this.left)) * (this.whole.to - this.whole.from);
  }

  laneTop(lane) {
    return TOP_PX + lane * (this.laneHeight + LANE_GAP_PX);
  }

  get stripHeight() {
    return this.laneHeight - COVER_PX - 2;
  }

  /** Unknown places across lie around the middle, apart from each other by their key. */
  y(lane, acrossMm, key = 0) {
    const share = acrossMm === null || acrossMm === undefined ? 0.35 + 0.3 * (((Number(key) || 0) * 0.618) % 1) : Math.min(1, Math.max(0, acrossMm / this.acrossMm));
    return this.laneTop(lane) + 8 + share * Math.max(1, this.stripHeight - 16);
  }

  isOverview(y) {
    return y >= this.overviewTop - 3;
  }
}

let colours = null;
let coloursOf = null;

/** The theme's colours, read once a theme. */
function palette() {
  if (coloursOf !== theme()) {
    const style = getComputedStyle(document.documentElement);
    const read = (name) => style.getPropertyValue(`--${name}`).trim();
    colours = Object.fromEntries(
      ["ink", "soft", "faint", "line", "line-soft", "sunk", "card", "inspected", "warn", "warn-soft", "bad", "accent", "minor", "major", "critical"].map((name) => [name, read(name)]),
    );
    colours.font = getComputedStyle(document.body).fontFamily;
    coloursOf = theme();
  }
  return colours;
}

/**
 * map: see strip_map.js. selected: the key of a defect, or null. Returns the marks drawn, [{defect, x, y, r}], for clicks.
 */
export function drawStrip(context, scale, map, selected, textPx = 12) {
  const ink = palette();
  const text = (weight, px) => `${weight} ${px}px ${ink.font}`;
  context.clearRect(0, 0, scale.width, scale.height);
  const marks = [];
  for (const [index, lane] of map.lanes.entries()) {
    drawLane(context, scale, map, index, lane, ink, text, textPx);
    drawCoverage(context, scale, map, index, lane, ink);
  }
  for (const [index, lane] of map.lanes.entries()) drawCells(context, scale, map, index, lane, ink);
  for (const mark of map.rollMarks ?? []) drawRollMark(context, scale, map, mark, ink, text, textPx);
  for (const [index, lane] of map.lanes.entries()) marks.push(...drawDefects(context, scale, map, index, lane, selected, ink));
  drawAxis(context, scale, map, ink, text, textPx);
  drawOverview(context, scale, map, ink, text, textPx);
  return marks;
}

function drawLane(context, scale, map, index, lane, ink, text, textPx) {
  const top = scale.laneTop(index);
  const width = scale.right - scale.left;
  context.fillStyle = ink.sunk;
  context.fillRect(scale.left, top, width, scale.stripHeight);
  context.strokeStyle = ink["line-soft"];
  context.lineWidth = 1;
  context.beginPath();
  for (const tick of ticks(scale, map)) {
    const x = Math.round(scale.x(tick)) + 0.5;
    context.moveTo(x, top);
    context.lineTo(x, top + scale.stripHeight);
  }
  context.stroke();
  context.strokeStyle = ink.line;
  context.strokeRect(scale.left + 0.5, top + 0.5, width - 1, scale.stripHeight - 1);
  context.textAlign = "right";
  context.textBaseline = "middle";
  context.fillStyle = ink.ink;
  context.font = text(650, scale.isSmall ? textPx : textPx + 1);
  const title = lane.title ?? lane.name;
  const room = scale.left - 10;
  context.fillText(fitted(context, scale.isSmall ? title.slice(0, 1).toUpperCase() + title.slice(1, 3) : title, room), scale.left - 8, top + scale.stripHeight / 2);
  if (lane.hasSides && scale.stripHeight > 54) {
    context.font = text(500, textPx - 1);
    context.fillStyle = ink.soft;
    context.fillText("OS", scale.left - 8, top + 9);
    context.fillText("DS", scale.left - 8, top + scale.stripHeight - 8);
  }
}

/** One bar below each lane: solid where inspected whole, hatched where in part, crossed where missed, empty where nothing is known. */
function drawCoverage(context, scale, map, index, lane, ink) {
  const top = scale.laneTop(index) + scale.stripHeight + 2;
  const order = { whole: 0, unknown: 1, partial: 2, missed: 3 };
  context.strokeStyle = ink.line;
  context.lineWidth = 1;
  context.strokeRect(scale.left + 0.5, top + 0.5, scale.right - scale.left - 1, COVER_PX - 1);
  const runs = map.runs.filter((run) => run.lane === lane.name && run.to >= scale.view.from && run.from <= scale.view.to);
  for (const run of runs.sort((one, other) => order[one.kind] - order[other.kind])) {
    const from = Math.max(scale.left, scale.x(run.from));
    const to = Math.min(scale.right, scale.x(run.to));
    if (run.kind === "whole") {
      context.fillStyle = ink.inspected;
      context.fillRect(from, top, Math.max(0, to - from), COVER_PX);
    } else if (run.kind !== "unknown") drawHole(context, from, Math.max(3, to - from), top, run.kind === "missed", ink);
  }
}

function drawHole(context, x, width, top, isMissed, ink) {
  context.save();
  context.beginPath();
  context.rect(x, top - 1, width, COVER_PX + 2);
  context.clip();
  context.fillStyle = isMissed ? ink.card : ink["warn-soft"];
  context.fillRect(x, top - 1, width, COVER_PX + 2);
  context.strokeStyle = isMissed ? ink.bad : ink.warn;
  context.lineWidth = 2;
  context.beginPath();
  const start = Math.floor(x / 6) * 6; // hatches stay in place while the strip runs under them
  for (let at = start - 12; at < x + width + COVER_PX; at += 6) {
    context.moveTo(at, top + COVER_PX + 1);
    context.lineTo(at + COVER_PX + 2, top - 1);
    if (isMissed) {
      context.moveTo(at + COVER_PX + 2, top + COVER_PX + 1);
      context.lineTo(at, top - 1);
    }
  }
  context.stroke();
  context.restore();
  context.strokeStyle = isMissed ? ink.bad : ink.warn;
  context.lineWidth = 1.5;
  context.strokeRect(x, top - 0.5, width, COVER_PX + 1);
}

/** Where defects are too many to be shown one by one: a box for those around it, the larger the more, in the colour of the worst. */
function drawCells(context, scale, map, index, lane, ink) {
  const cells = (map.cells ?? []).filter((cell) => cell.lane === lane.name && cell.to >= scale.view.from && cell.from <= scale.view.to);
  const most = cells.reduce((known, { count }) => Math.max(known, count), 1);
  for (const { from, to, across, count, severity } of cells) {
    const [x0, x1] = [Math.max(scale.left, scale.x(from)), Math.min(scale.right, scale.x(to))];
    const [y0, y1] = (across ?? [0.45 * scale.acrossMm, 0.55 * scale.acrossMm]).map((mm) => scale.y(index, mm));
    const share = Math.sqrt(0.15 + (0.85 * Math.log1p(count)) / Math.log1p(most));
    context.fillStyle = ink[severity];
    context.fillRect((x0 + x1 - (x1 - x0) * share) / 2, (y0 + y1 - (y1 - y0) * share) / 2, Math.max(0, x1 - x0) * share, (y1 - y0) * share);
  }
}

function drawDefects(context, scale, map, index, lane, selected, ink) {
  const { from, to } = scale.view;
  const margin = (to - from) / 40;
  let seen = map.defects.filter((defect) => defect.lane === lane.name && defect.at >= from - margin && defect.at <= to + margin);
  const isDense = seen.length > 250;
  if (seen.length > MAX_MARKS) seen = seen.slice(-MAX_MARKS);
  seen.sort((one, other) => RANK[one.severity] - RANK[other.severity]); // the worst on top
  const base = (isDense ? 3.4 : scale.isSmall ? 4.8 : 5.8) * (scale.stripHeight < 40 ? 0.8 : 1) * scale.grown;
  const marks = [];
  context.save();
  context.beginPath();
  context.rect(scale.left, 0, scale.right - scale.left, scale.height);
  context.clip();
  for (const defect of seen) {
    const r = base + RANK[defect.severity] * (isDense ? 1 : 1.5);
    const x = scale.x(defect.at);
    const y = scale.y(index, defect.across_mm, defect.key);
    const end = scale.x(defect.to ?? defect.at);
    if (end - x > 2 * r) {
      context.fillStyle = ink[defect.severity];
      context.fillRect(x, y - 1.5, end - x, 3); // as long as it is
    }
    drawClass(context, defect.class, x, y, r, ink[defect.severity]);
    if (defect.severity === "critical") {
      context.strokeStyle = ink.critical;
      context.lineWidth = 2.2;
      context.strokeRect(x - r - 4, y - r - 4, 2 * r + 8, 2 * r + 8);
    }
    if (defect.key === selected) {
      context.strokeStyle = ink.accent;
      context.lineWidth = 3;
      context.beginPath();
      context.arc(x, y, r + 8, 0, 7);
      context.stroke();
    }
    marks.push({ defect, x, y, r });
  }
  context.restore();
  return marks;
}

/** Rings where the roll must have touched the strip; dashed where nothing was found. */
function drawRollMark(context, scale, map, mark, ink, text, textPx) {
  const lane = map.lanes.findIndex(({ name }) => name === mark.lane);
  const positions = mark.positions.filter((at) => at >= scale.view.from && at <= scale.view.to);
  if (lane < 0 || !positions.length) return;
  const y = scale.y(lane, mark.across_mm);
  const r = (scale.isSmall ? 9 : 11) * scale.grown;
  const first = scale.x(positions[0]);
  const last = scale.x(positions.at(-1));
  context.strokeStyle = ink.warn;
  context.lineWidth = 1.8;
  if ((last - first) / Math.max(1, positions.length - 1) > r) {
    for (const at of positions) {
      const isFound = map.defects.some((defect) => defect.lane === mark.lane && Math.abs(defect.at - at) < 0.05 * mark.period_m && nearAcross(defect, mark));
      context.setLineDash(isFound ? [] : [3, 3]);
      context.beginPath();
      context.arc(scale.x(at), y, r, 0, 7);
      context.stroke();
    }
    context.setLineDash([]);
  } else context.strokeRect(first - 4, y - r, last - first + 8, 2 * r);
  const label = `every ${number(mark.period_m, 3)} m`;
  const above = y - r - 7 > scale.laneTop(lane) + 6;
  const line = above ? y - r - 6 : y + r + 6;
  const tip = above ? 5 : -5;
  context.beginPath();
  context.moveTo(first, line + tip);
  context.lineTo(first, line);
  context.lineTo(last, line);
  context.lineTo(last, line + tip);
  context.stroke();
  context.font = text(650, textPx);
  context.textAlign = "center";
  context.textBaseline = "middle";
  const width = context.measureText(label).width;
  const middle = Math.min(scale.right - width / 2 - 6, Math.max(scale.left + width / 2 + 6, (first + last) / 2));
  context.fillStyle = ink.sunk;
  context.fillRect(middle - width / 2 - 6, line - 8, width + 12, 16);
  context.fillStyle = ink.ink;
  context.fillText(label, middle, line);
}

function nearAcross(defect, mark) {
  return defect.across_mm === null || mark.across_mm === null || Math.abs(defect.across_mm - mark.across_mm) < 25;
}

function drawAxis(context, scale, map, ink, text, textPx) {
  context.font = text(500, textPx - 0.5);
  context.textBaseline = "top";
  context.textAlign = "center";
  context.fillStyle = ink.soft;
  const isAtEnd = map.isRunning && Math.abs(scale.view.to - map.end) < (scale.view.to - scale.view.from) / 50;
  const end = scale.right - (isAtEnd ? 46 : 12) * scale.grown;
  for (const tick of ticks(scale, map)) {
    const x = scale.x(tick);
    if (x < scale.left + 8 || x > end) continue;
    context.fillText(map.by === "time" ? ago(map.end - tick) : `${number(tick, Number.isInteger(tick) ? 0 : 1)} m`, x, scale.axisTop + 3);
  }
  if (isAtEnd) {
    context.textAlign = "right";
    context.fillStyle = ink.ink;
    context.font = text(650, textPx - 0.5);
    context.fillText("now", scale.right, scale.axisTop + 3);
  }
}

/** The whole strip: a bar for each piece, high as its defects are many, the worst on top; what is shown above is framed. */
function drawOverview(context, scale, map, ink, text, textPx) {
  const { left, right, overviewTop: top, overviewHeight: height } = scale;
  context.fillStyle = ink.sunk;
  context.fillRect(left, top, right - left, height);
  context.save();
  context.beginPath();
  context.rect(left, top - 2, right - left, height + 4);
  context.clip();
  const { bin, counts, from = 0 } = map.density;
  const most = Math.max(4, map.density.limit ?? 0, ...counts.map(([minor, major, critical]) => minor + major + critical));
  for (const [index, [minor, major, critical]] of counts.entries()) {
    const total = minor + major + critical;
    if (!total) continue;
    const x = scale.overviewX(from + index * bin);
    const width = Math.max(1, scale.overviewX(from + (index + 1) * bin) - x - 1);
    if (x + width < left || x > right) continue;
    let foot = top + height - 1;
    for (const [count, severity] of [[minor, "minor"], [major, "major"], [critical, "critical"]]) {
      if (!count) continue;
      const tall = Math.max(2.5, (count / most) * (height - 8));
      context.fillStyle = ink[severity];
      context.fillRect(x, foot - tall, width, tall);
      foot -= tall;
    }
  }
  context.strokeStyle = ink.bad;
  context.lineWidth = 2;
  context.beginPath();
  for (const run of map.runs) {
    if (run.kind !== "missed") continue;
    const x = scale.overviewX((run.from + run.to) / 2);
    context.moveTo(x, top);
    context.lineTo(x, top + 7);
  }
  context.stroke();
  if (map.density.limit) {
    const y = top + height - (map.density.limit / most) * (height - 5);
    context.lineWidth = 1.5;
    context.setLineDash([5, 4]);
    context.beginPath();
    context.moveTo(left, y);
    context.lineTo(right, y);
    context.stroke();
    context.setLineDash([]);
  }
  context.restore();
  context.strokeStyle = ink.line;
  context.lineWidth = 1;
  context.strokeRect(left + 0.5, top + 0.5, right - left - 1, height - 1);
  const from_x = Math.max(left, scale.overviewX(scale.view.from));
  const to_x = Math.min(right, scale.overviewX(scale.view.to));
  context.strokeStyle = ink.accent;
  context.lineWidth = 2.5;
  context.strokeRect(Math.min(from_x, right - 6), top - 1, Math.max(6, to_x - from_x), height + 2);
  context.textAlign = "right";
  context.textBaseline = "middle";
  context.fillStyle = ink.soft;
  context.font = text(500, textPx - 1);
  const line = scale.isSmall ? 0 : textPx * 0.58;
  context.fillText("all", left - 8, top + height / 2 - line);
  if (!scale.isSmall) context.fillText(map.by === "time" ? `in ${duration(bin)}` : `in ${number(bin)} m`, left - 8, top + height / 2 + line);
}

/** Round places for grid lines, as many as there is room for; by time they are round from the present backwards. */
function ticks({ view, width, grown }, { by, end }) {
  const span = view.to - view.from;
  const sizes = by === "time" ? [10, 30, 60, 120, 300, 600, 1200, 3600] : [0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000];
  const step = sizes.find((size) => (width - 90) / (span / size) >= 72 * grown) ?? sizes.at(-1);
  const origin = by === "time" ? end : 0;
  const found = [];
  for (let turn = Math.ceil((view.from - origin) / step); origin + turn * step <= view.to && found.length < 60; turn += 1) found.push(origin + turn * step);
  return found;
}

function ago(seconds) {
  if (seconds < 1) return "now";
  const whole = Math.round(seconds);
  if (whole < 120) return `-${whole} s`;
  return whole % 60 ? `-${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")} min` : `-${whole / 60} min`;
}

function fitted(context, text, width) {
  if (context.measureText(text).width <= width) return text;
  let short = text;
  while (short.length > 1 && context.measureText(`${short}…`).width > width) short = short.slice(0, -1);
  return `${short}…`;
}

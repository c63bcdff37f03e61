/** Boxes with labels over a picture: elements that are set together with the frame they belong to. */

import { defectName, number } from "./format.js";
import { classShape } from "./icons.js";

const RANK = { critical: 0, major: 1, minor: 2 };
const PAD_PX = 8; // of the frame, between a defect and its box
const GAP_PX = 3; // of the screen, between a box and its label
const MAX_BOXES = 60;
const SVG = "http://www.w3.org/2000/svg";
const widths = new Map();
const MAX_WIDTHS = 500;
const measure = document.createElement("canvas").getContext("2d");

/** Owns the elements inside `layer`; they are used again from frame to frame. */
export class DefectBoxes {
  constructor(layer) {
    this.layer = layer;
    this.boxes = [];
    this.labels = [];
  }

  /** regions: of a frame. size: [width, height] of the frame. shown: [width, height] of the layer in pixels of the screen. */
  show(regions, size, shown, { labelPx = 13.5, hasLabels = true } = {}) {
    const ordered = regions.toSorted((one, other) => RANK[one.severity ?? "minor"] - RANK[other.severity ?? "minor"] || other.confidence - one.confidence).slice(0, MAX_BOXES);
    const rectangles = ordered.map((region) => onScreen(region, size, shown));
    this.boxes = resized(this.boxes, ordered.length, () => this.layer.appendChild(element("div")));
    for (const [index, region] of ordered.entries()) {
      const box = this.boxes[index];
      box.className = `defect-box box-${region.severity ?? "minor"}`;
      place(box, rectangles[index]);
    }
    const places = hasLabels ? labelPlaces(ordered, rectangles, shown, labelPx) : [];
    this.labels = resized(this.labels, places.length, () => this.layer.appendChild(newLabel()));
    for (const [index, { region, left, top }] of places.entries()) fillLabel(this.labels[index], region, left, top, labelPx);
  }
}

function onScreen({ box_px, extent_px }, [width, height], [shownWidth, shownHeight]) {
  const [x, y, w, h] = extent_px ?? box_px;
  const pad = extent_px ? PAD_PX : 0;
  const left = Math.max(0, x - pad);
  const top = Math.max(0, y - pad);
  const right = Math.min(width, x + w + pad);
  const bottom = Math.min(height, y + h + pad);
  const [across, along] = [shownWidth / width, shownHeight / height];
  return { left: left * across, top: top * along, width: (right - left) * across, height: (bottom - top) * along };
}

/** Where each label covers least: no other label at all, and as little as possible of boxes. Labels without a place are left out. */
function labelPlaces(regions, rectangles, [shownWidth, shownHeight], labelPx) {
  const height = labelHeight(labelPx);
  const taken = [];
  const places = [];
  for (const [index, region] of regions.entries()) {
    const width = labelWidth(region, labelPx);
    const box = rectangles[index];
    const right = box.left + box.width;
    const bottom = box.top + box.height;
    const corners = [
      [box.left, box.top - height - GAP_PX],
      [box.left, bottom + GAP_PX],
      [right + GAP_PX, box.top],
      [box.left - width - GAP_PX, box.top],
      [right - width, box.top - height - GAP_PX],
      [right - width, bottom + GAP_PX],
      [right + GAP_PX, bottom - height],
      [box.left - width - GAP_PX, bottom - height],
      [box.left, box.top],
    ];
    let best = null;
    for (const [left, top] of corners) {
      if (left < 0 || top < 0 || left + width > shownWidth || top + height > shownHeight) continue;
      const spot = { left, top, width, height };
      if (taken.some((other) => overlap(spot, other) > 0)) continue;
      const covered = rectangles.reduce((sum, other) => sum + overlap(spot, other), 0);
      if (!best || covered < best.covered) best = { region, left, top, covered, spot };
      if (covered === 0) break;
    }
    if (!best) continue;
    taken.push(best.spot);
    places.push(best);
  }
  return places;
}

function overlap(one, other) {
  const across = Math.min(one.left + one.width, other.left + other.width) - Math.max(one.left, other.left);
  const along = Math.min(one.top + one.height, other.top + other.height) - Math.max(one.top, other.top);
  return across > 0 && along > 0 ? across * along : 0;
}

function labelTexts(region) {
  const { class: name, confidence, anomaly, length_mm } = region;
  const score = confidence ?? anomaly;
  return [name ? defectName(region) : "anomaly", score === null || score === undefined ? "" : number(score, 2), length_mm ? `${number(length_mm)} mm` : ""];
}

const labelHeight = (labelPx) => Math.round(labelPx * 1.7);

/** Measured once a text: reading the layout five times a second would cost more than the picture. */
function labelWidth(region, labelPx) {
  const text = labelTexts(region).filter(Boolean).join("  ");
  const key = `${labelPx} ${text}`;
  if (!widths.has(key)) {
    if (widths.size >= MAX_WIDTHS) widths.clear();
    measure.font = `620 ${labelPx}px ${getComputedStyle(document.body).fontFamily}`;
    widths.set(key, Math.ceil(measure.measureText(text).width + labelPx * 3));
  }
  return widths.get(key);
}

function newLabel() {
  const label = element("div", "defect-label");
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 16 16");
  svg.setAttribute("class", "icon");
  svg.appendChild(document.createElementNS(SVG, "path"));
  label.append(svg, element("b"), element("b"), element("span"));
  return label;
}

function fillLabel(label, region, left, top, labelPx) {
  const texts = labelTexts(region);
  const shape = classShape(region.class);
  const [svg, ...words] = label.children;
  svg.firstChild.setAttribute("d", shape.path);
  svg.firstChild.setAttribute("class", shape.line ? "line" : "filled");
  svg.firstChild.setAttribute("stroke-width", shape.line);
  for (const [index, word] of words.entries()) if (word.textContent !== texts[index]) word.textContent = texts[index];
  label.className = `defect-label box-${region.severity ?? "minor"}`;
  Object.assign(label.style, { left: `${left}px`, top: `${top}px`, height: `${labelHeight(labelPx)}px`, fontSize: `${labelPx}px` });
}

function place(box, { left, top, width, height }) {
  Object.assign(box.style, { left: `${left}px`, top: `${top}px`, width: `${width}px`, height: `${height}px` });
}

function resized(elements, count, make) {
  for (const left of elements.slice(count)) left.remove();
  const kept = elements.slice(0, count);
  while (kept.length < count) kept.push(make());
  return kept;
}

function element(tag, name = "") {
  const made = document.createElement(tag);
  made.className = name;
  return made;
}

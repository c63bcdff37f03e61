/**
 * Signs. The shape says the class, the colour only the severity.
 *
 * The six classes of the built-in model have shapes of their own; others get one of ten further shapes by their place in the model's
 * list, so that a class keeps its shape on every page and after every restart.
 */

import { html } from "../html.js";

// Each shape once, as SVG path data in a box of 16: pictures draw it by SVG, maps by Path2D. `line` is the stroke's width, 0: filled.
const dots = (...places) => places.map(([x, y, r]) => `M${x - r} ${y}a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0`).join("");

const CLASS_SHAPES = {
  crazing: { path: "M2 5h12M2 11h12M5.5 1.5v13M10.5 1.5v13", line: 2 },
  inclusion: { path: dots([8, 8, 6]), line: 0 },
  patches: { path: "M2 2h12v12H2z", line: 0 },
  pitted_surface: { path: dots([4, 4, 2.4], [12, 4.5, 2.4], [8, 9, 2.4], [4, 13, 2], [12.4, 12.6, 2.4]), line: 0 },
  "rolled-in_scale": { path: "M8 1.5 15 14H1z", line: 0 },
  scratches: { path: "M3 14 9 2M8 14l5-10", line: 2.6 },
};

const FURTHER_SHAPES = [
  { path: "M8 1l7 7-7 7-7-7z", line: 0 }, // diamond
  { path: "M8 2v12M2 8h12", line: 3 }, // plus
  { path: dots([8, 8, 5.5]), line: 2.4 }, // ring
  { path: "M1 3h14L8 15z", line: 0 }, // triangle, point down
  { path: "M3 3l10 10M13 3 3 13", line: 2.8 }, // cross
  { path: "M3 3h10v10H3z", line: 2.4 }, // open square
  { path: "M1 8c2-6 4-6 7 0s5 6 7 0", line: 2.6 }, // wave
  { path: "M8 1l2 5h5l-4 3.5 1.5 5.5L8 11.5 3.5 15 5 9.5 1 6h5z", line: 0 }, // star
  { path: "M2 3h12M2 8h12M2 13h12", line: 2.4 }, // bars
  { path: "M2 14V2l12 12z", line: 0 }, // corner
];

const ANOMALY = { path: "M8 1.5 14 5v6l-6 3.5L2 11V5z", line: 2.2 }; // found without a class
const UNKNOWN = { path: "M8 1.5 14 5v6l-6 3.5L2 11V5zM8 8v.1", line: 2.2 }; // on steel that the model was not trained on

const SIGNS = {
  good: { path: "m2.5 8.5 4 4 7-9", line: 2.6 },
  unsure: { path: "M5 5.2C5 3.2 6.4 2 8 2s3 1.1 3 2.9c0 2.3-3 2.2-3 4.6M8 12.6v1", line: 2.4 },
  warn: { path: "M8 1.5 15 14.5H1zM8 6.2v3.6M8 12v.4", line: 1.9 },
  bad: { path: "M8 1.3a6.7 6.7 0 1 0 .01 0zM5.5 5.5l5 5M10.5 5.5l-5 5", line: 2 },
  roll: { path: "M8 2a6 6 0 1 0 .01 0M8 2v3.5", line: 2.4 },
  close: { path: "m3.5 3.5 9 9M12.5 3.5l-9 9", line: 2 },
  menu: { path: "M1.5 3.5h13M1.5 8h13M1.5 12.5h13", line: 2 },
  theme: { path: "M8 2a6 6 0 1 0 .01 0M8 2.5v11M9 4v8M10.5 4v8M12 5v6", line: 1.7 },
  user: { path: "M8 1.8a3 3 0 1 0 .01 0M2.2 14.5c.3-7 11.3-7 11.6 0z", line: 1.8 },
  help: { path: "M5.5 6c0-3.5 5-3.3 5-.3 0 2-2.5 2-2.5 4M8 12v.6M8 .9a7.1 7.1 0 1 0 .01 0", line: 1.6 },
  camera: { path: "M1.5 4h9v8.5h-9zM10.5 7 14.5 4.5v7.5l-4-2.5", line: 1.8 },
  pause: { path: "M5 3v10M11 3v10", line: 2.8 },
  play: { path: "M4 2.5 13 8l-9 5.5z", line: 0 },
  right: { path: "M2 8h11M9 4l4 4-4 4", line: 2 },
  left: { path: "M14 8H3M7 4 3 8l4 4", line: 2 },
  down: { path: "m3 6 5 5 5-5", line: 2 },
  plus: { path: "M8 3v10M3 8h10", line: 2.2 },
  minus: { path: "M3 8h10", line: 2.2 },
  undo: { path: "M5.5 3 2.5 6l3 3M2.5 6h7a4 4 0 0 1 0 8H6", line: 2 },
  download: { path: "M8 2v8M4.5 7 8 10.5 11.5 7M2.5 13.5h11", line: 2 },
  link: { path: "M9.5 2.5h4v4M13.5 2.5 7.5 8.5M6.5 4h-4v9.5H12V9.5", line: 1.8 },
  wait: { path: "M8 2a6 6 0 1 0 .01 0M8 4.5V8l2.5 1.5", line: 1.9 },
};

let knownClasses = [];

/** The classes of the node's model, in the model's order, then those that its cameras were taught. */
export function knowClasses(state) {
  if (!state) return;
  const taught = (state.cameras ?? []).flatMap((camera) => camera.taught?.classes ?? []);
  knownClasses = [...new Set([...(state.model?.classes ?? knownClasses), ...taught])];
}

/** {path, line} of a class. `classes`: the list of another model than the node's. */
export function classShape(name, classes = knownClasses) {
  if (!name || name === "anomaly") return ANOMALY;
  if (name === "unknown") return UNKNOWN;
  if (CLASS_SHAPES[name]) return CLASS_SHAPES[name];
  const others = classes.filter((known) => !CLASS_SHAPES[known]);
  const place = others.indexOf(name);
  return FURTHER_SHAPES[(place < 0 ? hash(name) : place) % FURTHER_SHAPES.length];
}

function hash(text) {
  let value = 0;
  for (const letter of text) value = (value * 31 + letter.codePointAt(0)) >>> 0;
  return value;
}

function Shape({ shape, className, title }) {
  const { path, line } = shape;
  return html`<svg class="icon ${className ?? ""}" viewBox="0 0 16 16" role=${title ? "img" : null} aria-label=${title} aria-hidden=${title ? null : "true"}>
    ${
      line
        ? html`<path d=${path} fill="none" stroke="currentColor" stroke-width=${line} stroke-linecap="round" stroke-linejoin="round" />`
        : html`<path d=${path} fill="currentColor" />`
    }
  </svg>`;
}

/** A sign: good, warn, roll, close... Decorative unless `title` is given. */
export function Icon({ name, className, title }) {
  return html`<${Shape} shape=${SIGNS[name] ?? SIGNS.unsure} className=${className} title=${title} />`;
}

/** The shape of a class in the colour of its severity: minor, major, critical, or none for the text's colour. */
export function ClassIcon({ name, severity, classes, title }) {
  const shape = name === "good" || name === "unsure" ? SIGNS[name] : classShape(name, classes);
  return html`<${Shape} shape=${shape} className=${severity ? `severity-${severity}` : ""} title=${title} />`;
}

const drawn = new Map();

/** Draws the shape of a class on a canvas: middle x, y and half height r in pixels. */
export function drawClass(context, name, x, y, r, colour) {
  const shape = classShape(name);
  let path = drawn.get(shape);
  if (!path) drawn.set(shape, (path = new Path2D(shape.path)));
  context.save();
  context.translate(x - r, y - r);
  context.scale(r / 8, r / 8);
  context.lineCap = context.lineJoin = "round";
  if (shape.line) {
    context.strokeStyle = colour;
    context.lineWidth = shape.line;
    context.stroke(path);
  } else {
    context.fillStyle = colour;
    context.fill(path);
  }
  context.restore();
}

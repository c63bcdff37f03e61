/** Shapes over a picture: drawn and moved by mouse, finger or keys. The one editor of regions, exclusions and lines. */

import { html, useEffect, useRef, useState } from "../html.js";
import { cornersOf, inside, isRectangle, movedBy, rectangleOf, withCorner, withInserted, withoutCorner } from "./shapes.js";

const SNAP = 7; // screen pixels to the border of the frame
const STEPS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const FAR = 10; // with Shift

/**
 * size: [width, height] of the frame, in whose pixels everything is. picture: its URL. alt: what it shows.
 * shapes: [{id, name, kind: "region" | "zone" | "line", shape}]; a line is [[x, y], [x, y]]. selected: an id or null.
 * before: a region as it is in use, drawn dashed. tiles: boxes x y w h; isProvisional: the node has not confirmed them.
 * onChange(id, shape), onSelect(id), onDraw(shape): a rectangle or, with drawsLines, two points that were drawn on a free place.
 */
export function PolygonEditor({ size, picture, alt, shapes, selected, before, tiles = [], isProvisional, isLocked, drawsLines, onChange, onSelect, onDraw }) {
  const svg = useRef(null);
  const [scale, setScale] = useState(1);
  const [drag, setDrag] = useState(null);
  useEffect(() => {
    const measure = () => setScale(size[0] / (svg.current?.clientWidth || size[0]));
    const watch = new ResizeObserver(measure);
    watch.observe(svg.current);
    measure();
    return () => watch.disconnect();
  }, [size[0]]);

  const pointOf = (event) => {
    const { left, top, width, height } = svg.current.getBoundingClientRect();
    return [((event.clientX - left) / width) * size[0], ((event.clientY - top) / height) * size[1]];
  };
  const snapped = (event) => inside(pointOf(event), size, SNAP * scale);

  const grab = (event, what) => {
    if (isLocked || event.button) return;
    event.preventDefault();
    event.stopPropagation();
    svg.current.setPointerCapture?.(event.pointerId);
    if (what.id !== undefined) onSelect?.(what.id);
    setDrag({ ...what, from: snapped(event), at: snapped(event) });
  };
  const follow = (event) => {
    if (!drag) return;
    const at = snapped(event);
    const one = shapes.find(({ id }) => id === drag.id);
    if (drag.kind === "corner") onChange(drag.id, withPoint(one, drag.place, at, size));
    if (drag.kind === "shape") onChange(drag.id, movedBy(drag.shape, [at[0] - drag.from[0], at[1] - drag.from[1]], size));
    setDrag({ ...drag, at });
  };
  const release = () => {
    if (drag?.kind === "draw" && isFar(drag.from, drag.at, scale)) onDraw?.(drawsLines ? [drag.from, drag.at] : rectangleOf(drag.from, drag.at));
    setDrag(null);
  };
  const insert = (event, one, place, point) => {
    if (isLocked) return;
    onChange(one.id, withInserted(one.shape, place, size, point));
    grab(event, { kind: "corner", id: one.id, place: place + 1 });
  };

  const press = (event, one, place) => {
    const step = STEPS[event.key];
    const far = event.shiftKey ? FAR : 1;
    const corner = pointsOf(one, size)[place];
    if (isLocked) return;
    if (step) onChange(one.id, withPoint(one, place, inside([corner[0] + step[0] * far, corner[1] + step[1] * far], size), size));
    else if ((event.key === "Delete" || event.key === "Backspace") && one.kind !== "line") onChange(one.id, withoutCorner(one.shape, place, size));
    else if ((event.key === "Insert" || event.key === "+") && one.kind !== "line") onChange(one.id, withInserted(one.shape, place, size));
    else return;
    event.preventDefault();
    event.stopPropagation();
  };

  const drawn = drag?.kind === "draw" && isFar(drag.from, drag.at, scale) ? drag : null;
  const radius = 6.5 * scale;
  return html`<div class="editor ${isLocked ? "locked" : ""}">
    <img src=${picture} alt=${alt} draggable=${false} />
    <svg
      ref=${svg}
      viewBox="0 0 ${size[0]} ${size[1]}"
      preserveAspectRatio="none"
      data-own-keys
      role="group"
      aria-label="Shapes over the picture"
      onPointerDown=${(event) => onDraw && grab(event, { kind: "draw" })}
      onPointerMove=${follow}
      onPointerUp=${release}
      onPointerCancel=${() => setDrag(null)}
    >
      <${Outside} shapes=${shapes} size=${size} />
      <g class="editor-tiles ${isProvisional ? "provisional" : ""}" aria-hidden="true">
        ${tiles.map(([x, y, w, h]) => html`<rect x=${x} y=${y} width=${w} height=${h} />`)}
      </g>
      ${before && html`<polygon class="editor-before" points=${points(cornersOf(before, size))} />`}
      ${shapes.map(
        (one) => html`<g key=${one.id} class="editor-shape ${one.kind} ${one.id === selected ? "selected" : ""}">
          ${
            one.kind === "line"
              ? html`<line x1=${one.shape[0][0]} y1=${one.shape[0][1]} x2=${one.shape[1][0]} y2=${one.shape[1][1]} />`
              : html`<polygon points=${points(cornersOf(one.shape, size))} onPointerDown=${(event) =>
                  one.kind === "zone" || (one.id === selected && !onDraw) ? grab(event, { kind: "shape", id: one.id, shape: one.shape }) : undefined} />`
          }
        </g>`,
      )}
      ${drawn && !drawsLines && html`<polygon class="editor-new" points=${points(cornersOf(rectangleOf(drawn.from, drawn.at), size))} />`}
      ${drawn && drawsLines && html`<line class="editor-new" x1=${drawn.from[0]} y1=${drawn.from[1]} x2=${drawn.at[0]} y2=${drawn.at[1]} />`}
      ${shapes
        .filter(({ id }) => id === selected && !isLocked)
        .map((one) => {
          const corners = pointsOf(one, size);
          return html`<g key=${`handles-${one.id}`} class="editor-handles ${one.kind}">
            ${
              one.kind !== "line" &&
              corners.map((corner, place) => {
                const next = corners[(place + 1) % corners.length];
                const middle = [(corner[0] + next[0]) / 2, (corner[1] + next[1]) / 2];
                return html`<circle class="editor-middle" cx=${middle[0]} cy=${middle[1]} r=${radius * 0.7} aria-hidden="true" onPointerDown=${(event) =>
                  insert(event, one, place, inside(middle, size))} />`;
              })
            }
            ${corners.map(
              ([x, y], place) => html`<circle
                key=${place}
                class="editor-corner"
                cx=${x}
                cy=${y}
                r=${radius}
                tabindex="0"
                role="button"
                aria-label=${`${one.kind === "line" ? "End" : "Corner"} ${place + 1} of ${one.name}: ${x}, ${y} px. Arrow keys move it.`}
                onPointerDown=${(event) => grab(event, { kind: "corner", id: one.id, place })}
                onKeyDown=${(event) => press(event, one, place)}
                onDblClick=${() => one.kind !== "line" && !isLocked && onChange(one.id, withoutCorner(one.shape, place, size))}
              />`,
            )}
          </g>`;
        })}
    </svg>
  </div>`;
}

/** What is not inspected, darkened. */
function Outside({ shapes, size }) {
  const region = shapes.find(({ kind }) => kind === "region");
  if (!region) return null;
  const frame = cornersOf(null, size);
  return html`<path class="editor-outside" fill-rule="evenodd" d=${`${path(frame)}${path(cornersOf(region.shape, size))}`} />`;
}

function withPoint(one, place, point, size) {
  if (one.kind === "line") return one.shape.map((end, other) => (other === place ? point : end));
  return withCorner(one.shape, place, point, size);
}

function pointsOf(one, size) {
  return one.kind === "line" ? one.shape : cornersOf(one.shape, size);
}

function isFar([x1, y1], [x2, y2], scale) {
  return Math.hypot(x2 - x1, y2 - y1) > 6 * scale;
}

const points = (corners) => corners.map((corner) => corner.join(",")).join(" ");
const path = (corners) => `M${corners.map((corner) => corner.join(" ")).join("L")}Z`;

/** The shape as text: "600 x 180 px at 20, 30" or "5 corners". */
export function describeShape(shape, size) {
  const [x, y, w, h] = isRectangle(shape) ? shape : !shape ? [0, 0, ...size] : [];
  return w === undefined ? `${shape.length} corners` : `${w} x ${h} px at ${x}, ${y}`;
}

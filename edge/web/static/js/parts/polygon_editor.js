/**
 * Polygons over a picture, drawn and moved by mouse, touch or keys: one region to inspect, and exclusions inside it.
 *
 * A drag over the picture draws a rectangle. A click sets a point, a click on the first point (or Enter) closes the polygon, Escape gives
 * it up. Points are moved by
 * dragging or by arrow keys, taken away by Delete; a small handle on each edge adds one. Points keep inside the picture and snap to its
 * edges and to other points; Alt turns that off.
 */

import { html, useEffect, useMemo, useRef, useState } from "../html.js";
import { kept, problemOf, shifted, snapped } from "./polygon.js";

const REACH_PX = 9; // of the screen: how near snaps, and how near the first point closes
const STEP_PX = 1;
const BIG_STEP_PX = 10;
const MAX_POINTS = 64;
const NAMES = { region: "region", exclusion: "exclusion" };

/**
 * size: [width, height] of the picture. shapes: [{id, kind: "region"|"exclusion", points: [[x, y], ...]}]. onChange(shapes).
 * drawing: the kind that the next clicks draw, or null; onDrawn() when it is closed or given up. selected, onSelect(id|null).
 * children: what lies under it, an image or a canvas that fills its box. over: SVG elements between picture and polygons, as tiles.
 * readOnly: only shows.
 */
export function PolygonEditor({ size, shapes, onChange, drawing = null, onDrawn, selected = null, onSelect, children, over, readOnly = false }) {
  const svg = useRef(null);
  const [draft, setDraft] = useState([]);
  const [pointer, setPointer] = useState(null);
  const [guides, setGuides] = useState([]);
  const [unit, setUnit] = useState(1); // pixels of the picture in one of the screen
  const drag = useRef(null);
  const [width, height] = size;

  useEffect(() => {
    const resizes = new ResizeObserver(([{ contentRect }]) => contentRect.width && setUnit(width / contentRect.width));
    resizes.observe(svg.current);
    return () => resizes.disconnect();
  }, [width]);
  useEffect(() => {
    setDraft([]);
    if (drawing) svg.current.focus();
  }, [drawing]);

  const others = useMemo(() => shapes.flatMap((shape) => shape.points), [shapes]);

  function at(event) {
    const box = svg.current.getBoundingClientRect();
    return [((event.clientX - box.left) / box.width) * width, ((event.clientY - box.top) / box.height) * height];
  }

  function settled(event, point, known) {
    if (event.altKey) return { point: kept(point, size), guides: [] };
    return snapped(point, known, size, REACH_PX * unit);
  }

  function replace(id, points) {
    onChange(shapes.map((shape) => (shape.id === id ? { ...shape, points } : shape)));
  }

  function close(points = draft) {
    if (problemOf(points)) return;
    const id = `${drawing}-${shapes.reduce((most, shape) => Math.max(most, Number(shape.id.split("-").at(-1)) || 0), 0) + 1}`;
    const others = drawing === "region" ? shapes.filter((shape) => shape.kind !== "region") : shapes; // there is one region
    onChange([...others, { id, kind: drawing, points }]);
    setDraft([]);
    setGuides([]);
    onSelect?.(id);
    onDrawn?.();
  }

  // ---- drawing ----

  function pressedOnPicture(event) {
    if (readOnly || event.button) return;
    if (!drawing) {
      onSelect?.(null);
      return;
    }
    event.preventDefault();
    const { point } = settled(event, at(event), [...others, ...draft]);
    const isFirst = draft.length >= 3 && Math.hypot(point[0] - draft[0][0], point[1] - draft[0][1]) <= REACH_PX * unit;
    if (isFirst) close();
    else if (draft.length < MAX_POINTS) setDraft([...draft, point]);
    if (!draft.length) {
      svg.current.setPointerCapture(event.pointerId);
      drag.current = { id: null, from: point };
    }
  }

  /** Where the first press was dragged from there: a rectangle between both. */
  function releasedOnPicture(event) {
    const from = drag.current?.id === null ? drag.current.from : null;
    drag.current = null;
    if (!drawing || !from) return;
    const { point } = settled(event, at(event), others);
    if (Math.min(Math.abs(point[0] - from[0]), Math.abs(point[1] - from[1])) > REACH_PX * unit) close(rectangle(from, point));
  }

  function movedOverPicture(event) {
    if (!drawing) return;
    const { point, guides: found } = settled(event, at(event), [...others, ...draft]);
    setPointer(point);
    setGuides(found);
  }

  function pressedKey(press) {
    if (!drawing) return;
    const actions = {
      Enter: () => (pointer && document.activeElement === svg.current && !draft.length ? setDraft([pointer]) : close()),
      Escape: () => (setDraft([]), setGuides([]), onDrawn?.()),
      Backspace: () => setDraft(draft.slice(0, -1)),
      " ": () => draft.length < MAX_POINTS && setDraft([...draft, pointer ?? [Math.round(width / 2), Math.round(height / 2)]]),
      ...Object.fromEntries(Object.entries(ARROWS).map(([key, way]) => [key, () => setPointer(moved(pointer ?? [width / 2, height / 2], way, press))])),
    };
    if (!actions[press.key]) return;
    press.preventDefault();
    press.stopPropagation();
    actions[press.key]();
  }

  // ---- changing ----

  function moved([x, y], [dx, dy], press) {
    const step = press.shiftKey ? BIG_STEP_PX : STEP_PX;
    return kept([x + dx * step, y + dy * step], size);
  }

  function pressedOnPoint(event, shape, index) {
    if (readOnly || drawing || event.button) return;
    event.stopPropagation();
    event.currentTarget.setPointerCapture(event.pointerId);
    onSelect?.(shape.id);
    drag.current = { id: shape.id, index };
  }

  function pressedOnEdge(event, shape, index) {
    if (readOnly || drawing || event.button || shape.points.length >= MAX_POINTS) return;
    event.stopPropagation();
    event.preventDefault();
    replace(shape.id, shape.points.toSpliced(index + 1, 0, middle(shape.points, index)));
  }

  function pressedOnShape(event, shape) {
    if (readOnly || drawing || event.button) return;
    event.stopPropagation();
    event.currentTarget.setPointerCapture(event.pointerId);
    onSelect?.(shape.id);
    drag.current = { id: shape.id, index: null, from: at(event), points: shape.points };
  }

  function dragged(event, shape) {
    if (drag.current?.id !== shape.id) return;
    event.stopPropagation();
    const { index, from, points } = drag.current;
    const place = at(event);
    if (index === null) {
      replace(shape.id, shifted(points, [place[0] - from[0], place[1] - from[1]], size));
      return;
    }
    const known = shapes.flatMap((other) => (other.id === shape.id ? other.points.filter((_, place) => place !== index) : other.points));
    const { point, guides: found } = settled(event, place, known);
    setGuides(found);
    replace(shape.id, shape.points.with(index, point));
  }

  function dropped() {
    drag.current = null;
    setGuides([]);
  }

  function pressedKeyOnPoint(press, shape, index) {
    if (readOnly) return;
    if (ARROWS[press.key]) replace(shape.id, shape.points.with(index, moved(shape.points[index], ARROWS[press.key], press)));
    else if (press.key === "Delete" || press.key === "Backspace") {
      if (shape.points.length > 3) replace(shape.id, shape.points.toSpliced(index, 1));
    } else if (press.key === "Insert" || press.key === "+") {
      if (shape.points.length < MAX_POINTS) replace(shape.id, shape.points.toSpliced(index + 1, 0, middle(shape.points, index)));
    } else return;
    press.preventDefault();
    press.stopPropagation();
  }

  const isDragged = drawing && pointer && drag.current?.id === null;
  const shownDraft = isDragged ? rectangle(drag.current.from, pointer) : pointer && drawing ? [...draft, pointer] : draft;
  return html`<div class="polygon-editor ${drawing ? "drawing" : ""}" style=${{ aspectRatio: `${width} / ${height}` }}>
    ${children}
    <svg
      ref=${svg} viewBox="0 0 ${width} ${height}" preserveAspectRatio="none" tabindex=${drawing ? 0 : -1} data-own-keys
      role="group" aria-label=${drawing ? `Draw the ${NAMES[drawing]}: arrow keys move, Space sets a point, Enter closes, Escape gives up` : "Region and exclusions"}
      onPointerDown=${pressedOnPicture} onPointerUp=${releasedOnPicture} onPointerMove=${movedOverPicture} onPointerLeave=${() => drawing && setGuides([])} onDblClick=${() => drawing && close()} onKeyDown=${pressedKey}
    >
      ${over}
      ${shapes.map((shape) => {
        const isSelected = shape.id === selected;
        const handlers = { onPointerMove: (event) => dragged(event, shape), onPointerUp: dropped, onPointerCancel: dropped };
        return html`<g key=${shape.id} class="polygon polygon-${shape.kind} ${isSelected ? "selected" : ""} ${problemOf(shape.points) ? "wrong" : ""}">
          <path class="polygon-body" d=${asPath(shape.points)} onPointerDown=${(event) => pressedOnShape(event, shape)} ...${handlers} />
          <path class="polygon-line" d=${asPath(shape.points)} />
          ${
            !readOnly &&
            !drawing &&
            shape.points.map(
              (_, index) => html`<circle key=${`e${index}`} class="polygon-edge" r=${4 * unit} cx=${middle(shape.points, index)[0]} cy=${middle(shape.points, index)[1]}
                onPointerDown=${(event) => pressedOnEdge(event, shape, index)} />`,
            )
          }
          ${
            !readOnly &&
            !drawing &&
            shape.points.map(
              ([x, y], index) => html`<circle
                key=${`p${index}`} class="polygon-point" r=${6.5 * unit} cx=${x} cy=${y} tabindex="0" role="button"
                aria-label=${`Point ${index + 1} of ${shape.points.length} of the ${NAMES[shape.kind]}, x ${x}, y ${y}`}
                onFocus=${() => onSelect?.(shape.id)} onPointerDown=${(event) => pressedOnPoint(event, shape, index)} ...${handlers}
                onKeyDown=${(press) => pressedKeyOnPoint(press, shape, index)} />`,
            )
          }
        </g>`;
      })}
      ${guides.map(([axis, value]) => html`<path class="polygon-guide" d=${axis === "x" ? `M${value} 0V${height}` : `M0 ${value}H${width}`} />`)}
      ${
        shownDraft.length
          ? html`<g class="polygon polygon-draft polygon-${drawing}">
              <path class="polygon-line" d=${asPath(shownDraft, shownDraft.length > 2)} />
              ${draft.map(([x, y], index) => html`<circle class="polygon-point ${index ? "" : "first"}" r=${(index ? 5 : 7) * unit} cx=${x} cy=${y} />`)}
              ${pointer && html`<circle class="polygon-cursor" r=${4 * unit} cx=${pointer[0]} cy=${pointer[1]} />`}
            </g>`
          : null
      }
    </svg>
  </div>`;
}

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

function asPath(points, isClosed = true) {
  return `M${points.map((point) => point.join(" ")).join("L")}${isClosed ? "z" : ""}`;
}

function rectangle([x1, y1], [x2, y2]) {
  const [left, top, right, bottom] = [Math.min(x1, x2), Math.min(y1, y2), Math.max(x1, x2), Math.max(y1, y2)];
  return [[left, top], [right, top], [right, bottom], [left, bottom]];
}

function middle(points, index) {
  const [x, y] = points[index];
  const [nextX, nextY] = points[(index + 1) % points.length];
  return [Math.round((x + nextX) / 2), Math.round((y + nextY) / 2)];
}

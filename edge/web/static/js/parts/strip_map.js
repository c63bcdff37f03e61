/**
 * The strip seen from above: a lane for each surface, defects by shape and colour, what was inspected below each lane, the whole strip
 * at the bottom. Runs with the coil until the viewer moves it.
 */

import { html, useEffect, useRef, useState } from "../html.js";
import { useKeys } from "../keys.js";
import { onTheme } from "../theme.js";
import { className, metres, millimetres, plural, time } from "./format.js";
import { ClassIcon, Icon } from "./icons.js";
import { StripScale, drawStrip } from "./strip_drawing.js";

const ZOOMS = [0.5, 0.8]; // by key and button; by wheel
const MIN_SPAN = { position: 2, time: 20 };
const REACH_PX = 12;
const LISTED_KEYS = {
  ArrowLeft: ["move back, → forward", null],
  "+": ["zoom in, - out", null],
  n: ["next defect, P the one before", null],
  Enter: ["open the defect", null],
  End: ["follow the strip", null],
};

/**
 * map: {
 *   by: "position" (m) | "time" (s), width_mm: number|null, end: where the newest frame is, isRunning,
 *   lanes: [{name, title, hasSides}], defects: [{key, at, to, across_mm|null, class, severity, lane, length_mm, time}], sorted by `at`,
 *   runs: [{lane, from, to, kind: "whole|partial|missed|unknown", cause}], density: {bin, counts: [[minor, major, critical]], from?, limit?},
 *   rollMarks: [{lane, positions: [...], across_mm, period_m}],
 *   cells?: [{lane, from, to, across: [mm, mm]|null, count, severity}] in place of defects that are too many,
 *   start?: where the strip starts (0) }
 * span: length shown at first; null: all. focus: {from, to, key} to go there, once for each new object. selected: key. onSelect(defect|null); onOpen(key) on Enter.
 * onView({from, to, isFollowing}): after each move, to load more. textPx: 12; a wall needs more.
 */
export function StripMap({ map, span = null, focus, selected = null, onSelect, onOpen, onView, textPx = 12, hasControls = true }) {
  const canvas = useRef(null);
  const view = useRef(null);
  const [, redraw] = useState({});
  const [hovered, setHovered] = useState(null);
  view.current ??= new StripView(canvas, redraw);
  const strip = view.current;
  strip.update({ map, span, selected, onSelect, onOpen, onView, textPx, setHovered });

  useKeys("On the map", LISTED_KEYS);
  useEffect(() => strip.attach(), []);
  useEffect(() => strip.draw());
  useEffect(() => {
    if (focus) strip.show(focus);
  }, [focus]);

  return html`<div class="strip-map">
    <canvas ref=${canvas} tabindex="0" role="application" data-own-keys aria-label=${described(map)} onKeyDown=${(press) => strip.pressed(press)}></canvas>
    ${hovered && html`<${Tip} ...${hovered} by=${map.by} />`}
    ${
      hasControls &&
      html`<div class="strip-tools">
        ${!strip.isFollowing && map.isRunning && html`<button class="button" onClick=${() => strip.follow()}>Follow</button>`}
        <button class="icon-button" aria-label="Show less of the strip" title="Zoom in (+)" onClick=${() => strip.zoom(ZOOMS[0])}><${Icon} name="plus" /></button>
        <button class="icon-button" aria-label="Show more of the strip" title="Zoom out (-)" onClick=${() => strip.zoom(1 / ZOOMS[0])}><${Icon} name="minus" /></button>
      </div>`
    }
  </div>`;
}

/** What the shapes and colours mean. classes: with it, the shapes too. */
export function MapLegend({ classes }) {
  return html`<ul class="map-legend" aria-label="Legend">
    ${(classes ?? []).map((name) => html`<li key=${name}><${ClassIcon} name=${name} />${className(name)}</li>`)}
    <li><i class="swatch minor"></i>minor</li>
    <li><i class="swatch major"></i>major</li>
    <li><i class="swatch critical"></i>critical</li>
    <li><i class="swatch whole"></i>inspected</li>
    <li><i class="swatch partial"></i>partial</li>
    <li><i class="swatch missed"></i>missed</li>
  </ul>`;
}

function Tip({ defect, x, y, by }) {
  return html`<div class="strip-tip card ${x > 0.6 ? "to-left" : ""}" style=${{ left: `${x * 100}%`, top: `${y}px` }}>
    <b><${ClassIcon} name=${defect.class} severity=${defect.severity} /> ${className(defect.class)}, ${defect.severity}</b>
    <span>${by === "time" ? time(defect.time) : metres(defect.at, 2)}, ${defect.across_mm === null ? "across unknown" : `${millimetres(defect.across_mm)} from OS`}</span>
    ${defect.length_mm ? html`<span>${millimetres(defect.length_mm)} long</span>` : null}
  </div>`;
}

function described({ by, defects, lanes, end }) {
  const where = by === "time" ? "of the last minutes" : `to ${metres(end)}`;
  return `Map ${where}, ${lanes.map(({ title, name }) => title ?? name).join(" and ")}: ${plural(defects.length, "defect")}. Arrow keys move, plus and minus zoom, N and P go to the next and previous defect, Enter opens it.`;
}

/** What part of the strip is shown, and what the viewer does with it. */
class StripView {
  constructor(canvas, redraw) {
    this.canvas = canvas;
    this.redraw = redraw;
    this.from = null; // null: follows the end of the strip
    this.marks = [];
    this.drag = null;
    this.size = null;
  }

  get isFollowing() {
    return this.from === null;
  }

  update(props) {
    const isFirst = !this.props;
    this.props = props;
    if (isFirst || props.map.by !== this.by) {
      this.by = props.map.by;
      this.length = props.span;
      this.from = null;
    }
  }

  attach() {
    const canvas = this.canvas.current;
    const stopTheme = onTheme(() => this.draw());
    const resizes = new ResizeObserver(([{ contentRect }]) => {
      this.size = [contentRect.width, contentRect.height];
      this.draw();
    });
    resizes.observe(canvas);
    const listeners = {
      wheel: (event) => this.wheeled(event),
      pointerdown: (event) => this.pressedAt(event),
      pointermove: (event) => this.movedTo(event),
      pointerup: (event) => this.released(event),
      pointercancel: () => (this.drag = null),
      pointerleave: () => this.props.setHovered(null),
    };
    for (const [name, action] of Object.entries(listeners)) canvas.addEventListener(name, action, { passive: name !== "wheel" });
    document.fonts?.ready.then(() => this.draw());
    return () => {
      stopTheme();
      resizes.disconnect();
      for (const [name, action] of Object.entries(listeners)) canvas.removeEventListener(name, action);
    };
  }

  /** {from, to} of the whole strip; a strip that has just started does not fill the map. */
  get whole() {
    const { map } = this.props;
    const from = map.start ?? 0;
    return { from, to: Math.max(map.end, from + 5 * MIN_SPAN[map.by]) };
  }

  get shown() {
    const { from: start, to: end } = this.whole;
    const length = Math.min(this.length ?? Infinity, (end - start) * 1.012); // the newest mark is not cut by the edge
    const from = this.from ?? end + 0.012 * length - length;
    return { from: Math.max(start, from), to: Math.max(start, from) + length };
  }

  draw() {
    if (!this.size || !this.size[0] || !this.size[1]) return;
    const canvas = this.canvas.current;
    const [width, height] = this.size;
    const density = devicePixelRatio || 1;
    if (canvas.width !== Math.round(width * density) || canvas.height !== Math.round(height * density)) {
      canvas.width = Math.round(width * density);
      canvas.height = Math.round(height * density);
    }
    const context = canvas.getContext("2d");
    context.setTransform(density, 0, 0, density, 0, 0);
    this.scale = new StripScale(width, height, this.props.map, this.shown, this.whole, this.props.textPx);
    this.marks = drawStrip(context, this.scale, this.props.map, this.props.selected, this.props.textPx);
  }

  // ---- moves ----

  follow() {
    this.from = null;
    this.length = this.props.span;
    this.moved();
  }

  show({ from, to, key }) {
    const length = Math.max(MIN_SPAN[this.by], to - from);
    this.length = length * 1.15;
    this.from = from - length * 0.075;
    if (key !== undefined) this.props.onSelect?.(this.props.map.defects.find((defect) => defect.key === key) ?? null);
    this.moved();
  }

  zoom(factor, around = null) {
    const { from, to } = this.shown;
    const whole = this.whole;
    const length = Math.min(whole.to - whole.from, Math.max(MIN_SPAN[this.by], (to - from) * factor));
    this.length = length;
    if (!this.isFollowing || around !== null) {
      const middle = around ?? (from + to) / 2;
      this.from = middle - (middle - from) * (length / (to - from));
    }
    this.moved();
  }

  pan(by) {
    const { from, to } = this.shown;
    this.length ??= to - from;
    this.from = Math.max(this.whole.from, from + by);
    if (this.props.map.isRunning && this.from + this.length >= this.whole.to) this.from = null;
    this.moved();
  }

  moved() {
    this.draw();
    this.redraw({});
    this.props.onView?.({ ...this.shown, isFollowing: this.isFollowing });
  }

  // ---- mouse and keys ----

  wheeled(event) {
    if (!event.ctrlKey && !event.shiftKey && document.activeElement !== this.canvas.current) return; // the page scrolls
    event.preventDefault();
    const delta = event.deltaY || event.deltaX;
    this.zoom(delta > 0 ? 1 / ZOOMS[1] : ZOOMS[1], this.isFollowing ? null : this.scale.along(event.offsetX));
  }

  pressedAt(event) {
    if (!this.scale || event.button) return;
    this.canvas.current.setPointerCapture(event.pointerId);
    const isOverview = this.scale.isOverview(event.offsetY);
    this.drag = { x: event.offsetX, from: this.shown.from, isOverview, hasMoved: false, view: this.scale };
    if (isOverview) this.centre(event.offsetX);
  }

  movedTo(event) {
    if (!this.scale) return;
    if (!this.drag) {
      const mark = this.markAt(event.offsetX, event.offsetY);
      this.props.setHovered(mark ? { defect: mark.defect, x: mark.x / this.scale.width, y: mark.y } : null);
      return;
    }
    if (Math.abs(event.offsetX - this.drag.x) > 4) this.drag.hasMoved = true;
    if (!this.drag.hasMoved) return;
    if (this.drag.isOverview) this.centre(event.offsetX);
    else {
      const { from } = this.shown;
      this.pan(this.drag.from - (this.drag.view.along(event.offsetX) - this.drag.view.along(this.drag.x)) - from);
    }
  }

  released(event) {
    const drag = this.drag;
    this.drag = null;
    if (!drag || drag.hasMoved || drag.isOverview) return;
    const mark = this.markAt(event.offsetX, event.offsetY);
    this.props.onSelect?.(mark?.defect ?? null);
  }

  centre(x) {
    const { from, to } = this.shown;
    this.pan(this.scale.overviewAlong(x) - (from + to) / 2);
  }

  markAt(x, y) {
    let best = null;
    for (const mark of this.marks) {
      const distance = Math.hypot(mark.x - x, mark.y - y);
      if (distance < Math.max(REACH_PX, mark.r + 4) && (!best || distance <= best.distance)) best = { ...mark, distance };
    }
    return best;
  }

  pressed(press) {
    if (press.ctrlKey || press.metaKey || press.altKey) return;
    const { from, to } = this.shown;
    const actions = {
      ArrowLeft: () => this.pan((from - to) / 8),
      ArrowRight: () => this.pan((to - from) / 8),
      PageUp: () => this.pan((from - to) * 0.9),
      PageDown: () => this.pan((to - from) * 0.9),
      Home: () => this.pan(this.whole.from - from),
      End: () => (this.props.map.isRunning ? this.follow() : this.pan(this.whole.to - to)),
      "+": () => this.zoom(ZOOMS[0]),
      "=": () => this.zoom(ZOOMS[0]),
      "-": () => this.zoom(1 / ZOOMS[0]),
      n: () => this.step(1),
      p: () => this.step(-1),
      Escape: () => this.props.onSelect?.(null),
      Enter: () => this.props.selected !== null && this.props.onOpen?.(this.props.selected),
    };
    if (!actions[press.key]) return;
    press.preventDefault();
    press.stopPropagation();
    actions[press.key]();
  }

  /** Selects the next defect along the strip, and brings it into view. */
  step(by) {
    const { defects } = this.props.map;
    if (!defects.length) return;
    const now = defects.findIndex((defect) => defect.key === this.props.selected);
    const { from, to } = this.shown;
    let next = now + by;
    if (now < 0) next = by > 0 ? defects.findIndex((defect) => defect.at >= from) : defects.findLastIndex((defect) => defect.at <= to);
    const defect = defects[Math.min(defects.length - 1, Math.max(0, next))];
    this.props.onSelect?.(defect);
    if (defect.at < from || defect.at > to) this.pan(defect.at - (from + to) / 2);
  }
}

/** The live picture of a camera: picture and boxes are shown together, so that a box always belongs to what is under it. */

import { watchFrames } from "../frames.js";
import { html, useEffect, useRef, useState } from "../html.js";
import { DefectBoxes } from "./defect_boxes.js";
import { defectName, plural } from "./format.js";
import { Icon } from "./icons.js";

const OLD_MS = 3000;
const HANDS_OFF_MS = 10_000;
const USUAL_SIZE = [1600, 256];

/**
 * camera: its name. note: shown over the picture, as "no signal for 12 s". size: [width, height] until the first frame is there.
 * labelPx: size of the labels' text; hasLabels: without them only boxes. onFrame(frame): after it is shown. roi: draw what is outside.
 */
export function CameraPicture({ camera, note, size, maxFps = 5, longestPx = 1600, labelPx = 13.5, hasLabels = true, onFrame, roi = true }) {
  const elements = { frame: useRef(null), canvas: useRef(null), layer: useRef(null), outside: useRef(null) };
  const options = useRef({});
  options.current = { labelPx, hasLabels, onFrame, roi };
  const [state, setState] = useState("waiting");
  const [oldS, setOldS] = useState(0);
  const [label, setLabel] = useState(`Camera ${camera}: no picture yet`);

  useEffect(() => {
    const view = new PictureView(elements, options);
    let shownAt = null;
    const stop = watchFrames(camera, { maxFps, longestPx, isWanted: () => view.isOnScreen }, (frame, bitmap) => {
      view.show(frame, bitmap);
      shownAt = performance.now();
      setState("live");
      setOldS(0);
      setLabel(described(camera, frame));
      options.current.onFrame?.(frame);
    });
    const timer = setInterval(() => {
      const age = performance.now() - shownAt;
      if (shownAt === null || age < OLD_MS || !view.isOnScreen) return;
      setState("old");
      setOldS(Math.floor(age / 1000));
    }, 500);
    return () => (stop(), clearInterval(timer), view.close());
  }, [camera, maxFps, longestPx]);

  const text = note ?? (state === "waiting" ? "No picture yet" : state === "old" ? `Picture is ${oldS} s old` : null);
  const [width, height] = size ?? USUAL_SIZE;
  return html`<div class="picture picture-${state} ${text ? "noted" : ""}" ref=${elements.frame} data-camera=${camera} style=${{ "--aspect": `${width} / ${height}` }}>
    <div class="picture-body" role="img" aria-label=${label}>
      <canvas ref=${elements.canvas}></canvas>
      <svg class="picture-outside" ref=${elements.outside} preserveAspectRatio="none" aria-hidden="true"></svg>
      <div class="picture-boxes" ref=${elements.layer}></div>
    </div>
    ${text && html`<p class="picture-note"><${Icon} name=${note ? "warn" : "wait"} />${text}</p>`}
  </div>`;
}

/** The elements of one picture. Sizes come from an observer, never from reading the layout while drawing. */
class PictureView {
  constructor({ frame, canvas, layer, outside }, options) {
    this.frame = frame.current;
    this.canvas = canvas.current;
    this.outside = outside.current;
    this.options = options;
    this.context = this.canvas.getContext("bitmaprenderer");
    this.boxes = new DefectBoxes(layer.current);
    this.shown = null;
    this.last = null;
    this.isOnScreen = true;
    this.isWider = false; // than its frame: it is moved sideways
    this.movedAt = -Infinity;
    for (const name of ["pointerdown", "wheel", "keydown"]) this.frame.addEventListener(name, () => (this.movedAt = performance.now()), { passive: true });
    this.resizes = new ResizeObserver(([{ contentRect }]) => this.resized([contentRect.width, contentRect.height]));
    this.resizes.observe(layer.current);
    this.visibility = new IntersectionObserver(([{ isIntersecting }]) => (this.isOnScreen = isIntersecting), { rootMargin: "200px" });
    this.visibility.observe(this.frame);
  }

  show(frame, bitmap) {
    const [width, height] = frame.size_px;
    if (this.canvas.width !== bitmap.width || this.canvas.height !== bitmap.height) {
      this.canvas.width = bitmap.width;
      this.canvas.height = bitmap.height;
    }
    this.frame.style.setProperty("--aspect", `${width} / ${height}`);
    this.context.transferFromImageBitmap(bitmap);
    this.frame.dataset.frame = frame.number;
    this.last = frame;
    this.drawOver();
  }

  resized(shown) {
    this.shown = shown;
    this.isWider = shown[0] > this.frame.clientWidth + 1;
    this.frame.tabIndex = this.isWider ? 0 : -1;
    if (this.last) this.drawOver();
  }

  drawOver() {
    if (!this.shown) return;
    this.boxes.show(this.last.regions, this.last.size_px, this.shown, this.options.current);
    this.drawOutside(this.options.current.roi ? this.last.roi_px : null);
    if (this.isWider && this.last.regions.length && performance.now() - this.movedAt > HANDS_OFF_MS) this.moveTo(this.last.regions[0]);
  }

  /** Brings a defect into view, unless the viewer has moved the picture just now. */
  moveTo({ box_px: [x, , w] }) {
    const middle = ((x + w / 2) / this.last.size_px[0]) * this.shown[0];
    const width = this.frame.clientWidth;
    if (middle < this.frame.scrollLeft + 40 || middle > this.frame.scrollLeft + width - 40) this.frame.scrollLeft = middle - width / 2;
  }

  /** Darkens what lies outside the region; drawn anew only when it changes. */
  drawOutside(roi) {
    const key = JSON.stringify([roi, this.last.size_px]);
    if (key === this.outsideKey) return;
    this.outsideKey = key;
    const [width, height] = this.last.size_px;
    this.outside.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.outside.replaceChildren();
    const points = asPolygon(roi);
    if (!points) return;
    const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
    path.setAttribute("d", `M0 0H${width}V${height}H0z M${points.map((point) => point.join(" ")).join("L")}z`);
    path.setAttribute("fill-rule", "evenodd");
    this.outside.append(path);
  }

  close() {
    this.resizes.disconnect();
    this.visibility.disconnect();
    this.context.transferFromImageBitmap(null);
  }
}

/** A region as points: of a polygon, or of x, y, width, height. */
function asPolygon(roi) {
  if (!roi?.length) return null;
  if (Array.isArray(roi[0])) return roi;
  const [x, y, w, h] = roi;
  return [[x, y], [x + w, y], [x + w, y + h], [x, y + h]];
}

function described(camera, { regions }) {
  if (!regions.length) return `Camera ${camera}: no defect in the picture`;
  return `Camera ${camera}: ${plural(regions.length, "defect")}: ${regions.map(defectName).join(", ")}`;
}

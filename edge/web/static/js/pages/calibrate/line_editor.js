/** A line over a picture, whose ends are moved by mouse, finger or arrow keys. */

import { html, useEffect, useRef, useState } from "../../html.js";
import { kept } from "../../parts/polygon.js";

const STEPS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const BIG_STEP_PX = 10;

/** size: [width, height] of the picture. ends: [[x, y], [x, y]]. children: the picture. */
export function LineEditor({ size, ends, onChange, readOnly = false, children }) {
  const svg = useRef(null);
  const dragged = useRef(null);
  const [unit, setUnit] = useState(1);
  useEffect(() => {
    const resizes = new ResizeObserver(([{ contentRect }]) => contentRect.width && setUnit(size[0] / contentRect.width));
    resizes.observe(svg.current);
    return () => resizes.disconnect();
  }, [size[0]]);

  const at = (event) => {
    const box = svg.current.getBoundingClientRect();
    return kept([((event.clientX - box.left) / box.width) * size[0], ((event.clientY - box.top) / box.height) * size[1]], size);
  };
  const press = (event) => {
    if (readOnly || event.button) return;
    event.preventDefault();
    svg.current.setPointerCapture(event.pointerId);
    const point = at(event);
    const near = ends.map(([x, y]) => Math.hypot(x - point[0], y - point[1]) < 16 * unit);
    dragged.current = near[0] ? 0 : 1;
    if (!near[0] && !near[1]) onChange([point, point]); // a new line
  };
  const follow = (event) => dragged.current !== null && onChange(ends.with(dragged.current, at(event)));
  const key = (pressed, place) => {
    const step = STEPS[pressed.key];
    if (!step || readOnly) return;
    pressed.preventDefault();
    pressed.stopPropagation();
    const far = pressed.shiftKey ? BIG_STEP_PX : 1;
    onChange(ends.with(place, kept([ends[place][0] + step[0] * far, ends[place][1] + step[1] * far], size)));
  };
  const [[x1, y1], [x2, y2]] = ends;
  return html`<div class="polygon-editor drawing" style=${{ aspectRatio: `${size[0]} / ${size[1]}` }}>
    ${children}
    <svg ref=${svg} viewBox="0 0 ${size[0]} ${size[1]}" preserveAspectRatio="none" data-own-keys role="group" aria-label="The known length" onPointerDown=${press} onPointerMove=${follow} onPointerUp=${() => (dragged.current = null)} onPointerCancel=${() => (dragged.current = null)}>
      <path class="calibrate-line" d=${`M${x1} ${y1}L${x2} ${y2}`} />
      ${ends.map(
        ([x, y], place) => html`<circle key=${place} class="polygon-point" r=${7 * unit} cx=${x} cy=${y} tabindex="0" role="button" aria-label=${`End ${place + 1} of the line, x ${x}, y ${y}`} onKeyDown=${(pressed) => key(pressed, place)} />`,
      )}
    </svg>
  </div>`;
}

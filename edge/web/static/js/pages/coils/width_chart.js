/** The width along a coil: the median as a line, least and most around it, the limits dashed. */

import { html } from "../../html.js";
import { isKnown, number } from "../../parts/format.js";

const WIDTH = 1000;
const HEIGHT = 110;
const LEFT = 56;
const BOTTOM = 92;

export function WidthChart({ width, end }) {
  const limits = isKnown(width.nominal_mm) && isKnown(width.tolerance_mm) ? [width.nominal_mm - width.tolerance_mm, width.nominal_mm + width.tolerance_mm] : [];
  const low = Math.min(width.least_mm, ...limits);
  const high = Math.max(width.most_mm, ...limits);
  const margin = Math.max(0.5, (high - low) * 0.15);
  const x = (m) => LEFT + Math.min(1, Math.max(0, m / Math.max(1, end))) * (WIDTH - LEFT - 6);
  const y = (mm) => 4 + (1 - (mm - low + margin) / (high - low + 2 * margin)) * (BOTTOM - 8);
  const line = width.curve.map(([m, median], index) => `${index ? "L" : "M"}${x(m).toFixed(1)} ${y(median).toFixed(1)}`).join("");
  const band = width.curve.map(([m, , least, most]) => `M${x(m).toFixed(1)} ${y(least).toFixed(1)}V${y(most).toFixed(1)}`).join("");
  const text = `Width from ${number(width.least_mm, 1)} to ${number(width.most_mm, 1)} mm`;
  const named = limits.length ? limits : [width.least_mm, width.most_mm];
  return html`<div class="coil-width"><svg viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" aria-label=${text}>
    <rect class="frame" x=${LEFT} y="1" width=${WIDTH - LEFT - 6} height=${BOTTOM - 2} />
    <path class="band" d=${band} /><path class="line" d=${line} />
    ${limits.map((mm) => html`<path class="limit" d="M${LEFT} ${y(mm)}H${WIDTH - 6}" />`)}
    ${named.map((mm) => html`<text x=${LEFT - 7} y=${y(mm) + 4} text-anchor="end">${number(mm, 1)}</text>`)}
    <text x=${LEFT} y=${HEIGHT - 4}>0 m</text><text x=${WIDTH - 6} y=${HEIGHT - 4} text-anchor="end">${number(end)} m</text>
  </svg></div>`;
}

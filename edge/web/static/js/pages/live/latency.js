/** Latency of the last hour: the slowest camera's median and 99 % line against the budget. */

import { get } from "../../api.js";
import { html, useEffect, useState } from "../../html.js";
import { isKnown, number } from "../../parts/format.js";
import { subscribe } from "../../store.js";

const STEP_MS = 60_000;
const MAX_POINTS = 60;
const WIDTH = 380;
const HEIGHT = 72;
const LEFT = 28;

/** Points of a minute, oldest first: {at, p50, p99}. Kept while the page is open, whichever page is shown. */
const history = { points: [], budget: null, isLoaded: false };
subscribe(({ state }) => state && add(state));

export function Latency() {
  const [, redraw] = useState({});
  useEffect(() => {
    load().then(() => redraw({}));
    const timer = setInterval(() => redraw({}), 5000);
    return () => clearInterval(timer);
  }, []);
  const { points, budget } = history;
  return html`<section class="card latency" aria-label="Latency of the last hour">
    <header class="card-head"><h2>Latency, last hour</h2>${budget && html`<span class="end soft">budget <b>${number(budget)} ms</b></span>`}</header>
    ${points.length > 1 && budget ? html`<${Chart} points=${points} budget=${budget} />` : html`<p class="empty">A line after two minutes.</p>`}
  </section>`;
}

function Chart({ points, budget }) {
  const worst = Math.max(...points.map(({ p99 }) => p99));
  const top = Math.max(budget * 1.1, worst);
  const last = points.at(-1).at;
  const x = (at) => LEFT + (1 - (last - at) / (STEP_MS * MAX_POINTS)) * (WIDTH - LEFT - 4);
  const y = (value) => HEIGHT - 6 - (value / top) * (HEIGHT - 14);
  const line = (key) => points.map((point, index) => `${index ? "L" : "M"}${x(point.at).toFixed(1)} ${y(point[key]).toFixed(1)}`).join("");
  const text = `99 % of frames took up to ${number(worst, 1)} ms in the worst minute of the last ${points.length}, of a budget of ${number(budget)} ms.`;
  return html`<svg class="latency-chart" viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" aria-label=${text}>
    <path class="grid" d="M${LEFT} ${y(0)}H${WIDTH - 4}M${LEFT} ${y(budget / 2)}H${WIDTH - 4}" />
    <path class="budget" d="M${LEFT} ${y(budget)}H${WIDTH - 4}" />
    <path class="p50" d=${line("p50")} /><path class="p99" d=${line("p99")} />
    <text x=${LEFT - 6} y=${y(budget) + 4}>${number(budget)}</text><text x=${LEFT - 6} y=${y(budget / 2) + 4}>${number(budget / 2, budget % 2 ? 1 : 0)}</text><text x=${LEFT - 6} y=${y(0) + 3}>0</text>
    <text class="name-p99" x=${WIDTH - 4} y=${y(points.at(-1).p99) + (y(points.at(-1).p99) < 22 ? 14 : -6)}>p99</text>
  </svg>`;
}

/** The minute that runs keeps its worst value. */
function add(state) {
  const measured = state.cameras.filter((camera) => isKnown(camera.p99_ms) && isKnown(camera.budget_ms));
  if (!measured.length) return;
  const p99 = Math.max(...measured.map((camera) => camera.p99_ms));
  const p50 = Math.max(...measured.map((camera) => camera.p50_ms ?? 0));
  history.budget = Math.min(...measured.map((camera) => camera.budget_ms));
  const at = Math.floor(Date.parse(state.time) / STEP_MS) * STEP_MS;
  const newest = history.points.at(-1);
  if (newest && at <= newest.at) {
    newest.p99 = Math.max(newest.p99, p99);
    newest.p50 = p50;
    return;
  }
  history.points = [...history.points, { at, p50, p99 }].slice(-MAX_POINTS);
}

/** What the node remembers from before the page was opened. */
async function load() {
  if (history.isLoaded) return;
  history.isLoaded = true;
  try {
    const trend = await get("/trend", null, { quiet: true });
    const before = trend.time.map((time, index) => ({ at: Math.floor(Date.parse(time) / STEP_MS) * STEP_MS, p50: trend.p50_ms[index], p99: trend.p99_ms[index] }));
    const first = history.points[0]?.at ?? Infinity;
    history.points = [...before.filter(({ at }) => at < first), ...history.points].slice(-MAX_POINTS);
  } catch {
    history.isLoaded = false; // the line starts with the page
  }
}

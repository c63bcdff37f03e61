/** How coils develop: a chart for each figure, over the last coils. A click on a place opens its coil. */

import { get } from "../../api.js";
import { html, useEffect, useRef, useState } from "../../html.js";
import { className, number, percent } from "../../parts/format.js";
import { ClassIcon, Icon } from "../../parts/icons.js";
import { navigate } from "../../router.js";
import { onTheme } from "../../theme.js";
import uPlot from "../../../vendor/uplot.js";
import { Grade } from "./coil_words.js";
import { Views } from "./list.js";

const CHOICES = [30, 100, 300];
const MAX_CLASSES = 12;
const HEIGHT = 116;
const DIRECTIONS = { rising: "rising", falling: "falling", steady: "steady", unknown: "too few coils" };

export function Trend({ query }) {
  const last = CHOICES.includes(Number(query.last)) ? Number(query.last) : 100;
  const [trend, setTrend] = useState(null);
  const [failure, setFailure] = useState(null);
  useEffect(() => {
    const abort = new AbortController();
    get("/coils/trend", { last }, { quiet: true, signal: abort.signal }).then(setTrend, (error) => error.name !== "AbortError" && setFailure(error));
    return () => abort.abort();
  }, [last]);
  return html`<div class="stack coils-page">
    <section class="card" aria-label="Trend">
      <div class="card-head">
        <h1 class="coils-title">Trend</h1>
        <label class="coils-last"><span>Coils</span><select value=${last} onChange=${({ target }) => navigate("/coils", { query: { view: "trend", last: target.value }, replace: true })}>${CHOICES.map((n) => html`<option value=${n} selected=${n === last}>${n}</option>`)}</select></label>
        <${Views} view="trend" />
      </div>
      ${trend?.coils.length ? html`<${Grades} trend=${trend} />` : html`<p class="empty">${failure?.reason ?? (trend ? "No coil has ended yet." : "Loading")}</p>`}
    </section>
    ${trend?.coils.length > 0 && html`<${Charts} trend=${trend} />`}
  </div>`;
}

/** One mark for each coil, the oldest first. */
function Grades({ trend }) {
  const counts = Object.entries(trend.grades).map(([grade, count]) => `${number(count)} ${grade}`);
  return html`<div class="coils-grades">
    <p class="soft">${number(trend.coils.length)} coils${counts.length ? `: ${counts.join(", ")}` : ""}</p>
    <ul aria-label="Grades, the oldest coil first">${trend.coils.slice(-60).map((coil) => html`<li key=${coil.id}><a href=${`coils/${encodeURIComponent(coil.id)}`} title=${`${coil.coil}: ${coil.grade ?? "no grade"}`} onClick=${(click) => (click.preventDefault(), open(coil))}><${Grade} grade=${coil.grade} isBest=${coil.is_best} /><span class="unseen">${coil.coil}</span></a></li>`)}</ul>
  </div>`;
}

function open(coil) {
  navigate(`/coils/${encodeURIComponent(coil.id)}`);
}

function Charts({ trend }) {
  const { coils } = trend;
  const series = new Map([...trend.others, ...trend.classes].map((one) => [one.name, one]));
  const hasWidth = coils.some(({ width_mm: width }) => width);
  const sum = (values) => (values ? Object.values(values).reduce((total, n) => total + n, 0) : null);
  return html`<div class="coils-charts">
    <${Chart} title="Defects a km" coils=${coils} series=${series.get("defects")} values=${coils.map(({ per_km: rates }) => sum(rates))} show=${(value) => number(value, 1)} />
    <${Chart} title="Not inspected" coils=${coils} series=${series.get("missed_share")} values=${coils.map(({ missed_share: share }) => share)} show=${(value) => percent(value, 2)} />
    <${Chart} title="Roll marks" coils=${coils} series=${series.get("roll_marks")} values=${coils.map(({ roll_marks: marks }) => marks)} show=${(value) => number(value)} isWhole />
    ${hasWidth && html`<${Chart} title="Mean width, mm" coils=${coils} values=${coils.map(({ width_mm: width }) => (width ? width[1] : null))} show=${(value) => number(value, 1)} isFree />`}
    ${trend.classes.slice(0, MAX_CLASSES).map(({ name }) => html`<${Chart} key=${name} name=${name} title=${`${className(name)} a km`} coils=${coils} series=${series.get(name)} values=${coils.map(({ per_km: rates }) => (rates ? (rates[name] ?? 0) : null))} show=${(value) => number(value, 1)} />`)}
  </div>`;
}

function Chart({ title, name, coils, series, values, show, isFree = false, isWhole = false }) {
  const known = values.filter((value) => value !== null);
  const last = known.at(-1);
  const words = series ? DIRECTIONS[series.direction] : null;
  const detail = series?.direction === "unknown" || !series ? "" : `${show(series.older)} in the older half, ${show(series.newer)} in the newer; by chance in ${percent(series.p, 1)} of such series`;
  return html`<section class="card coils-chart" aria-label=${title}>
    <header>
      <h2>${name !== undefined && html`<${ClassIcon} name=${name} severity="minor" />`}${title}</h2>
      ${words && html`<span class="coils-direction ${series.direction}" title=${detail}><${Icon} name=${series.direction === "rising" ? "warn" : series.direction === "falling" ? "down" : series.direction === "steady" ? "right" : "unsure"} />${words}</span>`}
      <b class="end">${last === undefined ? "unknown" : show(last)}</b>
    </header>
    <${Plot} coils=${coils} values=${values} show=${show} isFree=${isFree} isWhole=${isWhole} />
    ${detail && html`<p class="coil-note">${detail}.</p>`}
  </section>`;
}

function Plot({ coils, values, show, isFree, isWhole }) {
  const place = useRef(null);
  useEffect(() => {
    let plot = null;
    const draw = () => {
      plot?.destroy();
      plot = drawn(place.current, coils, values, show, isFree, isWhole);
    };
    draw();
    const stopTheme = onTheme(draw);
    const resizes = new ResizeObserver(([{ contentRect }]) => plot && contentRect.width > 40 && plot.setSize({ width: Math.floor(contentRect.width), height: HEIGHT }));
    resizes.observe(place.current);
    return () => (stopTheme(), resizes.disconnect(), plot?.destroy());
  }, [coils, values.join()]);
  return html`<div class="coils-plot" ref=${place}></div>`;
}

function drawn(element, coils, values, show, isFree, isWhole) {
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(`--${name}`).trim();
  const font = `11px ${getComputedStyle(document.body).fontFamily}`;
  const axis = { stroke: colour("soft"), font, grid: { stroke: colour("line-soft"), width: 1 }, ticks: { show: false } };
  const nameOf = (index) => coils[index]?.coil ?? "";
  const options = {
    width: Math.max(120, Math.floor(element.clientWidth)),
    height: HEIGHT,
    legend: { show: false },
    cursor: { y: false, points: { size: 7 } },
    scales: { x: { time: false }, y: isFree ? { range: (_plot, least, most) => [least - 1, most + 1] } : { range: (_plot, _least, most) => [0, Math.max(most * 1.1, 1e-6)] } },
    axes: [
      { ...axis, size: 28, gap: 8, incrs: [1, 2, 5, 10, 20, 50, 100], space: 84, values: (_plot, ticks) => ticks.map(nameOf) },
      { ...axis, size: 56, gap: 4, space: 32, incrs: isWhole ? [1, 2, 5, 10, 20, 50, 100] : undefined, values: (_plot, ticks) => ticks.map((value) => show(value)) },
    ],
    series: [{}, { stroke: colour("accent"), width: 1.6, points: { show: values.length < 60, size: 5, fill: colour("card"), stroke: colour("accent") } }],
    hooks: { setCursor: [(plot) => (plot.root.title = plot.cursor.idx === null || plot.cursor.idx === undefined ? "" : `${nameOf(plot.cursor.idx)}: ${show(values[plot.cursor.idx])}`)] },
  };
  const plot = new uPlot(options, [coils.map((_coil, index) => index), values], element);
  plot.over.addEventListener("click", () => plot.cursor.idx !== null && plot.cursor.idx !== undefined && open(coils[plot.cursor.idx]));
  return plot;
}

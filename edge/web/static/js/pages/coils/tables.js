/** The tables of a coil's report: rules, roll marks, surface, gaps, classes, width. */

import { html } from "../../html.js";
import { className, isKnown, metres, millimetres, number, percent } from "../../parts/format.js";
import { ClassIcon, Icon } from "../../parts/icons.js";
import { Table } from "../../parts/table.js";
import { causeWords, ruleFound, ruleLimit, ruleName } from "./coil_words.js";
import { WidthChart } from "./width_chart.js";

const MAX_GAPS = 12;

export function Tables({ report }) {
  return html`<div class="coil-columns">
      <${Rules} judgement=${report.judgement} />
      <section class="card coil-box" aria-label="Roll marks and surface"><${RollMarks} marks=${report.marks_of_rolls} /><${Surface} report=${report} /></section>
      <section class="card coil-box" aria-label="Coverage gaps and classes"><${Gaps} report=${report} /><${Classes} report=${report} /></section>
    </div>
    ${report.width && html`<${Width} report=${report} />`}`;
}

function Rules({ judgement }) {
  const columns = [
    { title: "rule", cell: ruleName },
    { title: "limit", isNumber: true, cell: ruleLimit },
    { title: "found", isNumber: true, cell: ruleFound },
    { title: "", isNumber: true, cell: (rule) => html`<span class="coil-verdict ${rule.holds ? "holds" : "fails"}"><${Icon} name=${rule.holds ? "good" : rule.holds === null ? "unsure" : "close"} title=${rule.holds ? "holds" : rule.holds === null ? "not known" : "fails"} />${rule.grade}</span>` },
  ];
  return html`<section class="card coil-box" aria-label="Rules">
    <h2>Rules${judgement?.product ? `: ${judgement.product}` : ""}</h2>
    <${Table} columns=${columns} rows=${judgement?.rules ?? []} empty="No rules grade this coil." caption="Rules" />
  </section>`;
}

function RollMarks({ marks }) {
  const columns = [
    { title: "period", cell: (mark) => html`<b>${metres(mark.period_m, 3)}</b>` },
    { title: "side", isNumber: true, cell: (mark) => mark.lane },
    { title: "across", isNumber: true, cell: (mark) => millimetres(mark.across_mm) },
    { title: "turns", isNumber: true, cell: (mark) => `${mark.seen} of ${mark.places}` },
    { title: "from, to", isNumber: true, cell: (mark) => `${number(mark.from_m, 1)}, ${metres(mark.to_m)}` },
  ];
  return html`<h2>Roll marks</h2>
    <${Table} columns=${columns} rows=${marks} empty="None found." caption="Roll marks" />
    ${marks.map((mark) => html`<p class="coil-note">${mark.rolls.length ? html`Fits <b>${mark.rolls.join(", ")}</b>.` : "No roll of the table fits."} Period ± ${number(mark.period_error_m * 1000, 1)} mm. ${mark.uninspected > 0 ? `${mark.uninspected} turns fell on uninspected surface and are not counted. ` : ""}Chance in one coil: 1 in 10<sup>${Math.max(0, Math.round(-mark.log10_chance))}</sup>.</p>`)}`;
}

function Surface({ report }) {
  const columns = [
    { title: "camera", cell: ({ camera, surface }) => (camera === surface ? camera : `${camera}, ${surface}`) },
    ...["whole", "partial", "missed", "unknown"].map((kind) => ({ title: kind, isNumber: true, cell: (row) => metres(row[`${kind}_m`]) })),
  ];
  return html`<h2>Surface</h2>
    <${Table} columns=${columns} rows=${report.coverage} caption="Inspected metres" empty="No camera has reported." />
    <p class="coil-note">Not inspected: ${percent(report.missed_share, 2)} of the metres of all cameras.</p>`;
}

function Gaps({ report }) {
  const worst = [...report.gaps].sort((one, other) => (one.kind === "partial") - (other.kind === "partial") || other.to_m - other.from_m - (one.to_m - one.from_m)).slice(0, MAX_GAPS);
  const rows = worst.sort((one, other) => one.from_m - other.from_m);
  const more = report.gaps.length - rows.length + report.gaps_left_out.count;
  const columns = [
    { title: "camera", cell: ({ camera, surface }) => (camera === surface ? camera : `${camera}, ${surface}`) },
    { title: "from, to", isNumber: true, cell: (gap) => `${number(gap.from_m, 1)}, ${metres(gap.to_m)}` },
    { title: "why", isNumber: true, cell: (gap) => causeWords(gap.cause) },
    { title: "seen", isNumber: true, cell: (gap) => gap.kind },
  ];
  return html`<h2>Coverage gaps</h2>
    <${Table} columns=${columns} rows=${rows} empty="None: all of it was inspected." caption="Coverage gaps" />
    ${more > 0 && html`<p class="coil-note">And ${number(more)} more; the JSON file has them.</p>`}`;
}

function Classes({ report }) {
  const lanes = report.surfaces.map(({ name }) => name).slice(0, 3);
  const columns = [
    { title: "class", cell: (row) => html`<span class="class-name"><${ClassIcon} name=${row.class} severity="minor" />${className(row.class)}</span>` },
    ...lanes.map((lane) => ({ title: lane, isNumber: true, cell: (row) => number(row.surfaces[lane] ?? 0) })),
    { title: "a 100 m", isNumber: true, cell: (row) => number(row.per_100m, 1) },
    { title: "longest", isNumber: true, cell: (row) => (isKnown(row.longest_mm) ? millimetres(row.longest_mm) : "unknown") },
  ];
  return html`<h2>By class</h2><${Table} columns=${columns} rows=${report.classes} empty="No defects." caption="Defects by class" />`;
}

function Width({ report }) {
  const { width } = report;
  const limits = isKnown(width.nominal_mm) && isKnown(width.tolerance_mm);
  const out = width.out.slice(0, 4).map(([from, to]) => `${number(from)} to ${metres(to, 0)}`);
  const words = `Least ${number(width.least_mm, 1)} mm, mean ${number(width.mean_mm, 1)} mm, most ${number(width.most_mm, 1)} mm, by camera ${width.camera}.`;
  const judged = limits ? ` Ordered ${number(width.nominal_mm)} mm ± ${number(width.tolerance_mm)} mm; ${out.length ? `beyond at ${out.join(", ")}` : "never beyond"}.` : " No limits are configured.";
  return html`<section class="card coil-box" aria-label="Width"><h2>Width</h2><${WidthChart} width=${width} end=${report.map.reach_m} /><p class="coil-note">${words}${judged}</p></section>`;
}

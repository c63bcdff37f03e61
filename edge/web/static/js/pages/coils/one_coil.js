/** One coil: its grade with the reasons, files, release, map, rules, roll marks, gaps, classes, width, and the worst defects. */

import { apiUrl, get } from "../../api.js";
import { html, useEffect, useMemo, useState } from "../../html.js";
import { SeverityChip } from "../../parts/chip.js";
import { densityOfBins, lanesOf, marksOf, runsOf, widthOf } from "../../parts/coil_map.js";
import { className, dateTime, isKnown, metres, millimetres, number, time } from "../../parts/format.js";
import { ClassIcon, Icon } from "../../parts/icons.js";
import { MapLegend, StripMap } from "../../parts/strip_map.js";
import { toast } from "../../parts/toast.js";
import { navigate } from "../../router.js";
import { can, useSession } from "../../session.js";
import { Grade, coilName, defectPlace } from "./coil_words.js";
import { Release } from "./release.js";
import { Tables } from "./tables.js";
import { Worst } from "./worst.js";

const READ_MS = 5000;
const REPORT_MS = 20_000;
const FILES = ["pdf", "png", "csv", "json", "html"];
const AROUND_M = 10;

export function OneCoil({ id, query }) {
  const [answer, failure, readAgain] = useReading(`/coils/${encodeURIComponent(id)}`, READ_MS);
  const coil = answer?.coil;
  const [report, reportFailure, reportAgain] = useReading(coil ? `/coils/${encodeURIComponent(coil.id)}.json` : null, REPORT_MS);
  const [isReleasing, setIsReleasing] = useState(false);
  useSession();
  if (failure && !coil) return html`<p class="page-loading">${failure.reason}</p>`;
  if (!coil) return html`<p class="page-loading">Reading the coil</p>`;
  return html`<div class="stack coil-page">
    <${Head} coil=${coil} report=${report} onRelease=${() => setIsReleasing(true)} />
    <${MapCard} answer=${answer} report=${report} query=${query} path=${`/coils/${encodeURIComponent(id)}`} />
    ${report ? html`<${Tables} report=${report} /><${Worst} report=${report} />` : html`<section class="card"><p class="empty" role="status">${reportFailure ? `The report cannot be made: ${reportFailure.reason}` : "The report is being made"}</p></section>`}
    ${report && html`<p class="coil-foot">${originWords(report)}</p>`}
    ${isReleasing && html`<${Release} coil=${coil} judgement=${report?.judgement} onClose=${() => setIsReleasing(false)} onDone=${() => (readAgain(), reportAgain())} />`}
  </div>`;
}

/** What the node answers, again and again while the coil runs; null as a path: nothing yet. Returns [answer, failure, again]. */
function useReading(path, everyMs) {
  const [found, setFound] = useState({ path: null, answer: null, failure: null });
  const [turn, setTurn] = useState(0);
  useEffect(() => {
    if (!path) return undefined;
    const abort = new AbortController();
    let timer = null;
    async function read() {
      let runs = true;
      if (!document.hidden) {
        try {
          const answer = await get(path, null, { quiet: true, signal: abort.signal });
          setFound({ path, answer, failure: null });
          runs = answer.so_far ?? (answer.coil ? answer.coil.ended === null || !answer.coil.judgement?.grade : true);
        } catch (failure) {
          if (failure.name === "AbortError") return;
          setFound((known) => ({ path, answer: known.path === path ? known.answer : null, failure }));
        }
      }
      if (runs) timer = setTimeout(read, everyMs);
    }
    read();
    return () => (abort.abort(), clearTimeout(timer));
  }, [path, turn]);
  const isMine = found.path === path;
  return [isMine ? found.answer : null, isMine ? found.failure : null, () => setTurn((known) => known + 1)];
}

// ---- the head ----------------------------------------------------------------------------------------

function Head({ coil, report, onRelease }) {
  const judgement = coil.judgement;
  const grade = report?.grade ?? judgement?.grade;
  const counts = report?.defects ?? coil.severities;
  const total = Object.values(counts).reduce((sum, n) => sum + n, 0);
  const width = report?.width?.mean_mm;
  return html`<section class="card coil-head" aria-label="Coil">
    <${Grade} grade=${grade} isBest=${(report?.judgement?.rules?.[0]?.grade ?? null) === grade || judgement?.is_best} isLarge />
    <div class="coil-facts">
      <h1>${coil.coil === null ? "Strip without a coil" : `Coil ${coilName(coil.coil)}`}${coil.ended === null ? ", so far" : ""}</h1>
      <p class="soft">
        <b>${metres(coil.length_m)}</b>${isKnown(width) && html` x ${millimetres(width)}`}, ${coil.node}, <time dateTime=${coil.started}>${dateTime(coil.started)}</time>${coil.ended ? ` to ${time(coil.ended)}` : ""},
        <b> ${number(total)}</b> ${total === 1 ? "defect" : "defects"}: ${number(counts.minor ?? 0)} minor, <span class=${counts.major ? "severity-major" : ""}>${number(counts.major ?? 0)} major</span>, <span class=${counts.critical ? "severity-critical" : ""}>${number(counts.critical ?? 0)} critical</span>
      </p>
      ${whyLines(coil, report).map((line) => html`<p>${line}</p>`)}
    </div>
    <div class="coil-files">
      ${FILES.map((kind) => html`<${FileButton} key=${kind} coil=${coil} kind=${kind} />`)}
      ${can("operator") && coil.coil !== null && html`<button class="button primary" disabled=${coil.ended === null || !judgement?.grade} title=${coil.ended === null ? "A coil that runs cannot be released" : null} onClick=${onRelease}>Release</button>`}
    </div>
  </section>`;
}

function whyLines(coil, report) {
  const lines = [];
  const reasons = report?.reasons ?? coil.judgement?.reasons ?? [];
  const product = report?.judgement?.product ?? coil.judgement?.product;
  if (reasons.length) lines.push(`${sentence(reasons)}${product ? ` Decided by the rules of "${product}".` : ""}`);
  else if (product) lines.push(`All rules of ${report?.grade ?? coil.judgement?.grade} of "${product}" hold.`);
  const released = report?.released ?? coil.judgement?.released;
  if (released) lines.push(`Released as ${released.grade} by ${released.by}, ${dateTime(released.time)}${released.reason ? `: ${released.reason}` : ""}.`);
  if (!coil.is_complete) lines.push(missingWords(coil));
  return lines;
}

function sentence(reasons) {
  const shown = reasons.slice(0, 4).join("; ");
  return reasons.length > 4 ? `${shown}; and ${reasons.length - 4} more.` : `${shown}.`;
}

function missingWords({ seq, losses }) {
  const missing = seq.last - seq.first + 1 - seq.seen;
  const words = [...losses];
  if (missing > 0) words.push(`${number(missing)} events missing`);
  if (seq.lost) words.push(`${number(seq.lost)} events lost without a number`);
  return `Not complete: ${words.join("; ") || "it does not say what is missing"}.`;
}

function originWords(report) {
  const { seq, model } = report;
  const proof = report.is_complete ? "none missing" : "not complete";
  return `Places along count from the head of the coil, across from the operator side. Events ${number(seq.first)} to ${number(seq.last)} of ${report.node}, ${proof}. Model ${model.name ?? "unknown"} ${model.version ?? ""} (sha256 ${(model.sha256 ?? "unknown").slice(0, 12)}), configuration ${report.config_sha256.slice(0, 12) || "unknown"}. Record ${report.id}.`;
}

/** A file of the report. It is made when it is asked for, which may take seconds, or fail with a reason. */
function FileButton({ coil, kind }) {
  const [isBusy, setIsBusy] = useState(false);
  const url = apiUrl(`/coils/${encodeURIComponent(coil.id)}.${kind}`);
  const name = `${coil.coil ?? coil.id}.${kind}`;
  async function save(click) {
    if (click.ctrlKey || click.metaKey || click.shiftKey) return;
    click.preventDefault();
    if (isBusy) return;
    setIsBusy(true);
    try {
      await download(url, name);
    } finally {
      setIsBusy(false);
    }
  }
  return html`<a class="button" href=${url} download=${name} aria-busy=${String(isBusy)} onClick=${save}><${Icon} name=${isBusy ? "wait" : "download"} />${kind.toUpperCase()}</a>`;
}

async function download(url, name) {
  const response = await fetch(url, { credentials: "same-origin", headers: { "X-Defectd": "1" } }).catch(() => null);
  if (!response?.ok) {
    const told = response ? (await response.json().catch(() => null))?.error : null;
    toast(told?.reason ?? "The file cannot be fetched.", { kind: "bad", remedy: told?.remedy });
    return;
  }
  const address = URL.createObjectURL(await response.blob());
  const link = document.createElement("a");
  link.href = address;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
}

// ---- the map -----------------------------------------------------------------------------------------

function MapCard({ answer, report, query, path }) {
  const [selected, setSelected] = useState(null);
  const [view, setView] = useState(null);
  const part = usePart(answer.map, path, view);
  const map = useMemo(() => mapOf(answer, part, report), [answer, part, report]);
  const focus = useMemo(() => focusOf(query.m, map.defects), [query.m, map.defects.length > 0]);
  const chosen = map.defects.find(({ key }) => key === selected) ?? null;
  const classes = report?.classes.map((row) => row.class).slice(0, 8) ?? [];
  return html`<section class="card coil-map" aria-label="Map of the coil">
    <header class="card-head">
      <h2>Defect map</h2>
      ${chosen ? html`<p class="chosen end" role="status"><${ClassIcon} name=${chosen.class} severity=${chosen.severity} /> <b>${className(chosen.class)}</b> <${SeverityChip} severity=${chosen.severity} always /> ${defectPlace({ from_m: chosen.at, surface: chosen.lane, length_mm: chosen.length_mm })}</p>` : html`<div class="end"><${MapLegend} classes=${classes} /></div>`}
    </header>
    <${StripMap} map=${map} focus=${focus} selected=${selected} onSelect=${(defect) => setSelected(defect?.key ?? null)} onOpen=${(key) => navigate(`/events/${key}`)} onView=${setView} />
    ${map.isCoarse && html`<p class="coil-note">Too many defects to show each: a box stands for those around it, in the colour of the worst. Zoom in to see them one by one.</p>`}
    ${answer.map.unplaced > 0 && html`<p class="coil-note">${number(answer.map.unplaced)} defects at unknown places are not shown.</p>`}
  </section>`;
}

/** The defects of what is shown, where the whole coil has too many. */
function usePart(whole, path, view) {
  const [part, setPart] = useState(null);
  const key = whole.defects || !view ? null : `${Math.max(0, Math.floor(view.from))} ${Math.ceil(view.to)}`;
  useEffect(() => {
    if (!key) return undefined;
    const abort = new AbortController();
    const [from, to] = key.split(" ").map(Number);
    const timer = setTimeout(async () => {
      try {
        setPart((await get(path, { from_m: from, to_m: to }, { quiet: true, signal: abort.signal })).map);
      } catch (error) {
        if (error.name !== "AbortError") setPart(null);
      }
    }, 200);
    return () => (abort.abort(), clearTimeout(timer));
  }, [key, path]);
  return key ? part : null;
}

function mapOf({ coil, map: whole }, part, report) {
  const reported = (report?.surfaces ?? []).flatMap((surface) => surface.cameras.map((name) => ({ name, surface: surface.name })));
  const cameras = reported.length ? reported : Object.keys(whole.runs ?? {}).map((name) => ({ name }));
  const lanes = lanesOf(cameras.length ? cameras : [{ name: "strip" }]);
  const view = part ?? whole;
  const marks = view.defects ? marksOf(view, lanes) : reportMarks(report, lanes);
  const end = coil.length_m ?? whole.reach_m;
  return {
    by: "position",
    width_mm: report?.map.width_mm ?? widthOf(whole),
    end: Math.max(1, end, whole.reach_m),
    isRunning: coil.ended === null,
    lanes: lanes.list.map((lane) => ({ ...lane, hasSides: marks.some((mark) => mark.lane === lane.name && mark.across_mm !== null) })),
    defects: marks.filter(({ at }) => isKnown(at)).sort((one, other) => one.at - other.at),
    runs: runsOf(whole, lanes),
    density: { ...densityOfBins(whole, whole.reach_m), limit: limitIn(whole, report) },
    rollMarks: (report?.marks_of_rolls ?? []).map((mark) => ({ lane: mark.lane, across_mm: mark.across_mm, period_m: mark.period_m, positions: turnsOf(mark) })),
    cells: view.defects ? [] : (report?.map.cells ?? []).map(([lane, from, to, across, count, severity]) => ({ lane, from, to, across, count, severity })),
    isCoarse: !view.defects && !report?.map.marks,
  };
}

function reportMarks(report, lanes) {
  return (report?.map.marks ?? []).map(([lane, m, across, name, severity], index) => ({ key: `r${index}`, at: m, to: m, across_mm: across, class: name, severity, lane: lanes.list.some((one) => one.name === lane) ? lane : lanes.list[0].name, length_mm: null }));
}

/** The rule's limit for 10 m, where the bars are that long. */
function limitIn(whole, report) {
  const rule = report?.judgement?.rules?.find((one) => one.rule === "in_10m" && !one.surface);
  return rule && densityOfBins(whole, whole.reach_m).bin === 10 ? rule.limit : undefined;
}

function turnsOf({ from_m: from, to_m: to, period_m: period }) {
  const places = [];
  for (let at = from; at <= to + period / 4 && places.length < 400; at += period) places.push(at);
  return places;
}

/** ?m=812: that place, and the defect nearest to it. */
function focusOf(text, defects) {
  const m = Number.parseFloat(text);
  if (!Number.isFinite(m)) return null;
  const near = defects.filter(({ at, to }) => m >= at - 1 && m <= to + 1).sort((one, other) => Math.abs(one.at - m) - Math.abs(other.at - m))[0];
  return { from: m - AROUND_M, to: m + AROUND_M, ...(near ? { key: near.key } : {}) };
}

/** The coils of which the node has a record, the newest first; the one that runs is on top. */

import { get } from "../../api.js";
import { html, useEffect, useState } from "../../html.js";
import { dateTime, metres, number, percent } from "../../parts/format.js";
import { Table } from "../../parts/table.js";
import { navigate } from "../../router.js";
import { useStore } from "../../store.js";
import { Grade, coilName, coilPath, missedShare, perKm } from "./coil_words.js";

const LIMIT = 50;
const READ_MS = 10_000;

export function CoilList() {
  const [found, failure, more] = useCoils();
  const soFar = useStore(({ state }) => state?.grade?.grade ?? null);
  const rows = found.coils;
  const columns = [
    { title: "Coil", cell: (coil) => html`<a href=${coilPath(coil.id)}><b>${coilName(coil.coil)}</b></a>` },
    { title: "Grade", cell: (coil) => html`<${GradeOf} coil=${coil} soFar=${soFar} />` },
    { title: "Length", isNumber: true, cell: (coil) => metres(coil.length_m) },
    { title: "Defects", isNumber: true, cell: (coil) => html`<${Counts} coil=${coil} />` },
    { title: "A km", isNumber: true, cell: (coil) => number(perKm(coil.defects, coil.length_m), 1) },
    { title: "Missed", isNumber: true, cell: (coil) => percent(missedShare(coil.meters), 2) },
    { title: "Roll marks", isNumber: true, cell: (coil) => (coil.judgement?.roll_marks ? html`<b class="severity-major">${coil.judgement.roll_marks}</b>` : coil.judgement ? "0" : "unknown") },
    { title: "Started", cell: (coil) => html`<time dateTime=${coil.started}>${dateTime(coil.started)}</time>` },
    { title: "Record", cell: (coil) => (coil.ended === null ? html`<span class="chip chip-accent">so far</span>` : coil.is_complete ? "complete" : html`<b class="severity-critical">not complete</b>`) },
  ];
  return html`<div class="stack coils-page">
    <section class="card" aria-label="Coils">
      <div class="card-head"><h1 class="coils-title">Coils</h1><${Views} view="list" /></div>
      <${Table} columns=${columns} rows=${rows} id=${({ id }) => id} caption="Coils" empty=${failure?.reason ?? (found.isLoaded ? "No coil yet. A coil starts by the topic of the line, or with: defectd coil start NAME" : "Loading")} />
      ${found.before && html`<p class="coils-more"><button class="button" onClick=${more}>Older coils</button></p>`}
    </section>
  </div>`;
}

export function Views({ view }) {
  const go = (name) => navigate("/coils", { query: name === "trend" ? { view: "trend" } : {} });
  return html`<div class="choice end" role="group" aria-label="View">
    <button class="button" aria-pressed=${String(view === "list")} onClick=${() => go("list")}>List</button>
    <button class="button" aria-pressed=${String(view === "trend")} onClick=${() => go("trend")}>Trend</button>
  </div>`;
}

function GradeOf({ coil, soFar }) {
  if (coil.ended === null) return html`<${Grade} grade=${coil.coil === null ? null : soFar} />`;
  const released = coil.judgement?.released;
  return html`<span class="coils-grade"><${Grade} grade=${coil.judgement?.grade} isBest=${coil.judgement?.is_best} />${released && html`<span class="soft">released as ${released.grade} by ${released.by}</span>`}</span>`;
}

function Counts({ coil }) {
  const { major = 0, critical = 0 } = coil.severities;
  return html`${number(coil.defects)}${major > 0 && html`, <b class="severity-major">${number(major)} major</b>`}${critical > 0 && html`, <b class="severity-critical">${number(critical)} critical</b>`}`;
}

/** The newest coils again and again, and older ones behind them when they are asked for. */
function useCoils() {
  const [found, setFound] = useState({ coils: [], before: null, isLoaded: false });
  const [failure, setFailure] = useState(null);
  useEffect(() => {
    const abort = new AbortController();
    let timer = null;
    async function read() {
      if (!document.hidden) {
        try {
          const { coils, next } = await get("/coils", { limit: LIMIT }, { quiet: true, signal: abort.signal });
          setFound((known) => joined(known, coils, next?.before ?? null));
          setFailure(null);
        } catch (error) {
          if (error.name === "AbortError") return;
          setFailure(error);
        }
      }
      timer = setTimeout(read, READ_MS);
    }
    read();
    return () => (abort.abort(), clearTimeout(timer));
  }, []);
  async function more() {
    const { coils, next } = await get("/coils", { limit: LIMIT, before: found.before });
    setFound((known) => ({ ...known, coils: [...known.coils, ...coils.filter(({ id }) => known.coils.every((one) => one.id !== id))], before: next?.before ?? null }));
  }
  return [found, failure, more];
}

function joined(known, newest, before) {
  const last = newest.at(-1)?.id ?? "";
  const older = known.coils.filter(({ id }) => id < last);
  return { coils: [...newest, ...older], before: older.length ? known.before : before, isLoaded: true };
}


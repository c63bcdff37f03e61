/** The figures at the top: is it inspecting, where, what was found, how much was seen, is it fast enough. */

import { html } from "../../html.js";
import { duration, isKnown, metres, number, percent, plural, time } from "../../parts/format.js";
import { Icon } from "../../parts/icons.js";
import { useStore } from "../../store.js";

const VERDICTS = {
  inspecting: ["Inspecting", "good"],
  degraded: ["Degraded", "warn"],
  not_inspecting: ["Not inspecting", "bad"],
};

const NOT_GRADED = "not graded";
const REJECT = "reject";

export function Band() {
  const state = useStore((store) => store.state);
  return html`<section class="card band" aria-label="Figures">
    <${Verdict} state=${state} /><${Strip} strip=${state.strip} /><${Defects} strip=${state.strip} /><${Grade} grade=${state.grade} strip=${state.strip} />
    <${Inspected} state=${state} /><${LatencyFigure} cameras=${state.cameras} />
  </section>`;
}

function Figure({ name, children, detail }) {
  return html`<div class="figure">
    <div class="figure-name">${name}</div>
    ${children}
    <div class="figure-detail">${detail}</div>
  </div>`;
}

function Verdict({ state }) {
  const [word, kind] = VERDICTS[state.verdict] ?? ["Unknown", "warn"];
  const running = state.cameras.filter((camera) => camera.state === "running").length;
  const fps = state.cameras.reduce((sum, camera) => sum + (camera.fps ?? 0), 0);
  const detail = state.reasons.length
    ? html`<span title=${state.reasons.join("\n")}>${state.reasons.join("; ")}</span>`
    : html`<b>${running} of ${state.cameras.length}</b> cameras, <b>${number(fps, 1)}</b> frames a second`;
  return html`<${Figure} name="Node" detail=${detail}>
    <div class="verdict state-${kind}"><${Icon} name=${kind} /><div class="figure-value ${word.length > 10 ? "long" : ""}">${word}</div></div>
  </${Figure}>`;
}

function Strip({ strip }) {
  const isMoving = isKnown(strip.speed_m_per_s);
  const detail = [isMoving && html`<b>${number(strip.speed_m_per_s * 60)}</b> m/min`, strip.since && `since ${time(strip.since)}`].filter(Boolean);
  const words = detail.length ? detail.map((part, place) => html`${place ? ", " : ""}${part}`) : strip.is_on === false ? "no strip on the line" : "the line reports no speed";
  return html`<${Figure} name=${strip.coil ? html`Coil <b>${strip.coil}</b>` : "Strip, no coil reported"} detail=${words}>
    ${
      isKnown(strip.position_m)
        ? html`<div class="figure-value">${number(strip.position_m, 1)}<small>m</small></div>`
        : html`<div class="figure-value word">${strip.is_on === false ? "none" : "no position"}</div>`
    }
  </${Figure}>`;
}

function Defects({ strip }) {
  const { minor, major, critical } = strip.defects;
  const detail = html`<span class=${major ? "found-major" : ""}><b>${number(major)}</b> major</span>, <span class=${critical ? "found-critical" : ""}><b>${number(critical)}</b> critical</span>`;
  return html`<${Figure} name=${strip.coil ? "Defects on this coil" : "Defects"} detail=${detail}>
    <div class="figure-value">${number(minor + major + critical)}</div>
  </${Figure}>`;
}

function Grade({ grade, strip }) {
  if (!grade || grade.grade === NOT_GRADED) {
    const why = grade?.reasons[0] ?? (strip.coil ? "no rules, or none yet" : "no coil");
    return html`<${Figure} name="Grade so far" detail=${html`<span title=${why}>${why}</span>`}><div class="figure-value word">not graded</div></${Figure}>`;
  }
  const name = grade.product ? html`Grade so far, <b>${grade.product}</b>` : "Grade so far";
  return html`<${Figure} name=${name}>
    <div class="grade grade-${gradeKind(grade)}">
      <div class="figure-value ${grade.grade.length <= 2 ? "letter" : "word"}">${grade.grade}</div>
      <ul>${grade.reasons.slice(0, 2).map((reason) => html`<li title=${grade.reasons.join("\n")}>${reason.replaceAll("_", " ")}</li>`)}</ul>
    </div>
  </${Figure}>`;
}

/** best: no rule has failed; lower: some have; reject. */
function gradeKind({ grade, rules }) {
  if (grade === REJECT) return "reject";
  return (rules ?? []).some((rule) => rule.holds === false) ? "lower" : "best";
}

function Inspected({ state: { strip, cameras } }) {
  const known = [strip.inspected_m, strip.partial_m, strip.missed_m];
  const byMetres = known.every(isKnown) && known.some((value) => value > 0);
  const share = byMetres ? strip.inspected_m / known.reduce((sum, value) => sum + value, 0) : shareOfFrames(cameras);
  const detail = byMetres ? html`partial <b>${metres(strip.partial_m)}</b>, missed <b>${metres(strip.missed_m)}</b>` : isKnown(share) ? "of the frames: no positions" : "no frame yet";
  const [value, unit] = percent(share).split("\u00a0");
  return html`<${Figure} name="Fully inspected" detail=${detail}>
    <div class="figure-value ${unit ? "" : "word"}">${value}${unit && html`<small>${unit}</small>`}</div>
  </${Figure}>`;
}

function shareOfFrames(cameras) {
  let [seen, all] = [0, 0];
  for (const { frames } of cameras) {
    if (!frames) continue;
    const inspected = frames.ok + frames.defect + frames.unsure;
    seen += inspected;
    all += inspected + frames.bad_image + frames.late + frames.dropped;
  }
  return all ? seen / all : null;
}

function LatencyFigure({ cameras }) {
  const slowest = cameras.filter((camera) => isKnown(camera.p99_ms)).toSorted((one, other) => other.p99_ms / other.budget_ms - one.p99_ms / one.budget_ms)[0];
  const [late, dropped] = ["late", "dropped"].map((state) => cameras.reduce((sum, camera) => sum + (camera.frames?.[state] ?? 0), 0));
  const detail = html`late <b>${number(late)}</b>, dropped <b>${number(dropped)}</b>`;
  return html`<${Figure} name="Latency, 99 % of frames" detail=${detail}>
    ${
      slowest
        ? html`<div class="figure-value">${number(slowest.p99_ms, 1)}<small>of ${number(slowest.budget_ms)} ms</small></div>`
        : html`<div class="figure-value word">none yet</div>`
    }
  </${Figure}>`;
}

/** "for 12 s" of a stamp, by the node's own time: this machine's clock may be wrong. */
export function sinceText(stamp, state) {
  const seconds = (Date.parse(state.time) - Date.parse(stamp)) / 1000;
  return Number.isFinite(seconds) ? `for ${duration(Math.max(0, seconds))}` : "";
}

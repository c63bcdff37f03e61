/**
 * What the live strip map shows. With positions: the record of the coil that runs, read every few seconds, and the events since. Without:
 * the events and the frames of the last hour, by time.
 */

import { get } from "../../api.js";
import { useEffect, useMemo, useRef, useState } from "../../html.js";
import { isKnown } from "../../parts/format.js";
import { store, subscribe, useStore } from "../../store.js";

const READ_MS = 3000;
const BACK_M = 400; // kept ready behind the newest position
const HOUR_S = 3600;
const MAX_SAMPLES = 720; // of 5 s
const SAMPLE_S = 5;
const BIN_S = 60;

export function useStripMap(view) {
  const state = useStore((shown) => shown.state);
  const events = useStore((shown) => shown.events);
  const record = useRecord(view);
  const lanes = useLanes(state.cameras);
  const byPosition = isKnown(state.strip.position_m);
  const base = useMemo(() => (byPosition ? fromRecord(record, events, state, lanes) : null), [byPosition, record, events, lanes, state.strip.coil]);
  if (!byPosition) return byTime(state, events, lanes);
  return { ...base, coil: state.strip.coil, end: state.strip.position_m, isRunning: true, runs: withTail(base.runs, state, lanes), rollMarks: rollMarks(state, lanes) };
}

/** A lane for each surface, in the order of the cameras; a camera without a surface has its own. */
function useLanes(cameras) {
  const key = cameras.map((camera) => `${camera.name}\n${camera.surface}\n${camera.operator_side}`).join("\r");
  return useMemo(() => {
    const lanes = [];
    const ofCamera = new Map();
    for (const { name, surface, operator_side: side } of cameras) {
      const lane = surface ?? name;
      ofCamera.set(name, lane);
      const known = lanes.find((other) => other.name === lane);
      if (!known) lanes.push({ name: lane, title: lane, hasSides: isKnown(side) });
      else known.hasSides ||= isKnown(side);
    }
    return { list: lanes, of: (entry) => ofCamera.get(entry.camera) ?? entry.surface ?? lanes[0]?.name };
  }, [key]);
}

// ---- by position -----------------------------------------------------------------------------------

/** The answer of /coils/current/map around what is shown; null until there is one, or where the node keeps no coils. */
function useRecord(view) {
  const [record, setRecord] = useState(null);
  const wanted = useRef(view);
  wanted.current = view;
  useEffect(() => {
    const abort = new AbortController();
    let timer = null;
    async function read() {
      const { position_m: end, coil } = store.state?.strip ?? {};
      if (isKnown(end) && !document.hidden) {
        const shown = wanted.current;
        const from = shown && !shown.isFollowing ? Math.min(shown.from, end - BACK_M) : end - BACK_M;
        try {
          setRecord({ coil, ...(await get("/coils/current/map", { from_m: Math.max(0, Math.floor(from)) }, { quiet: true, signal: abort.signal })) });
        } catch (error) {
          if (error.name === "AbortError") return;
          if (error.status) setRecord(null);
        }
      }
      timer = setTimeout(read, READ_MS);
    }
    read();
    return () => (abort.abort(), clearTimeout(timer));
  }, [view && !view.isFollowing ? Math.floor(view.from / BACK_M) : null]);
  return record;
}

function fromRecord(record, events, state, lanes) {
  const coil = state.strip.coil;
  const isCurrent = record && record.coil === coil;
  const recorded = isCurrent ? record.defects.map((defect) => asMark(defect, lanes)) : [];
  const known = new Set(recorded.map(({ key }) => key));
  const added = [];
  for (const event of events) {
    const { defect } = event;
    if (event.type !== "defect.opened" || !isKnown(defect.position_m) || (defect.coil ?? null) !== coil || known.has(event.seq)) continue;
    if (defect.position_m > state.strip.position_m + 50) continue; // of a coil before this one, or from before a restart
    added.push(asMark({ ...defect, seq: event.seq, camera: event.camera, time: event.time }, lanes));
  }
  const defects = [...recorded, ...added].sort((one, other) => one.at - other.at);
  const runs = isCurrent ? record.runs.map((run) => ({ lane: lanes.of(run), from: run.from_m, to: run.to_m, kind: run.kind, cause: run.cause })) : [];
  return { by: "position", width_mm: isCurrent ? record.width_mm : null, lanes: lanes.list, defects, runs, density: isCurrent && record.density ? record.density : densityOf(defects, 10) };
}

function asMark(defect, lanes) {
  return {
    key: defect.seq,
    at: defect.position_m,
    across_mm: defect.across_mm ?? null,
    class: defect.class,
    severity: defect.severity ?? "minor",
    lane: lanes.of(defect),
    length_mm: defect.length_mm,
    time: defect.time,
  };
}

/** The record is some seconds old: the metres since are drawn as whole while all cameras run, else left empty. */
function withTail(runs, state, lanes) {
  const isWhole = state.verdict === "inspecting";
  if (!isWhole) return runs;
  return [
    ...runs,
    ...lanes.list.map(({ name }) => {
      const end = Math.max(0, ...runs.filter((run) => run.lane === name).map((run) => run.to));
      const from = end && state.strip.position_m - end < 30 ? end : state.strip.position_m;
      return { lane: name, from, to: state.strip.position_m, kind: "whole", cause: null };
    }),
  ];
}

function rollMarks(state, lanes) {
  return (state.roll_marks ?? []).map((mark) => {
    const lane = lanes.list.find(({ name }) => name === mark.surface)?.name ?? lanes.of(mark);
    return { lane, across_mm: mark.across_mm ?? null, period_m: mark.period_m, positions: mark.positions_m ?? turns(mark) };
  });
}

function turns({ from_m, to_m, period_m }) {
  const places = [];
  for (let at = from_m; at <= to_m + 0.01 && places.length < 200; at += period_m) places.push(at);
  return places;
}

function densityOf(defects, bin, from = 0) {
  const counts = [];
  for (const { at, severity } of defects) {
    const place = Math.floor((at - from) / bin);
    if (place < 0 || place > 5000) continue;
    while (counts.length <= place) counts.push([0, 0, 0]);
    counts[place][["minor", "major", "critical"].indexOf(severity)] += 1;
  }
  return { bin, counts, from };
}

// ---- by time ---------------------------------------------------------------------------------------

/** Frames of each camera, a sample every five seconds while the page is open: {at, counts: Map(camera -> [whole, part, missed])}. */
const samples = [];
subscribe(({ state }) => state && sample(state));

function sample(state) {
  const at = Date.parse(state.time) / 1000;
  if (samples.length && at - samples.at(-1).at < SAMPLE_S) return;
  const counts = new Map();
  for (const { name, frames, tiles } of state.cameras) counts.set(name, [frames.ok + frames.defect + frames.unsure, tiles.skipped, frames.bad_image + frames.late + frames.dropped]);
  samples.push({ at, epoch: state.epoch, counts });
  if (samples.length > MAX_SAMPLES) samples.shift();
}

function byTime(state, events, lanes) {
  const now = Date.parse(state.time) / 1000;
  const defects = events
    .filter((event) => event.type === "defect.opened")
    .map((event) => ({ ...asMark({ ...event.defect, seq: event.seq, camera: event.camera, time: event.time }, lanes), at: Date.parse(event.time) / 1000 }))
    .filter(({ at }) => at > now - HOUR_S)
    .reverse();
  const start = now - HOUR_S;
  return { by: "time", coil: state.strip.coil, width_mm: null, lanes: lanes.list, defects, runs: sampledRuns(lanes), density: densityOf(defects, BIN_S, start), rollMarks: [], start, end: now, isRunning: true };
}

function sampledRuns(lanes) {
  const open = new Map();
  const runs = [];
  for (const [index, { at, epoch, counts }] of samples.entries()) {
    const before = samples[index - 1];
    if (!before || before.epoch !== epoch) continue;
    for (const [camera, [whole, part, missed]] of counts) {
      const last = before.counts.get(camera);
      if (!last) continue;
      const lane = lanes.of({ camera });
      const kind = missed > last[2] || whole === last[0] ? "missed" : part > last[1] ? "partial" : "whole";
      const run = open.get(camera);
      if (run && run.kind === kind && run.to === before.at) run.to = at;
      else runs.push(open.set(camera, { lane, from: before.at, to: at, kind, cause: null }).get(camera));
    }
  }
  return runs;
}

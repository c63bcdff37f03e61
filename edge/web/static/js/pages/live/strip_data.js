/**
 * What the live strip map shows. With positions: the record of the coil that runs, read every few seconds, and the events since. Without:
 * the events and the frames of the last hour, by time.
 */

import { get } from "../../api.js";
import { useEffect, useMemo, useRef, useState } from "../../html.js";
import { binFor, densityOfBins, densityOfMarks, lanesOf, markOf, marksOf, runsOf, widthOf } from "../../parts/coil_map.js";
import { isKnown } from "../../parts/format.js";
import { store, subscribe, useStore } from "../../store.js";

const READ_MS = 3000;
const RETRY_MS = 30_000; // where the node keeps no record
const BACK_M = 200; // kept ready around what is shown
const TAIL_M = 30; // a record that is this far behind does not run
const HOUR_S = 3600;
const SAMPLE_S = 5;
const MAX_SAMPLES = HOUR_S / SAMPLE_S;
const BIN_S = 60;

/** The map for parts/strip_map.js. view: what is shown, {from, to, isFollowing}, or null. */
export function useStripMap(view) {
  const state = useStore((shown) => shown.state);
  const events = useStore((shown) => shown.events);
  const lanes = useLanes(state.cameras);
  const isByPosition = isKnown(state.strip.position_m);
  const record = useRecord(view, isByPosition);
  const since = state.strip.coil ? state.strip.since : state.since;
  const placed = useMemo(() => (isByPosition ? byPosition(record, events, state.strip.coil, since, lanes) : null), [isByPosition, record, events, lanes, state.strip.coil, since]);
  if (!placed) return byTime(state, events, lanes);
  const end = state.strip.position_m;
  return {
    ...placed,
    coil: state.strip.coil,
    end,
    isRunning: true,
    runs: withTail(placed.runs, state, lanes),
    density: record ? placed.density : densityOfMarks(placed.defects, binFor(end)),
    rollMarks: (state.roll_marks ?? []).map((mark) => rollMarkOf(mark, lanes)),
  };
}

function useLanes(cameras) {
  const key = JSON.stringify(cameras.map(({ name, surface }) => [name, surface]));
  return useMemo(() => lanesOf(cameras), [key]);
}

// ---- by position -----------------------------------------------------------------------------------

/** {whole, part}: the record in coarse, and its defects around what is shown; null where the node keeps none. */
function useRecord(view, isWanted) {
  const [record, setRecord] = useState(null);
  const wanted = useRef(view);
  wanted.current = view;
  const moved = view && !view.isFollowing ? `${Math.floor(view.from / BACK_M)} ${Math.ceil(view.to / BACK_M)}` : "following";
  useEffect(() => {
    if (!isWanted) return;
    const abort = new AbortController();
    let timer = null;
    async function read() {
      let next = READ_MS;
      if (!document.hidden) {
        try {
          setRecord(await readRecord(wanted.current, abort.signal));
        } catch (error) {
          if (error.name === "AbortError") return;
          if (error.status === 404) setRecord(null);
          next = RETRY_MS;
        }
      }
      timer = setTimeout(read, next);
    }
    read();
    return () => (abort.abort(), clearTimeout(timer));
  }, [moved, isWanted]);
  return record;
}

async function readRecord(view, signal) {
  const ask = (query) => get("/coils/current/map", query, { quiet: true, signal });
  const whole = await ask(null);
  if (whole.defects) return { whole, part: whole };
  const end = store.state.strip.position_m ?? whole.reach_m;
  const [from, to] = view && !view.isFollowing ? [view.from - BACK_M, view.to + BACK_M] : [end - BACK_M, null];
  return { whole, part: await ask({ from_m: Math.max(0, Math.floor(from)), to_m: to === null ? null : Math.max(1, Math.ceil(to)) }) };
}

/** Recorded defects, and those of events that the record does not have yet. */
function byPosition(record, events, coil, since, lanes) {
  const isCurrent = record !== null && (record.whole.coil ?? null) === (coil ?? null);
  const recorded = isCurrent ? marksOf(record.part, lanes) : [];
  const known = new Set(isCurrent ? (record.part.defects ?? []).flatMap((defect) => defect.seqs) : []);
  const newest = recorded.reduce((most, { key }) => Math.max(most, key), 0);
  const added = events
    .filter(({ type, seq, time, defect }) => type === "defect.opened" && isKnown(defect.position_m) && (defect.coil ?? null) === (coil ?? null) && !known.has(seq) && seq > newest && (!since || time >= since))
    .map(({ seq, camera, time, defect }) => markOf({ ...defect, seq, camera, time }, lanes));
  return {
    by: "position",
    width_mm: isCurrent ? widthOf(record.whole) : null,
    lanes: withSides(lanes.list, [...recorded, ...added]),
    defects: [...recorded, ...added].sort((one, other) => one.at - other.at),
    runs: isCurrent ? runsOf(record.part === record.whole ? record.whole : { runs: { ...record.whole.runs, ...record.part.runs } }, lanes) : [],
    density: isCurrent ? densityOfBins(record.whole, record.whole.reach_m) : { bin: 10, counts: [] },
  };
}

/** Places across are counted from the operator's side: where one is known, the sides have names. */
function withSides(lanes, marks) {
  return lanes.map((lane) => ({ ...lane, hasSides: marks.some((mark) => mark.lane === lane.name && mark.across_mm !== null) }));
}

/** The record is some seconds old: what passed since is drawn as inspected where all cameras run, otherwise not at all. */
function withTail(runs, state, lanes) {
  const end = state.strip.position_m;
  const blind = new Set(state.cameras.filter((camera) => camera.state !== "running").map((camera) => lanes.of({ camera: camera.name })));
  const tails = lanes.list.flatMap(({ name }) => {
    if (blind.has(name)) return [];
    const reach = Math.max(0, ...runs.filter((run) => run.lane === name).map((run) => run.to));
    return reach && end - reach < TAIL_M ? [{ lane: name, from: reach, to: end, kind: "whole", cause: null }] : [];
  });
  return [...runs, ...tails];
}

function rollMarkOf(mark, lanes) {
  const lane = lanes.list.find(({ name }) => name === mark.surface)?.name ?? lanes.of(mark);
  return { lane, across_mm: mark.across_mm ?? null, period_m: mark.period_m, positions: turns(mark) };
}

function turns({ from_m: from, to_m: to, period_m: period }) {
  const places = [];
  for (let at = from; at <= to + period / 4 && places.length < 200; at += period) places.push(at);
  return places;
}

// ---- by time ---------------------------------------------------------------------------------------

/** Frames of each camera, a sample every five seconds while the page is open: {at, epoch, counts: {camera: [inspected, skipped, missed]}}. */
const samples = [];
subscribe(({ state }) => state && sample(state));

function sample(state) {
  const at = Date.parse(state.time) / 1000;
  if (samples.length && at - samples.at(-1).at < SAMPLE_S) return;
  const counts = {};
  for (const { name, frames, tiles } of state.cameras) {
    if (frames) counts[name] = [frames.ok + frames.defect + frames.unsure, tiles?.skipped ?? 0, frames.bad_image + frames.late + frames.dropped];
  }
  samples.push({ at, epoch: state.epoch, counts });
  if (samples.length > MAX_SAMPLES) samples.shift();
}

function byTime(state, events, lanes) {
  const end = Date.parse(state.time) / 1000;
  const start = end - HOUR_S;
  const defects = events
    .filter(({ type }) => type === "defect.opened")
    .map(({ seq, camera, time, defect }) => ({ ...markOf({ ...defect, seq, camera, time }, lanes), at: Date.parse(time) / 1000, to: Date.parse(time) / 1000 }))
    .filter(({ at }) => at > start)
    .reverse();
  return { by: "time", coil: state.strip.coil, width_mm: null, lanes: withSides(lanes.list, defects), defects, runs: sampledRuns(lanes), density: densityOfMarks(defects, BIN_S, start), rollMarks: [], start, end, isRunning: true };
}

function sampledRuns(lanes) {
  const newest = new Map();
  const runs = [];
  for (const [index, { at, epoch, counts }] of samples.entries()) {
    const before = samples[index - 1];
    if (!before || before.epoch !== epoch) continue;
    for (const [camera, [whole, part, missed]] of Object.entries(counts)) {
      const last = before.counts[camera];
      if (!last) continue;
      const kind = missed > last[2] || whole === last[0] ? "missed" : part > last[1] ? "partial" : "whole";
      const run = newest.get(camera);
      if (run?.kind === kind && run.to === before.at) {
        run.to = at;
        continue;
      }
      const added = { lane: lanes.of({ camera }), from: before.at, to: at, kind, cause: null };
      newest.set(camera, added);
      runs.push(added);
    }
  }
  return runs;
}

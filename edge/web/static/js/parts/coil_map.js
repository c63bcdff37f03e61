/** From what the node records of a coil (`/coils/current/map`, `/coils/ID`) to what the strip map draws. */

const SEVERITIES = ["minor", "major", "critical"];
const BIN_SIZES_M = [1, 2, 5, 10, 20, 50, 100, 200, 500];
const MAX_BARS = 110;

/**
 * A lane for each surface, in the order of the cameras; a camera without a surface has its own. cameras: [{name, surface}].
 * Returns {list: lanes of the strip map, of({camera, cameras, surface}): the name of its lane}.
 */
export function lanesOf(cameras) {
  const ofCamera = new Map(cameras.map(({ name, surface }) => [name, surface ?? name]));
  const list = [...new Set(ofCamera.values())].map((name) => ({ name, title: name }));
  return { list, of: ({ camera, cameras: several, surface }) => ofCamera.get(camera ?? several?.[0]) ?? surface ?? list[0]?.name };
}

/** The marks of a view's defects; an empty list where they are too many to be given one by one. */
export function marksOf(view, lanes) {
  return (view.defects ?? []).map((defect) => markOf({ ...defect, seq: defect.seqs[0] }, lanes));
}

/** One defect of a record, or of an event with its seq, camera and time. across_mm: null, a number, or [from, to]. */
export function markOf(defect, lanes) {
  const across = defect.across_mm ?? null;
  const at = defect.from_m ?? defect.position_m;
  return {
    key: defect.seq,
    at,
    to: defect.to_m ?? at,
    across_mm: Array.isArray(across) ? (across[0] + across[1]) / 2 : across,
    class: defect.class,
    severity: SEVERITIES.includes(defect.severity) ? defect.severity : "minor",
    lane: lanes.of(defect),
    length_mm: defect.length_mm ?? null,
    time: defect.time,
  };
}

/** Inspected, partial and missed metres by lane: [{lane, from, to, kind, cause}]. */
export function runsOf(view, lanes) {
  return Object.entries(view.runs ?? {}).flatMap(([camera, runs]) => runs.map(([from, to, kind, cause]) => ({ lane: lanes.of({ camera }), from, to, kind, cause })));
}

/** The widest strip that a camera measured, in mm; null: not measured. */
export function widthOf(view) {
  const medians = Object.values(view.width ?? {}).flatMap((samples) => samples.map(([, median]) => median));
  return medians.length ? Math.max(...medians) : null;
}

/** Bars for the whole strip from the node's own bins: {bin, counts, from}. */
export function densityOfBins({ bins }, length) {
  const bin = Math.max(bins.length_m, binFor(length));
  const counts = [];
  for (const { from_m: from, severity, count } of bins.counts) {
    const place = Math.floor(from / bin);
    while (counts.length <= place) counts.push([0, 0, 0]);
    counts[place][Math.max(0, SEVERITIES.indexOf(severity))] += count;
  }
  return { bin, counts, from: 0 };
}

/** Bars from marks, for a strip without a record. */
export function densityOfMarks(marks, bin, from = 0) {
  const counts = [];
  for (const { at, severity } of marks) {
    const place = Math.floor((at - from) / bin);
    if (place < 0 || place > 5000) continue;
    while (counts.length <= place) counts.push([0, 0, 0]);
    counts[place][SEVERITIES.indexOf(severity)] += 1;
  }
  return { bin, counts, from };
}

/** The shortest round length of a bar with which not too many are needed. */
export function binFor(length) {
  return BIN_SIZES_M.find((size) => length / size <= MAX_BARS) ?? BIN_SIZES_M.at(-1);
}

/** Events in words: what happened, and every fact of an event as a name and a text. */

import { className, duration, fullTime, isKnown, metres, millimetres, milliseconds, number, quantity } from "./format.js";

/** type: [what happened, kind: bad, warn or soft]. */
const TYPES = {
  "defect.opened": ["Defect", "warn"],
  "defect.closed": ["Defect ended", "warn"],
  "coverage.gap": ["Not inspected", "warn"],
  "camera.lost": ["Camera lost", "bad"],
  "camera.restored": ["Camera is back", "soft"],
  "camera.ended": ["Recording ended", "soft"],
  "camera.paused": ["Camera paused", "warn"],
  "camera.resumed": ["Camera resumed", "soft"],
  "coil.started": ["Coil started", "soft"],
  "coil.ended": ["Coil ended", "soft"],
  "coil.graded": ["Coil graded", "soft"],
  "coil.released": ["Coil released", "soft"],
  "roll_mark.suspected": ["Roll mark suspected", "bad"],
  "speed.stale": ["Speed unknown", "warn"],
  "speed.restored": ["Speed is back", "soft"],
  "width.out": ["Width out of tolerance", "bad"],
  "width.restored": ["Width is back", "soft"],
  "image.bad": ["Bad picture", "warn"],
  "image.restored": ["Picture is back", "soft"],
  "model.changed": ["Model changed", "warn"],
  "model.rolled_back": ["Model rolled back", "bad"],
  "model.refused": ["Model refused", "warn"],
  "thresholds.changed": ["Thresholds changed", "warn"],
  "calibration.refused": ["Calibration refused", "warn"],
  "camera.drifted": ["Camera drifted", "warn"],
  "camera.drift_cleared": ["Drift is over", "soft"],
  "model.out_of_domain": ["Surface unlike the training's", "warn"],
  "model.in_domain": ["Surface like the training's again", "soft"],
  "config.changed": ["Configuration changed", "warn"],
  "config.refused": ["Configuration refused", "bad"],
  "events.dropped": ["Events dropped", "bad"],
  "events.refused": ["Events refused", "bad"],
  "node.started": ["Node started", "soft"],
  "node.stopped": ["Node stopped", "soft"],
  "operator.acted": ["Operator acted", "soft"],
};

/** [words, types] of the choices in a filter, beside each type alone. */
export const TYPE_GROUPS = [
  ["all defects", ["defect.opened", "defect.closed"]],
  ["cameras and pictures", ["camera.lost", "camera.restored", "camera.paused", "camera.resumed", "image.bad", "image.restored", "camera.drifted", "camera.drift_cleared"]],
  ["the line", ["coil.started", "coil.ended", "coil.graded", "coil.released", "roll_mark.suspected", "speed.stale", "speed.restored", "width.out", "width.restored"]],
  ["models", ["model.changed", "model.rolled_back", "model.refused"]],
  ["the node", ["node.started", "node.stopped", "config.changed", "config.refused", "thresholds.changed", "calibration.refused", "events.dropped", "events.refused"]],
];
export const EVENT_TYPES = Object.keys(TYPES);

export function typeWords(type) {
  return TYPES[type]?.[0] ?? type.replace(".", " ").replaceAll("_", " ");
}

export function typeKind(type) {
  return TYPES[type]?.[1] ?? "soft";
}

/** One line on an event that is no defect: the reason, who acted, how long. */
export function summary({ type, detail }) {
  if (!detail) return "";
  if (type === "operator.acted") return [`${detail.who ?? "somebody"}: ${String(detail.verb).replaceAll("_", " ")}`, detail.reason].filter(Boolean).join(", ");
  if (type.startsWith("model.") && (detail.to || detail.from)) return [modelName(detail.to), detail.reason].filter(Boolean).join(": ");
  const parts = Object.entries(detail).filter(([name]) => !name.endsWith("sha256"));
  return parts
    .slice(0, 4)
    .map(([name, value]) => (name === "reason" || name === "cause" ? valueText(name, value) : `${nameText(name)} ${valueText(name, value)}`))
    .join(", ");
}

/** [[name, text]] of the further facts of an event. */
export function detailFacts(detail, before = "") {
  return Object.entries(detail ?? {}).flatMap(([name, value]) => {
    const words = before ? `${before}, ${nameText(name)}` : capital(nameText(name));
    if (value && typeof value === "object" && !Array.isArray(value)) return modelName(value) ? [[words, modelName(value)]] : detailFacts(value, words);
    return [[words, valueText(name, value)]];
  });
}

/** [[name, text]] of a defect. */
export function defectFacts(defect) {
  const { across_mm: across, anomaly } = defect;
  return [
    ["Class", className(defect.class)],
    ["Severity", defect.severity ?? "minor"],
    ["Confidence", number(defect.confidence, 2)],
    anomaly !== null && ["Anomaly", `${number(anomaly, 2)} of the threshold`],
    defect.surface && ["Surface", defect.surface],
    ["Coil", defect.coil ?? "none reported"],
    ["Along the strip", metres(defect.position_m, 3)],
    ["Across", across ? `${number(across[0])} to ${millimetres(across[1])} from the operator side` : "unknown"],
    ["Length", millimetres(defect.length_mm)],
    ["Seen", `${number(defect.frames)} frames, ${number(defect.tiles)} tiles, ${duration(defect.duration_s)}`],
    ["In the picture", `x ${defect.box_px[0]}, y ${defect.box_px[1]}, ${defect.box_px[2]} × ${defect.box_px[3]} px`],
    ["Track", defect.track_id],
  ].filter(Boolean);
}

function modelName(value) {
  return value && typeof value === "object" && value.name && value.version ? `${value.name} ${value.version}` : "";
}

function nameText(name) {
  return name.replace(/_(s|m|mm|ms|px|sha256)$/, "").replaceAll("_", " ");
}

function valueText(name, value) {
  if (value === null || value === undefined) return "unknown";
  if (Array.isArray(value)) return value.length ? value.map((each) => (typeof each === "object" ? JSON.stringify(each) : String(each))).join(", ") : "none";
  if (typeof value === "object") return modelName(value) || JSON.stringify(value);
  if (name.endsWith("sha256")) return String(value).slice(0, 12);
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (typeof value !== "number") return name === "time" ? fullTime(value) : String(value);
  if (name.endsWith("_mm")) return millimetres(value);
  if (name.endsWith("_ms")) return milliseconds(value);
  if (name.endsWith("_px")) return quantity(value, "px");
  if (name.endsWith("_m")) return metres(value, 2);
  if (name.endsWith("_s") || name === "seconds") return duration(value);
  return number(value, Number.isInteger(value) ? 0 : 3);
}

function capital(text) {
  return text && text[0].toUpperCase() + text.slice(1);
}

/** "812.42 m" where an event lies on the strip, "" where that is not known. */
export function placeText({ defect, detail }) {
  const place = defect ? defect.position_m : detail?.from_m;
  return isKnown(place) ? metres(place, 2) : "";
}

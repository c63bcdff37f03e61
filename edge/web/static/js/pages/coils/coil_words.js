/** What is said of a coil in the same words on the list, on its own page and in the trend. */

import { html } from "../../html.js";
import { isKnown, metres, millimetres, number, percent } from "../../parts/format.js";
import { href } from "../../router.js";

const BAD = ["reject", "not graded"];
const RULES = {
  critical: "critical defects",
  major: "major or critical defects",
  minor: "defects",
  major_in_100m: "major in any 100 m",
  in_10m: "defects in any 10 m",
  longest_mm: "longest defect",
  roll_marks: "roll marks",
  missed_share: "not inspected",
  partial_share: "not inspected as a whole",
  width_mm: "width",
};
const CAUSES = { overload: "overload", bad_image: "bad image", no_signal: "no signal", paused: "paused", unseen: "no frame showed it", record: "the record has nothing" };

/** good, fair, bad or none: how a grade looks. */
function gradeKind(grade, isBest) {
  if (!grade) return "none";
  if (BAD.includes(grade)) return "bad";
  return isBest ? "good" : "fair";
}

/** A grade in a frame of its colour; the word says what the colour shows. */
export function Grade({ grade, isBest = false, isLarge = false }) {
  const text = grade ?? "no grade";
  const size = isLarge ? `large ${text.length > 3 ? "word" : ""}` : "";
  return html`<span class="coil-grade ${gradeKind(grade, isBest)} ${size}">${text}</span>`;
}

export const coilName = (coil) => coil ?? "strip without a coil";
export const coilPath = (id) => href(`/coils/${encodeURIComponent(id)}`);

/** Share of the metres that no camera, or the record, has: of a coil's sums by camera. */
export function missedShare(meters) {
  let total = 0;
  let missed = 0;
  for (const { whole, partial, missed: none, unknown } of Object.values(meters)) {
    total += whole + partial + none + unknown;
    missed += none + unknown;
  }
  return total ? missed / total : null;
}

export function perKm(count, length) {
  return isKnown(length) && length > 0 ? (count / length) * 1000 : null;
}

export function ruleName({ rule, surface }) {
  return `${RULES[rule] ?? rule}${surface ? `, ${surface}` : ""}`;
}

export function ruleLimit({ rule, limit }) {
  return Array.isArray(limit) ? `${number(limit[0])} to ${millimetres(limit[1])}` : ruleValue(rule, limit);
}

export function ruleFound({ rule, found, at_m: at }) {
  if (!isKnown(found)) return "unknown";
  return isKnown(at) ? `${ruleValue(rule, found)} at ${metres(at)}` : ruleValue(rule, found);
}

function ruleValue(rule, value) {
  if (rule === "missed_share" || rule === "partial_share") return percent(value, 2);
  return rule === "longest_mm" || rule === "width_mm" ? millimetres(value) : number(value);
}

export function causeWords(cause) {
  return cause ? (CAUSES[cause] ?? cause) : "unknown";
}

/** "812.21 m, bottom, 53 mm long". */
export function defectPlace({ from_m: from, surface, length_mm: length }) {
  return [isKnown(from) ? metres(from, 2) : "place unknown", surface, isKnown(length) ? `${millimetres(length)} long` : null].filter(Boolean).join(", ");
}

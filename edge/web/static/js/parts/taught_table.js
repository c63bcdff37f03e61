/** What labelled pictures teach: each class with its recall on pictures that were left out, and how many more would help. */

import { html } from "../html.js";
import { ClassName } from "./chip.js";
import { className, number, percent } from "./format.js";
import { Table } from "./table.js";

const LEAST = 2; // pictures of a class

/** result: of a preview of `classes`. */
export function TaughtTable({ result }) {
  const taught = result.change.after?.taught ?? [];
  const few = Object.entries(result.too_few ?? {}).map(([name, n]) => ({ name, n, isFew: true }));
  return html`<${Table} caption="Classes that the labels teach" rows=${[...taught, ...few]} id=${(row) => row.name} columns=${COLUMNS} />`;
}

/** What becomes of the model's other classes, in words. */
export function TaughtWords({ result, model }) {
  const after = result.change.after;
  if (!after) return null;
  const others = model.filter((name) => !after.taught.some((one) => one.name === name));
  const isKept = after.kept.length > 0;
  return html`<p class="soft label-words">
    ${result.distance === undefined || result.distance === null ? "" : `These pictures are ${number(result.distance, 2)} from the model's training; up to 1 is usual. `}
    ${others.length > 0 && (isKept ? `The model's other classes stay: ${named(others)}.` : `The model's other classes are no longer used at this camera: ${named(others)}.`)}
  </p>`;
}

const named = (names) => names.map(className).join(", ");

const COLUMNS = [
  { title: "Class", cell: (row) => html`<span class="whole-words"><${ClassName} name=${row.name} /></span>` },
  { title: "Named right", isNumber: true, cell: (row) => (row.isFew ? html`<span class="soft">too few</span>` : `${row.named} of ${row.n}`) },
  { title: "More pictures", isNumber: true, cell: (row) => more(row) },
  { title: "95 %", isNumber: true, cell: (row) => (row.isFew ? "" : `${percent(row.low, 0)} to ${percent(row.high, 0)}`) },
  { title: "Taken for", cell: (row) => takenFor(row) },
];

function takenFor({ taken_for: others }) {
  return Object.entries(others ?? {})
    .map(([name, n]) => `${className(name)} ${n}`)
    .join(", ");
}

/** Pictures for nine of ten, beyond those that are there. */
function more({ n, named: right, more: wanted, isFew }) {
  if (isFew) return html`<b>${LEAST - n} to be taught</b>`;
  if (right / n >= 0.9) return html`<span class="soft">enough</span>`;
  if (wanted) return `about ${Math.max(1, wanted - n)}`;
  return n < 2 * LEAST ? html`<span class="soft">unknown</span>` : "over 50";
}

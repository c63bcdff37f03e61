/** Thresholds by what people labelled: recall against false alarms. */

import { html, useState } from "../../html.js";
import { ClassName } from "../../parts/chip.js";
import { number, percent } from "../../parts/format.js";
import { Table } from "../../parts/table.js";
import { href } from "../../router.js";
import { can } from "../../session.js";
import { isUnfinished, usePreview } from "./preview.js";
import { Failure, Progress, Result } from "./result.js";
import { NumberField, StepCard } from "./step_card.js";

export function ThresholdsStep({ camera, facts, step, onApplied }) {
  const [recall, setRecall] = useState(95);
  const preview = usePreview(camera, "thresholds", onApplied);
  const { job, change } = preview;
  const isValid = recall >= 1 && recall <= 100;
  const before = facts.parts.thresholds;
  return html`<${StepCard}
    title="Thresholds"
    about="From the pictures that people labelled, each class gets the highest threshold that still finds the wanted share of them. A class needs ten labels."
    step=${step}
  >
    <div class="calibrate-tools">
      <${NumberField} label="Find of 100 defects" value=${recall} least=${1} most=${100} onInput=${setRecall} hint="Higher finds more and alarms more" />
      <button class="button primary" disabled=${!can("engineer") || isUnfinished(job) || !isValid} onClick=${() => preview.start({ recall: recall / 100 })}>Preview</button>
      <a class="button" href=${href("/label")}>Label more pictures</a>
    </div>
    <${Progress} job=${job} onCancel=${preview.cancel} />
    <${Failure} job=${job} />
    ${
      change &&
      html`<${Result}
        preview=${preview}
        canApply=${can("engineer")}
        labels=${{ thresholds: "Recall against false alarms, for every threshold" }}
        rows=${[
          ["Calibration error", percent(change.after.reliability.before), percent(change.after.reliability.after)],
          ["Wanted recall", before?.recall ? percent(before.recall, 0) : null, change.after.recall ? percent(change.after.recall, 0) : null],
        ]}
      >
        <${Table} caption="Thresholds of the classes" rows=${change.after.classes} id=${(row) => row.name} columns=${COLUMNS} />
        <details class="calibrate-curve">
          <summary>All classes at one threshold</summary>
          <${Table} caption="Recall and false alarms by threshold" rows=${job.result.table} id=${(row) => row.level} columns=${curveColumns(Object.keys(job.result.table[0]?.recall ?? {}), change.after.sound)} />
        </details>
      </${Result}>`
    }
  </${StepCard}>`;
}

const COLUMNS = [
  { title: "Class", cell: (row) => html`<${ClassName} name=${row.name} />` },
  { title: "Now", isNumber: true, cell: (row) => number(row.before, 2) },
  { title: "After", isNumber: true, cell: (row) => html`<b>${row.level === null ? number(row.before, 2) : number(row.level, 2)}</b>` },
  { title: "Found", isNumber: true, cell: (row) => (row.n ? `${row.found} of ${row.n}` : "no labels") },
  { title: "Named right", isNumber: true, cell: (row) => (row.n ? `${row.named} of ${row.n}` : "") },
  { title: "False alarms", isNumber: true, cell: (row) => number(row.alarms) },
];

function curveColumns(classes, sound) {
  return [
    { title: "Threshold", isNumber: true, cell: (row) => number(row.level, 2) },
    { title: sound ? `Alarms of ${sound}` : "Alarms", isNumber: true, cell: (row) => (sound ? number(row.alarms) : "unknown") },
    ...classes.map((name) => ({ title: name.replaceAll("_", " "), isNumber: true, cell: (row) => (row.recall[name] === null ? "" : percent(row.recall[name], 0)) })),
  ];
}

/** Speed: the fastest settings of the network on this machine. */

import { html, useState } from "../../html.js";
import { milliseconds, percent } from "../../parts/format.js";
import { Table } from "../../parts/table.js";
import { can } from "../../session.js";
import { isUnfinished, usePreview } from "./preview.js";
import { Failure, Progress, Result } from "./result.js";
import { NumberField, StepCard } from "./step_card.js";

const nameOf = ({ precision, threads, batch }) => `${precision}, ${threads} thread${threads === 1 ? "" : "s"}, batch ${batch}`;

export function LatencyStep({ camera, step, onApplied }) {
  const [seconds, setSeconds] = useState(30);
  const preview = usePreview(camera, "latency", onApplied);
  const { job, change } = preview;
  const rows = job?.result?.rows?.toSorted((one, other) => one.calm_ms - other.calm_ms) ?? [];
  const isChosen = (row) => nameOf(row) === nameOf(job.result.chosen);
  return html`<${StepCard}
    title="Speed"
    about="Times fp32 and int8, threads and batches with frames of this camera, and checks that int8 gives the same verdicts. The daemon runs meanwhile, so compare the settings with each other: the times themselves are those of a busy machine."
    step=${step}
  >
    <div class="calibrate-tools">
      <${NumberField} label="Time" unit="s" value=${seconds} least=${5} most=${600} onInput=${setSeconds} />
      <button class="button primary" disabled=${!can("engineer") || isUnfinished(job) || !(Number.isInteger(seconds) && seconds >= 5 && seconds <= 600)} onClick=${() => preview.start({ seconds })}>Measure</button>
    </div>
    <${Progress} job=${job} onCancel=${preview.cancel} />
    <${Failure} job=${job} />
    ${
      change &&
      html`<${Result}
        preview=${preview}
        canApply=${can("engineer")}
        labels=${{ latency: "Time of a frame with each setting" }}
        rows=${[
          ["Settings", change.before ? nameOf(change.before) : null, nameOf(change.after)],
          ["p99 of a frame", change.before ? milliseconds(change.before.p99_ms) : null, milliseconds(change.after.p99_ms)],
        ]}
      >
        <p>${job.result.parity.why_not ?? `int8 and fp32 agree on ${percent(1 - job.result.parity.moved / Math.max(1, job.result.parity.tiles))} of ${job.result.parity.tiles} tiles.`}</p>
        <${Table} caption="Times by setting" rows=${rows} id=${nameOf} isSelected=${isChosen} columns=${COLUMNS} />
      </${Result}>`
    }
  </${StepCard}>`;
}

const COLUMNS = [
  { title: "Settings", cell: nameOf },
  { title: "p50", isNumber: true, cell: (row) => milliseconds(row.p50_ms) },
  { title: "p99", isNumber: true, cell: (row) => milliseconds(row.p99_ms) },
  { title: "Frames", isNumber: true, cell: (row) => row.n },
];

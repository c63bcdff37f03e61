/** Good surface: the anomaly model, and the threshold for the false alarms that are allowed. */

import { html, useState } from "../../html.js";
import { duration, number, plural } from "../../parts/format.js";
import { can } from "../../session.js";
import { useStore } from "../../store.js";
import { isUnfinished, usePreview } from "./preview.js";
import { Failure, Progress, Result } from "./result.js";
import { NumberField, StepCard } from "./step_card.js";

const LABELS = {
  normal: "How often good surface exceeds a score, and the threshold",
  "normal-tiles": "The most anomalous tiles; those left out are framed in red",
  "normal-map": "How close good surface came to the threshold, by place",
};

export function SurfaceStep({ camera, facts, step, onApplied }) {
  const fps = useStore(({ state }) => state?.cameras?.find(({ name }) => name === camera)?.fps) || 30;
  const [minutes, setMinutes] = useState(10);
  const [perHour, setPerHour] = useState(facts.parts.normal?.false_alarms_per_hour ?? 1);
  const [keepAll, setKeepAll] = useState(false);
  const preview = usePreview(camera, "normal", onApplied);
  const { job, change } = preview;
  const frames = Math.min(100000, Math.max(50, Math.round(minutes * 60 * fps)));
  const before = facts.parts.normal;
  const found = change?.after;
  return html`<${StepCard}
    title="Good surface"
    about="The node learns good, moving product, and from then on one number governs the false alarms. Let only good product run. It takes the frames of the running daemon; inspection goes on."
    step=${step}
  >
    <div class="calibrate-tools">
      <${NumberField} label="Time" unit="min" value=${minutes} least=${0.1} most=${55} step="any" onInput=${setMinutes} hint=${`${number(frames)} frames at ${number(fps, 1)} fps; start with 10 min`} />
      <${NumberField} label="False alarms an hour" value=${perHour} least=${0.000001} most=${100000} step="any" onInput=${setPerHour} />
      <label class="calibrate-check"><input type="checkbox" checked=${keepAll} onChange=${(event) => setKeepAll(event.target.checked)} /> Outliers are good surface, too: keep all</label>
      <button class="button primary" disabled=${!can("engineer") || isUnfinished(job) || !(minutes > 0) || !(perHour > 0)} onClick=${() => preview.start({ frames, per_hour: perHour, keep_all: keepAll })}>Learn</button>
    </div>
    <${Progress} job=${job} onCancel=${preview.cancel} />
    <${Failure} job=${job} />
    <${Result}
      preview=${preview}
      canApply=${can("engineer")}
      labels=${LABELS}
      rows=${
        found
          ? [
              ["Allowed false alarms", rateOf(before), rateOf(found)],
              ["Threshold", before ? number(before.promised.threshold, 3) : null, number(found.promised.threshold, 3)],
              ["Expected", before ? number(before.promised.expected, 2) : null, `${number(found.promised.expected, 2)} (${number(found.promised.low, 2)} to ${number(found.promised.high, 2)})`],
              ["Learned from", before ? plural(before.tiles, "tile") : null, `${plural(found.tiles, "tile")}, ${duration(found.made.frames / found.fps)}`],
              ["Left out", before ? plural(before.left_out, "frame") : null, plural(found.left_out, "frame")],
            ]
          : []
      }
    >
      <p>Look at the plates: tiles framed in red were left out. If they show good surface, learn again and keep all.</p>
    </${Result}>
  </${StepCard}>`;
}

function rateOf(part) {
  if (!part) return null;
  return part.false_alarms_per_hour === null ? `${part.false_alarm_rate} of the tiles` : `${part.false_alarms_per_hour} an hour`;
}

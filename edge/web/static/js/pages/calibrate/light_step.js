/** Even light: a gain for each pixel. */

import { html, useState } from "../../html.js";
import { percent } from "../../parts/format.js";
import { can } from "../../session.js";
import { isUnfinished, usePreview } from "./preview.js";
import { Failure, Progress, Result } from "./result.js";
import { NumberField, StepCard } from "./step_card.js";

export function LightStep({ camera, facts, step, onApplied }) {
  const [frames, setFrames] = useState(100);
  const preview = usePreview(camera, "flatfield", onApplied);
  const { job, change } = preview;
  const before = facts.parts.flatfield;
  return html`<${StepCard}
    title="Light"
    about="A lamp is brighter in the middle. This measures good, moving surface and corrects the difference. It is refused where it would not help."
    step=${step}
  >
    <div class="calibrate-tools">
      <${NumberField} label="Frames" value=${frames} least=${10} most=${1000} onInput=${setFrames} hint="Let good surface run" />
      <button class="button primary" disabled=${!can("engineer") || isUnfinished(job) || !(frames >= 10 && frames <= 1000)} onClick=${() => preview.start({ frames })}>Measure</button>
    </div>
    <${Progress} job=${job} onCancel=${preview.cancel} />
    <${Failure} job=${job} />
    <${Result}
      preview=${preview}
      canApply=${can("engineer")}
      labels=${{ flatfield: "The gain, and the brightness before and after" }}
      rows=${change ? [["Brightness varies by", before ? percent(before.after) : percent(change.after.before), percent(change.after.after)]] : []}
    />
  </${StepCard}>`;
}

/** Classes that the camera is taught by what people labelled, in place of the model's or beside them. */

import { html, useState } from "../../html.js";
import { className, percent } from "../../parts/format.js";
import { TaughtTable, TaughtWords } from "../../parts/taught_table.js";
import { href } from "../../router.js";
import { can } from "../../session.js";
import { isUnfinished, usePreview } from "./preview.js";
import { Failure, Progress, Result } from "./result.js";
import { StepCard } from "./step_card.js";

const OTHERS = [
  ["auto", "stay if the steel is alike"],
  ["keep", "stay"],
  ["drop", "are not used"],
];

export function ClassesStep({ camera, facts, step, onApplied }) {
  const [others, setOthers] = useState("auto");
  const preview = usePreview(camera, "classes", onApplied);
  const { job, change } = preview;
  const before = facts.parts.classes;
  const isClosed = !can("engineer") || isUnfinished(job);
  return html`<${StepCard}
    title="Taught classes"
    about="For defects that the model does not know, or other steel than it was trained on: a few labelled pictures of each class teach their names. Two of a class are the least, five are a start."
    step=${step}
  >
    <div class="calibrate-tools">
      <label class="field"><span>The model's other classes</span>
        <select value=${others} onChange=${(event) => setOthers(event.target.value)}>${OTHERS.map(([value, text]) => html`<option value=${value}>${text}</option>`)}</select>
      </label>
      <button class="button primary" disabled=${isClosed} onClick=${() => preview.start({ other_classes: others })}>Preview</button>
      ${before && html`<button class="button" disabled=${isClosed} onClick=${() => preview.start({ take_back: true })}>Take back what was taught</button>`}
      <a class="button" href=${href("/label", { camera })}>Label more pictures</a>
    </div>
    <${Progress} job=${job} onCancel=${preview.cancel} />
    <${Failure} job=${job} />
    ${
      change &&
      html`<${Result}
        preview=${preview}
        canApply=${can("engineer")}
        rows=${[
          ["Names of defects", named(before?.classes ?? facts.model.classes), named(change.after?.classes ?? facts.model.classes)],
          ["Mean recall of pictures that were left out", recallOf(before), recallOf(change.after)],
        ]}
      >
        ${job.result.too_few && html`<${TaughtTable} result=${job.result} /><${TaughtWords} result=${job.result} model=${facts.model.classes} />`}
      </${Result}>`
    }
  </${StepCard}>`;
}

const named = (names) => names.map(className).join(", ");

function recallOf(part) {
  return part ? `${percent(part.macro, 0)} (${percent(part.low, 0)} to ${percent(part.high, 0)})` : null;
}

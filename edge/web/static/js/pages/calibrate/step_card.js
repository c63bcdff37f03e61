/** The frame of a step: what it is for, its state, its controls. */

import { html } from "../../html.js";
import { StateMark } from "../../parts/chip.js";
import { dateTime, fullTime } from "../../parts/format.js";
import { can } from "../../session.js";

const KINDS = { done: "good", missing: "soft", stale: "warn", optional: "soft" };
const WORDS = { done: "done", missing: "not done", stale: "not used", optional: "optional" };

export function StepMark({ step }) {
  return html`<${StateMark} kind=${KINDS[step?.state] ?? "soft"}>${WORDS[step?.state] ?? "unknown"}</${StateMark}>`;
}

export function StepCard({ title, about, step, children }) {
  return html`<section class="card calibrate-step" aria-labelledby="step-title">
    <div class="card-head">
      <h1 id="step-title">${title}</h1>
      <span class="end"><${StepMark} step=${step} /></span>
    </div>
    <div class="card-body">
      <p class="calibrate-about">${about}</p>
      ${
        step &&
        html`<p class="calibrate-now">
          <b>Now:</b> ${step.says}${step.since && html`, since <time datetime=${step.since} title=${fullTime(step.since)}>${dateTime(step.since)}</time>`}
        </p>`
      }
      ${!can("engineer") && html`<p class="calibrate-remark">Only an engineer may change this.</p>`}
      ${children}
    </div>
  </section>`;
}

/** A number with its unit, between least and most. */
export function NumberField({ label, value, unit, least, most, step = 1, hint, onInput }) {
  return html`<label class="field calibrate-number">
    <span>${label}${unit && ` (${unit})`}</span>
    <input type="number" inputmode="decimal" value=${value} min=${least} max=${most} step=${step} onInput=${(event) => onInput(event.target.value === "" ? null : Number(event.target.value))} />
    ${hint && html`<small>${hint}</small>`}
  </label>`;
}

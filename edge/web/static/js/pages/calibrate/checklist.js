/** Whether the camera is ready, and what is missing. */

import { html } from "../../html.js";
import { dateTime, fullTime } from "../../parts/format.js";
import { Icon } from "../../parts/icons.js";
import { StepMark } from "./step_card.js";

export function Checklist({ camera, facts, steps, onOpen }) {
  const missing = facts.steps.filter(({ required, state }) => required && state !== "done");
  const better = facts.steps.filter(({ required, state }) => !required && state !== "done" && state !== "optional");
  return html`<section class="card calibrate-step" aria-labelledby="step-title">
    <div class="card-head"><h1 id="step-title">Checklist</h1></div>
    <div class="card-body">
      <p class=${`calibrate-ready ${facts.ready ? "ready" : ""}`}>
        <${Icon} name=${facts.ready ? "good" : "warn"} />
        <b>${facts.ready ? `Camera ${camera} is ready.` : `Camera ${camera} is not ready.`}</b>
        <span>${sentence(missing, better, steps)}</span>
      </p>
      <ul class="calibrate-list">
        ${facts.steps.map((step) => {
          const { title } = steps.find(({ id }) => id === step.name);
          return html`<li key=${step.name}>
            <${StepMark} step=${step} />
            <div>
              <b>${title}</b>${step.required && html` <span class="chip">required</span>`}
              <p>${step.says}${step.since && html`, since <time datetime=${step.since} title=${fullTime(step.since)}>${dateTime(step.since)}</time>`}</p>
              ${step.remedy && html`<p class="soft">On the node: <code>${step.remedy}</code></p>`}
            </div>
            <button class="button" onClick=${() => onOpen(step.name)}>${step.state === "done" ? "Look" : "Do it"}<span class="unseen">: ${title}</span></button>
          </li>`;
        })}
      </ul>
      <p class="soft">Model ${facts.model.name} ${facts.model.version}. ${facts.sha256 ? html`File ${facts.file}, sha256 <code>${facts.sha256.slice(0, 16)}</code>.` : "There is no calibration file yet."}</p>
    </div>
  </section>`;
}

function sentence(missing, better, steps) {
  const names = (found) => found.map(({ name }) => steps.find(({ id }) => id === name).title.toLowerCase()).join(", ");
  if (missing.length) return `Missing: ${names(missing)}.`;
  return better.length ? `It would be better with: ${names(better)}.` : "Every step is done.";
}

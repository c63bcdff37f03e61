/** Calibration with the mouse: the steps that make a camera ready, each with a preview before anything is written. */

import { html, useEffect } from "../html.js";
import { Confirm } from "../parts/dialog.js";
import { Icon } from "../parts/icons.js";
import { useState } from "../html.js";
import { href, navigate } from "../router.js";
import { can } from "../session.js";
import { useStore } from "../store.js";
import { Checklist } from "./calibrate/checklist.js";
import { ClassesStep } from "./calibrate/classes_step.js";
import { useFrozenPicture } from "./calibrate/frozen_picture.js";
import { LatencyStep } from "./calibrate/latency_step.js";
import { LightStep } from "./calibrate/light_step.js";
import { undo, useCalibration } from "./calibrate/preview.js";
import { RegionStep } from "./calibrate/region_step.js";
import { Progress } from "./calibrate/result.js";
import { ScaleStep } from "./calibrate/scale_step.js";
import { StepMark } from "./calibrate/step_card.js";
import { SurfaceStep } from "./calibrate/surface_step.js";
import { ThresholdsStep } from "./calibrate/thresholds_step.js";
import { TileStep } from "./calibrate/tile_step.js";

/** In the order in which they are made: what comes later builds on what comes before. */
const STEPS = [
  { id: "roi", title: "Region", View: RegionStep },
  { id: "tile", title: "Tile size", View: TileStep },
  { id: "flatfield", title: "Light", View: LightStep },
  { id: "scale", title: "Scale", View: ScaleStep },
  { id: "normal", title: "Good surface", View: SurfaceStep },
  { id: "classes", title: "Taught classes", View: ClassesStep },
  { id: "thresholds", title: "Thresholds", View: ThresholdsStep },
  { id: "latency", title: "Speed", View: LatencyStep },
  { id: "check", title: "Checklist", View: Checklist },
];

export default function CalibratePage({ camera, query }) {
  const names = useStore(({ state }) => state?.cameras?.map(({ name }) => name).join("\n"))?.split("\n") ?? [];
  useEffect(() => {
    if (!camera && names.length === 1) navigate(`/calibrate/${encodeURIComponent(names[0])}`, { replace: true });
  }, [camera, names.join()]);
  if (camera) return html`<${CameraCalibration} key=${camera} camera=${camera} names=${names} wanted=${query.step} />`;
  return html`<div class="stack">
    <h1>Which camera?</h1>
    ${!names.length && html`<p class="soft">The node reports no camera yet.</p>`}
    <ul class="calibrate-cameras">
      ${names.map((name) => html`<li key=${name}><a class="card" href=${href(`/calibrate/${encodeURIComponent(name)}`)}><${Icon} name="camera" />${name}</a></li>`)}
    </ul>
  </div>`;
}

function CameraCalibration({ camera, names, wanted }) {
  const calibration = useCalibration(camera);
  const still = useFrozenPicture(camera);
  const [asksUndo, setAsksUndo] = useState(false);
  const { facts, job, error, isLoading, load } = calibration;
  useEffect(() => {
    if (facts || !job) return;
    const timer = setTimeout(load, 2000);
    return () => clearTimeout(timer);
  }, [facts, job?.id, isLoading]);

  const stepOf = (id) => facts?.steps.find(({ name }) => name === id);
  const first = facts?.steps.find(({ state, required }) => required && state !== "done")?.name ?? "check";
  const current = STEPS.find(({ id }) => id === wanted) ?? STEPS.find(({ id }) => id === first);
  const open = (id) => navigate(`/calibrate/${encodeURIComponent(camera)}`, { query: { step: id } });
  const place = STEPS.indexOf(current);
  const { View } = current;
  return html`<div class="calibrate">
    <aside class="calibrate-side">
      <section class="card calibrate-guide">
        <div class="card-head">
          <h2>Make this camera ready</h2>
        </div>
        ${
          names.length > 1 &&
          html`<label class="calibrate-camera"><span class="unseen">Camera</span>
            <select value=${camera} onChange=${(event) => navigate(`/calibrate/${encodeURIComponent(event.target.value)}`)}>
              ${names.map((name) => html`<option value=${name}>${name}</option>`)}
            </select>
          </label>`
        }
        <nav aria-label="Steps">
          <ol class="calibrate-steps">
            ${STEPS.map(
              ({ id, title }, number) => html`<li key=${id}>
                <a href=${href(`/calibrate/${encodeURIComponent(camera)}`, { step: id })} aria-current=${id === current.id ? "step" : null}>
                  <span class="calibrate-number-mark">${number + 1}</span>
                  <span class="calibrate-title">${title}${stepOf(id)?.required && stepOf(id).state !== "done" && html`<em> required</em>`}</span>
                  ${id === "check" ? facts && html`<${StepMark} step=${{ state: facts.ready ? "done" : "missing" }} />` : facts && html`<${StepMark} step=${stepOf(id)} />`}
                </a>
              </li>`,
            )}
          </ol>
        </nav>
        <div class="calibrate-undo">
          <button class="button" disabled=${!facts?.can_undo || !can("engineer")} onClick=${() => setAsksUndo(true)}><${Icon} name="undo" />Undo the last change</button>
          <p class="soft">${facts?.sha256 ? `${facts.file}, ${facts.sha256.slice(0, 12)}` : "not calibrated yet"}</p>
        </div>
      </section>
    </aside>
    <div class="calibrate-main">
      ${
        facts
          ? html`<${View} key=${`${current.id}`} camera=${camera} facts=${facts} step=${stepOf(current.id)} steps=${STEPS} still=${still} onApplied=${load} onOpen=${open} />`
          : html`<section class="card calibrate-step"><div class="card-body">
              ${job ? html`<p>Another job runs on the node: ${job.label}.</p><${Progress} job=${job} />` : html`<p class="soft">${error ? (error.reason ?? "The node does not answer.") : "Reading the calibration"}</p>`}
              ${error && html`<button class="button" onClick=${load}>Try again</button>`}
            </div></section>`
      }
      <div class="calibrate-turn">
        ${place > 0 && html`<button class="button" onClick=${() => open(STEPS[place - 1].id)}><${Icon} name="left" />${STEPS[place - 1].title}</button>`}
        ${place < STEPS.length - 1 && html`<button class="button end" onClick=${() => open(STEPS[place + 1].id)}>${STEPS[place + 1].title}<${Icon} name="right" /></button>`}
      </div>
    </div>
    ${
      asksUndo &&
      html`<${Confirm}
        title="Undo the last change?"
        detail=${`The calibration of ${camera} before the last change is used again. Undo once more to come back.`}
        action="Undo"
        onClose=${() => setAsksUndo(false)}
        onConfirm=${() => {
          setAsksUndo(false);
          undo(camera, facts.sha256, load).catch(() => {});
        }}
      />`
    }
  </div>`;
}

/** Cameras and broker tried on the node: their pictures, what would change, and the buttons that write it or take it back. */

import { apiUrl, post } from "../../api.js";
import { html, useState } from "../../html.js";
import { StateMark } from "../../parts/chip.js";
import { Confirm } from "../../parts/dialog.js";
import { number } from "../../parts/format.js";
import { Icon } from "../../parts/icons.js";
import { effects } from "./effects.js";

const UNFINISHED = ["waiting", "running"];
const GRADES = { ok: "good", warning: "warn", fail: "bad" };

export function TrialCard({ present, trial, problem, onTry, onWritten }) {
  const { job } = trial;
  const [asksUndo, setAsksUndo] = useState(false);
  const isBusy = UNFINISHED.includes(job?.state);
  const undo = async () => {
    setAsksUndo(false);
    try {
      onWritten(await post("/setup/undo", { before_sha256: present.sha256 }));
    } catch {
      // the message is on the page
    }
  };
  return html`<section class="card setup-card" aria-labelledby="setup-trial">
    <h2 id="setup-trial">3. Try, and write</h2>
    <div class="setup-line">
      <button class="button primary" disabled=${Boolean(problem) || isBusy} onClick=${onTry}>Try cameras and broker</button>
      <span class="soft" role="status">${isBusy ? "Opening the cameras and asking the broker: some seconds" : (problem ?? "")}</span>
      ${present.can_undo && html`<button class="button setup-undo" disabled=${!present.can_write || isBusy} onClick=${() => setAsksUndo(true)}><${Icon} name="undo" />Undo the last set-up</button>`}
    </div>
    ${isBusy && html`<progress class="setup-progress" aria-label="Trial"></progress>`}
    ${job?.state === "failed" && html`<p class="setup-failure" role="alert">${job.reason?.replace(/^defectd: /, "") ?? "The trial failed."}</p>`}
    ${job?.state === "done" && html`<${Outcome} key=${job.id} job=${job} present=${present} onWritten=${onWritten} />`}
    ${
      asksUndo &&
      html`<${Confirm}
        title="Undo the last set-up?"
        detail="The configuration before it is used again. Undo once more to come back."
        action="Undo"
        onClose=${() => setAsksUndo(false)}
        onConfirm=${undo}
      />`
    }
  </section>`;
}

function Outcome({ job, present, onWritten }) {
  const [isSure, setIsSure] = useState(false);
  const [isBusy, setIsBusy] = useState(false);
  const { works, cameras, broker, difference, effect, secrets, before_sha256: before } = job.result;
  const write = async () => {
    setIsBusy(true);
    try {
      onWritten(await post("/setup/apply", { job: job.id, before_sha256: before, although_it_fails: isSure }));
    } catch {
      setIsBusy(false); // the message is on the page
    }
  };
  return html`<div class="setup-outcome" role="status">
      ${cameras.map((camera) => html`<${Tried} key=${camera.name} job=${job} camera=${camera} />`)}
      <p><${StateMark} kind=${GRADES[broker.grade] ?? "warn"}>Broker</${StateMark}> ${broker.says}${broker.remedy && html`<span class="setup-remedy">${broker.remedy}</span>`}</p>
    </div>
    <h3>What changes</h3>
    ${difference ? html`<${Difference} text=${difference} />` : html`<p class="soft">Nothing: the file is like this already.</p>`}
    ${secrets.length > 0 && html`<p class="soft">Passwords go into files beside it that only the daemon's user may read: ${secrets.join(", ")}.</p>`}
    <ul class="setup-effects">${effects(effect).map((sentence) => html`<li>${sentence}</li>`)}</ul>
    ${
      !works &&
      html`<label class="setup-check setup-warning">
        <input type="checkbox" checked=${isSure} onChange=${(event) => setIsSure(event.target.checked)} />
        <span>A camera or the broker does not answer. Write it all the same.</span>
      </label>`
    }
    <div class="buttons">
      <button class="button primary" disabled=${!difference || !present.can_write || isBusy || (!works && !isSure)} onClick=${write}>${isBusy ? "Writing" : "Write it"}</button>
    </div>`;
}

function Tried({ job, camera: { name, error, width, height, fps, picture } }) {
  if (error) return html`<p><${StateMark} kind="bad">Camera ${name}</${StateMark}> ${error}</p>`;
  return html`<figure class="setup-picture">
    <figcaption><${StateMark} kind="good">Camera ${name}</${StateMark}> ${width} x ${height} px${fps ? `, ${number(fps, 1)} frames a second` : ""}</figcaption>
    ${picture && html`<img src=${apiUrl(`/setup/pictures/${job.id}/${encodeURIComponent(picture)}`)} alt=${`Picture of camera ${name} with its tiles`} />`}
  </figure>`;
}

function Difference({ text }) {
  return html`<pre class="setup-difference" tabindex="0" role="region" aria-label="Difference">${text.split("\n").map((line) => {
    const kind = line.startsWith("+") ? "added" : line.startsWith("-") ? "removed" : "";
    return html`<span class=${kind}>${line}${"\n"}</span>`;
  })}</pre>`;
}

/** Which cameras: those that are configured, those that answer, and any that is typed in. */

import { post } from "../../api.js";
import { html, useRef, useState } from "../../html.js";
import { finished } from "../../jobs.js";
import { Icon } from "../../parts/icons.js";
import { freeName, isKept, isUrl, withoutLogin } from "./answers.js";

const KINDS = { strip: "generated strip", device: "video device", stream: "network camera", recording: "recording" };
const MAX_ADDED = 16;

export function CamerasCard({ present, found, onFound, answers, onChange }) {
  const last = useRef(0);
  const { kept, added } = answers;
  const add = (source) => {
    last.current += 1;
    onChange({ added: [...added, { key: last.current, name: freeName(answers, present), source, user: "", password: "" }] });
  };
  const edit = (key, fields) => onChange({ added: added.map((camera) => (camera.key === key ? { ...camera, ...fields } : camera)) });
  const used = new Set([...added, ...present.cameras].map(({ source }) => source));
  return html`<section class="card setup-card" aria-labelledby="setup-cameras">
    <h2 id="setup-cameras">1. Cameras</h2>
    ${
      present.cameras.length > 0 &&
      html`<fieldset class="setup-group">
        <legend>Configured now: which ones stay?</legend>
        ${present.cameras.map(
          (camera) => html`<label class="setup-check" key=${camera.name}>
            <input type="checkbox" checked=${isKept(answers, camera)} onChange=${(event) => onChange({ kept: { ...kept, [camera.name]: event.target.checked } })} />
            <span><b>${camera.name}</b> <span class="soft">${KINDS[camera.kind] ?? camera.kind}, ${camera.source}</span></span>
          </label>`,
        )}
      </fieldset>`
    }
    <${Search} found=${found.filter(({ source }) => !used.has(source))} onFound=${onFound} onAdd=${add} canAdd=${added.length < MAX_ADDED} />
    ${added.map((camera) => html`<${Added} key=${camera.key} camera=${camera} onChange=${(fields) => edit(camera.key, fields)} onRemove=${() => onChange({ added: added.filter(({ key }) => key !== camera.key) })} />`)}
    <div class="buttons"><button class="button" disabled=${added.length >= MAX_ADDED} onClick=${() => add("")}><${Icon} name="camera" />Add a camera by its address</button></div>
  </section>`;
}

function Search({ found, onFound, onAdd, canAdd }) {
  const [state, setState] = useState(null);
  const look = async () => {
    setState({ isBusy: true });
    try {
      const job = await finished(await post("/setup/find"));
      if (job.state !== "done") setState({ reason: job.reason ?? "The search failed." });
      else {
        onFound(job.result.found);
        setState({ count: job.result.found.length });
      }
    } catch (error) {
      setState({ reason: error.reason ?? "The search failed." });
    }
  };
  return html`<div class="setup-found">
    <div class="setup-line">
      <button class="button" disabled=${state?.isBusy} onClick=${look}>Look for cameras</button>
      <span class="soft" role="status">${
        state?.isBusy
          ? "Looking on this machine and in its networks"
          : (state?.reason ?? (state?.count === 0 ? "No camera answers: type its address in." : "Video devices of this machine, and ONVIF cameras in its networks."))
      }</span>
    </div>
    ${
      found.length > 0 &&
      html`<ul class="setup-list" aria-label="Cameras that answer">
        ${found.map(
          ({ source, description, host }) => html`<li key=${source}>
            <span><b>${description}</b> <span class="soft">${host ?? source}</span></span>
            <button class="button" disabled=${!canAdd} onClick=${() => onAdd(source)} aria-label=${`Add ${description}`}>Add</button>
          </li>`,
        )}
      </ul>`
    }
  </div>`;
}

function Added({ camera, onChange, onRemove }) {
  const { name, source, user, password } = camera;
  return html`<fieldset class="setup-group">
    <legend>New camera</legend>
    <div class="setup-fields">
      <label class="field setup-wide"><span>Address</span>
        <input value=${source} spellcheck=${false} autocomplete="off" maxlength="500" placeholder="rtsp://10.0.0.20/stream1" onInput=${(event) => onChange({ source: event.target.value.trim() })} onChange=${(event) => onChange(withoutLogin(event.target.value))} />
        <small>The stream's URL, or /dev/video0. The path of the stream is in the camera's manual.</small>
      </label>
      <label class="field"><span>Name</span><input value=${name} spellcheck=${false} autocomplete="off" maxlength="63" onInput=${(event) => onChange({ name: event.target.value.trim() })} /></label>
      ${
        (isUrl(source) || !source) &&
        html`<label class="field"><span>User</span><input value=${user} spellcheck=${false} autocomplete="off" maxlength="64" onInput=${(event) => onChange({ user: event.target.value })} /></label>
          <label class="field"><span>Password</span><input type="password" value=${password} autocomplete="new-password" maxlength="200" onInput=${(event) => onChange({ password: event.target.value })} /></label>`
      }
      <button class="button setup-remove" onClick=${onRemove} aria-label=${`Remove camera ${name}`}>Remove</button>
    </div>
  </fieldset>`;
}

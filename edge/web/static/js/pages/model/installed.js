/** The bundles on the node: which one decides, which one comes back, which was rolled back and why. */

import { command } from "../../api.js";
import { html, useState } from "../../html.js";
import { Confirm } from "../../parts/dialog.js";
import { bytes, dateTime, fullTime } from "../../parts/format.js";
import { toast } from "../../parts/toast.js";
import { can } from "../../session.js";

const CONFIGURED = "configured";

export function InstalledCard({ facts, onShow, onChange }) {
  const rollout = facts?.rollout;
  const [asks, setAsks] = useState(null);
  const [isBusy, setIsBusy] = useState(false);
  const act = async () => {
    setIsBusy(true);
    try {
      const { result } = await command("model", asks.fields);
      toast(result.changed ? `${result.to.name} ${result.to.version} decides.` : "It decides already.");
      onChange();
    } catch {
      // the message is on the page
    }
    setIsBusy(false);
    setAsks(null);
  };
  const use = (one) =>
    setAsks({ title: `Use ${one.name} ${one.version}?`, detail: "It is checked against the cameras, then decides from the next frame on, as a canary.", action: "Use it", fields: { action: "use", digest: one.digest } });
  const goBack = () =>
    setAsks({ title: "Go back to the previous model?", detail: "It decides from the next frame on. The present one stays installed.", action: "Go back", fields: { action: "rollback" } });
  return html`<section class="card model-card" aria-label="Installed">
    <h2>Installed</h2>
    ${!facts && html`<p class="soft">Loading</p>`}
    ${facts && !rollout && html`<p class="soft">The daemon does not answer: what is installed is unknown.</p>`}
    ${
      rollout &&
      html`<ul class="bundles">
        ${rollout.installed.map((one) => html`<li key=${one.digest}><${BundleRow} one=${one} rollout=${rollout} onShow=${onShow} onUse=${use} /></li>`)}
        <li>
          <div><b>of the configuration</b> ${rollout.current === CONFIGURED && html`<span class="chip">in use</span>`} ${rollout.previous === CONFIGURED && html`<span class="chip">previous</span>`}
            <p class="soft">model.bundle; the node goes back to it when nothing else is left.</p></div>
        </li>
      </ul>
      ${rollout.current !== CONFIGURED && html`<div class="buttons"><button class="button" disabled=${!can("engineer")} title=${can("engineer") ? null : "Needs an engineer"} onClick=${goBack}>Roll back</button></div>`}`
    }
    ${asks && html`<${Confirm} ...${asks} isBusy=${isBusy} onConfirm=${act} onClose=${() => setAsks(null)} />`}
  </section>`;
}

function BundleRow({ one, rollout, onShow, onUse }) {
  const isCurrent = rollout.current === one.digest;
  const why = rollout.rejected[one.digest];
  const mark = isCurrent ? (rollout.on_trial ? "canary" : "in use") : rollout.previous === one.digest ? "previous" : why ? "rolled back" : null;
  return html`<div>
      <b>${one.name} ${one.version}</b> ${mark && html`<span class="chip">${mark}</span>`}
      <p class="soft"><code title=${one.digest}>${one.digest.slice(0, 12)}</code>, ${bytes(one.bytes)}, <time dateTime=${one.installed} title=${fullTime(one.installed)}>${dateTime(one.installed)}</time></p>
      ${why && html`<p class="bundle-why">${why}</p>`}
    </div>
    <button class="button" aria-label=${`Card of ${one.name} ${one.version}`} onClick=${() => onShow(one.digest)}>Card</button>
    <button class="button" disabled=${isCurrent || !can("engineer")} title=${can("engineer") ? null : "Needs an engineer"} aria-label=${`Use ${one.name} ${one.version}`} onClick=${() => onUse(one)}>Use</button>`;
}

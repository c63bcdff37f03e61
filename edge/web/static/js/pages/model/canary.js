/** The canary: how long a new model is still compared with the previous one, how both do, and the way back. */

import { command } from "../../api.js";
import { html, useState } from "../../html.js";
import { Confirm } from "../../parts/dialog.js";
import { duration, number, percent } from "../../parts/format.js";
import { toast } from "../../parts/toast.js";
import { can } from "../../session.js";
import { TableFrame } from "../../parts/table.js";

export function CanaryCard({ model, onChange }) {
  const { canary } = model;
  const [asks, setAsks] = useState(false);
  const [isBusy, setIsBusy] = useState(false);
  const back = async () => {
    setIsBusy(true);
    try {
      const { result } = await command("model", { action: "rollback" });
      toast(`${result.to.name} ${result.to.version} decides again.`);
      onChange();
    } catch {
      // the message is on the page
    }
    setIsBusy(false);
    setAsks(false);
  };
  if (!canary)
    return html`<section class="card model-card" aria-label="Canary">
      <h2>Canary</h2>
      <p class="soft">No canary at the moment. A new model is one for a while: when it is unsure or late more often than the previous model, the node goes back by itself.</p>
    </section>`;
  const share = canary.share ?? 0;
  return html`<section class="card model-card" aria-label="Canary">
    <h2>Canary</h2>
    <div class="canary-progress">
      <span class="meter accent" role="progressbar" aria-label="Watch on the canary" aria-valuemin="0" aria-valuemax="100" aria-valuenow=${Math.round(100 * share)}><i style=${{ width: `${100 * share}%` }}></i></span>
      <span>${duration(canary.left_s)} left</span>
    </div>
    ${canary.previous && html`<p class="soft">If it fails, <b>${canary.previous.name} ${canary.previous.version}</b> decides again.</p>`}
    <${Comparison} cameras=${canary.cameras ?? {}} />
    <div class="buttons"><button class="button" disabled=${!can("engineer")} title=${can("engineer") ? null : "Needs an engineer"} onClick=${() => setAsks(true)}>Go back now</button></div>
    ${asks && html`<${Confirm} title="Go back to the previous model?" detail="It decides from the next frame on. The new one stays installed." action="Go back" isBusy=${isBusy} onConfirm=${back} onClose=${() => setAsks(false)} />`}
  </section>`;
}

function Comparison({ cameras }) {
  const rows = Object.entries(cameras);
  if (!rows.length) return null;
  return html`<${TableFrame} label="Before and now"><table class="table">
    <thead><tr><th scope="col">camera</th><th scope="col" class="number">frames</th><th scope="col" class="number">unsure, before</th><th scope="col" class="number">now</th><th scope="col" class="number">missed, before</th><th scope="col" class="number">now</th></tr></thead>
    <tbody>
      ${rows.map(
        ([name, { before, after }]) => html`<tr key=${name}>
          <td>${name}</td><td class="number">${number(after.inspected)}</td>
          <td class="number">${share(before.unsure, before.inspected)}</td><td class="number"><b>${share(after.unsure, after.inspected)}</b></td>
          <td class="number">${share(before.missed, before.delivered)}</td><td class="number"><b>${share(after.missed, after.delivered)}</b></td>
        </tr>`,
      )}
    </tbody>
  </table></${TableFrame}>`;
}

function share(some, all) {
  return all ? percent(some / all) : "none";
}

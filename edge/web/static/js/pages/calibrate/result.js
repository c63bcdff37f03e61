/** What a preview would change: progress, plates, before and after, objections, and the button that writes it. */

import { apiUrl } from "../../api.js";
import { html, useState } from "../../html.js";
import { Dialog } from "../../parts/dialog.js";
import { duration } from "../../parts/format.js";
import { Icon } from "../../parts/icons.js";
import { isUnfinished } from "./preview.js";

/** The work while it runs, with what is left, and a way to end it. */
export function Progress({ job, onCancel }) {
  if (!isUnfinished(job)) return null;
  const { progress, left_s: left, what, done, total } = job.progress ?? {};
  const words = [what ?? (job.state === "waiting" ? "waiting for its turn" : "starts"), total ? `${done} of ${total}` : done || null, left ? `${duration(left)} left` : null];
  return html`<div class="calibrate-progress" role="status">
    <span>${words.filter(Boolean).join(", ")}</span>
    <progress max="1" value=${progress ?? undefined} aria-label=${what ?? "Progress"}></progress>
    ${onCancel && html`<button class="button" onClick=${onCancel}>Cancel</button>`}
  </div>`;
}

export function Failure({ job }) {
  if (job?.state !== "failed") return null;
  return html`<p class="calibrate-failure" role="alert"><${Icon} name="warn" /><span>${cleaned(job.reason) ?? "It failed."}</span></p>`;
}

/** The command line names itself and its options; on the page the rest says enough. */
const cleaned = (reason) => reason?.replace(/^defectd: /, "");

/**
 * rows: [[name, before, after]]; before may be null. labels: what each plate shows, by the end of its name; others are left out. canApply: the user may, and
 * what is shown is what was previewed.
 */
export function Result({ preview, rows = [], labels = {}, canApply, children }) {
  const { job, change, apply, clear, isApplying } = preview;
  const [hasLooked, setHasLooked] = useState(false);
  if (!change) return null;
  const objections = change.objections ?? [];
  const isBlocked = objections.length > 0 && !hasLooked;
  return html`<section class="calibrate-result" aria-label="What would change">
    <h2>What would change</h2>
    ${rows.length > 0 && html`<${BeforeAfter} rows=${rows} />`}
    ${(change.remarks ?? []).map((remark) => html`<p class="calibrate-remark"><${Icon} name="warn" />${remark}</p>`)}
    ${children}
    <${Plates} job=${job} labels=${labels} />
    ${
      objections.length > 0 &&
      html`<div class="calibrate-objections" role="alert">
        <b>This speaks against it</b>
        <ul>${objections.map((text) => html`<li>${text}</li>`)}</ul>
        <label><input type="checkbox" checked=${hasLooked} onChange=${(event) => setHasLooked(event.target.checked)} /> I have looked at this and accept it all the same. This is recorded and published.</label>
      </div>`
    }
    <div class="buttons">
      <button class="button primary" disabled=${!canApply || isBlocked || isApplying} onClick=${() => apply({ hasLooked })}>${isApplying ? "Applying" : "Apply"}</button>
      <button class="button" onClick=${clear}>Discard</button>
    </div>
  </section>`;
}

function BeforeAfter({ rows }) {
  return html`<div class="table-frame"><table class="table calibrate-change">
    <thead><tr><td></td><th scope="col">Now</th><th scope="col">After</th></tr></thead>
    <tbody>
      ${rows.map(
        ([name, before, after]) => html`<tr class=${before === after ? "" : "changed"}>
          <th scope="row">${name}</th>
          <td>${before ?? html`<span class="soft">none</span>`}</td>
          <td><b>${after ?? "none"}</b></td>
        </tr>`,
      )}
    </tbody>
  </table></div>`;
}

/** Pictures of a preview; one at a time in full size. */
export function Plates({ job, labels }) {
  const [open, setOpen] = useState(null);
  const names = (job.result?.change?.plates ?? []).filter((name) => labelOf(name, labels));
  if (!names.length) return null;
  const shown = names.map((name) => ({ name, url: apiUrl(`/calibration/plates/${job.id}/${encodeURIComponent(name)}`), label: labelOf(name, labels) }));
  return html`<div class="calibrate-plates">
      ${shown.map(
        ({ name, url, label }) => html`<figure key=${name}>
          <button class="calibrate-plate" onClick=${() => setOpen(name)} aria-label=${`Enlarge: ${label}`}><img src=${url} alt=${label} loading="lazy" /></button>
          <figcaption>${label}</figcaption>
        </figure>`,
      )}
    </div>
    ${shown
      .filter(({ name }) => name === open)
      .map(
        ({ url, label }) => html`<${Dialog} title=${label} isWide onClose=${() => setOpen(null)}>
          <div class="calibrate-large"><img src=${url} alt=${label} /></div>
        </${Dialog}>`,
      )}`;
}

function labelOf(name, labels) {
  const part = name.replace(/\.png$/, "").split(".").at(-1);
  return labels[part];
}


/** What is made of the labels: thresholds and taught classes, after a preview that writes nothing, and class folders. */

import { post } from "../api.js";
import { html, useEffect, useState } from "../html.js";
import { finished } from "../jobs.js";
import { Dialog } from "../parts/dialog.js";
import { className } from "../parts/format.js";
import { can, useSession } from "../session.js";
import { useStore } from "../store.js";
import { TaughtTable, TaughtWords } from "../parts/taught_table.js";
import { toast } from "../parts/toast.js";

/** name: of the calibration. title, about: of its window. Found: shows what a preview found. */
const USES = [
  {
    name: "thresholds",
    button: "Set thresholds from these",
    title: "Thresholds from labels",
    about: "Sets a threshold for each class so that it finds 95 of 100 labelled pictures. Classes with fewer than 10 labels keep theirs.",
    done: "The thresholds are in use.",
    Found: Thresholds,
  },
  {
    name: "classes",
    button: "Teach classes from these",
    title: "Classes from labels",
    about: "Teaches one camera the names of its own defects, from its labelled pictures. Two of a class are the least, five are a start; label some good surface, too.",
    done: "The classes are in use. Thresholds for the classes before do not hold for them: set them again.",
    Found: Classes,
  },
];

export function ApplyCard({ work }) {
  useSession();
  const [use, setUse] = useState(null);
  const [isExporting, setIsExporting] = useState(false);
  const labels = work.worth?.labels ?? 0;
  const runExport = async () => {
    setIsExporting(true);
    try {
      const { job: started, folder } = await post("/labels/export");
      const job = await finished(started);
      if (job.state === "done") toast("The labelled tiles are in a folder on the node.", { remedy: folder });
      else toast(`The export failed: ${job.reason}`, { kind: "bad" });
    } catch {
      // the message is on the page
    }
    setIsExporting(false);
  };
  return html`<section class="card label-apply">
    <h2>Apply</h2>
    <div class="buttons">
      ${USES.map((one, place) => html`<button class="button ${place ? "" : "primary"}" key=${one.name} disabled=${!labels || !can("engineer")} title=${can("engineer") ? null : "Needs an engineer"} onClick=${() => setUse(one)}>${one.button}</button>`)}
      <button class="button" disabled=${!labels || isExporting || !can("operator")} onClick=${runExport}>${isExporting ? "Exporting" : "Export"}</button>
    </div>
    <p class="soft label-words">Export writes class folders with manifest.csv, as <b>defectd evidence export --labelled</b> does.</p>
    ${use && html`<${PreviewDialog} use=${use} onDone=${() => work.loadWorthSoon()} onClose=${() => setUse(null)} />`}
  </section>`;
}

/** A preview, which writes nothing, and what it found; then it is written and in use. */
function PreviewDialog({ use, onDone, onClose }) {
  const cameras = useStore(({ state }) => state?.cameras?.map(({ name }) => name).join(",") ?? "").split(",").filter(Boolean);
  const [camera, setCamera] = useState(null);
  const [job, setJob] = useState(null);
  const [isWriting, setIsWriting] = useState(false);
  const [hasLooked, setHasLooked] = useState(false);
  const chosen = camera ?? cameras[0] ?? null;
  const preview = async () => {
    setJob({ state: "waiting" });
    setHasLooked(false);
    try {
      const started = await post(`/calibration/${encodeURIComponent(chosen)}/${use.name}`, {}, { quiet: true });
      setJob(await finished(started, setJob));
    } catch (error) {
      setJob({ state: "failed", reason: error.reason });
    }
  };
  const apply = async () => {
    setIsWriting(true);
    try {
      const written = await post(`/calibration/${encodeURIComponent(chosen)}/apply`, { job: job.id, before_sha256: job.result.change.before_sha256, i_have_looked: hasLooked });
      toast(written.problem ? `Written, but not in use: ${written.problem}` : use.done, { kind: written.problem ? "warn" : "good" });
      onDone();
      onClose();
    } catch {
      setIsWriting(false); // the message is on the page
    }
  };
  useEffect(() => {
    if (chosen && cameras.length === 1) preview();
  }, [chosen]);
  const objections = (job?.state === "done" && job.result?.change?.objections) || [];
  const isBusy = job?.state === "running" || job?.state === "waiting";
  return html`<${Dialog} title=${use.title} onClose=${onClose} isWide>
    <p>${use.about}</p>
    ${
      cameras.length > 1 &&
      html`<label class="field"><span>Camera</span>
        <select value=${chosen} disabled=${isBusy} onChange=${(event) => (setCamera(event.target.value), setJob(null))}>${cameras.map((name) => html`<option>${name}</option>`)}</select>
      </label>`
    }
    ${job && html`<${JobReport} job=${job} use=${use} />`}
    ${
      objections.length > 0 &&
      html`<div class="form-failure" role="alert">
        <p>${objections.join("; ")}: no better than by chance. Label more pictures of both, or give them one name.</p>
        <label><input type="checkbox" checked=${hasLooked} onChange=${(event) => setHasLooked(event.target.checked)} /> I have looked at this and accept it all the same. This is recorded.</label>
      </div>`
    }
    <div class="buttons end">
      <button class="button" onClick=${onClose}>${job?.state === "done" ? "Discard" : "Cancel"}</button>
      ${
        job?.state === "done"
          ? html`<button class="button primary" disabled=${isWriting || (objections.length > 0 && !hasLooked)} onClick=${apply}>Apply to ${chosen}</button>`
          : html`<button class="button primary" disabled=${isBusy || !chosen} onClick=${preview}>${isBusy ? "Trying" : "Try, write nothing"}</button>`
      }
    </div>
  </${Dialog}>`;
}

function JobReport({ job, use }) {
  if (job.state === "failed" || job.state === "cancelled") return html`<p class="form-failure" role="alert">${job.reason ?? "It was cancelled."}</p>`;
  if (job.state !== "done") return html`<p role="status" class="soft">${progressOf(job)}</p>`;
  return html`<div role="status">
    <${use.Found} result=${job.result ?? {}} />
    ${(job.lines ?? []).filter((line) => !line.startsWith("{")).map((line) => html`<p class="soft label-words">${line}</p>`)}
  </div>`;
}

function Classes({ result }) {
  const model = useStore(({ state }) => state?.model?.classes) ?? [];
  return html`<${TaughtTable} result=${result} />
    <p class="soft label-words">Named right: each picture by what all others taught.</p>
    <${TaughtWords} result=${result} model=${model} />`;
}

function Thresholds({ result }) {
  const classes = result.classes ?? [];
  return html`<div class="table-frame">
    <table class="table">
      <thead><tr><th scope="col">class</th><th scope="col" class="number">threshold</th><th scope="col" class="number">found</th><th scope="col" class="number">false alarms</th></tr></thead>
      <tbody>
        ${classes.map(
          (row) => html`<tr key=${row.name}>
            <td>${className(row.name)}</td>
            <td class="number">${row.level === null ? `keeps ${row.before.toFixed(2)}` : html`<s class="soft">${row.before.toFixed(2)}</s> ${row.level.toFixed(2)}`}</td>
            <td class="number">${row.n ? `${row.found} of ${row.n}` : "too few labels"}</td>
            <td class="number">${row.alarms}</td>
          </tr>`,
        )}
      </tbody>
    </table>
  </div>
    <p class="soft label-words">Each half of the pictures was measured with what was fitted on the other half.</p>`;
}

function progressOf({ progress }) {
  if (!progress?.total) return "It works, behind inspection: this takes a minute.";
  return `${progress.done ?? 0} of ${progress.total} pictures`;
}

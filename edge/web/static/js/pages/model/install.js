/** A new model from a file: checked on the node, kept there, and used when somebody says so. */

import { command, upload } from "../../api.js";
import { html, useRef, useState } from "../../html.js";
import { StateMark } from "../../parts/chip.js";
import { bytes } from "../../parts/format.js";
import { toast } from "../../parts/toast.js";
import { can } from "../../session.js";

const MAX_BYTES = 2 << 20;

export function InstallCard({ onChange }) {
  const [verdict, setVerdict] = useState(null);
  const [isBusy, setIsBusy] = useState(false);
  const input = useRef(null);
  const check = async (file) => {
    if (!file) return;
    if (file.size > MAX_BYTES) {
      setVerdict({ file: file.name, reason: `it has ${bytes(file.size)}, a bundle has at most ${bytes(MAX_BYTES)}` });
      return;
    }
    setIsBusy(true);
    setVerdict(null);
    try {
      setVerdict({ file: file.name, accepted: await upload("/model/install", file, "application/zip") });
      onChange();
    } catch (error) {
      setVerdict({ file: file.name, reason: error.reason ?? String(error), remedy: error.remedy });
    }
    setIsBusy(false);
    if (input.current) input.current.value = "";
  };
  const use = async () => {
    setIsBusy(true);
    try {
      const { result } = await command("model", { action: "use", digest: verdict.accepted.digest });
      toast(result.changed ? `${result.to.name} ${result.to.version} decides, as a canary.` : "It decides already.");
      setVerdict(null);
      onChange();
    } catch {
      // the message is on the page
    }
    setIsBusy(false);
  };
  const may = can("engineer");
  return html`<section class="card model-card" aria-label="Install a model">
    <h2>Install from a file</h2>
    <label class="model-file"><span class="unseen">Bundle, a zip</span>
      <input ref=${input} type="file" accept=".zip,application/zip" disabled=${!may || isBusy} onChange=${(event) => check(event.target.files[0])} />
    </label>
    <p class="soft">${may ? "A zip of a bundle, up to 2 MiB. Hashes, signature and self-test are checked; it decides nothing before you say so." : "Needs an engineer."}</p>
    <div role="status">
      ${isBusy && !verdict && html`<p class="soft">Checked on the node, behind inspection: this takes some seconds.</p>`}
      ${
        verdict?.accepted &&
        html`<div class="verdict-box">
          <${StateMark} kind="good">Passed: ${[verdict.accepted.name, verdict.accepted.version].filter(Boolean).join(" ") || verdict.file}</${StateMark}>
          <p class="soft">Hashes, signature, self-test on this processor. Classes and speed are checked when it is used.${verdict.accepted.problem ? ` ${verdict.accepted.problem}.` : ""}</p>
          <div class="buttons"><button class="button primary" disabled=${isBusy} onClick=${use}>Use it now, as a canary</button></div>
        </div>`
      }
      ${
        verdict?.reason &&
        html`<div class="verdict-box refused"><${StateMark} kind="bad">Refused: ${verdict.file}</${StateMark}>
          <p>${verdict.reason}</p>${verdict.remedy && html`<p class="soft">${verdict.remedy}</p>`}</div>`
      }
    </div>
  </section>`;
}

/** A person releases a coil: with the grade of the rules, or with another one and a reason. */

import { command } from "../../api.js";
import { html, useState } from "../../html.js";
import { Dialog } from "../../parts/dialog.js";
import { toast } from "../../parts/toast.js";
import { currentSession } from "../../session.js";

const NONE = ["reject", "not graded"];

export function Release({ coil, judgement, onClose, onDone }) {
  const found = coil.judgement.grade;
  const grades = [...new Set([...(NONE.includes(found) ? [] : [found]), ...(judgement?.rules ?? []).map(({ grade }) => grade)])];
  const [grade, setGrade] = useState(grades[0] ?? "");
  const [reason, setReason] = useState("");
  const [isBusy, setIsBusy] = useState(false);
  const needsReason = grade !== found;
  async function release(submit) {
    submit.preventDefault();
    setIsBusy(true);
    try {
      await command("coil-release", { coil: coil.id, ...(needsReason ? { grade } : {}), ...(reason.trim() ? { reason: reason.trim() } : {}) });
      toast(`Coil ${coil.coil} is released as ${grade}.`, { kind: "good" });
      onDone();
      onClose();
    } catch {
      setIsBusy(false); // the reason is shown on the page
    }
  }
  return html`<${Dialog} title=${`Release coil ${coil.coil}`} onClose=${onClose}>
    <form class="form" onSubmit=${release}>
      <p>By the rules it is <b>${found}</b>. The release carries your name, ${currentSession().user ?? "visitor"}, and becomes an event.</p>
      <label class="field"><span>Grade</span>
        <input list="coil-grades" value=${grade} maxlength="40" required onInput=${({ target }) => setGrade(target.value.trim())} />
        <datalist id="coil-grades">${grades.map((name) => html`<option value=${name} />`)}</datalist>
      </label>
      <label class="field"><span>Reason${needsReason ? "" : " (not needed for the grade of the rules)"}</span>
        <input value=${reason} maxlength="500" required=${needsReason} onInput=${({ target }) => setReason(target.value)} />
      </label>
      <div class="buttons end">
        <button class="button" type="button" onClick=${onClose}>Cancel</button>
        <button class="button primary" disabled=${isBusy || !grade || (needsReason && !reason.trim())}>Release</button>
      </div>
    </form>
  </${Dialog}>`;
}

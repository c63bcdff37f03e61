/** What the doctor finds, the worst first, each with what helps. */

import { post } from "../../api.js";
import { html, useState } from "../../html.js";
import { StateMark } from "../../parts/chip.js";
import { dateTime, fullTime, plural } from "../../parts/format.js";
import { Icon } from "../../parts/icons.js";
import { can } from "../../session.js";

const GRADES = { fail: ["bad", "fault", "bad"], warning: ["warn", "warning", "warn"], ok: ["good", "in order", "good"] };
const ORDER = ["fail", "warning", "ok"];

export function DoctorCard({ doctor, failure, onChange }) {
  const [isAsking, setIsAsking] = useState(false);
  const isBusy = isAsking || ["waiting", "running"].includes(doctor?.state);
  const again = async () => {
    setIsAsking(true);
    try {
      await post("/node/doctor");
      onChange();
    } catch {
      // the message is on the page
    }
    setIsAsking(false);
  };
  const findings = doctor?.findings ?? [];
  const wrong = ORDER.slice(0, 2).flatMap((grade) => findings.filter((one) => one.grade === grade));
  const fine = findings.filter(({ grade }) => grade === "ok");
  return html`<section class="card doctor" aria-label="Doctor">
    <header class="card-head">
      <h2>Doctor</h2>
      <span class="soft" role="status">${isBusy ? "examines the node" : doctor?.examined && html`examined <time dateTime=${doctor.examined} title=${fullTime(doctor.examined)}>${dateTime(doctor.examined)}</time>`}</span>
      <button class="button end" disabled=${isBusy || !can("operator")} title=${can("operator") ? "Without opening the cameras" : "Needs an operator"} onClick=${again}>Examine again</button>
    </header>
    ${!doctor && html`<p class="empty">${failure ? failure.reason : "Loading"}</p>`}
    ${doctor?.reason && html`<p class="doctor-line form-failure">It did not come to its end: ${doctor.reason}</p>`}
    ${findings.length > 0 && !wrong.length && html`<p class="doctor-line"><${StateMark} kind="good">Nothing is wrong.</${StateMark}></p>`}
    ${wrong.length > 0 && html`<ul class="findings">${wrong.map((one, place) => html`<li key=${place}><${Finding} finding=${one} /></li>`)}</ul>`}
    ${
      fine.length > 0 &&
      html`<details class="doctor-fine"><summary>${plural(fine.length, "thing")} in order</summary>
        <ul class="findings">${fine.map((one, place) => html`<li key=${place}><${Finding} finding=${one} /></li>`)}</ul>
      </details>`
    }
    ${doctor && !findings.length && !doctor.reason && html`<p class="empty">${isBusy ? "It takes some seconds, behind inspection." : "Not examined yet."}</p>`}
  </section>`;
}

/** Words between backticks are what to type. */
function withCode(text) {
  return text.split("`").map((part, place) => (place % 2 ? html`<code>${part}</code>` : part));
}

function Finding({ finding: { grade, about, says, remedy } }) {
  const [kind, words, icon] = GRADES[grade] ?? GRADES.warning;
  return html`<div class="finding state-${kind}">
    <${Icon} name=${icon} />
    <div>
      <b>${about}<span class="unseen">, ${words}</span></b> <span>${says}</span>
      ${remedy && html`<p class="remedy">${withCode(remedy)}</p>`}
    </div>
  </div>`;
}

/** What was written, what the daemon has taken over, and where to go on. */

import { html } from "../../html.js";
import { StateMark } from "../../parts/chip.js";
import { href } from "../../router.js";

export function Done({ answer: { problem, taken_over: taken } }) {
  const waiting = taken?.needs_restart ?? [];
  return html`<div class="setup-done" role="status">
    <p><${StateMark} kind=${problem ? "warn" : "good"}>Written</${StateMark}> ${problem ? `The daemon does not use it yet: ${problem}` : "The daemon has taken over what it can."}</p>
    ${
      waiting.length > 0 &&
      html`<p><b>${waiting.join(", ")}</b> take effect at the next start: <code>sudo systemctl restart defectd</code>, or end <code>defectd run</code> and start it again.</p>`
    }
    <div class="buttons">
      <a class="button" href=${href("/")}>Live</a>
      <a class="button" href=${href("/calibrate")}>Calibrate the cameras</a>
    </div>
  </div>`;
}

/** The name of the node, and the broker that gets its events. */

import { html } from "../../html.js";
import { isPlain, keepsPassword } from "./answers.js";

export function BrokerCard({ present, answers, onChange }) {
  const { node, broker, address, username, password, allowsPlain } = answers;
  const options = [
    ...(present.broker ? [["now", `As now: ${present.broker}`]] : []),
    ...(present.broker === "embedded" ? [] : [["embedded", "The small one inside defectd, to try"]]),
    ["other", "Another one"],
  ];
  const stays = keepsPassword(answers, present);
  return html`<section class="card setup-card" aria-labelledby="setup-broker">
    <h2 id="setup-broker">2. Node and broker</h2>
    <div class="setup-fields">
      <label class="field"><span>Name of this node</span>
        <input value=${node} spellcheck=${false} autocomplete="off" maxlength="63" onInput=${(event) => onChange({ node: event.target.value.trim() })} />
        <small>Part of every topic.</small>
      </label>
    </div>
    <fieldset class="setup-group">
      <legend>MQTT broker</legend>
      ${options.map(
        ([value, words]) => html`<label class="setup-check" key=${value}>
          <input type="radio" name="broker" value=${value} checked=${broker === value} onChange=${() => onChange({ broker: value })} /><span>${words}</span>
        </label>`,
      )}
      ${
        broker === "other" &&
        html`<div class="setup-fields">
          <label class="field setup-wide"><span>Address</span><input value=${address} spellcheck=${false} autocomplete="off" maxlength="260" onInput=${(event) => onChange({ address: event.target.value.trim() })} /><small>mqtts://HOST:8883 with TLS</small></label>
          <label class="field"><span>User</span><input value=${username} spellcheck=${false} autocomplete="off" maxlength="64" onInput=${(event) => onChange({ username: event.target.value })} /><small>Empty: none</small></label>
          <label class="field"><span>Password</span><input type="password" value=${password} autocomplete="new-password" maxlength="200" onInput=${(event) => onChange({ password: event.target.value })} /><small>${stays ? "Empty: the present one stays" : "Kept in a file of its own"}</small></label>
        </div>`
      }
      ${
        isPlain(answers) &&
        html`<label class="setup-check setup-warning">
          <input type="checkbox" checked=${allowsPlain} onChange=${(event) => onChange({ allowsPlain: event.target.checked })} />
          <span>Without TLS everybody on the way can read and change the messages. Use it all the same.</span>
        </label>`
      }
    </fieldset>
  </section>`;
}

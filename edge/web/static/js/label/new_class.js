/** A class that nobody has named yet: a plant teaches its own defects. */

import { html, useState } from "../html.js";
import { Dialog } from "../parts/dialog.js";

const NAME = /^[a-z0-9][a-z0-9_.-]{0,62}$/;
const TAKEN = ["good", "normal", "unclear", "unsure", "anomaly", "unknown"]; // words with a meaning of their own

/** onName: called with the name of the class. */
export function NewClass({ known, onName, onClose }) {
  const [text, setText] = useState("");
  const name = text.trim().toLowerCase().replaceAll(/\s+/g, "_");
  const refusal = refusalOf(name);
  const submit = (event) => {
    event.preventDefault();
    if (name && !refusal) onName(name);
  };
  return html`<${Dialog} title="New class" onClose=${onClose}>
    <form class="new-class" onSubmit=${submit}>
      <p>The picture gets this name. When a camera has some pictures of it, an engineer teaches them with "Teach classes from these".</p>
      <label class="field"><span>Name</span>
        <input type="text" value=${text} maxlength="63" autocomplete="off" autocapitalize="none" spellcheck=${false} autofocus aria-describedby="new-class-hint" aria-invalid=${String(Boolean(name && refusal))} onInput=${(event) => setText(event.target.value)} />
        <small id="new-class-hint" role="status" class=${name && refusal ? "bad-name" : ""}>${name ? (refusal ?? (known.includes(name) ? `There is a class ${name}: it is used.` : `Events will call it ${name}.`)) : "For example: roll mark"}</small>
      </label>
      <div class="buttons end">
        <button type="button" class="button" onClick=${onClose}>Cancel</button>
        <button class="button primary" disabled=${!name || refusal !== null}>Label with it</button>
      </div>
    </form>
  </${Dialog}>`;
}

function refusalOf(name) {
  if (TAKEN.includes(name)) return `"${name}" has a meaning of its own: give another name.`;
  return NAME.test(name) ? null : "Small letters, digits, dots, dashes and underscores; the first is a letter or a digit.";
}

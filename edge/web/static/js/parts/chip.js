/** Small labelled marks. A word always stands beside the colour. */

import { html } from "../html.js";
import { className } from "./format.js";
import { ClassIcon, Icon } from "./icons.js";

/** minor is the usual case and has no chip unless `always`. */
export function SeverityChip({ severity, always = false }) {
  if (!severity || (severity === "minor" && !always)) return null;
  return html`<span class="chip chip-${severity}">${severity}</span>`;
}

/** A class with its shape: "// scratches". */
export function ClassName({ name, severity }) {
  return html`<span class="class-name"><${ClassIcon} name=${name} severity=${severity} />${className(name)}</span>`;
}

/** kind: good, warn, bad or soft; a sign and a word. */
export function StateMark({ kind, children }) {
  const sign = { good: "good", warn: "warn", bad: "bad", soft: "wait" }[kind];
  return html`<span class="state-mark state-${kind}"><${Icon} name=${sign} />${children}</span>`;
}

/** Short messages at the edge of the page: what was done, or why not and what helps. */

import { html, useEffect, useState } from "../html.js";
import { Icon } from "./icons.js";

const MAX_SHOWN = 4;
const SHOWN_MS = { good: 4000, warn: 8000, bad: 12000 };
let shown = [];
let count = 0;
const listeners = new Set();

/** kind: good, warn or bad. remedy: a second line. action: [text, function] becomes a button. */
export function toast(text, { kind = "good", remedy = null, action = null } = {}) {
  const same = shown.find((other) => other.text === text && other.remedy === remedy);
  if (same) dismiss(same.id);
  const id = ++count;
  const timer = setTimeout(() => dismiss(id), SHOWN_MS[kind]);
  set([...shown, { id, text, kind, remedy, action, timer }].slice(-MAX_SHOWN));
}

function dismiss(id) {
  clearTimeout(shown.find((other) => other.id === id)?.timer);
  set(shown.filter((other) => other.id !== id));
}

function set(changed) {
  shown = changed;
  for (const listener of listeners) listener(shown);
}

export function Toasts() {
  const [toasts, setToasts] = useState(shown);
  useEffect(() => {
    listeners.add(setToasts);
    return () => listeners.delete(setToasts);
  }, []);
  return html`<div class="toasts" role="status" aria-live="polite">
    ${toasts.map(
      ({ id, text, kind, remedy, action }) => html`<div class="toast toast-${kind}" key=${id}>
        <${Icon} name=${kind === "good" ? "good" : "warn"} />
        <div><b>${text}</b>${remedy && html`<p>${remedy}</p>`}</div>
        ${action && html`<button class="button" onClick=${() => (dismiss(id), action[1]())}>${action[0]}</button>`}
        <button class="icon-button plain" aria-label="Dismiss" onClick=${() => dismiss(id)}><${Icon} name="close" /></button>
      </div>`,
    )}
  </div>`;
}

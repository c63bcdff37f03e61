/** A window over the page, with the browser's own focus trap and Escape. */

import { html, useEffect, useId, useRef } from "../html.js";
import { Icon } from "./icons.js";

/** Shown while it is rendered; `onClose` is called on Escape, the cross and a click outside. */
export function Dialog({ title, onClose, isWide = false, children }) {
  const element = useRef(null);
  const heading = useId();
  useEffect(() => {
    const before = document.activeElement;
    element.current.showModal();
    return () => before?.focus?.();
  }, []);
  return html`<dialog
    ref=${element}
    class="dialog ${isWide ? "wide" : ""}"
    aria-labelledby=${heading}
    onCancel=${(event) => (event.preventDefault(), onClose())}
    onClick=${(click) => click.target === element.current && onClose()}
  >
    <header class="dialog-head">
      <h2 id=${heading}>${title}</h2>
      <button class="icon-button plain" aria-label="Close" onClick=${onClose}><${Icon} name="close" /></button>
    </header>
    <div class="dialog-body">${children}</div>
  </dialog>`;
}

/** Asks before something that is hard to take back. `detail`: what will happen. */
export function Confirm({ title, detail, action, isDangerous = false, isBusy = false, onConfirm, onClose }) {
  return html`<${Dialog} title=${title} onClose=${onClose}>
    ${detail && html`<p>${detail}</p>`}
    <div class="buttons end">
      <button class="button" onClick=${onClose}>Cancel</button>
      <button class="button ${isDangerous ? "danger" : "primary"}" disabled=${isBusy} onClick=${onConfirm}>${action}</button>
    </div>
  </${Dialog}>`;
}

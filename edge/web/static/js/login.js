/** The form for name and password, as a window or in the page's place. */

import { html, useState } from "./html.js";
import { Dialog } from "./parts/dialog.js";
import { login } from "./session.js";

export function LoginDialog({ onClose }) {
  return html`<${Dialog} title="Log in" onClose=${onClose}><${LoginForm} onDone=${onClose} /></${Dialog}>`;
}

export function LoginCard() {
  return html`<section class="card login-card">
    <h1>Log in</h1>
    <p class="soft">This node shows its pages to its users only.</p>
    <${LoginForm} />
  </section>`;
}

function LoginForm({ onDone }) {
  const [failure, setFailure] = useState(null);
  const [isBusy, setIsBusy] = useState(false);
  async function send(submit) {
    submit.preventDefault();
    const form = new FormData(submit.target);
    setIsBusy(true);
    setFailure(null);
    try {
      await login(form.get("name"), form.get("password"));
      onDone?.();
    } catch (error) {
      setFailure([error.reason ?? "The login failed.", error.remedy].filter(Boolean).join(" "));
      setIsBusy(false);
    }
  }
  return html`<form class="form" onSubmit=${send}>
    <label class="field"><span>Name</span><input name="name" autocomplete="username" maxlength="64" required autofocus /></label>
    <label class="field"><span>Password</span><input name="password" type="password" autocomplete="current-password" maxlength="256" required /></label>
    ${failure && html`<p class="form-failure" role="alert">${failure}</p>`}
    <div class="buttons end"><button class="button primary" disabled=${isBusy}>${isBusy ? "Checking" : "Log in"}</button></div>
  </form>`;
}

import { html } from "../html.js";

export default function LivePage() {
  return html`<p class="empty">Live</p>`;
}

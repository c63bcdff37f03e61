/** The window behind `?`: every key of the page shown. */

import { html, useState, useEffect } from "./html.js";
import { listedKeys, useKeys } from "./keys.js";
import { Dialog } from "./parts/dialog.js";
import { PAGES } from "./pages.js";
import { navigate } from "./router.js";

let show = () => {};
const NAMES = { ArrowLeft: "←", ArrowRight: "→", ArrowUp: "↑", ArrowDown: "↓", " ": "Space" };

export function showKeys() {
  show(true);
}

export function KeyList() {
  const [isShown, setIsShown] = useState(false);
  useEffect(() => {
    show = setIsShown;
  }, []);
  const pages = PAGES.filter((row) => row.nav);
  useKeys("Everywhere", {
    "?": ["show this list", showKeys],
    "[": ["page before", () => step(pages, -1)],
    "]": ["next page", () => step(pages, 1)],
  });
  if (!isShown) return null;
  return html`<${Dialog} title="Keys" onClose=${() => setIsShown(false)}>
    <div class="key-list">
      ${listedKeys().map(
        ({ title, keys }) => html`<section key=${title}>
          <h3>${title}</h3>
          <dl>${keys.map(([key, text]) => html`<dt><kbd>${NAMES[key] ?? (key.length === 1 ? key.toUpperCase() : key)}</kbd></dt><dd>${text}</dd>`)}</dl>
        </section>`,
      )}
    </div>
  </${Dialog}>`;
}

function step(pages, by) {
  const current = document.querySelector("nav.pages a[aria-current]");
  const place = pages.findIndex((row) => row.nav === current?.firstChild?.textContent?.trim());
  navigate(pages[(place + by + pages.length) % pages.length].path);
}

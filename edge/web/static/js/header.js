/** The bar above each page: where one is, how fresh it is, what time it is, who one is. */

import { html, useEffect, useRef, useState } from "./html.js";
import { showKeys } from "./key_list.js";
import { LoginDialog } from "./login.js";
import { PAGES } from "./pages.js";
import { dateTime, duration, time, zoneName } from "./parts/format.js";
import { Icon } from "./parts/icons.js";
import { href } from "./router.js";
import { logout, useSession } from "./session.js";
import { ageMs, isStale, store, useStore } from "./store.js";
import { setTheme, theme } from "./theme.js";

const badges = new Map();
const badgeListeners = new Set();

/** A number beside a page's word in the bar; null takes it away: `setBadge("label", 37)`. */
export function setBadge(page, count) {
  if (badges.get(page) === count) return;
  badges.set(page, count);
  for (const listener of badgeListeners) listener({});
}

export function Header({ page, isWall }) {
  const node = useStore(({ state }) => state?.node);
  const [isOpen, setIsOpen] = useState(false);
  useEffect(() => setIsOpen(false), [page]);
  return html`<header class="bar">
    <a class="brand" href=${href("/")}>
      <svg viewBox="0 0 24 24" aria-hidden="true">
        <rect x="1" y="5" width="22" height="14" rx="2" fill="none" stroke="currentColor" stroke-width="2" />
        <path class="brand-mark" d="m7 16 4-8m3 8 2.5-5" fill="none" stroke-width="2.6" stroke-linecap="round" />
      </svg>
      <b>${node ?? "defectd"}</b>${node && html`<span class="brand-product">defectd</span>`}
    </a>
    ${!isWall && html`<${Navigation} page=${page} isOpen=${isOpen} onLeave=${() => setIsOpen(false)} />`}
    <div class="bar-end">
      <${Freshness} /><${Clock} />
      ${
        !isWall &&
        html`<button class="icon-button desk-only" aria-label="Keys" title="Keys (?)" onClick=${showKeys}><${Icon} name="help" /></button>
          <${ThemeButton} /><${UserMenu} />
          <button class="icon-button phone-only" aria-label="Menu" aria-expanded=${String(isOpen)} onClick=${() => setIsOpen(!isOpen)}>
            <${Icon} name=${isOpen ? "close" : "menu"} />
          </button>`
      }
    </div>
  </header>`;
}

function Navigation({ page, isOpen, onLeave }) {
  const [, redraw] = useState({});
  useEffect(() => {
    badgeListeners.add(redraw);
    return () => badgeListeners.delete(redraw);
  }, []);
  return html`<nav class="pages ${isOpen ? "open" : ""}" aria-label="Pages" onClick=${onLeave}>
    ${PAGES.filter((row) => row.nav).map(
      (row) => html`<a key=${row.name} href=${href(row.path)} aria-current=${row.name === page ? "page" : null}>
        ${row.nav}${badges.get(row.name) ? html`<span class="badge">${badges.get(row.name)}</span>` : null}
      </a>`,
    )}
  </nav>`;
}

/** Written into the text itself: five times a second is too often to render the bar. */
function Freshness() {
  const mark = useRef(null);
  const text = useRef(null);
  useEffect(() => {
    const show = () => {
      const isOld = isStale();
      const isWaiting = store.at === null && !isOld;
      mark.current.className = `freshness ${isOld ? "old" : isWaiting ? "waiting" : ""}`;
      text.current.data = isWaiting ? "connecting" : isOld ? `no contact, ${Math.floor(ageMs() / 1000)} s` : `live, ${duration(ageMs() / 1000)} old`;
    };
    text.current = document.createTextNode("");
    mark.current.append(text.current);
    show();
    const timer = setInterval(show, 250);
    return () => clearInterval(timer);
  }, []);
  return html`<span class="freshness" ref=${mark}><i></i></span>`;
}

function Clock() {
  const [now, setNow] = useState(() => new Date());
  useEffect(() => {
    const timer = setInterval(() => setNow(new Date()), 1000);
    return () => clearInterval(timer);
  }, []);
  return html`<time class="clock" dateTime=${now.toISOString()} title=${`${dateTime(now)} ${zoneName()}`}>${time(now)}</time>`;
}

function ThemeButton() {
  const [name, setName] = useState(theme());
  const other = name === "dark" ? "light" : "dark";
  return html`<button class="icon-button desk-only" aria-label=${`Use the ${other} theme`} title=${`${other} theme`} onClick=${() => (setTheme(other), setName(other))}>
    <${Icon} name="theme" />
  </button>`;
}

function UserMenu() {
  const { user, role, hasUsers, isKnown } = useSession();
  const [isOpen, setIsOpen] = useState(false);
  const [asksLogin, setAsksLogin] = useState(false);
  const menu = useRef(null);
  useEffect(() => {
    if (!isOpen) return;
    const closed = (event) => (event.key === "Escape" || (event.type === "pointerdown" && !menu.current.contains(event.target))) && setIsOpen(false);
    addEventListener("pointerdown", closed);
    addEventListener("keydown", closed);
    return () => (removeEventListener("pointerdown", closed), removeEventListener("keydown", closed));
  }, [isOpen]);
  if (!isKnown || !role) return null;
  return html`<div class="user-menu" ref=${menu}>
    <button class="button" aria-expanded=${String(isOpen)} aria-haspopup="true" onClick=${() => setIsOpen(!isOpen)}>
      <span class="phone-only"><${Icon} name="user" title="User" /></span><span class="desk-only">${user ?? role}</span>
    </button>
    ${
      isOpen &&
      html`<div class="card menu">
        <p>${user ? html`<b>${user}</b>, ${role}` : html`Not logged in: <b>${role}</b>`}</p>
        <button class="button phone-only" onClick=${() => setTheme(theme() === "dark" ? "light" : "dark")}>Dark or light</button>
        ${
          user
            ? html`<button class="button" onClick=${() => (setIsOpen(false), logout())}>Log out</button>`
            : hasUsers
              ? html`<button class="button primary" onClick=${() => (setIsOpen(false), setAsksLogin(true))}>Log in</button>`
              : html`<p class="soft">To change something, add a user on the node:<br /><code>defectd web user add NAME --role operator</code></p>`
        }
      </div>`
    }
    ${asksLogin && html`<${LoginDialog} onClose=${() => setAsksLogin(false)} />`}
  </div>`;
}

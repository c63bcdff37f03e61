/** The page around the pages: which one is shown, the bar above it, what it looks like without contact. */

import { Header } from "./header.js";
import { Component, html, render, useEffect, useState } from "./html.js";
import { KeyList } from "./key_list.js";
import { LoginCard } from "./login.js";
import { PAGES } from "./pages.js";
import { Toasts, toast } from "./parts/toast.js";
import { Icon, knowClasses } from "./parts/icons.js";
import { BASE, match, useRoute } from "./router.js";
import { loadSession, useSession } from "./session.js";
import { ageMs, isStale, startStore, store, subscribe, useStore } from "./store.js";

const sheets = new Map();

function App() {
  const route = useRoute();
  const session = useSession();
  const isOld = useStaleness();
  const row = PAGES.find((page) => match(page.path, route.path));
  const isWall = row?.path === "/" && "wall" in route.query;
  const node = useStore(({ state }) => state?.node);
  useEffect(() => {
    document.title = [row?.title ?? "Not found", node, "defectd"].filter(Boolean).join(" - ");
  }, [row, node]);
  useReloadOnUpdate(isWall);
  return html`<div class="app ${isOld ? "stale" : ""} ${isWall ? "wall" : ""}">
    <button class="skip button" onClick=${() => document.getElementById("content").focus()}>Skip to the content</button>
    <${Header} page=${row?.name} isWall=${isWall} />
    ${isOld && html`<${StaleBanner} />`}
    <main id="content" class="content" tabindex="-1">
      ${session.wantsLogin ? html`<${LoginCard} />` : html`<${PageOf} row=${row} route=${route} key=${row?.name} />`}
    </main>
    <${Toasts} />
    <${KeyList} />
  </div>`;
}

/** Loads the page of a row and its sheet, then shows it. */
function PageOf({ row, route }) {
  const [loaded, setLoaded] = useState({});
  useEffect(() => {
    if (!row) return;
    Promise.all([row.load(), row.css && loadSheet(row.css)]).then(
      ([module]) => setLoaded({ Page: module.default }),
      (error) => setLoaded({ error }),
    );
  }, [row?.name]);
  if (!row) return html`<${Message} title="No such page" text="The address leads nowhere. Choose a page above." />`;
  if (loaded.error) return html`<${Message} title="This page did not load" text="Reload it. If that does not help, the node runs a version without it." />`;
  if (!loaded.Page) return html`<p class="page-loading">Loading</p>`;
  return html`<${Boundary}><${loaded.Page} ...${match(row.path, route.path)} query=${route.query} /></${Boundary}>`;
}

/** A fault in a page leaves the bar and the other pages usable. */
class Boundary extends Component {
  componentDidCatch(error) {
    this.setState({ error });
    setTimeout(() => Promise.reject(error)); // for the console and the tests
  }

  render() {
    if (!this.state.error) return this.props.children;
    return html`<${Message} title="This page failed" text=${String(this.state.error.message ?? this.state.error)} canReload />`;
  }
}

function Message({ title, text, canReload = false }) {
  return html`<section class="card message">
    <h1>${title}</h1>
    <p>${text}</p>
    ${canReload && html`<button class="button" onClick=${() => location.reload()}>Reload</button>`}
  </section>`;
}

function StaleBanner() {
  const [seconds, setSeconds] = useState(Math.floor(ageMs() / 1000));
  useEffect(() => {
    const timer = setInterval(() => setSeconds(Math.floor(ageMs() / 1000)), 500);
    return () => clearInterval(timer);
  }, []);
  return html`<div class="stale-banner">
    <${Icon} name="warn" />
    <span role="alert" class="unseen">No contact with the node: what you see is old.</span>
    <span aria-hidden="true">${store.at === null ? `No contact for ${seconds} s` : `No contact for ${seconds} s: what you see is old`}</span>
  </div>`;
}

function useStaleness() {
  const { wantsLogin } = useSession();
  const [isOld, setIsOld] = useState(isStale());
  useEffect(() => {
    const check = () => setIsOld(isStale());
    const timer = setInterval(check, 250);
    const stop = subscribe(check);
    return () => (clearInterval(timer), stop());
  }, []);
  return isOld && !wantsLogin;
}

/** Another version on the node has other files: the wall loads them by itself, others are asked. */
function useReloadOnUpdate(isWall) {
  const version = useStore(({ state }) => state?.version ?? null);
  const [first, setFirst] = useState(version);
  useEffect(() => {
    if (version === null || version === first) return;
    if (first === null) setFirst(version);
    else if (isWall) location.reload();
    else toast(`The node runs version ${version} now.`, { kind: "warn", action: ["Reload the page", () => location.reload()] });
  }, [version, first, isWall]);
}

function loadSheet(name) {
  if (!sheets.has(name)) {
    sheets.set(
      name,
      new Promise((done) => {
        const link = document.createElement("link");
        link.rel = "stylesheet";
        link.href = `${BASE}static/css/${name}`;
        link.onload = link.onerror = done; // a page without its sheet is still readable
        document.head.append(link);
      }),
    );
  }
  return sheets.get(name);
}

subscribe(({ state }) => knowClasses(state));
loadSession();
startStore();
const root = document.getElementById("app");
root.replaceChildren();
render(html`<${App} />`, root);

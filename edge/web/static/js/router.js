/** Addresses of the page below its base path, which is where this file was loaded from. */

import { useEffect, useState } from "./html.js";

/** "/" or "/line3/": what stands before every path of the page; this file is in static/js. */
export const BASE = new URL("../../", import.meta.url).pathname;

const listeners = new Set();

/** The address of a page for an `href`: `href("/coils/A4711", {m: 812})`. */
export function href(path, query) {
  return BASE + path.replace(/^\//, "") + search(query);
}

export function search(query) {
  const parameters = new URLSearchParams();
  for (const [name, value] of Object.entries(query ?? {})) {
    if (value !== null && value !== undefined && value !== "") parameters.set(name, value);
  }
  const text = parameters.toString();
  return text && `?${text}`;
}

/** Shows another page. `replace` leaves no step in the browser's history: for filters and zooms. */
export function navigate(path, { query, replace = false } = {}) {
  const address = href(path, query);
  if (address === location.pathname + location.search) return;
  history[replace ? "replaceState" : "pushState"](null, "", address);
  if (!replace) scrollTo(0, 0);
  notify();
}

/** {path: "/coils/A4711", query: {m: "812"}} of the address now. */
export function currentRoute() {
  return {
    path: "/" + location.pathname.slice(BASE.length).replace(/\/$/, ""),
    query: Object.fromEntries(new URLSearchParams(location.search)),
  };
}

export function useRoute() {
  const [route, setRoute] = useState(currentRoute);
  useEffect(() => {
    const changed = () => setRoute(currentRoute());
    listeners.add(changed);
    return () => listeners.delete(changed);
  }, []);
  return route;
}

/** The parameters of `path` under a pattern like "/coils/:id", or null. */
export function match(pattern, path) {
  const names = pattern.split("/");
  const parts = path.split("/");
  if (names.length !== parts.length) return null;
  const parameters = {};
  for (const [index, name] of names.entries()) {
    if (!name.startsWith(":")) {
      if (name !== parts[index]) return null;
      continue;
    }
    try {
      parameters[name.slice(1)] = decodeURIComponent(parts[index]);
    } catch {
      return null; // a malformed escape names no page
    }
  }
  return parameters;
}

function notify() {
  for (const listener of listeners) listener();
}

/** Links below the base path change the page without loading it anew. The focus goes where a new page has it: its keys work at once. */
function followLink(click) {
  if (click.defaultPrevented || click.button || click.metaKey || click.ctrlKey || click.shiftKey || click.altKey) return;
  const link = click.target.closest?.("a[href]");
  if (!link || link.target || link.hasAttribute("download") || link.origin !== location.origin) return;
  const inside = link.pathname.startsWith(BASE) && !/^(api|static)\//.test(link.pathname.slice(BASE.length));
  if (!inside || (link.hash && link.pathname === location.pathname)) return;
  click.preventDefault();
  const isOther = link.pathname !== location.pathname;
  navigate("/" + link.pathname.slice(BASE.length), { query: Object.fromEntries(link.searchParams ?? new URLSearchParams(link.search)) });
  if (isOther) document.getElementById("content")?.focus({ preventScroll: true });
}

addEventListener("popstate", notify);
addEventListener("click", followLink);

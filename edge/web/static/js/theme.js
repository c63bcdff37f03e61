/** Light or dark: the system's choice until the user makes one. */

const KEY = "defectd.theme";
const system = matchMedia("(prefers-color-scheme: dark)");
const listeners = new Set();

export function theme() {
  return document.documentElement.dataset.theme;
}

export function setTheme(name) {
  show(name);
  try {
    localStorage.setItem(KEY, name);
  } catch {
    // Private windows have no storage: the choice lasts until the tab closes.
  }
}

/** Calls `listener` after each change: canvases repaint with the new colours. Returns the way to stop. */
export function onTheme(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

function show(name) {
  document.documentElement.dataset.theme = name;
  for (const listener of listeners) listener(name);
}

function stored() {
  try {
    return localStorage.getItem(KEY);
  } catch {
    return null;
  }
}

system.addEventListener("change", () => stored() || show(system.matches ? "dark" : "light"));
addEventListener("storage", (change) => change.key === KEY && change.newValue && show(change.newValue));

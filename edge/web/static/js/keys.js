/** Keys of the page: registered by what they do, and listed under `?`. */

import { useEffect, useRef } from "./html.js";

const groups = new Set();

/**
 * Keys while the component is shown: `useKeys("Label", {g: ["good", markGood]})`. Names as in `KeyboardEvent.key`, letters in lower
 * case; one without a function is only listed. Nothing happens while somebody types, with Ctrl, Alt or Meta, or under an open dialog.
 */
export function useKeys(title, keys) {
  const group = useRef({ title, keys });
  group.current.keys = keys;
  useEffect(() => {
    groups.add(group.current);
    return () => groups.delete(group.current);
  }, []);
}

/** [{title, keys: [[key, what it does]]}] */
export function listedKeys() {
  return [...groups].map(({ title, keys }) => ({ title, keys: Object.entries(keys).map(([key, [text]]) => [key, text]) }));
}

function pressed(press) {
  if (press.defaultPrevented || press.ctrlKey || press.altKey || press.metaKey) return;
  if (press.target.closest?.("input, select, textarea, [contenteditable], [data-own-keys]") || document.querySelector("dialog[open]")) return;
  const key = press.key.length === 1 ? press.key.toLowerCase() : press.key;
  if ((key === "Enter" || key === " ") && press.target.closest?.("button, a, summary")) return; // theirs
  for (const { keys } of [...groups].reverse()) {
    if (!keys[key]?.[1]) continue;
    press.preventDefault();
    keys[key][1](press);
    return;
  }
}

addEventListener("keydown", pressed);

/** The small picture of an event's evidence, asked for when it can be there, and once more if it was not. */

import { evidenceUrl } from "../api.js";
import { html, useEffect, useRef, useState } from "../html.js";
import { ClassIcon } from "./icons.js";

const WRITTEN_MS = 700; // the picture is written after its event is sent
const NEW_MS = 5000;
const RETRY_MS = 3000;

export function Thumbnail({ event }) {
  const address = evidenceUrl(event.evidence);
  const isNew = Date.now() - Date.parse(event.time) < NEW_MS;
  const [attempt, setAttempt] = useState(isNew ? 0 : 1);
  useEffect(() => {
    if (!address || attempt !== 0) return;
    const timer = setTimeout(() => setAttempt(1), WRITTEN_MS);
    return () => clearTimeout(timer);
  }, [address, attempt]);
  const retry = useRef(null);
  useEffect(() => () => clearTimeout(retry.current), []);
  function failed() {
    setAttempt(attempt === 1 ? -1 : -2);
    if (attempt === 1) retry.current = setTimeout(() => setAttempt(2), RETRY_MS);
  }
  if (!address || attempt <= 0) return html`<span class="thumbnail"><${ClassIcon} name=${event.defect.class} /></span>`;
  return html`<img class="thumbnail" alt="" decoding="async" loading="lazy" src=${attempt === 1 ? address : `${address}?retry`} onError=${failed} />`;
}

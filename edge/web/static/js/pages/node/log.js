/** The newest lines of the daemon's log, as they come. */

import { get } from "../../api.js";
import { html, useEffect, useLayoutEffect, useRef, useState } from "../../html.js";
import { fullTime, time } from "../../parts/format.js";
import { can } from "../../session.js";

const POLL_MS = 2000;
const MAX_LINES = 500;
const LEVELS = [
  ["info", "all"],
  ["warning", "warnings"],
  ["error", "errors"],
];

export function LogCard() {
  const [level, setLevel] = useState("info");
  const may = can("operator");
  const [lines, failure] = useLines(level, may);
  const element = useRef(null);
  const isAtEnd = useRef(true);
  useLayoutEffect(() => {
    if (element.current && isAtEnd.current) element.current.scrollTop = element.current.scrollHeight;
  }, [lines]);
  return html`<section class="card node-log" aria-label="Log">
    <header class="card-head">
      <h2>Log</h2>
      <div class="choice end" role="group" aria-label="Which lines">
        ${LEVELS.map(([name, words]) => html`<button class="button" key=${name} aria-pressed=${String(level === name)} onClick=${() => setLevel(name)}>${words}</button>`)}
      </div>
    </header>
    ${
      !may
        ? html`<p class="empty">The log is shown to operators and engineers.</p>`
        : lines.length
          ? html`<div class="log-lines" ref=${element} tabindex="0" role="log" aria-label="Lines of the log" onScroll=${({ target }) => (isAtEnd.current = target.scrollHeight - target.scrollTop - target.clientHeight < 24)}>
              ${lines.map(
                (line) => html`<div class="log-line log-${line.level}" key=${line.line}>
                  <time dateTime=${line.time} title=${fullTime(line.time)}>${time(line.time)}</time>
                  <b>${line.level}</b><span class="soft" title=${line.thread}>${line.logger.split(".").at(-1)}</span><span class="log-text">${line.message}</span>
                </div>`,
              )}
            </div>`
          : html`<p class="empty">${failure ? failure.reason : "No line of this kind since the start of the page."}</p>`
    }
  </section>`;
}

/** The lines from a level on; new ones are asked for while the page is looked at. */
function useLines(level, may) {
  const [found, setFound] = useState({ lines: [], failure: null });
  useEffect(() => {
    if (!may) return;
    const control = new AbortController();
    let [timer, last, known] = [null, 0, []];
    const load = async () => {
      if (!document.hidden) {
        try {
          const answer = await get("/node/logs", { after: last || null, level }, { signal: control.signal, quiet: true });
          if (answer.last < last) known = []; // the page was started anew
          last = answer.last;
          if (answer.lines.length || !known.length) {
            known = [...known, ...answer.lines].slice(-MAX_LINES);
            setFound({ lines: known, failure: null });
          }
        } catch (error) {
          if (error.name === "AbortError") return;
          setFound({ lines: known, failure: error });
        }
      }
      timer = setTimeout(load, POLL_MS);
    };
    load();
    return () => (control.abort(), clearTimeout(timer));
  }, [level, may]);
  return [found.lines, found.failure];
}

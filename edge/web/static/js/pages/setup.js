/** The guided start: cameras, node and broker, all tried before anything is written; the same as `defectd init` on the node. */

import { get, post } from "../api.js";
import { html, useEffect, useRef, useState } from "../html.js";
import { finished } from "../jobs.js";
import { can, useSession } from "../session.js";
import { answersOf, firstAnswers, problemOf } from "./setup/answers.js";
import { BrokerCard } from "./setup/broker_card.js";
import { CamerasCard } from "./setup/cameras_card.js";
import { Done } from "./setup/done.js";
import { TrialCard } from "./setup/trial_card.js";

export default function SetupPage() {
  const { isKnown, hasUsers } = useSession();
  if (!isKnown) return html`<p class="page-loading">Waiting for the node</p>`;
  if (can("engineer")) return html`<${Guide} />`;
  return html`<div class="stack"><section class="card setup-card">
    <h1>Set up</h1>
    <p>An engineer sets up cameras and broker here.</p>
    <p class="soft">${
      hasUsers
        ? "Log in as a user with the role engineer."
        : html`On the node, <code>defectd web link</code> prints a link that opens this page with the rights of an engineer. Or answer the same questions on its terminal: <code>defectd init</code>`
    }</p>
  </section></div>`;
}

function Guide() {
  const { present, found, error, job, setFound, load } = useSetup();
  const [answers, setAnswers] = useState(null);
  const [done, setDone] = useState(null);
  const trial = useTrial();
  useEffect(() => {
    if (present) setAnswers((known) => known ?? firstAnswers(present));
  }, [present]);
  if (!present || !answers) {
    const text = error ? [error.reason, error.remedy].filter(Boolean).join(" ") : job ? `Another job runs on the node: ${job.label}` : "Reading the configuration";
    return html`<div class="stack"><section class="card setup-card">
      <h1>Set up</h1>
      <p class="soft" role="status">${text}</p>
      ${error && html`<div class="buttons"><button class="button" onClick=${load}>Try again</button></div>`}
    </section></div>`;
  }
  const change = (fields) => {
    trial.clear();
    setDone(null);
    setAnswers((known) => ({ ...known, ...fields }));
  };
  const written = (answer) => {
    trial.clear();
    setAnswers(null);
    setDone(answer);
    load();
  };
  return html`<div class="stack setup">
    <section class="card setup-card">
      <h1>Set up</h1>
      <p class="soft">Choose cameras and broker, try them, look at what changes in <code>${present.file}</code>, and write it. Nothing is written before that.</p>
      ${present.problem && html`<p class="setup-warning" role="alert">The present file cannot be read: ${present.problem}</p>`}
      ${
        !present.can_write &&
        html`<p class="setup-warning" role="alert">The daemon may not write its configuration, so this page can try a set-up, but not write it. On the node, write it with <code>sudo defectd init -o ${present.file}</code></p>`
      }
      ${done && html`<${Done} answer=${done} />`}
    </section>
    <${CamerasCard} present=${present} found=${found} onFound=${setFound} answers=${answers} onChange=${change} />
    <${BrokerCard} present=${present} answers=${answers} onChange=${change} />
    <${TrialCard}
      present=${present}
      trial=${trial}
      problem=${problemOf(answers, present)}
      onTry=${() => trial.start(answersOf(answers, present))}
      onWritten=${written}
    />
  </div>`;
}

/** What is configured, and what was found; asked again while another job runs on the node. */
function useSetup() {
  const [known, setKnown] = useState({ present: null, found: [] });
  const [turn, setTurn] = useState(0);
  useEffect(() => {
    const control = new AbortController();
    let timer = null;
    get("/setup", null, { signal: control.signal, quiet: true }).then(
      ({ present, found, job }) => {
        if (present) setKnown((before) => ({ present, found: before.found.length ? before.found : found, job: null }));
        else {
          setKnown((before) => ({ ...before, job }));
          timer = setTimeout(() => setTurn((count) => count + 1), 1000);
        }
      },
      (error) => error.name !== "AbortError" && setKnown((before) => ({ ...before, error })),
    );
    return () => (control.abort(), clearTimeout(timer));
  }, [turn]);
  return {
    ...known,
    setFound: (found) => setKnown((before) => ({ ...before, found })),
    load: () => (setKnown((before) => ({ ...before, present: null, error: null })), setTurn((count) => count + 1)),
  };
}

/** One trial of the answers at a time. `clear` forgets it: it holds only for the answers that it was made with. */
function useTrial() {
  const [job, setJob] = useState(null);
  const control = useRef(null);
  useEffect(() => () => control.current?.abort(), []);
  const clear = () => {
    control.current?.abort();
    control.current = null;
    setJob(null);
  };
  const start = async (answers) => {
    clear();
    const own = new AbortController();
    control.current = own;
    setJob({ state: "waiting" });
    try {
      const started = await post("/setup/try", answers, { quiet: true });
      const ended = await finished(started, (now) => !own.signal.aborted && setJob(now), own.signal);
      if (!own.signal.aborted) setJob(ended);
    } catch (error) {
      if (!own.signal.aborted) setJob({ state: "failed", reason: [error.reason ?? String(error), error.remedy].filter(Boolean).join(" ") });
    }
  };
  return { job, start, clear };
}

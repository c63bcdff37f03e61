/** Long work on the node: a request begins it, and it is asked about until it has ended. */

import { get } from "./api.js";

const POLL_MS = 500;

/** The job when it has ended. `onStep` gets it in between. signal: stops asking; the job goes on. */
export async function finished(job, onStep = () => {}, signal) {
  let now = job;
  while (now.state === "waiting" || now.state === "running") {
    onStep(now);
    await new Promise((wake) => setTimeout(wake, POLL_MS));
    now = await get(`/jobs/${encodeURIComponent(now.id)}`, null, { quiet: true, signal });
  }
  return now;
}

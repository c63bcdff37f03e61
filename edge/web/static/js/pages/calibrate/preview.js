/** One preview: a dry run on the node as a job, followed until it ends, then applied as it was shown. */

import { get, post } from "../../api.js";
import { useEffect, useRef, useState } from "../../html.js";
import { toast } from "../../parts/toast.js";

const EVERY_MS = 350;
const UNFINISHED = ["waiting", "running"];
const remembered = new Map(); // previews that go on while another step is shown

export const isUnfinished = (job) => UNFINISHED.includes(job?.state);

/** The facts of `GET /calibration/CAMERA`, and `load()` to read them again. */
export function useCalibration(camera) {
  const [found, setFound] = useState({ isLoading: true });
  const load = async () => {
    setFound((before) => ({ ...before, isLoading: true }));
    try {
      const answer = await get(`/calibration/${encodeURIComponent(camera)}`);
      setFound((before) => ({ facts: answer.calibration ?? before.facts ?? null, sha256: answer.sha256, job: answer.job, isLoading: false }));
    } catch (error) {
      setFound((before) => ({ ...before, error, isLoading: false }));
    }
  };
  useEffect(() => void load(), [camera]);
  return { ...found, load };
}

/**
 * Previews of one kind. `start(fields)` runs one, `apply({hasLooked})` writes what it showed, `cancel()` ends it. A `quiet` one, which
 * nobody asked for, ends with its step; any other is found again when the step is shown again.
 * onApplied: after a change was written.
 */
export function usePreview(camera, kind, onApplied) {
  const [job, setJob] = useState(null);
  const [isApplying, setIsApplying] = useState(false);
  const turn = useRef(0);
  const quietJob = useRef(null);
  const key = `${camera}/${kind}`;
  useEffect(() => {
    const known = remembered.get(key);
    if (known) follow({ ...known, state: "running" }, ++turn.current);
    return () => {
      turn.current += 1;
      if (quietJob.current) end(quietJob.current);
    };
  }, []);

  const follow = async (started, mine) => {
    let latest = started;
    while (mine === turn.current) {
      setJob(latest);
      if (!isUnfinished(latest)) return latest;
      await new Promise((done) => setTimeout(done, EVERY_MS));
      try {
        latest = await get(`/jobs/${latest.id}`, null, { quiet: true });
      } catch (error) {
        if (error.status === 404) latest = { ...latest, state: "failed", reason: "The node has forgotten this preview. Make it again." };
      }
    }
    return null;
  };
  const start = async (fields, { quiet = false } = {}) => {
    const mine = ++turn.current;
    if (isUnfinished(job) && job.id) end(job.id);
    remembered.delete(key);
    setJob((before) => ({ ...(before ?? {}), state: "waiting", progress: null, reason: null }));
    try {
      const started = await post(`/calibration/${encodeURIComponent(camera)}/${kind}`, fields, { quiet });
      if (quiet && mine !== turn.current) end(started.id);
      quietJob.current = quiet ? started.id : null;
      if (!quiet) remembered.set(key, started);
      return await follow(started, mine);
    } catch (error) {
      if (mine === turn.current) setJob({ state: "failed", reason: [error.reason ?? String(error), error.remedy].filter(Boolean).join(" ") });
      return null;
    }
  };
  const cancel = async () => {
    if (job?.id) await end(job.id);
    clear();
  };
  const clear = () => {
    turn.current += 1;
    remembered.delete(key);
    setJob(null);
  };
  const apply = async ({ hasLooked = false } = {}) => {
    setIsApplying(true);
    try {
      const done = await post(`/calibration/${encodeURIComponent(camera)}/apply`, {
        job: job.id,
        before_sha256: job.result.change.before_sha256,
        i_have_looked: hasLooked,
      });
      told(done);
      clear();
      onApplied?.(done);
      return true;
    } catch {
      onApplied?.(null);
      return false;
    } finally {
      setIsApplying(false);
    }
  };
  return { job, start, cancel, clear, apply, isApplying, change: job?.state === "done" ? (job.result?.change ?? null) : null };
}

function end(id) {
  return post(`/jobs/${id}/cancel`, {}, { quiet: true }).catch(() => {});
}

/** Takes the last change of a camera back. */
export async function undo(camera, sha256, onDone) {
  try {
    told(await post(`/calibration/${encodeURIComponent(camera)}/undo`, { before_sha256: sha256 }));
  } finally {
    onDone();
  }
}

function told({ kind, problem }) {
  const what = kind === "undo" ? "The calibration before is used again." : "Applied.";
  if (problem) toast(`${what} The daemon does not use it yet.`, { kind: "warn", remedy: problem });
  else toast(kind === "latency" ? "Applied. The daemon uses it from its next start." : kind === "undo" ? what : "Applied. The daemon uses it.");
}

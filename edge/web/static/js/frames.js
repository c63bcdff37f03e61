/**
 * Live pictures by long polling: the answer to `frame?after=` is the next picture with its description, and asking again is the
 * back-pressure. Hidden pages and pictures off the screen ask for nothing.
 */

import { apiUrl } from "./api.js";
import { loadSession } from "./session.js";
import { store } from "./store.js";

/** Of the six connections that a browser opens to a host: one is the stream, and two stay free for everything else. */
const MAX_POLLS = 3;
const RETRY_MS = 1000;

let running = 0;
const waiting = [];

/**
 * Calls `onFrame(frame, bitmap)` for each new frame of a camera; the receiver closes the bitmap. frame: the description of
 * `Defectd-Frame`, with regions, size_px, number. isWanted: () => whether anybody sees it now. Returns the way to stop.
 */
export function watchFrames(camera, { maxFps = 5, longestPx = 1600, isWanted = () => true }, onFrame) {
  const { signal, abort } = controller();
  poll();
  return abort;

  async function poll() {
    let after = null;
    while (!signal.aborted) {
      if (document.hidden || !isWanted()) {
        await pause(200, signal);
        continue;
      }
      const startedAt = performance.now();
      try {
        await takeTurn();
        const found = await nextFrame(camera, { after, max_fps: maxFps, longest_px: longestPx }, signal).finally(endTurn);
        if (!found) continue;
        if (signal.aborted) found.bitmap.close();
        else onFrame(found.frame, found.bitmap);
        after = `${found.frame.epoch ?? store.state?.epoch}.${found.frame.number}`;
        await pause(1000 / maxFps - 40 - (performance.now() - startedAt), signal);
      } catch (error) {
        if (error.name === "AbortError") return;
        if (error.status === 401) loadSession();
        await pause(RETRY_MS, signal);
      }
    }
  }
}

async function nextFrame(camera, query, signal) {
  const response = await fetch(apiUrl(`/cameras/${encodeURIComponent(camera)}/frame`, query), { signal, headers: { "X-Defectd": "1" } });
  if (response.status === 204) return null;
  if (!response.ok) throw Object.assign(new Error("no frame"), { status: response.status });
  const frame = JSON.parse(response.headers.get("Defectd-Frame"));
  return { frame, bitmap: await createImageBitmap(await response.blob()) };
}

/** First come, first served: with more cameras than polls each gets its turn. */
function takeTurn() {
  if (running < MAX_POLLS) {
    running += 1;
    return Promise.resolve();
  }
  return new Promise((go) => waiting.push(go));
}

function endTurn() {
  const next = waiting.shift();
  if (next) next();
  else running -= 1;
}

function controller() {
  const made = new AbortController();
  return { signal: made.signal, abort: () => made.abort() };
}

function pause(ms, signal) {
  if (ms <= 0 || signal.aborted) return Promise.resolve();
  return new Promise((done) => {
    const timer = setTimeout(finish, ms);
    signal.addEventListener("abort", finish);
    function finish() {
      clearTimeout(timer);
      signal.removeEventListener("abort", finish);
      done();
    }
  });
}

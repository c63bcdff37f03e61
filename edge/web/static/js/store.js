/**
 * What the node reports: its state and its newest events, over one connection for all tabs.
 *
 * The tab that holds the lock keeps the stream `/live` open and passes everything on to the others; when it closes, the next one
 * takes its place. A browser opens six connections to a host: one stream a tab would use them up with six tabs.
 */

import { apiUrl, get } from "./api.js";
import { useEffect, useState } from "./html.js";
import { BASE } from "./router.js";
import { currentSession, loadSession, onSession } from "./session.js";

export const STALE_MS = 2500; // states come at least once a second; with the checks between it is seen within 3 s
const MAX_EVENTS = 200;
const MAX_FILL = 500;
const SHOWN_AT_START = 50;
const SILENT_MS = 6000; // a stream without a message for so long is dead, even if nobody closed it
const RETRY_MS = 1000;
const NO_ANSWER_MS = 2000; // a tab that holds the stream and does not answer for so long is frozen
const NAME = `defectd.live:${BASE}`;

const listeners = new Set();
const eventListeners = new Set();

/**
 * state: the newest state object, or null. at: when it was true, on `performance.now()`.
 * events: published events, newest first, without a gap. lastSeq: of the newest one.
 */
export const store = { state: null, at: null, openedAt: performance.now(), events: [], lastSeq: null };

/** Milliseconds since the state shown was true; since the page was opened as long as there is none. */
export function ageMs(now = performance.now()) {
  return now - (store.at ?? store.openedAt);
}

export function isStale() {
  return ageMs() > STALE_MS;
}

/** `select(store)`, and a new rendering whenever its value changes. */
export function useStore(select) {
  const [, setValue] = useState(() => select(store));
  useEffect(() => subscribe(() => setValue(() => select(store))), []);
  return select(store);
}

export function subscribe(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/** Calls `listener(event)` once for each event that arrives, oldest first. */
export function onEvent(listener) {
  eventListeners.add(listener);
  return () => eventListeners.delete(listener);
}

export function startStore() {
  if (channel) channel.onmessage = ({ data }) => heard(data);
  channel?.postMessage({ kind: "joined" });
  takeTurn();
  setInterval(watch, 1000);
  onSession(({ role }) => role && connect());
}

// ---- one tab holds the stream ----------------------------------------------------------------------

const channel = "BroadcastChannel" in self ? new BroadcastChannel(NAME) : null;
let holdsStream = false;
let askedAt = null;

async function takeTurn(steal = false) {
  if (!navigator.locks) {
    holdsStream = true; // without locks (plain HTTP from elsewhere) each tab has its own stream
    connect();
    return;
  }
  try {
    await navigator.locks.request(NAME, steal ? { steal: true } : {}, () => {
      holdsStream = true;
      connect();
      return new Promise(() => {}); // held until the tab closes
    });
  } catch {
    holdsStream = false; // another tab took the stream
    disconnect();
    takeTurn();
  }
}

function heard(message) {
  if (message.kind === "state") take(message.state, message.ageMs);
  else if (message.kind === "events") addEvents(message);
  else if (message.kind === "alive") askedAt = null;
  else if (holdsStream && message.kind === "joined") {
    if (store.state) channel.postMessage({ kind: "state", state: store.state, ageMs: ageMs() });
    channel.postMessage({ kind: "events", events: store.events.toReversed(), isFresh: false });
  } else if (holdsStream && message.kind === "asked") channel.postMessage({ kind: "alive" });
}

/** Once a second: restarts a dead stream, takes over a frozen tab's. */
function watch() {
  const now = performance.now();
  if (holdsStream) {
    if (stream && now - heardAt > SILENT_MS) connect();
  } else if (document.hidden || !isStale()) askedAt = null;
  else if (askedAt === null) {
    askedAt = now;
    channel.postMessage({ kind: "asked" });
  } else if (now - askedAt > NO_ANSWER_MS) {
    askedAt = null;
    takeTurn(true);
  }
}

// ---- the stream ------------------------------------------------------------------------------------

let stream = null;
let heardAt = 0;
let retry = null;

function connect() {
  if (!holdsStream || !currentSession().role) return;
  disconnect();
  heardAt = performance.now();
  stream = new EventSource(apiUrl("/live", { after: store.lastSeq }));
  const opened = stream;
  on("open", () => (heardAt = performance.now(), fill()));
  on("state", (message) => tell({ kind: "state", state: JSON.parse(message.data), ageMs: 0 }));
  on("event", (message) => arrived(JSON.parse(message.data)));
  on("bye", reconnectSoon);
  on("error", () => stream.readyState === EventSource.CLOSED && reconnectSoon());

  function on(name, action) {
    opened.addEventListener(name, (message) => {
      if (opened !== stream) return;
      heardAt = performance.now();
      action(message);
    });
  }
}

function disconnect() {
  clearTimeout(retry);
  stream?.close();
  stream = null;
}

/** The server refuses or leaves: the session may have ended, or the process restarts. */
function reconnectSoon() {
  disconnect();
  retry = setTimeout(async () => {
    await loadSession();
    connect();
    if (!stream && holdsStream && currentSession().role === null && !currentSession().isKnown) reconnectSoon();
  }, RETRY_MS);
}

function tell(message) {
  heard(message);
  channel?.postMessage(message);
}

function take(state, ageMsAtArrival) {
  const known = store.state;
  // A server that lost the daemon may repeat its last state: it is as old as it was.
  const repeats = known && known.epoch === state.epoch && known.time === state.time;
  if (!repeats) store.at = performance.now() - ageMsAtArrival;
  store.state = state;
  if (known && known.epoch !== state.epoch && holdsStream) fill();
  notify();
}

// ---- events without a gap --------------------------------------------------------------------------

/** The newest events at the start, and those missed while the stream was cut; too many to catch up with count as a new start. */
async function fill() {
  const { lastSeq, state } = store;
  const behind = lastSeq === null ? Infinity : (state?.delivery?.last_seq ?? lastSeq) - lastSeq;
  const isNewStart = behind > MAX_FILL || behind < 0; // a node with a new state directory counts its events anew
  try {
    const found = await get("/events", isNewStart ? { limit: SHOWN_AT_START } : { after: lastSeq, limit: MAX_FILL }, { quiet: true });
    const events = found.events.toSorted((one, other) => one.seq - other.seq);
    tell({ kind: "events", events, isFresh: !isNewStart, replaces: isNewStart });
  } catch {
    // The stream's next opening tries again.
  }
}

async function arrived(event) {
  if (store.lastSeq !== null && event.seq > store.lastSeq + 1) await fill();
  tell({ kind: "events", events: [event], isFresh: true });
}

/** isFresh: listeners hear of them. replaces: what was known before is of no use. */
function addEvents({ events, isFresh, replaces }) {
  if (replaces) {
    store.events = [];
    store.lastSeq = null;
  }
  const added = events.filter((event) => store.lastSeq === null || event.seq > store.lastSeq);
  if (added.length) {
    store.lastSeq = added.at(-1).seq;
    store.events = [...added.toReversed(), ...store.events].slice(0, MAX_EVENTS);
    if (isFresh) for (const event of added) for (const listener of eventListeners) listener(event);
  }
  if (added.length || replaces) notify();
}

function notify() {
  for (const listener of listeners) listener(store);
}

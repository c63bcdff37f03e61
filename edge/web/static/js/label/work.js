/**
 * Labelling without waiting for the network: a decision counts at once and is sent behind it, in order.
 *
 * `view` is what the page shows. A refusal steps back to the first picture whose label was not stored.
 */

import { get, post } from "../api.js";
import { toast } from "../parts/toast.js";
import { pictureUrl } from "./picture.js";

const AHEAD = 12; // pictures that are loaded before they are needed
const REFILL = 8;
const MAX_DONE = 50; // pictures that Z steps back to
const MAX_BATCH = 50; // labels of one request
const MAX_RECENT = 30;
const WORTH_MS = 1500;
const NAMELESS = ["unsure", "unknown", "anomaly"];

/** One page of labelling. `onChange` is called after each change of `view`. */
export class LabelWork {
  constructor({ order = "unsure", camera = null, onChange }) {
    this.order = order;
    this.camera = camera;
    this.onChange = onChange;
    this.done = []; // [{item, label}], oldest first
    this.ahead = []; // pictures to come, the current one first
    this.waiting = []; // what is not sent yet: {kind: "label", item, label} or {kind: "undo", item}
    this.sending = [];
    this.left = null;
    this.guesses = {};
    this.classes = [];
    this.named = []; // classes that were named on this page
    this.recent = [];
    this.worth = null;
    this.isLoading = true;
    this.failure = null;
    this.count = 0; // decided since the page was opened
    this.stopped = false;
  }

  start() {
    this.refill();
    this.loadRecent();
    this.loadWorth();
  }

  stop() {
    this.stopped = true;
    clearTimeout(this.worthTimer);
  }

  get current() {
    return this.ahead[0] ?? null;
  }

  /** Pictures without a label, this one included; null until known. */
  get remaining() {
    if (!this.left) return null;
    const { unsure, random, defects } = this.left;
    const all = this.order === "random" ? random : this.order === "defects" ? defects + random : unsure + random + defects;
    return Math.max(this.ahead.length, all - this.countSinceLoad);
  }

  get unsent() {
    return this.waiting.length + this.sending.length;
  }

  /** A class that a person names; it is offered from now on. */
  nameClass(name) {
    if (this.classes.includes(name)) return;
    this.named.push(name);
    this.classes = [...this.classes, name];
    this.changed();
  }

  // ---- decisions -------------------------------------------------------------------------------

  decide(label) {
    const item = this.ahead.shift();
    if (!item) return;
    this.remember(item, label);
    this.push({ kind: "label", item, label });
    if (this.ahead.length < REFILL) this.refill();
    this.changed();
  }

  /** Labels many pictures at once, for the grid. */
  decideAll(given) {
    for (const { item, label } of given) {
      this.ahead = this.ahead.filter((other) => other.evidence !== item.evidence);
      this.remember(item, label);
      this.push({ kind: "label", item, label, how: "grid" });
    }
    this.changed();
  }

  /** Takes back the newest label: of this page, or else of this user. */
  undo() {
    const last = this.done.pop();
    const unsent = last && this.waiting.findLastIndex((entry) => entry.item === last.item);
    this.count = Math.max(0, this.count - 1);
    this.countSinceLoad = Math.max(0, (this.countSinceLoad ?? 0) - 1);
    if (last && unsent >= 0 && this.waiting[unsent].kind === "label") {
      this.waiting.splice(unsent, 1);
      this.recent = this.recent.filter((row) => row.key !== last.key);
      this.ahead.unshift(last.item);
    } else {
      if (last) this.ahead.unshift({ ...last.item, ...last.item.said, blind: false });
      this.push({ kind: "undo", item: last?.item ?? null });
    }
    this.changed();
  }

  remember(item, label) {
    const key = `${item.evidence} ${performance.now()}`;
    this.done.push({ item, label, key });
    if (this.done.length > MAX_DONE) this.done.shift();
    this.count += 1;
    this.countSinceLoad = (this.countSinceLoad ?? 0) + 1;
    const guess = item.blind ? undefined : item.guess; // undefined: not known yet
    this.recent = [{ key, evidence: item.evidence, label, guess, blind: item.blind, isSent: false }, ...this.recent].slice(0, MAX_RECENT);
  }

  // ---- sending ---------------------------------------------------------------------------------

  push(entry) {
    this.waiting.push(entry);
    if (!this.sending.length) this.send();
  }

  async send() {
    while (this.waiting.length && !this.stopped) {
      this.sending = this.takeBatch();
      try {
        if (this.sending[0].kind === "undo") await this.sendUndo();
        else await this.sendLabels(this.sending);
      } catch (error) {
        this.stepBack(error);
      }
      this.sending = [];
      this.changed();
    }
    this.loadWorthSoon();
  }

  takeBatch() {
    if (this.waiting[0].kind === "undo") return this.waiting.splice(0, 1);
    const end = this.waiting.findIndex((entry) => entry.kind === "undo");
    return this.waiting.splice(0, Math.min(MAX_BATCH, end < 0 ? MAX_BATCH : end));
  }

  async sendLabels(batch) {
    const labels = batch.map(({ item, label, how }) => ({ evidence: item.evidence, label, how: how ?? "single", ...(this.named.includes(label) ? { new: true } : {}) }));
    const answer = await post("/labels", { labels }, { quiet: true });
    for (const stored of answer.labels) {
      const entry = batch.find(({ item }) => item.evidence === stored.evidence);
      if (entry) entry.item.said = { guess: stored.guess, decided: stored.decided, confidence: stored.confidence };
      this.recent = this.recent.map((row) => (row.evidence === stored.evidence && !row.isSent ? { ...row, ...stored, isSent: true } : row));
    }
    if (answer.left_out.length) {
      const gone = new Set(answer.left_out);
      this.recent = this.recent.filter((row) => row.isSent || !gone.has(row.evidence));
      this.done = this.done.filter(({ item }) => !gone.has(item.evidence));
      toast(`${gone.size === 1 ? "A picture" : `${gone.size} pictures`} had been deleted by the archive and got no label.`, { kind: "warn" });
    }
  }

  async sendUndo() {
    const answer = await post("/labels/undo", {}, { quiet: true });
    if (!answer.undone.length) toast("There is no label of yours to take back.", { kind: "warn" });
    await this.loadRecent();
    if (answer.undone.length && !this.sending[0].item) this.refill();
  }

  /** Nothing of what is not stored counts: the pictures come back, the first one now. */
  stepBack(error) {
    const lost = [...this.sending, ...this.waiting].filter((entry) => entry.kind === "label");
    this.waiting = [];
    const paths = new Set(lost.map(({ item }) => item.evidence));
    this.done = this.done.filter(({ item }) => !paths.has(item.evidence));
    this.ahead = [...lost.map(({ item }) => item), ...this.ahead.filter((item) => !paths.has(item.evidence))];
    this.recent = this.recent.filter((row) => row.isSent);
    this.count = Math.max(0, this.count - lost.length);
    this.countSinceLoad = Math.max(0, this.countSinceLoad - lost.length);
    const what = lost.length === 1 ? "The label was not stored" : `${lost.length} labels were not stored`;
    toast(`${lost.length ? what : "The undo was not done"}: ${error.reason ?? error.message}`, { kind: "bad", remedy: error.remedy });
  }

  // ---- loading ---------------------------------------------------------------------------------

  async refill() {
    if (this.refilling) return;
    this.refilling = true;
    try {
      const held = [...this.ahead, ...this.waiting.map(({ item }) => item), ...this.sending.map(({ item }) => item)].filter(Boolean);
      const query = { order: this.order, camera: this.camera, limit: AHEAD, skip: held.map(hashOf).join(",") };
      const counted = this.countSinceLoad ?? 0;
      const answer = await get("/labels/next", query, { quiet: true });
      this.left = answer.left;
      this.countSinceLoad = (this.countSinceLoad ?? 0) - counted + this.unsent;
      this.guesses = answer.guesses;
      this.classes = [...new Set([...answer.classes, ...this.named])];
      this.failure = null;
      const known = new Set([...this.ahead, ...this.done.map(({ item }) => item)].map((item) => item.evidence));
      const fresh = answer.items.filter((item) => !known.has(item.evidence));
      this.ahead.push(...fresh);
      for (const item of fresh) new Image().src = pictureUrl(item.evidence); // from the cache when it is shown
    } catch (error) {
      this.failure = error;
    }
    this.refilling = false;
    this.isLoading = false;
    this.changed();
  }

  async loadRecent() {
    try {
      const answer = await get("/labels", { limit: MAX_RECENT }, { quiet: true });
      const unsent = this.recent.filter((row) => !row.isSent);
      this.recent = [...unsent, ...answer.changes.map((row) => ({ ...row, key: `${row.number} ${row.undone}`, isSent: true }))].slice(0, MAX_RECENT);
      this.labelled = answer.labelled;
      this.changed();
    } catch {
      // the list is only for looking back
    }
  }

  loadWorthSoon() {
    clearTimeout(this.worthTimer);
    this.worthTimer = setTimeout(() => this.loadWorth(), WORTH_MS);
  }

  async loadWorth() {
    try {
      this.worth = await get("/labels/worth", null, { quiet: true });
      this.changed();
    } catch {
      // it is loaded again after the next label
    }
  }

  changed() {
    if (!this.stopped) this.onChange();
  }
}

/** Whether what inspection says of a picture is a label that a person could confirm. */
export function isLabel(guess) {
  return Boolean(guess) && !NAMELESS.includes(guess);
}

/** The 16 digits in the name of a picture. */
export function hashOf(item) {
  return item.evidence.slice(-20, -4);
}

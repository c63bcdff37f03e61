/** Labelling: one key decides and goes on; what the labels are worth, and what was made of them. */

import { Grid } from "../label/grid.js";
import { ApplyCard } from "../label/apply.js";
import { NewClass } from "../label/new_class.js";
import { BoxedPicture, FramePlace, pictureUrl } from "../label/picture.js";
import { RecentCard, WorthCard } from "../label/side.js";
import { LabelWork, isLabel } from "../label/work.js";
import { get } from "../api.js";
import { setBadge } from "../header.js";
import { html, useEffect, useRef, useState } from "../html.js";
import { useKeys } from "../keys.js";
import { className, dateTime, fullTime, metres, number } from "../parts/format.js";
import { ClassIcon, Icon } from "../parts/icons.js";
import { navigate } from "../router.js";
import { can, useSession } from "../session.js";

const LOOK_AGAIN_MS = 5000;
const ORDERS = [
  ["unsure", "unsure first"],
  ["defects", "defects"],
  ["random", "random, blind"],
];
const KIND_WORDS = { audit: "at random", unsure: "unsure", defect: "defect" };
const MAX_FILM = 14;
const DONE_IN_FILM = 3;

export default function LabelPage({ query }) {
  const order = ORDERS.some(([name]) => name === query.order) ? query.order : "unsure";
  const isGrid = query.mode === "grid";
  useSession();
  const work = useWork(order, query.camera ?? null);
  const mayLabel = can("operator");
  return html`<div class="label-page ${isGrid ? "with-grid" : ""}">
    <h1 class="unseen">Label</h1>
    <section class="card label-stage" aria-label="Pictures to label">
      <${StageHead} work=${work} order=${order} isGrid=${isGrid} query=${query} mayLabel=${mayLabel} />
      ${isGrid ? html`<${Grid} work=${work} guess=${query.guess} query=${query} mayLabel=${mayLabel} />` : html`<${OneByOne} work=${work} mayLabel=${mayLabel} />`}
    </section>
    <aside class="label-side" aria-label="What the labels are worth">
      <${WorthCard} worth=${work.worth} />
      <${ApplyCard} work=${work} />
      <${RecentCard} rows=${work.recent} />
    </aside>
  </div>`;
}

function useWork(order, camera) {
  const [, redraw] = useState({});
  const held = useRef(null);
  const key = `${order} ${camera}`;
  if (held.current?.key !== key) {
    held.current?.work.stop();
    held.current = { key, work: new LabelWork({ order, camera, onChange: () => redraw({}) }) };
  }
  const { work } = held.current;
  useEffect(() => {
    work.start();
    return () => work.stop();
  }, [work]);
  useEffect(() => setBadge("label", work.remaining), [work.remaining]);
  return work;
}

function StageHead({ work, order, isGrid, query, mayLabel }) {
  const remaining = work.remaining;
  const all = remaining === null ? null : work.count + remaining;
  const show = (changes) => navigate("/label", { query: { ...query, ...changes }, replace: true });
  return html`<header class="label-head">
    <b class="label-progress">${all === null ? "Loading" : remaining ? `${number(work.count + 1)} of ${number(all)}` : `${number(work.count)} done`}</b>
    <div class="meter accent" role="progressbar" aria-label="Labelled on this page" aria-valuemin="0" aria-valuemax=${all ?? 0} aria-valuenow=${work.count}>
      <i style=${{ width: `${all ? (100 * work.count) / all : 0}%` }}></i>
    </div>
    ${!isGrid && html`<button class="icon-button" aria-label="Take the last label back" title="Undo (Z)" disabled=${!mayLabel || !work.recent.length} onClick=${() => work.undo()}><${Icon} name="undo" /></button>`}
    <div class="choice" role="group" aria-label="How many at once">
      <button class="button" aria-pressed=${String(!isGrid)} onClick=${() => show({ mode: null, guess: null })}>one by one</button>
      <button class="button" aria-pressed=${String(isGrid)} onClick=${() => show({ mode: "grid" })}>grid</button>
    </div>
    ${
      !isGrid &&
      html`<label class="label-order"><span class="unseen">Order</span>
        <select value=${order} onChange=${(event) => show({ order: event.target.value })}>
          ${ORDERS.map(([name, text]) => html`<option value=${name}>${text}</option>`)}
        </select>
      </label>`
    }
  </header>`;
}

function OneByOne({ work, mayLabel }) {
  const item = work.current;
  const guess = item && !item.blind ? item.guess : null;
  const [isNaming, setIsNaming] = useState(false);
  const actions = choices(work, guess, mayLabel && item !== null, () => setIsNaming(true));
  const keys = Object.fromEntries(actions.filter(({ isOpen, key }) => key && isOpen).map(({ key, text, act }) => [key, [text, act]]));
  useKeys("Label", { ...keys, ...(mayLabel ? { z: ["take the last label back", () => work.undo()] } : {}) });
  return html`
    ${item ? html`<${Subject} item=${item} key=${item.evidence} />` : html`<${NothingLeft} work=${work} />`}
    <div class="label-keys" role="group" aria-label="Label of this picture">
      ${actions.map(
        ({ key, text, sign, isOpen, isGuess, act }) => html`<button
          class="label-key ${isGuess ? "guess" : ""} ${text === "good" ? "good" : ""}"
          key=${text}
          disabled=${!isOpen}
          onClick=${(click) => {
            if (click.detail) click.currentTarget.blur(); // after the mouse, Enter means "as predicted" again
            act();
          }}
        >
          <kbd aria-hidden="true">${key ? (key.length === 1 ? key.toUpperCase() : key) : "·"}</kbd>${sign}<span>${text}</span>${isGuess && html`<span class="unseen">, as predicted</span>`}
        </button>`,
      )}
    </div>
    ${!mayLabel && html`<p class="label-role soft">You see what there is to label. To label, log in as an operator.</p>`}
    <${Film} work=${work} />
    ${
      isNaming &&
      html`<${NewClass}
        known=${work.classes}
        onClose=${() => setIsNaming(false)}
        onName=${(name) => {
          setIsNaming(false);
          work.nameClass(name);
          work.decide(name);
        }}
      />`
    }
    <p class="unseen" role="status">${item ? said(item) : ""}</p>`;
}

/** What can be said of a picture, with its keys. */
function choices(work, guess, isOpen, onNewClass) {
  const of = (key, label, sign) => ({ key, text: className(label), sign, isOpen, isGuess: guess === label, act: () => work.decide(label) });
  return [
    ...work.classes.map((name, place) => of(place < 9 ? String(place + 1) : null, name, html`<${ClassIcon} name=${name} severity="minor" />`)),
    { key: "n", text: "new class", sign: html`<${Icon} name="plus" />`, isOpen, act: onNewClass },
    of("g", "good", html`<${Icon} name="good" />`),
    of("u", "unclear", html`<${Icon} name="unsure" className="severity-minor" />`),
    { key: "Enter", text: "as predicted", sign: html`<${Icon} name="right" />`, isOpen: isOpen && isLabel(guess), act: () => work.decide(guess) },
  ];
}

function said(item) {
  if (item.blind) return "Next picture: a random tile, blind";
  return `Next picture: the model says ${className(item.guess)}${item.confidence === null ? "" : `, ${item.confidence.toFixed(2)}`}`;
}

function Subject({ item }) {
  const frame = useFrame(item);
  return html`<div class="label-subject">
    <div class="label-tile"><${BoxedPicture} item=${item} alt=${item.blind ? "Random tile" : `Tile, by the model ${className(item.guess)}`} /></div>
    <div class="label-facts">
      <${FramePlace} item=${item} frame=${frame} />
      ${item.blind ? html`<${Blind} />` : html`<${Scores} item=${item} />`}
      <dl class="facts">
        <dt>Camera</dt><dd>${item.camera}</dd>
        ${(item.coil || item.position_m !== null) && html`<dt>Coil</dt><dd>${[item.coil, item.position_m === null ? null : metres(item.position_m, 2)].filter(Boolean).join(", ")}</dd>`}
        <dt>Stored as</dt><dd>${item.kind === "audit" ? "random" : item.kind}, <time dateTime=${item.time} title=${fullTime(item.time)}>${dateTime(item.time)}</time></dd>
      </dl>
    </div>
  </div>`;
}

function Blind() {
  return html`<div class="label-blind">
    <b><span class="blind-mark">blind</span> Taken at random</b>
    <p class="soft">What the model says is shown after your label. Only these tiles measure what it misses.</p>
  </div>`;
}

function Scores({ item }) {
  if (!item.scores?.length) return null;
  return html`<div class="label-scores" role="list" aria-label="What the model says">
    ${item.scores.map(
      ({ class: name, p }) => html`<div role="listitem" key=${name}>
        <${ClassIcon} name=${name} severity="minor" /><b>${className(name)}</b>
        <span class="meter accent" aria-hidden="true"><i style=${{ width: `${100 * p}%` }}></i></span><span class="soft">${p.toFixed(2)}</span>
      </div>`,
    )}
  </div>`;
}

/** The path of the whole frame of a defect, where the archive keeps frames. */
function useFrame(item) {
  const [path, setPath] = useState(null);
  useEffect(() => {
    if (!item.event_id) return;
    const asking = new AbortController();
    get("/evidence", { kind: "frame", event_id: item.event_id, limit: 1 }, { signal: asking.signal, quiet: true }).then(
      (found) => setPath(found.pictures[0]?.evidence ?? null),
      () => {}, // the outline stays
    );
    return () => asking.abort();
  }, [item.evidence]);
  return path;
}

/** New tiles come while one waits here: it looks again by itself. */
function NothingLeft({ work }) {
  useEffect(() => {
    const timer = setInterval(() => document.hidden || work.refill(), LOOK_AGAIN_MS);
    return () => clearInterval(timer);
  }, [work]);
  if (work.isLoading) return html`<p class="empty label-empty">Loading</p>`;
  if (work.failure)
    return html`<div class="empty label-empty">
      <p>${work.failure.reason}</p>
      <button class="button" onClick=${() => work.refill()}>Try again</button>
    </div>`;
  return html`<div class="empty label-empty">
    <${Icon} name="good" className="label-done" />
    <p><b>Nothing is left to label.</b></p>
    <p>The node keeps a few tiles an hour: those that the model is unsure about, and some at random.</p>
    <button class="button" onClick=${() => work.refill()}>Look again</button>
  </div>`;
}

/** The last pictures that were labelled, this one, and the next. */
function Film({ work }) {
  const done = work.done.slice(-DONE_IN_FILM);
  const frames = [
    ...done.map(({ item, label }) => ({ item, text: html`<b>${className(label)}</b>`, state: "done" })),
    ...work.ahead.map((item, place) => ({ item, text: place ? KIND_WORDS[item.kind] : html`<b>now</b>`, state: place ? (item.blind ? "blind" : "") : "now" })),
  ].slice(0, MAX_FILM);
  return html`<ol class="label-film" aria-label="Pictures before and after this one">
    ${frames.map(
      ({ item, text, state }) => html`<li class=${state} key=${item.evidence}>
        <img src=${pictureUrl(item.evidence)} alt="" width="76" height="76" />
        ${(state === "blind" || (state === "now" && item.blind)) && html`<span class="blind-mark">blind</span>`}
        <span>${text}</span>
      </li>`,
    )}
  </ol>`;
}

/** Evidence: the pictures of the archive, newest first, and one of them large with what is known of it. */

import { get } from "../api.js";
import { html, useEffect, useRef, useState } from "../html.js";
import { BoxedPicture, FramePlace } from "../label/picture.js";
import { Dialog } from "../parts/dialog.js";
import { className, dateTime, fullTime, metres } from "../parts/format.js";
import { ClassIcon, Icon } from "../parts/icons.js";
import { pathOfName } from "./coils/coil_words.js";
import { href, navigate } from "../router.js";
import { useStore } from "../store.js";

const KINDS = [
  ["", "all kinds"],
  ["defect", "defects"],
  ["unsure", "unsure tiles"],
  ["audit", "random tiles"],
  ["shadow", "disputed tiles"],
  ["image", "bad pictures"],
  ["frame", "whole frames"],
];
const KIND_WORDS = { defect: "Defect", unsure: "Unsure tile", audit: "Random tile", shadow: "Disputed tile", image: "Bad picture", frame: "Whole frame" };
const LIMIT = 60;
const MAX_SHOWN = 600;

export default function EvidencePage({ query }) {
  const [pictures, before, isLoading, failure, more] = usePictures(query);
  const shown = pictures.findIndex(({ evidence }) => evidence === query.picture);
  const show = (place) => navigate("/evidence", { query: { ...query, picture: pictures[place]?.evidence ?? null }, replace: true });
  return html`<div class="stack evidence-page">
    <section class="card" aria-label="Pictures">
      <div class="card-head"><h1 class="evidence-title">Evidence</h1><${Filters} query=${query} /></div>
      ${
        pictures.length
          ? html`<ul class="evidence-grid">${pictures.map((item, place) => html`<li key=${item.evidence}><${Card} item=${item} onOpen=${() => show(place)} /></li>`)}</ul>`
          : html`<p class="empty">${isLoading ? "Loading" : failure ? failure.reason : "No picture fits. The archive keeps the newest ones, up to evidence.max_mb."}</p>`
      }
      <div class="evidence-more">
        ${
          before !== null &&
          html`<button class="button" disabled=${isLoading || pictures.length >= MAX_SHOWN} onClick=${more}>
            ${isLoading ? "Loading" : pictures.length >= MAX_SHOWN ? `${MAX_SHOWN} are shown: narrow the filters` : "Older ones"}
          </button>`
        }
      </div>
    </section>
    ${shown >= 0 && html`<${PictureDialog} item=${pictures[shown]} place=${shown} count=${pictures.length} onStep=${(by) => show(Math.min(Math.max(shown + by, 0), pictures.length - 1))} onClose=${() => show(-1)} />`}
  </div>`;
}

/** The pictures of the filters; `more` adds older ones. */
function usePictures(query) {
  const wanted = { kind: query.kind, camera: query.camera, class: query.class, coil: query.coil, from: asStamp(query.from), to: asStamp(query.to), event_id: query.event_id };
  const key = JSON.stringify(wanted);
  const [found, setFound] = useState({ key: null, pictures: [], before: null });
  const [isLoading, setIsLoading] = useState(true);
  const [failure, setFailure] = useState(null);
  const asking = useRef(null);

  async function load(known, before) {
    asking.current?.abort();
    const control = new AbortController();
    asking.current = control;
    setIsLoading(true);
    try {
      const answer = await get("/evidence", { ...wanted, limit: LIMIT, before }, { signal: control.signal, quiet: true });
      setFound({ key, pictures: [...known, ...answer.pictures], before: answer.before });
      setFailure(null);
    } catch (error) {
      if (error.name === "AbortError") return;
      setFailure(error);
      setFound({ key, pictures: known, before: null });
    }
    setIsLoading(false);
  }
  useEffect(() => {
    load([], null);
    return () => asking.current?.abort();
  }, [key]);
  const isOld = found.key !== key;
  return [isOld ? [] : found.pictures, isOld ? null : found.before, isLoading || isOld, failure, () => load(found.pictures, found.before)];
}

/** What a `datetime-local` field holds, as events carry times. */
function asStamp(local) {
  const date = local ? new Date(local) : null;
  return date && !Number.isNaN(date.getTime()) ? date.toISOString() : null;
}

function Filters({ query }) {
  const cameras = useStore(({ state }) => state?.cameras?.map(({ name }) => name).join("\n") ?? "");
  const classes = useStore(({ state }) => state?.model?.classes?.join("\n") ?? "");
  const set = (name) => (event) => navigate("/evidence", { query: { ...query, picture: null, [name]: event.target.value || null }, replace: true });
  const list = (text) => text.split("\n").filter(Boolean);
  const isFiltered = ["kind", "camera", "class", "coil", "from", "to", "event_id"].some((name) => query[name]);
  return html`<div class="filters evidence-filters" role="search">
    <${Choice} text="Kind" value=${query.kind} options=${KINDS} onChange=${set("kind")} />
    <${Choice} text="Camera" value=${query.camera} options=${[["", "all cameras"], ...list(cameras).map((name) => [name, name])]} onChange=${set("camera")} />
    <${Choice} text="Class" value=${query.class} options=${[["", "all classes"], ...list(classes).map((name) => [name, className(name)]), ["unsure", "unsure"], ["anomaly", "anomaly"]]} onChange=${set("class")} />
    <label class="field"><span>Coil</span><input value=${query.coil ?? ""} placeholder="all coils" onChange=${set("coil")} /></label>
    <label class="field wide"><span>From</span><input type="datetime-local" value=${query.from ?? ""} onChange=${set("from")} /></label>
    <label class="field wide"><span>Until</span><input type="datetime-local" value=${query.to ?? ""} onChange=${set("to")} /></label>
    ${isFiltered && html`<button class="button" onClick=${() => navigate("/evidence", { replace: true })}><${Icon} name="close" />Clear</button>`}
  </div>`;
}

function Choice({ text, value, options, onChange }) {
  return html`<label class="field"><span>${text}</span>
    <select value=${value ?? ""} onChange=${onChange}>${options.map(([name, words]) => html`<option value=${name} selected=${name === (value ?? "")}>${words}</option>`)}</select>
  </label>`;
}

function Card({ item, onOpen }) {
  return html`<button class="evidence-card" onClick=${onOpen}>
    <span class="evidence-picture"><${BoxedPicture} item=${item} alt="" /></span>
    <span class="evidence-name"><${Verdict} item=${item} /></span>
    <span class="soft">${item.camera}, <time dateTime=${item.time}>${dateTime(item.time)}</time></span>
  </button>`;
}

/** What the model says, and what a person says where that differs. */
function Verdict({ item }) {
  if (item.blind) return html`<b>random tile</b>`;
  if (item.kind === "image") return html`<b>${item.reason ?? "bad picture"}</b>`;
  const said = item.label?.label;
  if (said && said !== item.decided) return html`<b class="class-name"><${ClassIcon} name=${said} severity="minor" />${className(said)}</b> <s class="soft">${className(item.decided)}</s>`;
  return html`<b class="class-name"><${ClassIcon} name=${item.decided} severity=${item.decided === "good" ? null : "minor"} />${className(item.decided)}</b>`;
}

function PictureDialog({ item, place, count, onStep, onClose }) {
  const step = (press) => {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[press.key];
    if (by && !press.target.closest("input, select")) onStep(by);
  };
  return html`<${Dialog} title=${KIND_WORDS[item.kind]} onClose=${onClose} isWide>
    <div class="evidence-view" onKeyDown=${step}>
      <div class="evidence-large"><${BoxedPicture} item=${item} alt=${item.blind ? "Random tile" : `Picture, by the model ${className(item.decided)}`} key=${item.evidence} /></div>
      <div class="evidence-facts">
        <p class="evidence-verdict"><${Verdict} item=${item} /></p>
        <${FramePlace} item=${item} />
        <dl class="facts">
          ${item.blind && html`<dt>Model</dt><dd>not shown: this tile waits for a blind label</dd>`}
          ${item.confidence !== null && html`<dt>Confidence</dt><dd>${item.confidence.toFixed(2)}</dd>`}
          ${item.anomaly !== null && html`<dt>Anomaly</dt><dd>${item.anomaly.toFixed(2)} of the threshold</dd>`}
          ${item.shadow && html`<dt>Shadow model</dt><dd>${className(item.shadow.decided)}, by ${item.shadow.model}</dd>`}
          ${item.label && html`<dt>Label</dt><dd>${className(item.label.label)}, by ${item.label.by || "visitor"}</dd>`}
          <dt>Camera</dt><dd>${item.camera}</dd>
          ${(item.coil || item.position_m !== null) && html`<dt>Coil</dt><dd>${[item.coil, item.position_m === null ? null : metres(item.position_m, 2)].filter(Boolean).join(", ")}</dd>`}
          <dt>Time</dt><dd>${fullTime(item.time)}</dd>
          <dt>File</dt><dd><code>${item.evidence}</code></dd>
        </dl>
        <div class="buttons">
          ${item.event_id && html`<a class="button" href=${href("/events", { q: item.event_id })}><${Icon} name="link" />Event</a>`}
          ${item.coil && item.position_m !== null && html`<a class="button" href=${href(pathOfName(item.coil), { m: item.position_m })}><${Icon} name="link" />On the map</a>`}
        </div>
        <div class="buttons evidence-steps">
          <button class="button" disabled=${place === 0} onClick=${() => onStep(-1)}><${Icon} name="left" />Newer</button>
          <span class="soft">${place + 1} of ${count}</span>
          <button class="button" disabled=${place === count - 1} onClick=${() => onStep(1)}>Older<${Icon} name="right" /></button>
        </div>
      </div>
    </div>
  </${Dialog}>`;
}

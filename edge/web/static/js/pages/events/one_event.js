/** One event: its picture, every fact in words, where it leads to, and the ones before and after it. */

import { evidenceUrl, get } from "../../api.js";
import { html, useEffect, useState } from "../../html.js";
import { useKeys } from "../../keys.js";
import { BoxedPicture, FramePlace } from "../../label/picture.js";
import { SeverityChip, StateMark } from "../../parts/chip.js";
import { defectFacts, detailFacts, summary, typeKind, typeWords } from "../../parts/event_words.js";
import { className, fullTime, isKnown, milliseconds } from "../../parts/format.js";
import { ClassIcon, Icon } from "../../parts/icons.js";
import { toast } from "../../parts/toast.js";
import { href, navigate } from "../../router.js";
import { useStore } from "../../store.js";
import { pathOfName } from "../coils/coil_words.js";
import { asked, filtersOf } from "./filters.js";

const AGAIN_MS = 2000;
const SENT = { delivered: ["good", "delivered"], waiting: ["soft", "waits for the broker"], refused: ["bad", "refused by the broker"] };
const STEPS = { queue: "waited", preprocess: "preparation", inference: "network", decide: "decision" };

export function OneEvent({ seq, query }) {
  const [found, failure] = useEvent(seq);
  const [newer, older] = useNeighbours(seq, query);
  const show = (other) => other !== null && navigate(`/events/${other}`, { query: filtersOf(query) });
  useKeys("Event", { n: ["newer event", () => show(newer)], o: ["older event", () => show(older)], ArrowLeft: ["newer event", () => show(newer)], ArrowRight: ["older event", () => show(older)] });
  return html`<div class="stack event-page">
    <nav class="event-steps" aria-label="Events around this one">
      <a class="button" href=${href("/events", filtersOf(query))}><${Icon} name="left" />All events</a>
      <span class="end"></span>
      <button class="button" disabled=${newer === null} onClick=${() => show(newer)}><${Icon} name="left" />Newer</button>
      <button class="button" disabled=${older === null} onClick=${() => show(older)}>Older<${Icon} name="right" /></button>
    </nav>
    ${
      found
        ? html`<${Event} event=${found.event} picture=${found.picture} />`
        : html`<section class="card"><p class="empty">${failure ? `${failure.reason[0].toUpperCase()}${failure.reason.slice(1)}. ${failure.remedy ?? ""}` : "Loading"}</p></section>`
    }
  </div>`;
}

/** The event; asked for again while its delivery or its picture is on the way. */
function useEvent(seq) {
  const [found, setFound] = useState(null);
  const [failure, setFailure] = useState(null);
  useEffect(() => {
    const control = new AbortController();
    let timer = null;
    const load = async () => {
      try {
        const answer = await get(`/events/${encodeURIComponent(seq)}`, null, { signal: control.signal, quiet: true });
        setFound(answer);
        if (answer.event.delivery.state === "waiting") timer = setTimeout(load, AGAIN_MS);
      } catch (error) {
        if (error.name !== "AbortError") setFailure(error);
      }
    };
    load();
    return () => (control.abort(), clearTimeout(timer));
  }, [seq]);
  return [found, failure];
}

/** seq of the next newer and the next older event that fit the filters; null at an end. */
function useNeighbours(seq, query) {
  const [found, setFound] = useState([null, null]);
  const lastSeq = useStore((store) => store.lastSeq);
  const isLast = found[0] === null;
  useEffect(() => {
    const control = new AbortController();
    const ask = (cursor) => get("/events", { ...asked(query), ...cursor, limit: 1 }, { signal: control.signal, quiet: true }).then(({ events }) => events[0]?.seq ?? null);
    Promise.all([ask({ after: seq }), ask({ before: seq })]).then(setFound, () => {});
    return () => control.abort();
  }, [seq, isLast ? lastSeq : null]);
  return found;
}

function Event({ event, picture }) {
  const { defect } = event;
  const severity = defect?.severity ?? "minor";
  const title = defect ? className(defect.class) : typeWords(event.type);
  return html`<article class="event-view ${event.evidence ? "" : "plain"}">
    ${event.evidence && html`<${Picture} event=${event} picture=${picture} title=${title} />`}
    <div class="event-side">
      <section class="card event-head">
        <h1>${defect ? html`<${ClassIcon} name=${defect.class} severity=${severity} />` : html`<span class="state-${typeKind(event.type)}"><${Icon} name=${typeKind(event.type) === "soft" ? "wait" : "warn"} /></span>`} ${title} <${SeverityChip} severity=${defect && severity} /></h1>
        <p class="soft">${defect ? typeWords(event.type) : summary(event)}</p>
        <p><b>${event.camera === "node" ? "The node" : `Camera ${event.camera}`}</b>, <time dateTime=${event.time}>${fullTime(event.time)}</time></p>
        <${Links} event=${event} />
      </section>
      ${defect && html`<${Facts} title="Defect" rows=${defectFacts(defect)} />`}
      ${event.detail && html`<${Facts} title="Facts" rows=${detailFacts(event.detail)} />`}
      <${Facts} title="Event" rows=${aboutEvent(event)} />
      <${Delivery} delivery=${event.delivery} />
      ${event.latency_ms && html`<${Facts} title="Latency" rows=${latencyFacts(event.latency_ms)} />`}
      <details class="card event-raw"><summary>As published (JSON)</summary><pre tabindex="0" aria-label="The event as JSON">${JSON.stringify({ ...event, delivery: undefined }, null, 2)}</pre></details>
    </div>
  </article>`;
}

function Picture({ event, picture, title }) {
  const [isGone, setIsGone] = useState(false);
  const address = evidenceUrl(event.evidence);
  return html`<section class="card event-picture" aria-label="Picture">
    <div class="event-large">
      ${
        isGone
          ? html`<p class="event-gone">The picture is not in the archive any more.</p>`
          : picture?.crop_px
            ? html`<${BoxedPicture} item=${picture} alt=${`${title}, picture of camera ${event.camera}`} />`
            : html`<img src=${address} alt=${`${title}, picture of camera ${event.camera}`} onError=${() => setIsGone(true)} />`
      }
    </div>
    ${picture && html`<${FramePlace} item=${picture} />`}
  </section>`;
}

function Links({ event }) {
  const { defect, detail, evidence } = event;
  const coil = defect?.coil ?? detail?.coil;
  const place = defect ? defect.position_m : detail?.from_m;
  const mapOf = coil ? pathOfName(coil) : "/";
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(`${location.origin}${href(`/events/${event.seq}`)}`);
      toast("The link is copied.");
    } catch {
      toast("The browser does not allow it: copy the address of this page.", { kind: "warn" });
    }
  };
  return html`<div class="buttons">
    ${isKnown(place) && html`<a class="button primary" href=${href(mapOf, { m: place })}><${Icon} name="link" />On the map</a>`}
    ${!isKnown(place) && coil && html`<a class="button" href=${href(mapOf)}><${Icon} name="link" />Coil ${coil}</a>`}
    ${evidence && html`<a class="button" href=${href("/evidence", { kind: evidence.path.split("/")[0], event_id: event.event_id, picture: evidence.path })}><${Icon} name="camera" />Evidence</a>`}
    ${defect && html`<a class="button" href=${href("/events", { q: defect.track_id })}>Same defect</a>`}
    <button class="button" onClick=${copy}>Copy link</button>
  </div>`;
}

function Facts({ title, rows }) {
  return html`<section class="card event-facts" aria-label=${title}>
    <h2>${title}</h2>
    <dl class="facts">${rows.map(([name, text]) => html`<dt>${name}</dt><dd>${text}</dd>`)}</dl>
  </section>`;
}

function aboutEvent(event) {
  const { frame, model } = event;
  return [
    ["seq", event.seq],
    ["Type", event.type],
    frame && ["Frame", [frame.number, frame.label].filter(isKnown).filter((part) => part !== "").join(", ")],
    model && ["Model", `${model.name} ${model.version} (${String(model.sha256 ?? "").slice(0, 12)})`],
    ["Configuration", String(event.config_sha256 ?? "").slice(0, 12)],
    ["Clock", event.clock_synced ? "synchronised" : event.clock_synced === false ? "not synchronised: the time may be wrong" : "unknown"],
    event.replayed && ["Replayed", "sent later, from the outbox"],
    ["Id", event.event_id],
  ].filter(Boolean);
}

function Delivery({ delivery }) {
  const [kind, words] = SENT[delivery.state] ?? ["soft", delivery.state];
  return html`<section class="card event-facts" aria-label="Delivery">
    <h2>Delivery</h2>
    <p><${StateMark} kind=${kind}>${words}</${StateMark}>${delivery.settled && html` <span class="soft">${fullTime(delivery.settled)}</span>`}</p>
    ${delivery.reason && html`<p>${delivery.reason}. <a href=${href("/node")}>Dead letters</a></p>`}
  </section>`;
}

function latencyFacts(latency) {
  const steps = Object.entries(STEPS).map(([name, words]) => `${words} ${milliseconds(latency[name])}`);
  return [["From grab to verdict", milliseconds(latency.total)], ["Steps", steps.join(", ")]];
}

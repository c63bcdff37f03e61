/** Events: what the node has reported, newest first, with filters in the address; and one event with all its facts. */

import { get } from "../api.js";
import { html, useEffect, useRef, useState } from "../html.js";
import { useKeys } from "../keys.js";
import { SeverityChip } from "../parts/chip.js";
import { className, dateTime, fullTime, isKnown, millimetres, number } from "../parts/format.js";
import { ClassIcon, Icon } from "../parts/icons.js";
import { EVENT_TYPES, TYPE_GROUPS, placeText, summary, typeKind, typeWords } from "../parts/event_words.js";
import { Thumbnail } from "../parts/thumbnail.js";
import { href, navigate } from "../router.js";
import { useStore } from "../store.js";
import { FILTERS, asked, filtersOf } from "./events/filters.js";
import { OneEvent } from "./events/one_event.js";

const LIMIT = 50;
const MAX_SHOWN = 200;

export default function EventsPage({ seq, query }) {
  if (seq !== undefined) return html`<${OneEvent} key=${seq} seq=${seq} query=${query} />`;
  return html`<${EventList} query=${query} />`;
}

function EventList({ query }) {
  const { rows, isNewest, hasOlder, isWhole, isLoading, failure, olderThan, reload } = useEvents(query);
  const isFiltered = FILTERS.some((name) => query[name]);
  const show = (cursor) => navigate("/events", { query: { ...filtersOf(query), ...cursor } });
  const older = () => hasOlder && show({ before: olderThan });
  const newer = () => !isNewest && show(rows.length ? { after: rows[0].seq } : {});
  useKeys("Events", { o: ["older events", older], n: ["newer events", newer], Home: ["the newest events", () => show({})] });
  return html`<div class="stack events-page">
    <section class="card" aria-label="Events">
      <div class="card-head"><h1 class="events-title">Events</h1><${Filters} query=${query} isFiltered=${isFiltered} /></div>
      ${isNewest && isFiltered && rows.length > 0 && html`<${NewOnes} newest=${rows[0].seq} onReload=${reload} />`}
      ${
        rows.length
          ? html`<${EventTable} rows=${rows} query=${query} />`
          : html`<p class="empty">${isLoading ? "Loading" : failure ? failure.reason : isWhole ? (isFiltered ? "No event fits." : "No event yet.") : "Nothing found so far."}</p>`
      }
      <nav class="events-pages" aria-label="Further events">
        <button class="button" disabled=${isNewest} onClick=${() => show({})}>Newest</button>
        <button class="button" disabled=${isNewest} onClick=${newer}><${Icon} name="left" />Newer</button>
        <span class="soft" role="status">${rows.length ? `seq ${rows.at(-1).seq} to ${rows[0].seq}` : ""}${isWhole ? "" : ", the search stopped after a second: go on with Older"}</span>
        <button class="button" disabled=${!hasOlder} onClick=${older}>Older<${Icon} name="right" /></button>
      </nav>
    </section>
  </div>`;
}

/** The events of the filters and the cursor; on the first page without a filter those that arrive come on top. */
function useEvents(query) {
  const key = JSON.stringify(query);
  const [found, setFound] = useState({ key: null, rows: [] });
  const [again, setAgain] = useState(0);
  const isLive = !FILTERS.some((name) => query[name]) && !query.before && !query.after;
  const live = useStore((store) => (isLive ? store.events : null));
  useEffect(() => {
    const control = new AbortController();
    load(query, control.signal).then(
      (answer) => setFound({ key, ...answer }),
      (failure) => failure.name !== "AbortError" && setFound({ key, rows: [], failure }),
    );
    return () => control.abort();
  }, [key, again]);
  const isLoading = found.key !== key;
  const known = isLoading ? [] : found.rows;
  const added = live && !isLoading ? live.filter(({ seq }) => !known.length || seq > known[0].seq) : [];
  const rows = [...added, ...known].slice(0, MAX_SHOWN);
  return {
    rows,
    isNewest: !query.before && (!query.after || Boolean(found.isTop)),
    hasOlder: !isLoading && (found.older !== null || added.length + known.length > MAX_SHOWN) && !found.failure,
    olderThan: rows.length > known.length || !found.older ? rows.at(-1)?.seq : found.older,
    isWhole: found.isWhole ?? true,
    isLoading,
    failure: found.failure,
    reload: () => setAgain(again + 1),
  };
}

/** rows: newest first. older: what a request for older ones gives as `before`, null at the end. isTop: there are no newer ones. */
async function load(query, signal) {
  const isForward = Boolean(query.after) && !query.before;
  const answer = await get("/events", { ...asked(query), before: query.before, after: query.after, limit: LIMIT }, { signal, quiet: true });
  if (!isForward) return { rows: answer.events, older: answer.next?.before ?? null, isWhole: answer.is_whole };
  const rows = answer.events.toReversed();
  return { rows, older: rows.at(-1)?.seq ?? Number(query.after) + 1, isWhole: answer.is_whole, isTop: answer.next === null };
}

/** With filters nothing moves by itself: it only says that there is more. */
function NewOnes({ newest, onReload }) {
  const count = useStore(({ lastSeq }) => (lastSeq === null ? 0 : lastSeq - newest));
  if (count <= 0) return null;
  return html`<p class="events-new"><button class="button" onClick=${onReload}>Look again</button> <span class="soft">Events have arrived since; some may fit.</span></p>`;
}

function Filters({ query, isFiltered }) {
  const cameras = useStore(({ state }) => state?.cameras?.map(({ name }) => name).join("\n") ?? "");
  const classes = useStore(({ state }) => state?.model?.classes?.join("\n") ?? "");
  const set = (name) => (event) => navigate("/events", { query: { ...filtersOf(query), [name]: event.target.value || null }, replace: true });
  const list = (text) => text.split("\n").filter(Boolean);
  const given = query.type ?? "";
  const isKnownChoice = !given || EVENT_TYPES.includes(given) || TYPE_GROUPS.some(([, types]) => types.join() === given);
  return html`<div class="filters events-filters" role="search">
    <label class="field"><span>Type</span>
      <select value=${given} onChange=${set("type")}>
        <option value="" selected=${!given}>all types</option>
        ${!isKnownChoice && html`<option value=${given} selected>${given}</option>`}
        <optgroup label="Groups">${TYPE_GROUPS.map(([words, types]) => html`<option value=${types.join()} selected=${types.join() === given}>${words}</option>`)}</optgroup>
        <optgroup label="One type">${EVENT_TYPES.map((type) => html`<option value=${type} selected=${type === given}>${typeWords(type)}</option>`)}</optgroup>
      </select>
    </label>
    <${Choice} text="Class" value=${query.class} all="all classes" options=${[...list(classes), "anomaly"].map((name) => [name, className(name)])} onChange=${set("class")} />
    <${Choice} text="Severity" value=${query.severity} all="all" options=${[["minor", "minor"], ["major", "major"], ["critical", "critical"], ["major,critical", "major or critical"]]} onChange=${set("severity")} />
    <${Choice} text="Camera" value=${query.camera} all="all cameras" options=${[...list(cameras), "node"].map((name) => [name, name])} onChange=${set("camera")} />
    <label class="field"><span>Coil</span><input value=${query.coil ?? ""} placeholder="all coils" maxlength="128" onChange=${set("coil")} /></label>
    <label class="field wide"><span>From</span><input type="datetime-local" value=${query.since ?? ""} onChange=${set("since")} /></label>
    <label class="field wide"><span>Until</span><input type="datetime-local" value=${query.until ?? ""} onChange=${set("until")} /></label>
    <label class="field wide"><span>Text</span><input type="search" value=${query.q ?? ""} placeholder="anywhere in the event" maxlength="200" onChange=${set("q")} /></label>
    ${isFiltered && html`<button class="button" onClick=${() => navigate("/events", { replace: true })}><${Icon} name="close" />Clear</button>`}
  </div>`;
}

function Choice({ text, value, all, options, onChange }) {
  const isListed = !value || options.some(([name]) => name === value);
  return html`<label class="field"><span>${text}</span>
    <select value=${value ?? ""} onChange=${onChange}>
      <option value="" selected=${!value}>${all}</option>
      ${!isListed && html`<option value=${value} selected>${value}</option>`}
      ${options.map(([name, words]) => html`<option value=${name} selected=${name === value}>${words}</option>`)}
    </select>
  </label>`;
}

function EventTable({ rows, query }) {
  return html`<table class="table events-table">
    <caption class="unseen">Events, newest first</caption>
    <thead>
      <tr><th scope="col"><span class="unseen">Picture</span></th><th scope="col">Event</th><th scope="col">Camera</th><th scope="col">Coil</th><th scope="col" class="number">Place</th><th scope="col" class="number">seq</th><th scope="col" class="number">Time</th></tr>
    </thead>
    <tbody>${rows.map((event) => html`<${Row} key=${event.seq} event=${event} query=${query} />`)}</tbody>
  </table>`;
}

function Row({ event, query }) {
  const { defect } = event;
  const address = href(`/events/${event.seq}`, filtersOf(query));
  return html`<tr class="selectable">
    <td class="events-picture">${defect ? html`<${Thumbnail} event=${event} />` : html`<span class="events-sign state-${typeKind(event.type)}"><${Icon} name=${typeKind(event.type) === "soft" ? "wait" : "warn"} /></span>`}</td>
    <td class="events-what">
      <a href=${address}>${defect ? html`<span class="class-name"><${ClassIcon} name=${defect.class} severity=${defect.severity ?? "minor"} />${className(defect.class)}</span>` : typeWords(event.type)}</a>
      ${defect && html` <${SeverityChip} severity=${defect.severity} />`}
      <span class="soft events-more">${defect ? defectText(event) : summary(event)}</span>
      <${Undelivered} delivery=${event.delivery} />
    </td>
    <td class="events-camera">${event.camera === "node" ? html`<span class="soft">node</span>` : event.camera}</td>
    <td class="events-coil">${defect?.coil ?? event.detail?.coil ?? ""}</td>
    <td class="number events-place">${placeText(event)}</td>
    <td class="number soft events-seq">${event.seq}</td>
    <td class="number events-time"><time dateTime=${event.time} title=${fullTime(event.time)}>${dateTime(event.time)}</time></td>
  </tr>`;
}

function defectText({ type, defect }) {
  const length = isKnown(defect.length_mm) && `${millimetres(defect.length_mm)} long`;
  return [type === "defect.closed" && "ended", length, `confidence ${number(defect.confidence, 2)}`].filter(Boolean).join(", ");
}

function Undelivered({ delivery }) {
  if (delivery?.state !== "refused") return null;
  return html`<span class="chip" title=${delivery.reason}>refused</span>`;
}

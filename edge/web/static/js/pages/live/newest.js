/** The newest defects with their pictures, and between them what else happened. */

import { html, useMemo, useRef, useState } from "../../html.js";
import { SeverityChip } from "../../parts/chip.js";
import { defectName, fullTime, isKnown, metres, millimetres, number, time } from "../../parts/format.js";
import { ClassIcon, Icon } from "../../parts/icons.js";
import { Thumbnail } from "../../parts/thumbnail.js";
import { href } from "../../router.js";
import { useStore } from "../../store.js";

const MAX_ROWS = 30;
const HIDDEN_TYPES = new Set(["coverage.gap"]);
const KINDS = { "camera.lost": "bad", "image.bad": "warn", "events.dropped": "bad", "model.rolled_back": "warn", "model.refused": "warn", "model.out_of_domain": "warn", "camera.drifted": "warn", "speed.stale": "warn" };

/** The rows stand still under the mouse, so that a click hits the one that was aimed at. */
export function Newest({ selected }) {
  const events = useStore((store) => store.events);
  const newest = useMemo(() => newestRows(events), [events]);
  const [isHeld, setIsHeld] = useState(false);
  const shown = useRef(newest);
  if (!isHeld || !shown.current.length) shown.current = newest;
  const rows = shown.current;
  const waiting = rows.length ? newest.findIndex(({ seq }) => seq === rows[0].seq) : 0;
  const hold = ({ pointerType, type }) => pointerType === "mouse" && setIsHeld(type === "pointerenter");
  return html`<section class="card newest" aria-label="Newest events">
    <header class="card-head"><h2>Newest</h2>${waiting !== 0 && html`<span class="soft">${waiting < 0 ? "many" : waiting} more wait</span>`}<a class="end" href=${href("/events")}>All events</a></header>
    ${
      rows.length
        ? html`<div class="newest-frame" onPointerEnter=${hold} onPointerLeave=${hold} tabindex="0" role="group" aria-label="Newest events"><ol>${rows.map((event) => html`<${Row} key=${event.seq} event=${event} isSelected=${event.seq === selected} />`)}</ol></div>`
        : html`<p class="empty">No defect yet.</p>`
    }
  </section>`;
}

/** A defect once: with the values of its end as soon as it has ended. */
function newestRows(events) {
  const closed = new Map();
  const rows = [];
  for (const event of events) {
    if (HIDDEN_TYPES.has(event.type)) continue;
    if (event.type === "defect.closed") closed.set(event.defect.track_id, event);
    else if (event.type === "defect.opened") {
      const end = closed.get(event.defect.track_id);
      rows.push(end ? { ...event, defect: end.defect, evidence: event.evidence ?? end.evidence } : event);
    } else rows.push(event);
    if (rows.length >= MAX_ROWS) break;
  }
  return rows;
}

function Row({ event, isSelected }) {
  if (!event.defect) {
    const kind = KINDS[event.type] ?? "soft";
    return html`<li class="other"><a href=${href(`/events/${event.seq}`)}>
      <span class="state-${kind}"><${Icon} name=${kind === "soft" ? "wait" : "warn"} /></span>
      <b>${event.type.replace(".", " ").replaceAll("_", " ")}</b><span class="soft">${event.camera === "node" ? "" : event.camera}</span>
      <time class="end" dateTime=${event.time} title=${fullTime(event.time)}>${time(event.time)}</time>
    </a></li>`;
  }
  const { defect } = event;
  const severity = defect.severity ?? "minor";
  return html`<li class=${isSelected ? "selected" : ""}><a href=${href(`/events/${event.seq}`)}>
    <${Thumbnail} event=${event} />
    <div class="newest-text">
      <div class="newest-title"><${ClassIcon} name=${defect.class} severity=${severity} /><span>${defectName(defect)}</span><${SeverityChip} severity=${severity} /></div>
      <div class="soft"><b>${event.camera}</b>${acrossText(defect.across_mm)}</div>
      <div class="soft">${isKnown(defect.length_mm) ? html`<b>${number(defect.length_mm)}</b> mm long, ` : ""}confidence ${number(defect.confidence, 2)}</div>
    </div>
    <div class="newest-where">
      ${isKnown(defect.position_m) && html`<b>${metres(defect.position_m, 2)}</b>`}
      <time dateTime=${event.time} title=${fullTime(event.time)}>${time(event.time)}</time>
    </div>
  </a></li>`;
}

function acrossText(across) {
  if (!isKnown(across)) return "";
  return `, ${millimetres(Array.isArray(across) ? (across[0] + across[1]) / 2 : across)} from OS`;
}

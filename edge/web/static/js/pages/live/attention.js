/** What needs somebody's attention now, the worst first. */

import { html, useState } from "../../html.js";
import { className, metres, millimetres, number, plural } from "../../parts/format.js";
import { Icon } from "../../parts/icons.js";
import { useStore } from "../../store.js";
import { sinceText } from "./band.js";

const HOT_C = 85;
const MAX_ACKNOWLEDGED = 50;
const KEY = "defectd.acknowledged";

export function Attention({ isWall, onShow }) {
  const state = useStore((store) => store.state);
  const [acknowledged, setAcknowledged] = useState(remembered);
  const [isOpen, setIsOpen] = useState(false);
  const found = conditions(state).filter(({ key }) => !acknowledged.includes(key));
  if (!found.length) return null;
  const acknowledge = (key) => {
    const changed = [...acknowledged, key].slice(-MAX_ACKNOWLEDGED);
    setAcknowledged(changed);
    remember(changed);
  };
  const shown = isOpen && !isWall ? found : found.slice(0, 1);
  return html`<section class="attention" aria-label="Attention" role="status">
    ${shown.map(
      ({ key, kind, icon, title, text, place }, index) => html`<div class="notice notice-${kind}" key=${key}>
        <${Icon} name=${icon} />
        <div class="notice-text"><strong>${title}</strong> <span>${text}</span></div>
        ${isWall && found.length > 1 && html`<span class="more">and ${found.length - 1} more</span>`}
        ${
          !isWall &&
          html`<div class="buttons">
            ${index === 0 && found.length > 1 && html`<button class="button" aria-expanded=${String(isOpen)} onClick=${() => setIsOpen(!isOpen)}>${isOpen ? "Show one" : `${found.length - 1} more`}</button>`}
            ${place && html`<button class="button" onClick=${() => onShow(place)}>Show on the map</button>`}
            <button class="button" title="Hides it in this browser until it changes" onClick=${() => acknowledge(key)}>Acknowledge</button>
          </div>`
        }
      </div>`,
    )}
  </section>`;
}

/** [{key, kind, icon, title, text, place}] of a state. A key changes when the condition does: then it is shown again. */
export function conditions(state) {
  return [...ofNode(state), ...ofCameras(state), ...ofRollMarks(state), ...ofDelivery(state), ...ofMachine(state)].sort((one, other) => (one.kind === "bad" ? 0 : 1) - (other.kind === "bad" ? 0 : 1));
}

function ofNode({ verdict, reasons, since, grade }) {
  const found = [];
  if (verdict === "not_inspecting") found.push({ key: `verdict ${since}`, kind: "bad", icon: "bad", title: "Nothing is inspected", text: reasons.join("; ") });
  if (grade?.grade === "reject") found.push({ key: `grade ${grade.reasons.length}`, kind: "bad", icon: "warn", title: "Grade so far: reject", text: grade.reasons.join("; ") });
  return found;
}

const CAMERA_WORDS = {
  lost: ["bad", "delivers no frames"],
  frozen: ["bad", "repeats one picture"],
  bad_image: ["bad", "gives pictures that cannot be inspected"],
  ended: ["warn", "has ended"],
  paused: ["warn", "is paused"],
  drifted: ["warn", "has changed since its calibration"],
};

function ofCameras(state) {
  return state.cameras.flatMap((camera) => {
    const words = CAMERA_WORDS[camera.state];
    if (!words) return [];
    const text = [camera.reason, sinceText(camera.since, state)].filter(Boolean).join(", ");
    return [{ key: `camera ${camera.name} ${camera.state} ${camera.since}`, kind: words[0], icon: "camera", title: `Camera ${camera.name} ${words[1]}`, text }];
  });
}

function ofRollMarks({ roll_marks: marks }) {
  return (marks ?? [])
    .filter((mark) => !mark.acknowledged)
    .map((mark) => {
      const fits = mark.rolls?.length ? ` Fits ${mark.rolls.join(" and ")}.` : "";
      const hits = mark.hits && mark.turns ? `${mark.hits} of ${mark.turns} revolutions since ${metres(mark.from_m)}` : `since ${metres(mark.from_m)}`;
      const across = mark.across_mm === null || mark.across_mm === undefined ? "" : `, ${millimetres(mark.across_mm)} from OS`;
      return {
        key: `roll ${mark.surface} ${number(mark.period_m, 2)} ${Math.round(mark.from_m)}`,
        kind: "warn",
        icon: "roll",
        title: `Roll mark suspected${mark.class ? `, ${className(mark.class)}` : ""}, ${mark.surface}: every ${metres(mark.period_m, 3)}`,
        text: `${hits}${across}.${fits}`,
        place: { from: mark.from_m, to: mark.to_m },
      };
    });
}

function ofDelivery({ delivery, outputs }) {
  const found = [];
  if (delivery.connected === false) {
    found.push({ key: "broker", kind: "warn", icon: "warn", title: "The broker is not connected", text: `${plural(delivery.queued ?? 0, "event")} wait; none is lost while the outbox has room.` });
  }
  if (delivery.dead_letters > 0) {
    found.push({ key: `dead ${delivery.dead_letters}`, kind: "warn", icon: "warn", title: `The broker refused ${plural(delivery.dead_letters, "event")}`, text: "They are kept as dead letters: see the page Node." });
  }
  for (const output of outputs ?? []) {
    if (output.state !== "failed") continue;
    found.push({ key: `output ${output.name} ${output.restarts}`, kind: "warn", icon: "warn", title: `Output ${output.name} failed`, text: output.last_error ?? "" });
  }
  return found;
}

function ofMachine({ machine }) {
  const found = [];
  if (machine.throttled) found.push({ key: "throttled", kind: "warn", icon: "warn", title: "The processor is throttled", text: "It is too hot, or its supply is weak: inspection may become late." });
  else if (machine.temperature_c > HOT_C) found.push({ key: "hot", kind: "warn", icon: "warn", title: `The processor has ${number(machine.temperature_c)} °C`, text: "It will soon be throttled." });
  return found;
}

function remembered() {
  try {
    const found = JSON.parse(sessionStorage.getItem(KEY));
    return Array.isArray(found) ? found : [];
  } catch {
    return [];
  }
}

function remember(keys) {
  try {
    sessionStorage.setItem(KEY, JSON.stringify(keys));
  } catch {
    // Without storage it is shown again after a reload.
  }
}

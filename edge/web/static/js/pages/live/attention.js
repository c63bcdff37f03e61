/** What needs somebody's attention now, the worst first. */

import { html, useRef, useState } from "../../html.js";
import { metres, millimetres, number, plural } from "../../parts/format.js";
import { Icon } from "../../parts/icons.js";
import { href } from "../../router.js";
import { useStore } from "../../store.js";

const HOT_C = 85;
const FORGET_MS = 600_000;
const KEY = "defectd.acknowledged";

export function Attention({ isWall, onShow }) {
  const state = useStore((store) => store.state);
  const acknowledged = useRef(null);
  acknowledged.current ??= remembered();
  const [isOpen, setIsOpen] = useState(false);
  const [, redraw] = useState({});
  const all = conditions(state);
  forget(acknowledged.current, all);
  const found = all.filter(({ key }) => !(key in acknowledged.current));
  if (!found.length) return null;
  function acknowledge(key) {
    acknowledged.current[key] = Date.now();
    remember(acknowledged.current);
    redraw({});
  }
  const shown = isOpen && !isWall ? found : found.slice(0, 1);
  return html`<section class="attention" aria-label="Attention" role="status">
    ${shown.map(
      ({ key, kind, icon, title, text, place, link }, index) => html`<div class="notice notice-${kind}" key=${key}>
        <${Icon} name=${icon} />
        <div class="notice-text"><strong>${title}</strong> <span>${text}</span></div>
        ${isWall && found.length > 1 && html`<span class="more">and ${found.length - 1} more</span>`}
        ${
          !isWall &&
          html`<div class="buttons">
            ${index === 0 && found.length > 1 && html`<button class="button" aria-expanded=${String(isOpen)} onClick=${() => setIsOpen(!isOpen)}>${isOpen ? "Show one" : `${found.length - 1} more`}</button>`}
            ${place && html`<button class="button" onClick=${() => onShow(place)}>Show on the map</button>`}
            ${link && html`<a class="button" href=${link.href}>${link.text}</a>`}
            <button class="button" title="Hides it in this tab until it comes back" onClick=${() => acknowledge(key)}>Acknowledge</button>
          </div>`
        }
      </div>`,
    )}
  </section>`;
}

/** A condition that was away for a while is news when it comes back; one that comes and goes is not. */
function forget(acknowledged, conditionsNow) {
  const now = Date.now();
  const present = new Set(conditionsNow.map(({ key }) => key));
  for (const key of Object.keys(acknowledged)) {
    if (present.has(key)) acknowledged[key] = now;
    else if (now - acknowledged[key] > FORGET_MS) delete acknowledged[key];
  }
}

/** [{key, kind, icon, title, text, place, link}] of a state, the worst first. The key stays while the condition does, whatever its figures. */
export function conditions(state) {
  const found = [...ofReasons(state), ...ofGrade(state), ...ofRollMarks(state), ...ofDomain(state), ...ofDeadLetters(state), ...ofMachine(state)];
  return found.sort((one, other) => (one.kind === "bad" ? 0 : 1) - (other.kind === "bad" ? 0 : 1));
}

/** The node's own reasons for its verdict: "camera top is paused: by a command". */
function ofReasons({ verdict, reasons }) {
  return reasons.map((reason) => {
    const [title, ...text] = reason.split(": ");
    return {
      key: reason.replaceAll(/[\d.]+/g, "#"),
      kind: verdict === "not_inspecting" ? "bad" : "warn",
      icon: title.startsWith("camera ") ? "camera" : "warn",
      title: title[0].toUpperCase() + title.slice(1),
      text: text.join(": "),
    };
  });
}

function ofGrade({ grade }) {
  if (grade?.grade !== "reject") return [];
  return [{ key: "reject", kind: "bad", icon: "warn", title: "Grade so far: reject", text: grade.reasons.join("; ") }];
}

function ofRollMarks({ roll_marks: marks }) {
  return (marks ?? []).map((mark) => {
    const side = mark.surface ? `, ${mark.surface}` : "";
    const text = [
      `${mark.seen} of ${mark.places} turns since ${metres(mark.from_m)}, ${millimetres(mark.across_mm)} from OS.`,
      mark.rolls.length ? `Fits ${mark.rolls.join(" and ")}.` : "Fits no known roll.",
      `Chance: 1 coil in ${chanceText(mark.log10_chance)}.`,
    ];
    return {
      key: `roll ${mark.surface} ${number(mark.period_m, 2)} ${Math.round(mark.across_mm / 40)}`,
      kind: "warn",
      icon: "roll",
      title: `Roll mark suspected${side}: every ${metres(mark.period_m, 3)}`,
      text: text.join(" "),
      place: { from: mark.from_m, to: mark.to_m },
    };
  });
}

function chanceText(log10) {
  return log10 > -7 ? number(10 ** -log10) : "ten million or more";
}

/** The camera shows steel unlike that of the model's training. */
function ofDomain({ cameras }) {
  return cameras
    .filter(({ domain }) => domain?.answer === "outside")
    .map(({ name, domain }) => ({
      key: `other steel ${name}`,
      kind: "warn",
      icon: "camera",
      title: `Camera ${name} shows other steel than the model was trained on`,
      text: `Its defects are called unknown, with what they look like. Label a few of each class, then teach them. Distance ${number(domain.distance, 2)}; up to 1 is usual.`,
      link: { href: href("/label", { camera: name }), text: "Label pictures" },
    }));
}

function ofDeadLetters({ delivery }) {
  if (!delivery.dead_letters) return [];
  return [{ key: `dead letters ${delivery.dead_letters}`, kind: "warn", icon: "warn", title: `The broker refused ${plural(delivery.dead_letters, "event")}`, text: "They are kept as dead letters: see the page Node." }];
}

function ofMachine({ machine }) {
  if (!machine || !(machine.temperature_c > HOT_C)) return [];
  return [{ key: "hot", kind: "warn", icon: "warn", title: `The processor has ${number(machine.temperature_c)} °C`, text: "It will soon slow down." }];
}

/** {key: when the condition was last there, ms}. */
function remembered() {
  try {
    return JSON.parse(sessionStorage.getItem(KEY)) ?? {};
  } catch {
    return {};
  }
}

function remember(acknowledged) {
  try {
    sessionStorage.setItem(KEY, JSON.stringify(acknowledged));
  } catch {
    // Without storage it is shown again after a reload.
  }
}

/** The node's own health in four lines. */

import { html } from "../../html.js";
import { bytes, duration, isKnown, number, plural } from "../../parts/format.js";
import { StateMark } from "../../parts/chip.js";
import { href } from "../../router.js";
import { useStore } from "../../store.js";

export function Health() {
  const { delivery, outputs, model, machine, evidence } = useStore((store) => store.state);
  return html`<section class="card health" aria-label="Health of the node">
    <header class="card-head"><h2>Health</h2><a class="end" href=${href("/node")}>Node</a></header>
    <dl class="facts">
      <dt>Delivery</dt>
      <dd><${StateMark} kind=${delivery.connected ? "good" : isKnown(delivery.connected) ? "warn" : "soft"}>${delivery.connected ? "broker up" : isKnown(delivery.connected) ? "broker down" : "unknown"}</${StateMark}>
        <span class="soft">${number(delivery.queued)} queued, last seq ${number(delivery.last_seq)}</span></dd>
      ${outputs.filter(({ name }) => name !== "page").map((output) => html`<dt key=${output.name}>${output.name}</dt>
        <dd><${StateMark} kind=${output.state === "running" ? "good" : output.state === "failed" ? "bad" : "warn"}>${output.state}</${StateMark}>
          ${output.last_error && html`<span class="soft" title=${output.last_error}>${output.last_error}</span>`}</dd>`)}
      <dt>Model</dt>
      <dd class="model-name">${model ? html`<${Model} model=${model} />` : html`<span class="soft">unknown</span>`}</dd>
      <dt>Machine</dt>
      <dd>${machine ? html`<${Machine} machine=${machine} />` : html`<span class="soft">unknown</span>`}</dd>
      <dt>Evidence</dt>
      <dd>${evidence ? html`<${Stock} evidence=${evidence} />` : html`<span class="soft">not kept</span>`}</dd>
    </dl>
  </section>`;
}

function Model({ model }) {
  const name = [model.name, model.version, model.precision].filter(Boolean).join(" ");
  return html`<span title=${name}>${name}</span><${Canary} canary=${model.canary} />${model.shadow && html`<span class="soft">with shadow</span>`}`;
}

function Machine({ machine }) {
  const { temperature_c: celsius, throttled, clock_synced: isSynced } = machine;
  const isSlowed = Array.isArray(throttled) ? throttled.length > 0 : throttled;
  const throttling = isSlowed ? `slowed: ${Array.isArray(throttled) ? throttled.join(", ").replaceAll("_", " ") : "throttled"}` : isKnown(throttled) ? "no throttling" : "throttling unknown";
  return html`<${StateMark} kind=${isSlowed || isSynced === false ? "warn" : "good"}>${isKnown(celsius) ? `${number(celsius)} °C` : "running"}</${StateMark}>
    <span class="soft">${throttling}, clock ${isSynced ? "synced" : isSynced === false ? "not synced" : "unknown"}</span>`;
}

function Canary({ canary }) {
  if (!canary) return null;
  const title = [canary.version && `canary ${canary.version}`, isKnown(canary.left_s) && `${duration(canary.left_s)} left`].filter(Boolean).join(", ");
  return html`<span class="soft" title=${title}>canary</span>${isKnown(canary.share) && html`<span class="meter accent" title=${title}><i style=${{ width: `${Math.round(canary.share * 100)}%` }}></i></span>`}`;
}

function Stock({ evidence }) {
  const share = evidence.max_bytes ? evidence.bytes / evidence.max_bytes : 0;
  return html`${bytes(evidence.bytes)} <span class="soft">of ${bytes(evidence.max_bytes)}</span>
    <span class="meter" title=${plural(evidence.files, "picture")}><i style=${{ width: `${Math.round(share * 100)}%` }}></i></span>`;
}

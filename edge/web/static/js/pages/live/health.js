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
      <dd><${StateMark} kind=${delivery.connected ? "good" : "warn"}>${delivery.connected ? "broker up" : "broker down"}</${StateMark}>
        <span class="soft">${number(delivery.queued)} queued, last seq ${number(delivery.last_seq)}</span></dd>
      ${(outputs ?? []).map((output) => html`<dt key=${output.name}>${output.name}</dt>
        <dd><${StateMark} kind=${output.state === "running" ? "good" : output.state === "failed" ? "bad" : "warn"}>${output.state}</${StateMark}>
          ${output.last_error && html`<span class="soft" title=${output.last_error}>${output.last_error}</span>`}</dd>`)}
      <dt>Model</dt>
      <dd>${model.name} ${model.version}${model.precision ? ` ${model.precision}` : ""}<${Canary} canary=${model.canary} />${model.shadow && html`<span class="soft">with shadow</span>`}</dd>
      <dt>Machine</dt>
      <dd><${StateMark} kind=${machine.throttled || machine.clock_synced === false ? "warn" : "good"}>${isKnown(machine.temperature_c) ? `${number(machine.temperature_c)} °C` : "running"}</${StateMark}>
        <span class="soft">${machine.throttled ? "throttled" : machine.throttled === false ? "no throttling" : "throttling unknown"}, clock ${machine.clock_synced ? "synced" : machine.clock_synced === false ? "not synced" : "unknown"}</span></dd>
      <dt>Evidence</dt>
      <dd>${evidence ? html`<${Stock} evidence=${evidence} />` : html`<span class="soft">not kept</span>`}</dd>
    </dl>
  </section>`;
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

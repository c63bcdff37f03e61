/** The node itself: what is wrong with it and what helps, delivery, machine, files, people, its log. */

import { get } from "../api.js";
import { html, useEffect, useState } from "../html.js";
import { StateMark } from "../parts/chip.js";
import { bytes, fullTime, isKnown, number, plural } from "../parts/format.js";
import { href } from "../router.js";
import { useSession } from "../session.js";
import { useStore } from "../store.js";
import { DeliveryCard } from "./node/delivery.js";
import { DoctorCard } from "./node/doctor.js";
import { LogCard } from "./node/log.js";
import { AuditCard, PeopleCard } from "./node/people.js";
import { SupportCard } from "./node/support.js";

const POLL_MS = 10_000;
const HASTE_MS = 1000;
const NAMES = { outbox: "Outbox", coils: "Coils", labels: "Labels", models: "Models" };
const VERDICTS = { inspecting: ["good", "inspecting"], degraded: ["warn", "degraded"], not_inspecting: ["bad", "not inspecting"] };

export default function NodePage() {
  const state = useStore((store) => store.state);
  const [facts, failure, reload] = useNode();
  useSession();
  if (!state) return html`<p class="page-loading">Waiting for the node</p>`;
  return html`<div class="stack node-page">
    <${Heading} state=${state} />
    <div class="node-columns">
      <div class="node-column">
        <${DoctorCard} doctor=${facts?.doctor ?? null} failure=${failure} onChange=${reload} />
        <${AuditCard} />
        <${PeopleCard} people=${facts?.users ?? null} />
        <${SupportCard} />
      </div>
      <div class="node-column">
        <${DeliveryCard} state=${state} />
        <${MachineCard} machine=${state.machine} />
        <${StorageCard} storage=${facts?.storage ?? []} evidence=${state.evidence} />
      </div>
    </div>
    <${LogCard} />
  </div>`;
}

/** What the node says of itself; more often while its doctor works. */
function useNode() {
  const [facts, setFacts] = useState(null);
  const [failure, setFailure] = useState(null);
  const [turn, setTurn] = useState(0);
  useEffect(() => {
    const control = new AbortController();
    let timer = null;
    const load = async () => {
      let isBusy = false;
      try {
        const found = await get("/node", null, { signal: control.signal, quiet: true });
        isBusy = ["waiting", "running"].includes(found.doctor.state);
        setFacts(found);
        setFailure(null);
      } catch (error) {
        if (error.name === "AbortError") return;
        setFailure(error);
      }
      timer = setTimeout(load, isBusy ? HASTE_MS : POLL_MS);
    };
    load();
    return () => (control.abort(), clearTimeout(timer));
  }, [turn]);
  return [facts, failure, () => setTurn((known) => known + 1)];
}

function Heading({ state }) {
  const [kind, words] = VERDICTS[state.verdict] ?? ["warn", "unknown"];
  return html`<section class="card node-head">
    <h1>${state.node}</h1>
    <${StateMark} kind=${kind}>${words}</${StateMark}>
    <span class="soft">version ${state.version}${state.since && html`, runs since <b>${fullTime(state.since)}</b>`}</span>
    <a class="node-setup" href=${href("/setup")}>Set up cameras and broker</a>
    ${state.reasons.length > 0 && html`<p class="node-reasons">${state.reasons.join("; ")}</p>`}
  </section>`;
}

function MachineCard({ machine }) {
  return html`<section class="card node-card" aria-label="Machine">
    <h2>Machine</h2>
    ${machine ? html`<${MachineFacts} machine=${machine} />` : html`<p class="soft">Unknown: the daemon reports nothing.</p>`}
  </section>`;
}

function MachineFacts({ machine }) {
  const { temperature_c: celsius, throttled, clock_synced: isSynced, rss_mb: resident, disk_free_mb: free } = machine;
  const isSlowed = Array.isArray(throttled) ? throttled.length > 0 : Boolean(throttled);
  const slowed = isSlowed ? (Array.isArray(throttled) ? throttled.join(", ").replaceAll("_", " ") : "yes") : isKnown(throttled) ? "none" : "unknown";
  return html`<dl class="facts">
    <dt>Temperature</dt><dd>${isKnown(celsius) ? `${number(celsius, 1)} °C` : "no sensor"}</dd>
    <dt>Throttling</dt><dd><${StateMark} kind=${isSlowed ? "warn" : isKnown(throttled) ? "good" : "soft"}>${slowed}</${StateMark}></dd>
    <dt>Clock</dt><dd><${StateMark} kind=${isSynced ? "good" : isSynced === false ? "warn" : "soft"}>${isSynced ? "synchronised" : isSynced === false ? "not synchronised" : "unknown"}</${StateMark}></dd>
    <dt>Memory</dt><dd>${isKnown(resident) ? `${number(resident)} MiB by the daemon` : "unknown"}</dd>
    <dt>Disk</dt><dd>${isKnown(free) ? `${bytes(free * 2 ** 20)} free` : "unknown"}</dd>
  </dl>`;
}

function StorageCard({ storage, evidence }) {
  return html`<section class="card node-card" aria-label="Files">
    <h2>Files</h2>
    <dl class="facts">
      <dt>Evidence</dt>
      <dd>${
        evidence
          ? html`${bytes(evidence.bytes)} <span class="soft">of ${bytes(evidence.max_bytes)}, ${plural(evidence.files, "picture")}</span>
            <span class="meter"><i style=${{ width: `${evidence.max_bytes ? Math.min(100, (100 * evidence.bytes) / evidence.max_bytes) : 0}%` }}></i></span>`
          : html`<span class="soft">not kept</span>`
      }</dd>
      ${storage.map(
        ({ name, files, bytes: size }) => html`<dt key=${name}>${NAMES[name] ?? name}</dt>
          <dd>${isKnown(size) ? html`${bytes(size)} <span class="soft">${plural(files, "file")}</span>` : html`<span class="soft">unknown</span>`}</dd>`,
      )}
    </dl>
  </section>`;
}


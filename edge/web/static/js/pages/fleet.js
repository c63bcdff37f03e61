/** The fleet: every node at the broker, the worst first. */

import { get } from "../api.js";
import { html, useEffect, useState } from "../html.js";
import { StateMark } from "../parts/chip.js";
import { dateTime, duration, isKnown, metres, number, percent, plural, time } from "../parts/format.js";
import { Icon } from "../parts/icons.js";
import { href } from "../router.js";

const POLL_MS = 20_000;
const OLD_S = 60; // a node reports its coverage every 10 s
const VERDICTS = {
  offline: ["soft", "offline"],
  not_inspecting: ["bad", "not inspecting"],
  degraded: ["warn", "degraded"],
  unknown: ["soft", "unknown"],
  inspecting: ["good", "inspecting"],
};

export default function FleetPage() {
  const [found, failure] = useFleet();
  const nodes = found?.nodes ?? [];
  const counts = Object.keys(VERDICTS).map((verdict) => [verdict, nodes.filter((node) => node.verdict === verdict).length]);
  return html`<div class="stack fleet-page">
    <section class="card" aria-label="Nodes">
      <header class="card-head fleet-head">
        <h1>Fleet</h1>
        ${counts.map(([verdict, count]) => count > 0 && html`<span key=${verdict}><${StateMark} kind=${VERDICTS[verdict][0]}>${count} ${VERDICTS[verdict][1]}</${StateMark}></span>`)}
        <span class="end soft" role="status">${found?.asked ? `broker asked ${time(found.asked)}` : failure || found ? "" : "asks the broker"}</span>
      </header>
      ${(found?.problem || failure) && html`<p class="fleet-problem"><${StateMark} kind="warn">${found?.problem ?? failure.reason}</${StateMark}>${nodes.length > 0 ? html` <span class="soft">What follows is from before.</span>` : ""}</p>`}
      ${
        nodes.length
          ? html`<${Nodes} nodes=${nodes} own=${found.own} asked=${found.asked} />`
          : html`<p class="empty">${found?.problem || failure ? "Nothing is known of other nodes." : found ? "No node publishes at this broker." : "It takes some seconds."}</p>`
      }
    </section>
  </div>`;
}

/** Asked again and again while somebody looks. */
function useFleet() {
  const [found, setFound] = useState(null);
  const [failure, setFailure] = useState(null);
  useEffect(() => {
    const control = new AbortController();
    let timer = null;
    const load = async () => {
      if (!document.hidden) {
        try {
          setFound(await get("/fleet", null, { signal: control.signal, quiet: true }));
          setFailure(null);
        } catch (error) {
          if (error.name === "AbortError") return;
          setFailure(error);
        }
      }
      timer = setTimeout(load, POLL_MS);
    };
    load();
    return () => (control.abort(), clearTimeout(timer));
  }, []);
  return [found, failure];
}

function Nodes({ nodes, own, asked }) {
  return html`<table class="table fleet-table">
    <caption class="unseen">Nodes, the worst first</caption>
    <thead>
      <tr><th scope="col">Node</th><th scope="col">State</th><th scope="col">Cameras</th><th scope="col" class="number">Inspected</th><th scope="col">Coil</th><th scope="col">Model</th><th scope="col" class="number">Heard</th></tr>
    </thead>
    <tbody>${nodes.map((node) => html`<${Row} key=${node.node} node=${node} isOwn=${node.node === own} asked=${asked} />`)}</tbody>
  </table>`;
}

function Row({ node, isOwn, asked }) {
  const [kind, words] = VERDICTS[node.verdict] ?? VERDICTS.unknown;
  const ageS = isKnown(node.age_s) ? node.age_s + Math.max(0, (Date.now() - Date.parse(asked)) / 1000) : null;
  const isOld = node.verdict === "offline" || (isKnown(ageS) && ageS > OLD_S);
  const running = node.cameras.filter(({ state }) => state === "running").length;
  return html`<tr class=${isOld ? "old" : ""}>
    <td class="fleet-node">
      <${NodeName} node=${node} isOwn=${isOwn} />
      <span class="soft">${node.version ? `defectd ${node.version}` : ""}</span>
    </td>
    <td class="fleet-state">
      <${StateMark} kind=${isOld && kind === "good" ? "soft" : kind}>${words}${node.verdict === "offline" && node.since ? ` since ${dateTime(node.since)}` : ""}</${StateMark}>
      ${node.reasons.length > 0 && html`<p class="soft" title=${node.reasons.join("\n")}>${node.reasons[0]}${node.reasons.length > 1 ? ` and ${node.reasons.length - 1} more` : ""}</p>`}
    </td>
    <td class="fleet-cameras">
      <span class="soft">${camerasText(node, running)}</span>
      <ul>${node.cameras.map((camera) => html`<li key=${camera.name}><${Camera} camera=${camera} isKnown=${node.verdict !== "offline"} /></li>`)}</ul>
    </td>
    <td class="number fleet-share">${isKnown(node.inspected) ? percent(node.inspected) : ""}</td>
    <td class="fleet-coil">${node.coil ?? ""} ${isKnown(node.position_m) && html`<span class="soft">${metres(node.position_m)}</span>`}</td>
    <td class="fleet-model">${node.model ?? ""}</td>
    <td class="number fleet-heard">${isKnown(ageS) ? `${duration(ageS)} ago` : ""}</td>
  </tr>`;
}

function NodeName({ node: { node, link }, isOwn }) {
  if (isOwn) return html`<a href=${href("/")}>${node}</a> <span class="chip">this one</span>`;
  if (link) return html`<a href=${link} target="_blank" rel="noreferrer noopener"><b>${node}</b> <${Icon} name="link" /><span class="unseen">, opens its page</span></a>`;
  return html`<b>${node}</b>`;
}

function camerasText({ verdict, cameras }, running) {
  if (!cameras.length) return "no camera";
  return verdict === "offline" ? plural(cameras.length, "camera") : `${number(running)} of ${plural(cameras.length, "camera")}`;
}

/** isKnown: false for a node that is offline: what it said before is no news. */
function Camera({ camera, isKnown: isNews }) {
  if (!isNews) return camera.name;
  const icon = { running: "good", paused: "pause" }[camera.state] ?? "warn";
  return html`<span class=${`camera-mark state-${cameraKind(camera)}`} title=${[camera.state, camera.reason].filter(Boolean).join(": ")}><${Icon} name=${icon} />${camera.name}<span class="unseen">, ${camera.state ?? "unknown"}</span></span>`;
}

function cameraKind({ state }) {
  return { running: "good", paused: "warn", bad_image: "warn" }[state] ?? "bad";
}

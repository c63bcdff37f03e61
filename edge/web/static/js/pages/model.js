/** The model: what it is and how it was measured, its canary phase, the shadow model's disputes, what is installed, a new one. */

import { get } from "../api.js";
import { html, useEffect, useState } from "../html.js";
import { ClassName, StateMark } from "../parts/chip.js";
import { className } from "../parts/format.js";
import { useSession } from "../session.js";
import { useStore } from "../store.js";
import { CardDialog, CardFacts, Limits, Measured } from "./model/card.js";
import { InstalledCard } from "./model/installed.js";
import { InstallCard } from "./model/install.js";
import { ShadowCard } from "./model/shadow.js";
import { CanaryCard } from "./model/canary.js";

export default function ModelPage() {
  const model = useStore(({ state }) => state?.model ?? null);
  const cameras = useStore(({ state }) => state?.cameras ?? []);
  const bundle = model?.bundle ?? model?.sha256 ?? null;
  const isCanary = Boolean(model?.canary);
  const [facts, failure, reload] = useModel(`${bundle} ${isCanary}`);
  const [shown, setShown] = useState(null);
  useSession();
  if (!model) return html`<p class="page-loading">Waiting for the node</p>`;
  return html`<div class="stack model-page">
    <div class="model-columns">
      <div class="model-column">
        <${DecidingCard} model=${model} facts=${facts} failure=${failure} />
        ${facts?.card && html`<${Measured} card=${facts.card} precision=${model.precision} /><${Limits} card=${facts.card} />`}
      </div>
      <div class="model-column">
        <${CanaryCard} model=${model} onChange=${reload} />
        <${InstalledCard} facts=${facts} onShow=${setShown} onChange=${reload} />
        <${InstallCard} onChange=${reload} />
        <${TaughtCard} cameras=${cameras} />
      </div>
    </div>
    <${ShadowCard} shadow=${model.shadow} />
    ${shown && html`<${CardDialog} digest=${shown} onClose=${() => setShown(null)} />`}
  </div>`;
}

/** The card of the model that decides, and what is installed; anew when another one decides. */
function useModel(key) {
  const [found, setFound] = useState(null);
  const [failure, setFailure] = useState(null);
  const [turn, setTurn] = useState(0);
  useEffect(() => {
    const control = new AbortController();
    get("/model", null, { signal: control.signal, quiet: true }).then(
      (answer) => (setFound(answer), setFailure(null)),
      (error) => error.name !== "AbortError" && setFailure(error),
    );
    return () => control.abort();
  }, [key, turn]);
  return [found, failure, () => setTurn((known) => known + 1)];
}

function DecidingCard({ model, facts, failure }) {
  return html`<section class="card model-card" aria-label="The model that decides">
    <header class="model-head">
      <h1>${model.name} ${model.version}</h1>
      <${StateMark} kind=${model.canary ? "warn" : "good"}>${model.canary ? "decides, as a canary" : "decides"}</${StateMark}>
    </header>
    <ul class="model-classes">${model.classes.map((name) => html`<li key=${name}><${ClassName} name=${name} severity="minor" /></li>`)}</ul>
    <${CardFacts} card=${facts?.card ?? null} model=${model} digest=${facts?.digest ?? null} />
    ${facts && !facts.card && html`<p class="soft">Its card is not on this node.</p>`}
    ${failure && html`<p class="soft">${failure.reason}</p>`}
  </section>`;
}

/** Classes that a camera was taught on this node: they name its defects instead of the model's own. */
function TaughtCard({ cameras }) {
  const taught = cameras.filter((camera) => camera.taught);
  if (!taught.length) return null;
  return html`<section class="card model-card" aria-label="Taught classes">
    <h2>Taught on this node</h2>
    <dl class="facts">${taught.map(({ name, taught: { classes } }) => html`<dt key=${name}>${name}</dt><dd>${classes.map(className).join(", ")}</dd>`)}</dl>
  </section>`;
}

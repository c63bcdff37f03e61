/** The card of a bundle: what it is, how it was measured, and what these figures do not say. */

import { get } from "../../api.js";
import { html, useEffect, useState } from "../../html.js";
import { ClassName } from "../../parts/chip.js";
import { Dialog } from "../../parts/dialog.js";
import { bytes, className, isKnown, number, percent } from "../../parts/format.js";
import { TableFrame } from "../../parts/table.js";

/** model: the state's, for the one that decides. */
export function CardFacts({ card, model, digest }) {
  const int8 = card?.metrics?.int8;
  return html`<dl class="facts">
    ${model && html`<dt>Precision</dt><dd>${model.precision ?? "unknown"}${model.precision === "int8" && int8?.bytes ? html` <span class="soft">${bytes(int8.bytes)}</span>` : ""}</dd>`}
    ${
      card &&
      html`<dt>Tiles</dt><dd>${number(card.tile_px)} px at the scale of the training pictures, the network sees ${number(card.input_px)} px</dd>
        <dt>Trained on</dt><dd>${trainedOn(card)}</dd>
        ${card.metrics?.thresholds && html`<dt>Thresholds</dt><dd>${Object.entries(card.metrics.thresholds).map(([name, value]) => `${name} ${number(value, 2)}`).join(", ")} <span class="soft">of the card; calibrations override them</span></dd>`}`
    }
    ${digest && html`<dt>Digest</dt><dd><code title=${digest}>${digest.slice(0, 12)}</code></dd>`}
    ${model?.sha256 && html`<dt>Network</dt><dd><code title=${model.sha256}>${model.sha256.slice(0, 12)}</code></dd>`}
  </dl>`;
}

function trainedOn({ training }) {
  const pictures = training?.pictures?.train ?? training?.pictures?.n;
  const source = typeof training?.data === "string" ? training.data.split(/[;,(]| by /)[0] : null;
  return [isKnown(pictures) && `${number(pictures)} pictures`, source].filter(Boolean).join(", ") || "not stated";
}

/** Accuracy with its interval, and F1 of each class, of the network in use. */
export function Measured({ card, precision }) {
  const sets = Object.entries(card.metrics?.accuracy ?? {})
    .map(([name, by]) => ({ name, figures: by[precision] ?? by.fp32 ?? (isKnown(by.n) ? by : null) }))
    .filter(({ figures }) => figures?.n);
  if (!sets.length) return null;
  const best = sets.toSorted((one, other) => other.figures.n - one.figures.n)[0];
  return html`<section class="card model-card" aria-label="How it was measured">
    <h2>Measured before it came here</h2>
    <${TableFrame} label="How it was measured">
      <table class="table">
        <thead><tr><th scope="col">on</th><th scope="col" class="number">pictures</th><th scope="col" class="number">right</th><th scope="col" class="number">95 %</th></tr></thead>
        <tbody>${sets.map(({ name, figures }) => html`<tr key=${name}><td>${name}</td><td class="number">${number(figures.n)}</td><td class="number">${percent(figures.right / figures.n)}</td><td class="number">${interval(figures.interval_95)}</td></tr>`)}</tbody>
      </table>
    </${TableFrame}>
    ${best.figures.f1 && html`<${ClassBars} f1=${best.figures.f1} name=${best.name} n=${best.figures.n} />`}
  </section>`;
}

function ClassBars({ f1, name, n }) {
  return html`<div class="class-bars" role="list" aria-label="F1 of each class">
      ${Object.entries(f1).map(
        ([one, value]) => html`<div role="listitem" key=${one}><${ClassName} name=${one} severity="minor" /><span class="meter accent" aria-hidden="true"><i style=${{ width: `${100 * value}%` }}></i></span><span>${number(value, 3)}</span></div>`,
      )}
    </div>
    <p class="soft">F1 of each class: ${name}, n = ${number(n)}.</p>`;
}

/** What it does on defect-free surface that it was not made for, and where it gets worse. */
export function Limits({ card }) {
  const sound = Object.entries(card.metrics?.sound ?? {}).filter(([, one]) => one?.n);
  const worst = hardest(card.metrics?.int8);
  if (!sound.length && !worst.length) return null;
  return html`<section class="card model-card" aria-label="Limits">
    <h2>Limits</h2>
    ${
      sound.length > 0 &&
      html`<${TableFrame} label="Defect-free surface"><table class="table">
          <thead><tr><th scope="col">defect-free surface</th><th scope="col" class="number">tiles</th><th scope="col" class="number">called a defect</th><th scope="col" class="number">unsure</th></tr></thead>
          <tbody>${sound.map(([name, one]) => html`<tr key=${name}><td>${name}</td><td class="number">${number(one.n)}</td><td class="number">${count(one.defect, one.n)}</td><td class="number">${count(one.unsure, one.n)}</td></tr>`)}</tbody>
        </table></${TableFrame}>
        <p class="soft">Steel of other mills than the training's: thresholds and an anomaly model of your own surface lower these figures.</p>`
    }
    ${worst.length > 0 && html`<p class="soft">It loses most by ${worst.map(({ name, right, n }) => `${name} (${right} of ${n} right)`).join(", ")}.</p>`}
    <p class="soft">Figures of a card say little of your strip: label random tiles on the page Label to measure that.</p>
  </section>`;
}

function hardest(figures) {
  const n = figures?.n;
  const found = Object.entries(figures?.corrupted ?? {}).map(([name, counts]) => ({ name, right: Array.isArray(counts) ? counts[1] : counts, n }));
  return n ? found.filter(({ right }) => right < n).sort((one, other) => one.right - other.right).slice(0, 2) : [];
}

function count(some, all) {
  return isKnown(some) ? `${number(some)} (${percent(some / all, 0)})` : "unknown";
}

function interval(bounds) {
  return Array.isArray(bounds) ? `${percent(bounds[0])} to ${percent(bounds[1])}` : "unknown";
}

/** The card of any installed bundle. */
export function CardDialog({ digest, onClose }) {
  const [found, setFound] = useState(null);
  useEffect(() => {
    get("/model", { digest }, { quiet: true }).then(
      (answer) => setFound(answer),
      (error) => setFound({ failure: error }),
    );
  }, [digest]);
  const card = found?.card;
  return html`<${Dialog} title=${card ? `${card.name} ${card.version}` : "Model"} onClose=${onClose} isWide>
    ${!found && html`<p class="soft">Loading</p>`}
    ${found && !card && html`<p class="soft">${found.failure?.reason ?? "Its card cannot be read."}</p>`}
    ${
      card &&
      html`<ul class="model-classes">${card.classes.map((name) => html`<li key=${name}>${className(name)}</li>`)}</ul>
        <${CardFacts} card=${card} digest=${digest} /><${Measured} card=${card} precision="int8" /><${Limits} card=${card} />`
    }
  </${Dialog}>`;
}

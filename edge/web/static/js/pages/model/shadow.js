/** The shadow model: how often it disagrees, and the tiles about which it does. */

import { get } from "../../api.js";
import { html, useEffect, useState } from "../../html.js";
import { BoxedPicture } from "../../label/picture.js";
import { className, dateTime, number, percent } from "../../parts/format.js";
import { ClassIcon } from "../../parts/icons.js";
import { href } from "../../router.js";
import { TableFrame } from "../../parts/table.js";

const SHOWN = 24;
const POLL_MS = 15_000;
const STATES = { ok: "good", defect: "defect", unsure: "unsure", bad_image: "bad picture" };

export function ShadowCard({ shadow }) {
  const pictures = usePictures();
  if (!shadow && !pictures.length)
    return html`<section class="card model-card" aria-label="Shadow model">
      <h2>Shadow model</h2>
      <p class="soft">None runs. With <code>model.shadow</code> a second model inspects a share of the frames and never decides; where it disagrees, its tiles are shown here.</p>
    </section>`;
  return html`<section class="card shadow-card" aria-label="Shadow model">
    <header class="card-head"><h2>Shadow model</h2>
      ${shadow && html`<b>${shadow.model.name} ${shadow.model.version}</b><span class="soft">inspects ${percent(shadow.share, 0)} of the frames, time permitting</span>`}
      <a class="end" href=${href("/evidence", { kind: "shadow" })}>All disputed tiles</a></header>
    ${shadow && html`<${Tallies} cameras=${shadow.cameras} />`}
    ${
      pictures.length
        ? html`<ul class="disputes">${pictures.map((item) => html`<li key=${item.evidence}><${Dispute} item=${item} /></li>`)}</ul>`
        : html`<p class="empty">No disputed tile is kept yet.</p>`
    }
  </section>`;
}

function Tallies({ cameras }) {
  return html`<${TableFrame} label="Disagreements"><table class="table">
    <thead><tr><th scope="col">camera</th><th scope="col" class="number">frames</th><th scope="col" class="number">disagrees</th><th scope="col">how</th><th scope="col" class="number">no time</th><th scope="col" class="number">failed</th></tr></thead>
    <tbody>
      ${Object.entries(cameras ?? {}).map(
        ([name, one]) => html`<tr key=${name}>
          <td>${name}</td><td class="number">${number(one.frames)}</td>
          <td class="number">${number(one.disagreed)}${one.frames ? ` (${percent(one.disagreed / one.frames)})` : ""}</td>
          <td>${Object.entries(one.otherwise ?? {}).map(([how, count]) => `${number(count)} ${howText(how)}`).join(", ") || "never"}</td>
          <td class="number">${number(one.no_time)}</td><td class="number">${number(one.failed)}</td>
        </tr>`,
      )}
    </tbody>
  </table></${TableFrame}>`;
}

/** "ok>defect": what the model that decides says, and what the shadow model says. */
function howText(how) {
  if (how === "class") return "another class";
  const [ours, theirs] = how.split(">").map((state) => STATES[state] ?? state);
  return `${ours} → ${theirs}`;
}

function Dispute({ item }) {
  return html`<a href=${href("/evidence", { kind: "shadow", picture: item.evidence })}>
    <span class="dispute-picture"><${BoxedPicture} item=${item} alt="" /></span>
    <span class="dispute-said"><span class="soft">decides</span><${Verdict} name=${item.decided} score=${item.scores?.[0]} /></span>
    <span class="dispute-said"><span class="soft">shadow</span><${Verdict} name=${item.shadow?.decided} score=${item.shadow?.scores?.[0]} /></span>
    <span class="soft dispute-where">${item.camera}, <time dateTime=${item.time}>${dateTime(item.time)}</time></span>
  </a>`;
}

function Verdict({ name, score }) {
  const isSame = score && score.class === name;
  return html`<b class="class-name"><${ClassIcon} name=${name ?? "unsure"} severity=${name === "good" ? null : "minor"} />${className(name)}</b><span class="soft">${isSame ? number(score.p, 2) : ""}</span>`;
}

function usePictures() {
  const [pictures, setPictures] = useState([]);
  useEffect(() => {
    const control = new AbortController();
    let timer = null;
    const load = async () => {
      try {
        if (!document.hidden) setPictures((await get("/evidence", { kind: "shadow", limit: SHOWN }, { signal: control.signal, quiet: true })).pictures);
      } catch (error) {
        if (error.name === "AbortError") return; // otherwise those shown stay
      }
      timer = setTimeout(load, POLL_MS);
    };
    load();
    return () => (control.abort(), clearTimeout(timer));
  }, []);
  return pictures;
}

/** The live page: how it stands, what needs attention, pictures, the strip, newest events, latency, health. `?wall` for a big screen. */

import { html, useCallback, useEffect, useState } from "../html.js";
import { useKeys } from "../keys.js";
import { href, navigate } from "../router.js";
import { useStore } from "../store.js";
import { Attention } from "./live/attention.js";
import { Band } from "./live/band.js";
import { CameraCards } from "./live/camera_cards.js";
import { Health } from "./live/health.js";
import { Latency } from "./live/latency.js";
import { Newest } from "./live/newest.js";
import { StripCard } from "./live/strip_card.js";

export default function LivePage({ query }) {
  const isWall = "wall" in query;
  const hasState = useStore(({ state }) => state !== null);
  const isDemo = useStore(({ state }) => Boolean(state?.cameras.length) && state.cameras.every((camera) => camera.is_generated));
  const [focus, setFocus] = useState(null);
  const [selected, setSelected] = useState(null);
  const showOnMap = useCallback((place) => {
    setFocus({ ...place });
    document.querySelector(".strip-map canvas")?.focus();
  }, []);
  useEffect(() => {
    const m = Number.parseFloat(query.m); // a link from an event or a coil's page
    if (hasState && Number.isFinite(m)) setFocus({ from: m - 10, to: m + 10 });
  }, [query.m, hasState]);
  useKeys("Live", {
    m: ["to the map", () => document.querySelector(".strip-map canvas")?.focus()],
    e: ["all events", () => navigate("/events")],
    w: ["big figures for the wall, and back", () => navigate("/", { query: isWall ? {} : { wall: 1 } })],
  });
  if (!hasState) return html`<p class="page-loading">Waiting for the node</p>`;
  return html`<div class="live-page ${isWall ? "on-wall" : ""}">
    <h1 class="unseen">Live</h1>
    <${Band} />
    <${Attention} isWall=${isWall} onShow=${showOnMap} />
    <div class="live-main">
      <div class="live-left">
        <${CameraCards} isWall=${isWall} />
        ${!isWall && isDemo && html`<p class="live-demo soft">This is a generated strip. <a href=${href("/setup")}>Set up your own camera</a></p>`}
        <${StripCard} isWall=${isWall} focus=${focus} selected=${selected} onSelect=${setSelected} />
      </div>
      ${
        !isWall &&
        html`<div class="live-side">
          <${Newest} selected=${selected} />
          <${Latency} />
          <${Health} />
        </div>`
      }
    </div>
    ${isWall && html`<a class="leave-wall" href=${href("/")}>Leave the wall</a>`}
  </div>`;
}

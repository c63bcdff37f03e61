/** A card for each camera with its live picture; columns by the room there is. */

import { html, useEffect, useRef, useState } from "../../html.js";
import { CameraPicture } from "../../parts/camera_picture.js";
import { StateMark } from "../../parts/chip.js";
import { isKnown, number, percent } from "../../parts/format.js";
import { href } from "../../router.js";
import { useStore } from "../../store.js";
import { sinceText } from "./band.js";

const HEAD_PX = 34;
const GAP_PX = 10;
const MAX_COLUMNS = 4;
const KINDS = { running: "good", paused: "warn", bad_image: "warn" };
const NOTES = { no_signal: "No signal", paused: "Paused" };

export function CameraCards({ isWall }) {
  const cameras = useStore(({ state }) => state.cameras);
  const element = useRef(null);
  const [room, setRoom] = useState({ width: 1000, height: 400 });
  useEffect(() => {
    const measured = () => {
      const width = Math.round(element.current.clientWidth);
      const height = Math.round(innerHeight * (isWall ? 0.33 : 0.5));
      setRoom((known) => (known.width === width && known.height === height ? known : { width, height }));
    };
    const resizes = new ResizeObserver(measured);
    resizes.observe(element.current);
    addEventListener("resize", measured);
    return () => (resizes.disconnect(), removeEventListener("resize", measured));
  }, [isWall]);
  const { columns, pictureHeight } = layout(cameras, room);
  return html`<div class="camera-cards" ref=${element} style=${{ "--columns": columns, "--picture-height": `${pictureHeight}px` }}>
    ${cameras.map((camera) => html`<${CameraCard} key=${camera.name} camera=${camera} isWall=${isWall} columns=${columns} />`)}
    ${!cameras.length && html`<p class="card empty">No camera is configured.</p>`}
  </div>`;
}

/** The fewest columns with which all pictures fit; with none, the most, and the page scrolls. */
function layout(cameras, { width, height }) {
  const aspect = Math.max(...cameras.map(({ size_px }) => (size_px ? size_px[0] / size_px[1] : 6.25)), 0.5);
  const most = width < 700 ? 1 : Math.min(MAX_COLUMNS, cameras.length);
  for (let columns = 1; columns <= most; columns += 1) {
    const rows = Math.ceil(cameras.length / columns);
    const each = (height - GAP_PX * (rows - 1)) / rows - HEAD_PX;
    const natural = (width - GAP_PX * (columns - 1)) / columns / aspect;
    if (natural <= each || columns === most) return { columns, pictureHeight: Math.round(Math.max(90, Math.min(natural, Math.max(each, 140)))) };
  }
  return { columns: 1, pictureHeight: 200 };
}

function CameraCard({ camera, isWall, columns }) {
  const state = useStore((store) => store.state);
  const { inspected = 0, skipped = 0 } = camera.tiles ?? {};
  const seen = inspected + skipped;
  const note = NOTES[camera.state] && [NOTES[camera.state] + (camera.reason ? `: ${camera.reason}` : ""), sinceText(camera.since, state)].filter(Boolean).join(", ");
  return html`<article class="card camera-card" aria-label=${`Camera ${camera.name}`}>
    <header>
      <b>${camera.name}</b>
      ${camera.surface && camera.surface !== camera.name && columns < 3 && html`<span class="soft">${camera.surface}</span>`}
      <${StateMark} kind=${KINDS[camera.state] ?? "bad"}>${camera.state.replaceAll("_", " ")}</${StateMark}>
      ${camera.domain?.answer === "outside" && html`<${StateMark} kind="warn">other steel</${StateMark}>`}
      ${
        !isWall &&
        html`<div class="camera-facts">
          <span><b>${isKnown(camera.fps) ? number(camera.fps, 1) : "–"}</b> fps</span>
          ${columns < 3 && html`<span>p99 <b>${isKnown(camera.p99_ms) ? number(camera.p99_ms, 1) : "–"}</b> ms</span>`}
          ${columns < 2 && html`<span>inspected <b>${seen ? percent(inspected / seen) : "–"}</b></span>`}
          ${columns < 2 && html`<span>${isKnown(camera.mm_per_px) ? html`1 px = ${number(camera.mm_per_px, 2)} mm` : html`<a href=${href(`/calibrate/${encodeURIComponent(camera.name)}`)}>no scale</a>`}</span>`}
        </div>`
      }
    </header>
    <${CameraPicture} camera=${camera.name} note=${note || null} size=${camera.size_px} labelPx=${isWall ? 19 : columns > 2 ? 12 : 13.5} />
  </article>`;
}

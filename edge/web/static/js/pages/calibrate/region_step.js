/** The region that is inspected and the zones that are not, drawn on a still picture, with the tiles that follow from it. */

import { html, useEffect, useMemo, useRef, useState } from "../../html.js";
import { plural } from "../../parts/format.js";
import { Icon } from "../../parts/icons.js";
import { problemOf } from "../../parts/polygon.js";
import { PolygonEditor } from "../../parts/polygon_editor.js";
import { can } from "../../session.js";
import { isUnfinished, usePreview } from "./preview.js";
import { Failure, Progress, Result } from "./result.js";
import { cornersOf, described, shapeOf } from "./shapes.js";
import { StepCard } from "./step_card.js";
import { layTiles } from "./tile_layout.js";

const ASK_AFTER_MS = 700;
const MAX_ZONES = 32;

export function RegionStep({ camera, facts, step, still, onApplied }) {
  const used = facts.in_use;
  const [region, setRegion] = useState(used.roi);
  const [zones, setZones] = useState(used.exclude);
  const [selected, setSelected] = useState("region-0");
  const [drawing, setDrawing] = useState(null);
  const [asked, setAsked] = useState(null);
  const preview = usePreview(camera, "roi", onApplied);
  const isLocked = !can("engineer");
  const follows = Boolean(facts.parts.roi?.track) && !facts.configured.includes("roi");
  const { size, url } = still;
  const key = JSON.stringify([region, zones]);
  const isChanged = key !== JSON.stringify([used.roi, used.exclude]);
  const isConfirmed = asked === key && preview.job?.state === "done";
  const shapes = size
    ? [
        { id: "region-0", kind: "region", points: cornersOf(region, size) },
        ...zones.map((zone, place) => ({ id: `exclusion-${place + 1}`, kind: "exclusion", points: cornersOf(zone, size) })),
      ]
    : [];
  const wrong = shapes.map(({ points }) => problemOf(points)).find(Boolean);
  const tiles = useMemo(() => {
    if (isConfirmed) return preview.job.result.tiles;
    if (!size) return [];
    return layTiles({ size, tilePx: used.tile_px, inputPx: facts.model.input_px, overlap: used.overlap, region, zones });
  }, [key, size?.[0], size?.[1], isConfirmed]);

  // The node lays the tiles when the hand rests: what it answers is what the daemon would do.
  const timer = useRef(null);
  useEffect(() => {
    clearTimeout(timer.current);
    if (!isChanged || !size || isLocked || wrong || asked === key) return;
    timer.current = setTimeout(() => {
      setAsked(key);
      const isKept = follows && JSON.stringify(region) === JSON.stringify(used.roi);
      preview.start(isKept ? { keep_region: true, exclude: zones } : { shape: region ?? [0, 0, ...size], exclude: zones }, { quiet: true });
    }, ASK_AFTER_MS);
    return () => clearTimeout(timer.current);
  }, [key, isChanged, size?.[0]]);
  useEffect(() => {
    setRegion(used.roi);
    setZones(used.exclude);
    setAsked(null);
  }, [facts.sha256]);

  const change = (changed) => {
    const drawn = changed.find(({ kind }) => kind === "region");
    setRegion(drawn ? shapeOf(drawn.points) : null);
    setZones(changed.filter(({ kind }) => kind === "exclusion").slice(0, MAX_ZONES).map(({ points }) => shapeOf(points)));
  };
  const addZone = () => {
    setZones([...zones, middleOf(size)]);
    setSelected(`exclusion-${zones.length + 1}`);
  };
  const removeZone = (place) => {
    setZones(zones.toSpliced(place, 1));
    setSelected("region-0");
  };
  const search = async () => {
    const done = await preview.start({ exclude: zones });
    if (done?.state !== "done") return;
    setAsked(JSON.stringify([done.result.roi, zones]));
    setRegion(done.result.roi);
  };
  const reset = () => {
    preview.clear();
    setAsked(null);
    setRegion(used.roi);
    setZones(used.exclude);
  };

  return html`<${StepCard}
    title="Region"
    about="Draw what is inspected: the strip without its edges. Exclusions are places that look the same in every frame, like a reflection or a stain on the glass. A tile with more than half of its area in one is left out."
    step=${step}
  >
    ${facts.in_use && facts.configured.includes("roi") && html`<p class="calibrate-remark"><${Icon} name="warn" />The configuration has its own region, which overrides this one.</p>`}
    ${follows && html`<p class="calibrate-remark"><${Icon} name="warn" />The region follows the edges of the strip. A region that you draw stays where it is.</p>`}
    <div class="calibrate-tools">
      <button class="button" aria-pressed=${String(drawing === "region")} disabled=${isLocked || !size} onClick=${() => setDrawing(drawing === "region" ? null : "region")}>Draw the region</button>
      <button class="button" aria-pressed=${String(drawing === "exclusion")} disabled=${isLocked || !size || zones.length >= MAX_ZONES} onClick=${() => setDrawing(drawing === "exclusion" ? null : "exclusion")}>Draw an exclusion</button>
      <button class="button" disabled=${isLocked || !size || isUnfinished(preview.job)} onClick=${search}>Find the edges</button>
      <button class="button" disabled=${isLocked || !size} onClick=${() => setRegion([0, 0, ...size])}>Whole frame</button>
      <button class="button" disabled=${isLocked || !size || zones.length >= MAX_ZONES} onClick=${addZone}><${Icon} name="plus" />Exclusion</button>
      <${FreezeButton} still=${still} />
      <button class="button" disabled=${!isChanged} onClick=${reset}><${Icon} name="undo" />Start over</button>
    </div>
    <${Still} still=${still}>
      ${
        size &&
        html`<${PolygonEditor}
          size=${size}
          shapes=${shapes}
          onChange=${change}
          drawing=${drawing}
          onDrawn=${() => setDrawing(null)}
          selected=${selected}
          onSelect=${setSelected}
          readOnly=${isLocked}
          over=${html`<${Tiles} tiles=${wrong ? [] : tiles} before=${isChanged ? cornersOf(used.roi, size) : null} isProvisional=${isChanged && !isConfirmed} region=${shapes[0].points} size=${size} />`}
        >
          <img class="calibrate-picture" src=${url} alt=${`Frame of camera ${camera}`} draggable=${false} />
        </${PolygonEditor}>`
      }
    </${Still}>
    <p class="calibrate-count" role="status">
      ${wrong ? html`<b class="calibrate-wrong">A shape ${wrong}.</b>` : html`<b>${plural(tiles.length, "tile")}</b> of ${used.tile_px} px${isChanged && !isConfirmed ? ", about" : ", as the daemon lays them"}.`}
      <span class="soft"> ${drawing ? "Drag a rectangle, or click corner by corner; Enter closes, Escape gives up." : "Drag corners, or give them the focus and use the arrow keys: Shift moves 10 px, Delete removes, + adds."}</span>
    </p>
    ${
      size &&
      html`<ul class="calibrate-shapes">
        ${shapes.map(
          ({ id, kind, points }, place) => html`<li key=${id} class=${id === selected ? "selected" : ""}>
            <button class="calibrate-shape-name" aria-pressed=${String(id === selected)} onClick=${() => setSelected(id)}>
              <i class=${`swatch ${kind}`}></i>${kind === "region" ? "Region" : `Exclusion ${place}`}: ${described(shapeOf(points), size)}
            </button>
            ${kind === "exclusion" && html`<button class="icon-button plain" disabled=${isLocked} aria-label=${`Remove exclusion ${place}`} onClick=${() => removeZone(place - 1)}><${Icon} name="close" /></button>`}
          </li>`,
        )}
      </ul>`
    }
    <${Progress} job=${preview.job} />
    <${Failure} job=${preview.job} />
    ${
      isConfirmed &&
      html`<${Result}
        preview=${{ ...preview, clear: reset }}
        canApply=${!isLocked && isConfirmed}
        rows=${[
          ["Region", described(used.roi, size), described(region, size)],
          ["Exclusions", String(used.exclude.length), String(zones.length)],
          ["Tiles", null, String(tiles.length)],
        ]}
        labels=${{ roi: "A newer frame: inspected in green, excluded in red" }}
      />`
    }
  </${StepCard}>`;
}

/** The tiles, the region in use, and what is not inspected darkened. */
function Tiles({ tiles, before, isProvisional, region, size: [width, height] }) {
  return html`<path class="calibrate-outside" fill-rule="evenodd" d=${`M0 0H${width}V${height}H0z${path(region)}`} />
    <g class="calibrate-tiles ${isProvisional ? "provisional" : ""}">
      ${tiles.map(([x, y, w, h]) => html`<rect x=${x} y=${y} width=${w} height=${h} />`)}
    </g>
    ${before && html`<path class="calibrate-before" d=${path(before)} />`}`;
}

const path = (corners) => `M${corners.map((corner) => corner.join(" ")).join("L")}z`;

/** The place of a still picture, also while there is none. */
export function Still({ still, children }) {
  if (still.size) return html`<div class="calibrate-still">${children}</div>`;
  return html`<div class="calibrate-still empty">${still.isLoading ? "Taking a picture" : (still.failure ?? "No picture")}</div>`;
}

export function FreezeButton({ still }) {
  return html`<button class="button" disabled=${still.isLoading} onClick=${still.take}><${Icon} name="camera" />New picture</button>`;
}

function middleOf([width, height]) {
  return [Math.round(width * 0.4), Math.round(height * 0.3), Math.round(width * 0.2), Math.round(height * 0.4)];
}


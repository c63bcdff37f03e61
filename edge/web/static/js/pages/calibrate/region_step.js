/** The region that is inspected and the zones that are not, drawn on a still picture, with the tiles that follow from it. */

import { html, useEffect, useMemo, useRef, useState } from "../../html.js";
import { plural } from "../../parts/format.js";
import { Icon } from "../../parts/icons.js";
import { PolygonEditor, describeShape } from "../../parts/polygon_editor.js";
import { can } from "../../session.js";
import { isUnfinished, usePreview } from "./preview.js";
import { Failure, Progress, Result } from "./result.js";
import { StepCard } from "./step_card.js";
import { layTiles } from "./tile_layout.js";

const ASK_AFTER_MS = 700;
const MAX_ZONES = 32;

export function RegionStep({ camera, facts, step, still, onApplied }) {
  const used = facts.in_use;
  const [region, setRegion] = useState(used.roi);
  const [zones, setZones] = useState(used.exclude);
  const [selected, setSelected] = useState("region");
  const [drawsZones, setDrawsZones] = useState(false);
  const [asked, setAsked] = useState(null);
  const preview = usePreview(camera, "roi", onApplied);
  const isLocked = !can("engineer");
  const { size, url } = still;
  const key = JSON.stringify([region, zones]);
  const isChanged = key !== JSON.stringify([used.roi, used.exclude]);
  const isConfirmed = asked === key && preview.job?.state === "done";
  const tiles = useMemo(() => {
    if (isConfirmed) return preview.job.result.tiles;
    if (!size) return [];
    return layTiles({ size, tilePx: used.tile_px, inputPx: facts.model.input_px, overlap: used.overlap, region, zones });
  }, [key, size?.[0], size?.[1], isConfirmed]);

  // The node lays the tiles when the hand rests: what it answers is what the daemon would do.
  const timer = useRef(null);
  useEffect(() => {
    clearTimeout(timer.current);
    if (!isChanged || !size || isLocked || asked === key) return;
    timer.current = setTimeout(() => {
      setAsked(key);
      preview.start({ shape: region ?? [0, 0, ...size], exclude: zones }, { quiet: true });
    }, ASK_AFTER_MS);
    return () => clearTimeout(timer.current);
  }, [key, isChanged, size?.[0]]);
  useEffect(() => {
    setRegion(used.roi);
    setZones(used.exclude);
    setAsked(null);
  }, [facts.sha256]);

  const change = (id, shape) => (id === "region" ? setRegion(shape) : setZones(zones.map((zone, place) => (`zone-${place}` === id ? shape : zone))));
  const draw = (shape) => {
    if (!drawsZones) {
      setRegion(shape);
      setSelected("region");
    } else if (zones.length < MAX_ZONES) addZone(shape);
  };
  const addZone = (shape) => {
    setZones([...zones, shape]);
    setSelected(`zone-${zones.length}`);
  };
  const removeZone = (place) => {
    setZones(zones.toSpliced(place, 1));
    setSelected("region");
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
  const shapes = size && [{ id: "region", name: "the region", kind: "region", shape: region }, ...zones.map((shape, place) => ({ id: `zone-${place}`, name: `exclusion ${place + 1}`, kind: "zone", shape }))];

  return html`<${StepCard}
    title="Region"
    about="Draw what is inspected: the strip without its edges. Exclusions are places that look the same in every frame, like a reflection or a stain on the glass. A tile with more than half of its area in one is left out."
    step=${step}
  >
    ${facts.in_use && facts.configured.includes("roi") && html`<p class="calibrate-remark"><${Icon} name="warn" />The configuration has its own region, which overrides this one.</p>`}
    <div class="calibrate-tools">
      <span class="choice" role="group" aria-label="What a drag on the picture draws">
        <button class="button" aria-pressed=${String(!drawsZones)} disabled=${isLocked} onClick=${() => (setDrawsZones(false), setSelected("region"))}>Region</button>
        <button class="button" aria-pressed=${String(drawsZones)} disabled=${isLocked} onClick=${() => setDrawsZones(true)}>Exclusions</button>
      </span>
      <button class="button" disabled=${isLocked || !size || isUnfinished(preview.job)} onClick=${search}>Find the edges</button>
      <button class="button" disabled=${isLocked || !size} onClick=${() => (setRegion([0, 0, ...size]), setSelected("region"))}>Whole frame</button>
      <button class="button" disabled=${isLocked || !size || zones.length >= MAX_ZONES} onClick=${() => (setDrawsZones(true), addZone(middleOf(size)))}>
        <${Icon} name="plus" />Exclusion
      </button>
      <${FreezeButton} still=${still} />
      <button class="button" disabled=${!isChanged} onClick=${reset}><${Icon} name="undo" />Start over</button>
    </div>
    <${Still} still=${still}>
      ${
        size &&
        html`<${PolygonEditor}
          size=${size}
          picture=${url}
          alt=${`Frame of camera ${camera}`}
          shapes=${shapes}
          selected=${selected}
          before=${isChanged ? (used.roi ?? [0, 0, ...size]) : null}
          tiles=${tiles}
          isProvisional=${isChanged && !isConfirmed}
          isLocked=${isLocked}
          onChange=${change}
          onSelect=${setSelected}
          onDraw=${draw}
        />`
      }
    </${Still}>
    <p class="calibrate-count" role="status">
      <b>${plural(tiles.length, "tile")}</b> of ${used.tile_px} px${isChanged ? (isConfirmed ? ", as the daemon would lay them" : ", about") : ", as the daemon lays them"}.
      <span class="soft"> Drag corners, or give them the focus and use the arrow keys: Shift moves 10 px, Delete removes, + adds.</span>
    </p>
    ${
      size &&
      html`<ul class="calibrate-shapes">
        ${shapes.map(
          ({ id, kind, shape }, place) => html`<li key=${id} class=${id === selected ? "selected" : ""}>
            <button class="calibrate-shape-name" aria-pressed=${String(id === selected)} onClick=${() => setSelected(id)}>
              <i class=${`swatch ${kind}`}></i>${kind === "region" ? "Region" : `Exclusion ${place}`}: ${describeShape(shape, size)}
            </button>
            ${kind === "zone" && html`<button class="icon-button plain" disabled=${isLocked} aria-label=${`Remove exclusion ${place}`} onClick=${() => removeZone(place - 1)}><${Icon} name="close" /></button>`}
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
          ["Region", describeShape(used.roi, size), describeShape(region, size)],
          ["Exclusions", String(used.exclude.length), String(zones.length)],
          ["Tiles", null, String(tiles.length)],
        ]}
        labels=${{ roi: "Inspected in green, excluded in red", tiles: "Tiles in several sizes" }}
      />`
    }
  </${StepCard}>`;
}

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


/** How large a tile is: compared by eye with what the model was trained on. */

import { html, useEffect, useState } from "../../html.js";
import { plural } from "../../parts/format.js";
import { can } from "../../session.js";
import { usePreview } from "./preview.js";
import { Failure, Plates, Progress, Result } from "./result.js";
import { NumberField, StepCard } from "./step_card.js";

export function TileStep({ camera, facts, step, onApplied }) {
  const used = facts.in_use.tile_px;
  const byFile = facts.configured.includes("tile_px");
  const isLocked = !can("engineer") || byFile;
  const [side, setSide] = useState(used);
  const preview = usePreview(camera, "roi", onApplied);
  const { job, change } = preview;
  const isValid = Number.isInteger(side) && side >= 16 && side <= 8192;
  const wanted = byFile ? { keep_region: true } : { keep_region: true, tile_px: side };
  useEffect(() => void (can("engineer") && preview.start(wanted, { quiet: true })), []);
  const sizes = job?.result?.tile_sizes ?? [];
  const isShown = change && (byFile || change.after.tile_px === side);

  return html`<${StepCard}
    title="Tile size"
    about=${`The network sees one tile at a time, shrunk to ${facts.model.input_px} px. It was trained with tiles of ${facts.model.tile_px} px. Choose the size in which the texture of this camera looks as coarse as in the first row.`}
    step=${step}
  >
    ${byFile && html`<p class="calibrate-remark">The configuration gives ${facts.in_use.tile_mm ? "tile_mm" : "tile_px"}, which overrides this step. Remove it there to choose here.</p>`}
    <div class="calibrate-tools">
      ${sizes.map(
        ({ tile_px: px, tiles }) => html`<button class="button" key=${px} aria-pressed=${String(px === side)} disabled=${isLocked || !tiles} onClick=${() => setSide(px)}>
          ${px} px <span class="calibrate-sub">${tiles ? plural(tiles, "tile") : "too large"}</span>
        </button>`,
      )}
    </div>
    <div class="calibrate-tools">
      <${NumberField} label="Side of a tile" unit="px" value=${side} least=${16} most=${8192} onInput=${setSide} />
      <button class="button primary" disabled=${isLocked || !isValid} onClick=${() => preview.start(wanted)}>Preview ${isValid ? `${side} px` : ""}</button>
    </div>
    <${Progress} job=${job} onCancel=${preview.cancel} />
    <${Failure} job=${job} />
    ${job?.state === "done" && !(isShown && !isLocked) && html`<${Plates} job=${job} labels=${LABELS} />`}
    ${
      isShown &&
      !isLocked &&
      html`<${Result}
        preview=${preview}
        canApply=${!isLocked}
        labels=${LABELS}
        rows=${[
          ["Side of a tile", `${used} px`, `${side} px`],
          ["Tiles of a frame", null, String(job.result.tiles.length)],
        ]}
      >
        ${(facts.parts.thresholds || facts.parts.normal) && side !== used && html`<p class="calibrate-remark">Thresholds and good surface were learned with tiles of ${used} px. Learn them again after this.</p>`}
      </${Result}>`
    }
  </${StepCard}>`;
}

const LABELS = { tiles: "First row: generated steel at the scale of the training. Below: tiles of this camera" };

/** Millimetres per pixel: by a known length in the picture, or by a printed board. */

import { html, useState } from "../../html.js";
import { number } from "../../parts/format.js";
import { can } from "../../session.js";
import { LineEditor } from "./line_editor.js";
import { isUnfinished, usePreview } from "./preview.js";
import { FreezeButton, Still } from "./region_step.js";
import { Failure, Progress, Result } from "./result.js";
import { NumberField, StepCard } from "./step_card.js";

export function ScaleStep({ camera, facts, step, still, onApplied }) {
  const [byBoard, setByBoard] = useState(false);
  const [line, setLine] = useState(null);
  const [length, setLength] = useState(null);
  const [board, setBoard] = useState({ columns: 10, rows: 7, square_mm: 20, frames: 15 });
  const preview = usePreview(camera, "scale", onApplied);
  const { job, change } = preview;
  const isLocked = !can("engineer");
  const { size, url } = still;
  const ends = line ?? (size && [[Math.round(size[0] * 0.2), Math.round(size[1] / 2)], [Math.round(size[0] * 0.8), Math.round(size[1] / 2)]]);
  const pixels = ends ? Math.hypot(ends[1][0] - ends[0][0], ends[1][1] - ends[0][1]) : 0;
  const before = facts.parts.scale?.scale.mm_per_px;
  return html`<${StepCard}
    title="Scale"
    about="With a scale, defects have a size in mm. Draw a line over something whose length you know, such as the width of the strip; or show a printed board at five angles, which corrects the lens, too."
    step=${step}
  >
    <div class="calibrate-tools">
      <span class="choice" role="group" aria-label="How the scale is measured">
        <button class="button" aria-pressed=${String(!byBoard)} onClick=${() => setByBoard(false)}>Known length</button>
        <button class="button" aria-pressed=${String(byBoard)} onClick=${() => setByBoard(true)}>Printed board</button>
      </span>
      ${!byBoard && html`<${FreezeButton} still=${still} />`}
    </div>
    ${
      byBoard
        ? html`<div class="calibrate-tools">
            <${NumberField} label="Columns" value=${board.columns} least=${3} most=${30} onInput=${(columns) => setBoard({ ...board, columns })} />
            <${NumberField} label="Rows" value=${board.rows} least=${3} most=${30} onInput=${(rows) => setBoard({ ...board, rows })} />
            <${NumberField} label="Side of a square" unit="mm" value=${board.square_mm} least=${1} most=${500} step="any" onInput=${(side) => setBoard({ ...board, square_mm: side })} hint="Measured on the print" />
            <${NumberField} label="Pictures" value=${board.frames} least=${1} most=${100} onInput=${(frames) => setBoard({ ...board, frames })} hint="One a second; lay it flat for the last" />
            <button class="button primary" disabled=${isLocked || isUnfinished(job)} onClick=${() => preview.start(board)}>Measure</button>
          </div>
          <p class="soft">Print the board on the node: <code>defectd calibrate scale --print board.pdf</code></p>`
        : html`<${Still} still=${still}>
            ${
              size &&
              html`<${LineEditor} size=${size} ends=${ends} readOnly=${isLocked} onChange=${setLine}>
                <img class="calibrate-picture" src=${url} alt=${`Frame of camera ${camera}`} draggable=${false} />
              </${LineEditor}>`
            }
          </${Still}>
          <div class="calibrate-tools">
            <${NumberField} label="Length of the line" unit="mm" value=${length ?? ""} least=${0.01} most=${100000} step="any" onInput=${setLength} hint=${`${number(pixels, 0)} px${length > 0 && pixels ? `, ${number(length / pixels, 4)} mm per px` : ""}`} />
            <button class="button primary" disabled=${isLocked || !(length > 0) || !pixels || isUnfinished(job)} onClick=${() => preview.start({ points: ends.flat(), length_mm: length })}>Preview</button>
          </div>`
    }
    <${Progress} job=${job} onCancel=${preview.cancel} />
    <${Failure} job=${job} />
    <${Result}
      preview=${preview}
      canApply=${!isLocked}
      labels=${{ scale: "The measured length or board" }}
      rows=${
        change
          ? [
              ["Scale", before ? `${number(before, 4)} mm per px` : null, `${number(job.result.mm_per_px, 4)} mm per px`],
              ["Lens", facts.parts.scale?.scale.lens ? "corrected" : "not corrected", job.result.lens ? "corrected" : "not corrected"],
            ]
          : []
      }
    />
  </${StepCard}>`;
}

/** The worst defects of a coil with their pictures, as the report has kept them. */

import { html, useEffect, useMemo } from "../../html.js";
import { SeverityChip } from "../../parts/chip.js";
import { className, isKnown, metres, millimetres, number } from "../../parts/format.js";
import { ClassIcon } from "../../parts/icons.js";
import { href } from "../../router.js";

export function Worst({ report }) {
  if (!report.worst.length) return null;
  return html`<section class="card coil-box" aria-label="Worst defects">
    <h2>Worst defects</h2>
    <ul class="coil-worst">${report.worst.map((defect) => html`<li key=${defect.seq}><${Figure} defect=${defect} /></li>`)}</ul>
  </section>`;
}

function Figure({ defect }) {
  const address = usePicture(defect.picture);
  const across = defect.across_mm ? `${number(defect.across_mm[0])} to ${millimetres(defect.across_mm[1])} from OS` : "across unknown";
  return html`<a class="coil-figure" href=${href(`/events/${defect.seq}`)}>
    ${address ? html`<img src=${address} alt=${`Picture of ${className(defect.class)}`} />` : html`<span class="coil-no-picture">${defect.no_picture}</span>`}
    <span class="class-name"><${ClassIcon} name=${defect.class} severity=${defect.severity} /><b>${className(defect.class)}</b><${SeverityChip} severity=${defect.severity} /></span>
    <span><b>${isKnown(defect.from_m) ? metres(defect.from_m, 2) : "place unknown"}</b>${defect.surface ? `, ${defect.surface}` : ""}</span>
    <span>${across}${isKnown(defect.length_mm) ? `, ${millimetres(defect.length_mm)} long` : ""}</span>
  </a>`;
}

/** The address of a JPEG that came with the report. */
function usePicture(base64) {
  const address = useMemo(() => {
    if (!base64) return null;
    const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
    return URL.createObjectURL(new Blob([bytes], { type: "image/jpeg" }));
  }, [base64]);
  useEffect(() => () => address && URL.revokeObjectURL(address), [address]);
  return address;
}

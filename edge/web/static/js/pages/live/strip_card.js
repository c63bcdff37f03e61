/** The strip map of the live page with its heading, legend and the defect that is chosen. */

import { html, useState } from "../../html.js";
import { SeverityChip } from "../../parts/chip.js";
import { className, metres, millimetres, time } from "../../parts/format.js";
import { ClassIcon } from "../../parts/icons.js";
import { MapLegend, StripMap } from "../../parts/strip_map.js";
import { href, navigate } from "../../router.js";
import { useStripMap } from "./strip_data.js";

const SPAN = { position: 46, time: 300 };

export function StripCard({ isWall, focus, selected, onSelect }) {
  const [view, setView] = useState(null);
  const map = useStripMap(view);
  const chosen = selected === null ? null : map.defects.find((defect) => defect.key === selected);
  const span = innerWidth < 700 ? SPAN[map.by] * 0.55 : SPAN[map.by];
  return html`<section class="card strip-card" aria-label="Map of the strip">
    <header class="card-head">
      <h2>${map.coil ? `Coil ${map.coil}` : "Strip"}${map.by === "time" ? ", by time: positions unknown" : ""}</h2>
      ${chosen ? html`<${Chosen} defect=${chosen} by=${map.by} />` : html`<${MapLegend} />`}
    </header>
    <${StripMap}
      map=${map} span=${span} focus=${focus} selected=${selected} textPx=${isWall ? 17 : 12} hasControls=${!isWall}
      onSelect=${(defect) => onSelect(defect?.key ?? null)} onOpen=${(key) => navigate(`/events/${key}`)} onView=${setView}
    />
  </section>`;
}

function Chosen({ defect, by }) {
  return html`<p class="chosen" role="status">
    <${ClassIcon} name=${defect.class} severity=${defect.severity} /> <b>${className(defect.class)}</b> <${SeverityChip} severity=${defect.severity} always />
    <span>${by === "time" ? time(defect.time) : metres(defect.at, 2)}, ${defect.across_mm === null ? "across unknown" : `${millimetres(defect.across_mm)} from OS`}</span>
    ${defect.key && html`<a href=${href(`/events/${defect.key}`)}>Open</a>`}
  </p>`;
}

/** Coils: the list, how they develop, and one coil with its report. */

import { html } from "../html.js";
import { CoilList } from "./coils/list.js";
import { OneCoil } from "./coils/one_coil.js";
import { Trend } from "./coils/trend.js";

export default function CoilsPage({ id, query }) {
  if (id !== undefined) return html`<${OneCoil} key=${id} id=${id} query=${query} />`;
  return query.view === "trend" ? html`<${Trend} query=${query} />` : html`<${CoilList} />`;
}

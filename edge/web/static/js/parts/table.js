/** A table of rows: `columns` say what a row shows. */

import { html } from "../html.js";

/** Around a table that may be wider than its place: it scrolls there, also by keyboard. */
export function TableFrame({ label, children }) {
  return html`<div class="table-frame" tabindex="0" role="group" aria-label=${label}>${children}</div>`;
}

/**
 * columns: [{title, cell: (row) => text or element, isNumber, isWide}]. rows: objects. id: (row) => key.
 * onSelect makes rows selectable by mouse and by Enter; `isSelected(row)` marks them. empty: shown without rows.
 */
export function Table({ columns, rows, id, onSelect, isSelected, caption, empty = "Nothing yet." }) {
  if (!rows.length) return html`<p class="empty">${empty}</p>`;
  return html`<div class="table-frame">
    <table class="table">
      ${caption && html`<caption class="unseen">${caption}</caption>`}
      <thead>
        <tr>
          ${columns.map(({ title, isNumber }) => html`<th scope="col" class=${isNumber ? "number" : ""}>${title}</th>`)}
        </tr>
      </thead>
      <tbody>
        ${rows.map(
          (row, place) => html`<tr
            key=${id ? id(row) : place}
            class=${onSelect ? "selectable" : ""}
            aria-selected=${isSelected ? String(isSelected(row)) : null}
            tabindex=${onSelect ? 0 : null}
            onClick=${onSelect && (() => onSelect(row))}
            onKeyDown=${onSelect && ((press) => press.key === "Enter" && press.target === press.currentTarget && onSelect(row))}
          >
            ${columns.map(({ cell, isNumber }) => html`<td class=${isNumber ? "number" : ""}>${cell(row)}</td>`)}
          </tr>`,
        )}
      </tbody>
    </table>
  </div>`;
}

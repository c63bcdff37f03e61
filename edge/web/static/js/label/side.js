/** Beside the picture: what the labels are worth, and the newest of them. */

import { html } from "../html.js";
import { className, fullTime, number, plural } from "../parts/format.js";
import { ClassIcon } from "../parts/icons.js";
import { pictureUrl } from "./picture.js";

const FEW = 20;

export function WorthCard({ worth }) {
  return html`<section class="card label-worth">
    <h2>Recall from your labels</h2>
    ${worth ? html`<${WorthTable} worth=${worth} />` : html`<p class="soft">Loading</p>`}
  </section>`;
}

function WorthTable({ worth }) {
  return html`
    <table class="table">
      <thead>
        <tr><th scope="col">class</th><th scope="col" class="number">labels</th><th scope="col" class="number">found</th><th scope="col" class="number">95 %</th></tr>
      </thead>
      <tbody>
        ${worth.classes.map(
          (row) => html`<tr key=${row.name}>
            <td><span class="class-name"><${ClassIcon} name=${row.name} severity="minor" />${className(row.name)}</span></td>
            <td class="number">${number(row.labels)}</td>
            <td class="number">${row.blind ? `${number(row.found)} of ${number(row.blind)}` : html`<span class="soft">none blind</span>`}</td>
            <td class="number ${row.blind && row.blind < FEW ? "few" : ""}">${row.blind ? html`${bounds(row)}${row.blind < FEW && html`<span class="unseen"> (few)</span>`}` : html`<span class="soft">unknown</span>`}</td>
          </tr>`,
        )}
      </tbody>
    </table>
    <p class="soft label-words">
      Found: of ${plural(worth.blind, "random tile")} labelled blind, ${worth.by_thresholds ? "at the thresholds in use" : "as decided when they were taken"}. The other labels are of pictures that the model chose: they cannot
      show what it misses.
      ${worth.left_out > 0 && html` ${plural(worth.left_out, "blind label")} of another model or other taught classes ${worth.left_out === 1 ? "does" : "do"} not count.`}
    </p>
    <p class="soft label-words">${html`<${Advice} worth=${worth} />`} ${html`<${FalseAlarms} found=${worth.false_alarms} />`}</p>`;
}

function Advice({ worth }) {
  if (!worth.advice || !worth.labels) return null;
  const row = worth.classes.find((one) => one.name === worth.advice.name);
  const tiles = worth.advice.random_tiles;
  return html`<span>Ten more of <b>${className(row.name)}</b> would narrow most, to ${bounds({ low: row.low_more, high: row.high_more })}${tiles === null ? "" : ` (about ${number(tiles)} random tiles)`}.</span>`;
}

function FalseAlarms({ found }) {
  if (!found.defects) return html`<span>False alarms: label some defects.</span>`;
  if (found.per_hour === null) return html`<span>False alarms: ${found.false} of ${plural(found.defects, "defect")}.</span>`;
  return html`<span>False alarms: <b>${rate(found.per_hour)} an hour</b> (${rate(found.low)} to ${rate(found.high)}): ${found.false} of ${plural(found.defects, "defect")}.</span>`;
}

function bounds({ low, high }) {
  return `${Math.floor(100 * low)} to ${Math.ceil(100 * high)}\u00a0%`;
}

function rate(value) {
  return number(value, value < 10 ? 1 : 0);
}

export function RecentCard({ rows }) {
  return html`<section class="card label-recent">
    <h2>Recent labels <span class="undo-key"><kbd>Z</kbd> undo</span></h2>
    ${
      rows.length
        ? html`<ul>
            ${rows.map(
              (row) => html`<li key=${row.key} class=${row.isSent ? "" : "unsent"}>
                <img src=${pictureUrl(row.evidence)} alt="" width="34" height="34" loading="lazy" />
                <b>${row.undone ? html`<s>${className(row.label)}</s>` : className(row.label)}</b>
                <span class="soft" title=${row.by ? `${row.by}, ${fullTime(row.time)}` : null}><${Remark} row=${row} /></span>
              </li>`,
            )}
          </ul>`
        : html`<p class="soft">None yet. One key labels a picture and shows the next.</p>`
    }
  </section>`;
}

function Remark({ row }) {
  if (row.undone) return "taken back";
  if (row.before && row.before !== row.label) return html`<s>${className(row.before)}</s>`;
  if (row.guess === undefined) return "blind";
  if (row.guess === null) return "";
  if (row.guess === row.label) return row.blind ? "blind, right" : "as predicted";
  return html`${row.blind ? "blind, " : ""}<s>${className(row.guess)}</s>`;
}

/** Delivery to the broker, what it refused, and the further outputs. */

import { command } from "../../api.js";
import { html, useEffect, useState } from "../../html.js";
import { StateMark } from "../../parts/chip.js";
import { Confirm } from "../../parts/dialog.js";
import { dateTime, fullTime, isKnown, number, plural } from "../../parts/format.js";
import { toast } from "../../parts/toast.js";
import { href } from "../../router.js";
import { can } from "../../session.js";

const MAX_LETTERS = 50;
const KINDS = { running: "good", failed: "bad", stopped: "soft" };

export function DeliveryCard({ state: { delivery, outputs } }) {
  const isUp = delivery.connected;
  return html`<section class="card node-card" aria-label="Delivery">
    <h2>Delivery</h2>
    <dl class="facts">
      <dt>Broker</dt>
      <dd><${StateMark} kind=${isUp ? "good" : isKnown(isUp) ? "warn" : "soft"}>${isUp ? "connected" : isKnown(isUp) ? "not connected" : "unknown"}</${StateMark}></dd>
      <dt>Waiting</dt><dd>${isKnown(delivery.queued) ? plural(delivery.queued, "event") : "unknown"} <span class="soft">last seq ${number(delivery.last_seq)}</span></dd>
      ${outputs.map(
        (output) => html`<dt key=${output.name}>${output.name}</dt>
          <dd><${StateMark} kind=${KINDS[output.state] ?? "warn"}>${output.state}</${StateMark}>
            ${output.restarts > 0 && html`<span class="soft">${plural(output.restarts, "restart")}</span>`}
            ${output.last_error && html`<span class="soft">${output.last_error}</span>`}</dd>`,
      )}
    </dl>
    <${DeadLetters} count=${delivery.dead_letters} />
  </section>`;
}

/** Events that the broker refused for good: sent again by an operator, deleted by an engineer. */
function DeadLetters({ count }) {
  const [letters, setLetters] = useState(null);
  const [asks, setAsks] = useState(null);
  const [isBusy, setIsBusy] = useState(false);
  const load = () =>
    command("dead-letters", { action: "list", limit: MAX_LETTERS }, { quiet: true }).then(
      ({ result }) => setLetters(result.letters),
      (error) => setLetters(error),
    );
  useEffect(() => {
    if (count) load();
    else setLetters([]);
  }, [count]);
  if (!count) return html`<p class="soft">${isKnown(count) ? "The broker has refused no event." : "Dead letters: unknown."}</p>`;
  const act = async (action, seqs) => {
    setIsBusy(true);
    try {
      const { result } = await command("dead-letters", seqs ? { action, seqs } : { action, all: true });
      toast(`${plural(result.done, "event")} ${action === "retry" ? "will be sent again" : "deleted"}.`);
      load();
    } catch {
      // the message is on the page
    }
    setIsBusy(false);
    setAsks(null);
  };
  const list = Array.isArray(letters) ? letters : [];
  return html`<div class="dead-letters">
    <p><${StateMark} kind="warn">${plural(count, "dead letter")}</${StateMark}> <span class="soft">events that the broker refused for good</span></p>
    ${letters && !Array.isArray(letters) && html`<p class="soft">${letters.reason}</p>`}
    ${
      list.length > 0 &&
      html`<ul class="letters">
        ${list.map(
          (letter) => html`<li key=${letter.seq}>
            <div><a href=${href(`/events/${letter.seq}`)}>seq ${letter.seq}</a> <span>${letter.reason || letter.code}</span>
              <time class="soft" dateTime=${letter.refused} title=${fullTime(letter.refused)}>${dateTime(letter.refused)}</time></div>
            <button class="button" disabled=${isBusy || !can("operator")} aria-label=${`Send seq ${letter.seq} again`} onClick=${() => act("retry", [letter.seq])}>Retry</button>
            <button class="button" disabled=${isBusy || !can("engineer")} aria-label=${`Discard seq ${letter.seq}`} onClick=${() => setAsks({ seqs: [letter.seq], text: `Event ${letter.seq} is deleted.` })}>Discard</button>
          </li>`,
        )}
      </ul>`
    }
    ${count > list.length && list.length > 0 && html`<p class="soft">The newest ${list.length} are shown.</p>`}
    <div class="buttons">
      <button class="button" disabled=${isBusy || !can("operator")} onClick=${() => act("retry", null)}>Send all again</button>
      <button class="button" disabled=${isBusy || !can("engineer")} onClick=${() => setAsks({ seqs: null, text: `All ${count} refused events are deleted.` })}>Discard all</button>
    </div>
    ${asks && html`<${Confirm} title="Discard?" detail=${`${asks.text} They have reached nobody, and cannot come back.`} action="Discard" isDangerous isBusy=${isBusy} onConfirm=${() => act("discard", asks.seqs)} onClose=${() => setAsks(null)} />`}
  </div>`;
}

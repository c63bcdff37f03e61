/** Who may use the page and who does, and what people have changed. */

import { get } from "../../api.js";
import { html, useEffect, useState } from "../../html.js";
import { summary } from "../../parts/event_words.js";
import { dateTime, fullTime, plural } from "../../parts/format.js";
import { Icon } from "../../parts/icons.js";
import { href } from "../../router.js";
import { onEvent } from "../../store.js";

const ROLES = ["engineer", "operator", "viewer"];
const SHOWN = 20;

export function PeopleCard({ people }) {
  if (!people) return null;
  return html`<section class="card node-card" aria-label="People">
    <h2>People</h2>
    ${!people.length && html`<p class="soft">No users: whoever sits at this machine may look. <code>defectd web user add</code> makes one.</p>`}
    ${ROLES.map((role) => {
      const found = people.filter((one) => one.role === role);
      return found.length > 0 && html`<div class="people" key=${role}>
        <h3>${role}s</h3>
        <ul>${found.map((one) => html`<li key=${one.name}><${Person} person=${one} /></li>`)}</ul>
      </div>`;
    })}
  </section>`;
}

function Person({ person: { name, is_user: isUser, sessions, last_used: used } }) {
  return html`<span class=${sessions ? "state-good" : "state-soft"}><${Icon} name="user" /></span> <b>${name}</b>${" "}
    <span class="soft">${sessions ? html`${plural(sessions, "session")}, last used <time dateTime=${used} title=${fullTime(used)}>${dateTime(used)}</time>` : "not logged in"}${isUser ? "" : ", by a link of the node"}</span>`;
}

/** The newest acts of people, live. */
export function AuditCard() {
  const [acts, setActs] = useState(null);
  useEffect(() => {
    const control = new AbortController();
    get("/events", { type: "operator.acted", limit: SHOWN }, { signal: control.signal, quiet: true }).then(
      ({ events }) => setActs(events),
      (error) => error.name !== "AbortError" && setActs([]),
    );
    const stop = onEvent((event) => event.type === "operator.acted" && setActs((known) => [event, ...(known ?? [])].slice(0, SHOWN)));
    return () => (control.abort(), stop());
  }, []);
  return html`<section class="card audit" aria-label="What people changed">
    <header class="card-head"><h2>What people changed</h2><a class="end" href=${href("/events", { type: "operator.acted" })}>All</a></header>
    ${
      acts?.length
        ? html`<ul class="acts">${acts.map(
            (event) => html`<li key=${event.seq}><a href=${href(`/events/${event.seq}`)}>${summary(event)}</a>
              <span class="soft">${[event.detail?.camera && `camera ${event.detail.camera}`, event.detail?.role].filter(Boolean).join(", ")}</span>
              <time class="soft" dateTime=${event.time} title=${fullTime(event.time)}>${dateTime(event.time)}</time></li>`,
          )}</ul>`
        : html`<p class="empty">${acts ? "Nobody has changed anything that is still stored." : "Loading"}</p>`
    }
  </section>`;
}

/** The filters of the list of events: their names in the address, and what the API is asked for. */

export const FILTERS = ["type", "class", "severity", "camera", "coil", "since", "until", "q"];

/** The filters of an address, without the cursor. */
export function filtersOf(query) {
  return Object.fromEntries(FILTERS.map((name) => [name, query[name] ?? null]));
}

/** The same for the API: times of a `datetime-local` field become UTC. */
export function asked(query) {
  return { ...filtersOf(query), since: asStamp(query.since), until: asStamp(query.until) };
}

function asStamp(local) {
  const date = local ? new Date(local) : null;
  return date && !Number.isNaN(date.getTime()) ? date.toISOString() : null;
}

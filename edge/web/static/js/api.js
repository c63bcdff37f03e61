/** Requests to the node. Answers are JSON; errors become an `ApiError` and, unless `quiet`, a message on the page. */

import { toast } from "./parts/toast.js";
import { BASE, search } from "./router.js";

/** status: of HTTP, 0 without contact. code, reason, remedy: what the server says. */
export class ApiError extends Error {
  constructor(status, { code, reason, remedy }) {
    super(reason);
    this.status = status;
    this.code = code;
    this.reason = reason;
    this.remedy = remedy;
  }
}

const onUnauthorized = new Set();

/** Calls `listener` when the server asks for a login. */
export function whenLoginNeeded(listener) {
  onUnauthorized.add(listener);
}

/** The address of an API path: `apiUrl("/events", {after: 12})`. */
export function apiUrl(path, query) {
  return `${BASE}api/v1${path}${search(query)}`;
}

/** The address of a picture from an event's `evidence.path`, "KIND/NAME.jpg"; null without one. */
export function evidenceUrl(evidence) {
  const path = typeof evidence === "string" ? evidence : evidence?.path;
  return path ? apiUrl(`/evidence/${path.split("/").map(encodeURIComponent).join("/")}`) : null;
}

export function get(path, query, { signal, quiet = false } = {}) {
  return send("GET", apiUrl(path, query), { signal, quiet });
}

export function post(path, body = {}, { signal, quiet = false } = {}) {
  return send("POST", apiUrl(path), { body, signal, quiet });
}

/** Sends a file as it is. type: its content type. */
export function upload(path, file, type, { signal } = {}) {
  return send("POST", apiUrl(path), { body: file, type, signal, quiet: true });
}

/** Runs a verb of docs/commands.md on the node: `command("pause", {camera: "top"})`. */
export function command(verb, args = {}, options) {
  return post("/command", { verb, ...args }, options);
}

async function send(method, url, { body, type, signal, quiet }) {
  try {
    return await answer(method, url, type ? body : body && JSON.stringify(body), type ?? "application/json", signal);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    const told = error instanceof ApiError ? error : new ApiError(0, NO_CONTACT);
    if (told.status === 401) for (const listener of onUnauthorized) listener();
    if (!quiet) toast(told.reason, { kind: "bad", remedy: told.remedy });
    throw told;
  }
}

const NO_CONTACT = { code: "no_contact", reason: "No contact with the node.", remedy: "Check the network; the page tries again by itself." };

async function answer(method, url, body, type, signal) {
  const headers = { Accept: "application/json", "X-Defectd": "1" };
  if (body !== undefined) headers["Content-Type"] = type;
  const response = await fetch(url, { method, headers, signal, credentials: "same-origin", body });
  const text = await response.text();
  const content = parsed(text);
  if (response.ok) return content;
  throw new ApiError(response.status, content?.error ?? { code: "http", reason: `The node answered ${response.status}.`, remedy: null });
}

function parsed(text) {
  if (!text) return null;
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

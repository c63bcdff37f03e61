/** Who uses the page, and what the role allows. */

import { get, post, whenLoginNeeded } from "./api.js";
import { useEffect, useState } from "./html.js";

const ROLES = ["viewer", "operator", "engineer"];
const listeners = new Set();

/** user, role: null until known or without login. isKnown: the server has answered. wantsLogin: nothing is shown without one. */
let session = { user: null, role: null, hasUsers: false, isKnown: false, wantsLogin: false };

export function currentSession() {
  return session;
}

/** Whether the user may do what needs `role`. */
export function can(role) {
  return ROLES.indexOf(session.role) >= ROLES.indexOf(role);
}

export function useSession() {
  const [shown, setShown] = useState(session);
  useEffect(() => {
    listeners.add(setShown);
    setShown(session);
    return () => listeners.delete(setShown);
  }, []);
  return shown;
}

export function onSession(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

export async function loadSession() {
  try {
    const found = await get("/session", null, { quiet: true });
    set({ user: found.user ?? null, role: found.role ?? null, hasUsers: Boolean(found.has_users ?? found.user), isKnown: true, wantsLogin: !found.role });
  } catch (error) {
    if (error.status === 401) set({ user: null, role: null, hasUsers: true, isKnown: true, wantsLogin: true });
  }
}

export async function login(name, password) {
  await post("/login", { name, password }, { quiet: true });
  await loadSession();
}

export async function logout() {
  await post("/logout", {});
  await loadSession();
}

function set(changed) {
  if (JSON.stringify(changed) === JSON.stringify(session)) return;
  session = changed;
  for (const listener of listeners) listener(session);
}

whenLoginNeeded(() => {
  if (session.role) loadSession();
  else set({ ...session, role: null, user: null, isKnown: true, wantsLogin: true, hasUsers: true });
});

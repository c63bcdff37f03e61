/** The answers of a set-up as the page holds them, and as the node takes them. */

const USUAL_NAMES = ["top", "bottom"];
const SOURCE = /^((rtsps?|https?):\/\/[^\s@${}\\"'<>]+|\/dev\/video\d{1,3}|\/dev\/v4l\/by-(id|path)\/[\w:.+-]+|strip:(\?[\w=&.,%+-]*)?)$/;
const NAME = /^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$/;
const BROKER = /^mqtts?:\/\/[A-Za-z0-9.:[\]_-]{1,253}$/;
const LOCAL = /^mqtt:\/\/(localhost|127\.0\.0\.1|\[::1\])(:\d+)?$/;

/** kept: by name, where somebody has decided; added: [{key, name, source, user, password}]; broker: "now", "embedded" or "other". */
export function firstAnswers(present) {
  return {
    node: present.node ?? "line1",
    kept: {},
    added: [],
    broker: present.broker ? "now" : "embedded",
    address: present.broker?.includes("://") ? present.broker : "mqtts://",
    username: present.username ?? "",
    password: "",
    allowsPlain: false,
  };
}

/** A generated strip gives way to the first real camera, unless somebody has decided otherwise. */
export function isKept({ kept, added }, camera) {
  return kept[camera.name] ?? (camera.kind !== "strip" || added.length === 0);
}

export function freeName(answers, present) {
  const taken = new Set([...present.cameras.filter((camera) => isKept({ ...answers, added: [null] }, camera)), ...answers.added].map(({ name }) => name));
  for (let number = 1; ; number += 1) {
    const name = USUAL_NAMES[number - 1] ?? `camera${number}`;
    if (!taken.has(name)) return name;
  }
}

/** A user and a password that were typed into a URL go into their own fields. */
export function withoutLogin(source) {
  const [, scheme, user, password, rest] = /^(\w+:\/\/)([^:@/]*)(?::([^@]*))?@(.*)$/.exec(source.trim()) ?? [];
  return scheme ? { source: scheme + rest, user: decoded(user), password: decoded(password ?? "") } : { source: source.trim() };
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

export const isUrl = (source) => source.includes("://");

/** Whether messages to this broker go over a network in clear text. */
export const isPlain = ({ broker, address }) => broker === "other" && address.startsWith("mqtt://") && !LOCAL.test(address);

/** Why the answers cannot be tried, or null. */
export function problemOf(answers, present) {
  const { node, added, broker, address, allowsPlain } = answers;
  const names = [...present.cameras.filter((camera) => isKept(answers, camera)), ...added].map(({ name }) => name);
  if (!names.length) return "Choose at least one camera.";
  const wrong = added.find(({ source }) => !SOURCE.test(source));
  if (wrong) return `Camera ${wrong.name || "without a name"}: give its URL (rtsp://, http://), /dev/video0, or strip: for a generated strip.`;
  if (names.some((name) => !NAME.test(name))) return "The name of a camera has letters, digits, and _ . - only.";
  if (new Set(names).size < names.length) return "Two cameras have one name.";
  if (!NAME.test(node)) return "The name of the node has letters, digits, and _ . - only.";
  if (broker === "other" && !BROKER.test(address)) return "The broker's address is mqtts://HOST:8883, or mqtt://HOST:1883.";
  if (isPlain(answers) && !allowsPlain) return "Use mqtts://, or agree to clear text.";
  return null;
}

/** As `POST /setup/try` takes them. */
export function answersOf(answers, present) {
  return {
    node: answers.node,
    keep: present.cameras.filter((camera) => isKept(answers, camera)).map(({ name }) => name),
    cameras: answers.added.map(({ name, source, user, password }) => ({ name, source, ...(user && isUrl(source) ? { user, password } : {}) })),
    broker: brokerOf(answers, present),
  };
}

function brokerOf(answers, present) {
  const { broker, address, username, password } = answers;
  if (broker === "now") return null;
  if (broker === "embedded") return { address: "embedded" };
  const login = username ? { username, ...(password ? { password } : {}) } : {};
  const keeps = keepsPassword(answers, present);
  return { address, ...login, keeps_password: keeps, allow_plaintext: isPlain(answers) };
}

/** The stored password of the same user stays where no other one is given. */
export function keepsPassword({ username, password }, present) {
  return Boolean(username && !password && present.has_password && username === present.username);
}

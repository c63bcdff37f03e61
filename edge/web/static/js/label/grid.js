/** Many pictures of one guess: mark the wrong ones, confirm the others with one key. */

import { get } from "../api.js";
import { html, useEffect, useRef, useState } from "../html.js";
import { useKeys } from "../keys.js";
import { className, plural } from "../parts/format.js";
import { ClassIcon, Icon } from "../parts/icons.js";
import { navigate } from "../router.js";
import { BoxedPicture } from "./picture.js";
import { NewClass } from "./new_class.js";
import { hashOf, isLabel } from "./work.js";

const SHOWN = 40;

export function Grid({ work, guess, query, mayLabel }) {
  const names = Object.keys(work.guesses);
  const chosen = guess ?? names[0] ?? null;
  return html`
    <div class="grid-guesses" role="group" aria-label="Pictures that the model calls">
      ${names.map(
        (name) => html`<button class="button" key=${name} aria-pressed=${String(name === chosen)} onClick=${() => navigate("/label", { query: { ...query, guess: name }, replace: true })}>
          <${ClassIcon} name=${name} />${className(name)} <span class="count">${work.guesses[name]}</span>
        </button>`,
      )}
    </div>
    ${chosen ? html`<${Tiles} work=${work} guess=${chosen} mayLabel=${mayLabel} key=${chosen} />` : html`<p class="empty label-empty">${work.isLoading ? "Loading" : "No picture with a guess is left. Random tiles are blind: label them one by one."}</p>`}`;
}

function Tiles({ work, guess, mayLabel }) {
  const [items, setItems] = useState(null);
  const [wrong, setWrong] = useState(new Set());
  const [at, setAt] = useState(0);
  const [isNaming, setIsNaming] = useState(false);
  const frame = useRef(null);

  async function load(skip = []) {
    try {
      const found = await get("/labels/next", { guess, camera: work.camera, limit: SHOWN, skip: skip.join(",") });
      work.guesses = found.guesses;
      setItems(found.items);
      setWrong(new Set());
      setAt(0);
      work.changed();
    } catch {
      setItems((known) => known ?? []);
    }
  }
  useEffect(() => {
    load();
  }, [guess]);

  const toggle = (place) => {
    const path = items[place].evidence;
    setAt(place);
    setWrong((before) => {
      const after = new Set(before);
      if (!after.delete(path)) after.add(path);
      return after;
    });
  };
  const move = (by) => {
    const place = Math.min(Math.max(at + by, 0), items.length - 1);
    setAt(place);
    frame.current.children[place]?.querySelector("button")?.focus();
  };
  const give = (given) => {
    if (!given.length || !mayLabel) return;
    work.decideAll(given);
    const gone = new Set(given.map(({ item }) => item.evidence));
    const rest = items.filter((item) => !gone.has(item.evidence));
    setItems(rest);
    setWrong(new Set([...wrong].filter((path) => !gone.has(path))));
    setAt(0);
    if (!rest.length) load(given.map(({ item }) => hashOf(item)));
  };
  const canConfirm = isLabel(guess);
  const mark = canConfirm ? "wrong" : "marked";
  const confirm = () => canConfirm && give(items.filter(({ evidence }) => !wrong.has(evidence)).map((item) => ({ item, label: guess })));
  const labelWrong = (label) => give(items.filter(({ evidence }) => wrong.has(evidence)).map((item) => ({ item, label })));
  const columns = () => Math.max(1, Math.round(frame.current.clientWidth / (frame.current.children[0]?.offsetWidth || 1)));

  const keys = items?.length
    ? {
        Enter: ["confirm all that are not marked", confirm],
        x: ["mark the picture as wrong", () => toggle(at)],
        ArrowRight: ["next picture", () => move(1)],
        ArrowLeft: ["picture before", () => move(-1)],
        ArrowDown: ["row below", () => move(columns())],
        ArrowUp: ["row above", () => move(-columns())],
        ...Object.fromEntries(work.classes.slice(0, 9).map((name, place) => [String(place + 1), [`${className(name)}: all marked`, () => labelWrong(name)]])),
        n: ["new class: all marked", () => wrong.size && setIsNaming(true)],
        g: ["good: all marked", () => labelWrong("good")],
        u: ["unclear: all marked", () => labelWrong("unclear")],
        z: ["take the last label back", () => (work.undo(), load())],
      }
    : {};
  useKeys("Grid", mayLabel ? keys : {});

  if (items === null) return html`<p class="empty label-empty">Loading</p>`;
  if (!items.length) return html`<p class="empty label-empty">No picture that the model calls ${className(guess)} is left.</p>`;
  const right = items.length - wrong.size;
  return html`
    <ul class="label-grid" ref=${frame} data-columns>
      ${items.map(
        (item, place) => html`<li key=${item.evidence}>
          <button
            class="grid-tile ${wrong.has(item.evidence) ? "wrong" : ""}"
            aria-pressed=${String(wrong.has(item.evidence))}
            aria-label=${`Picture ${place + 1}: ${wrong.has(item.evidence) ? mark : className(guess)}`}
            tabindex=${place === at ? 0 : -1}
            disabled=${!mayLabel}
            onFocus=${() => setAt(place)}
            onClick=${() => toggle(place)}
            onKeyDown=${(press) => press.key === "Enter" && (press.preventDefault(), press.stopPropagation(), confirm())}
          >
            <${BoxedPicture} item=${item} alt="" />
            ${wrong.has(item.evidence) && html`<span class="wrong-mark"><${Icon} name=${canConfirm ? "close" : "good"} />${mark}</span>`}
            <span class="grid-p">${item.confidence === null ? "" : item.confidence.toFixed(2)}</span>
          </button>
        </li>`,
      )}
    </ul>
    <footer class="grid-foot">
      <p class="soft">${canConfirm ? `Mark what is no ${className(guess)}, then confirm the rest.` : "Nothing has a name here: mark pictures of one class."} ${wrong.size > 0 && html`<b>${plural(wrong.size, "picture")} marked</b>: give them a class with its key, or leave them for later.`}</p>
      ${
        wrong.size > 0 &&
        html`<div class="buttons">
          ${[...work.classes.filter((name) => name !== guess), "good", "unclear"].map(
            (name) => html`<button class="button" key=${name} onClick=${() => labelWrong(name)}><kbd aria-hidden="true">${keyOf(work.classes, name)}</kbd>${className(name)}</button>`,
          )}
          <button class="button" onClick=${() => setIsNaming(true)}><kbd aria-hidden="true">N</kbd>new class</button>
        </div>`
      }
      ${canConfirm && html`<button class="button primary" disabled=${!right || !mayLabel} onClick=${confirm}><kbd aria-hidden="true">Enter</kbd>${right} ${right === 1 ? "is" : "are"} ${className(guess)}</button>`}
    </footer>
    ${
      isNaming &&
      html`<${NewClass}
        known=${work.classes}
        onClose=${() => setIsNaming(false)}
        onName=${(name) => {
          setIsNaming(false);
          work.nameClass(name);
          labelWrong(name);
        }}
      />`
    }`;
}

function keyOf(classes, name) {
  const place = classes.indexOf(name);
  return place < 0 ? name[0].toUpperCase() : place < 9 ? String(place + 1) : "·";
}

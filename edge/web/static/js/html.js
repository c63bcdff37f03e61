/** Preact with htm in one place: `import { html, useState } from "../html.js"`. */

import { Component, Fragment, createContext, createRef, h, render } from "../vendor/preact.js";
import htm from "../vendor/htm.js";

export { Component, Fragment, createContext, createRef, h, render };
export * from "../vendor/preact-hooks.js";

export const html = htm.bind(h);

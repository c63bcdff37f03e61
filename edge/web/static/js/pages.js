/**
 * The pages: a row each. `path` is matched by router.match; `load` gives a module whose default export is the page's component, called
 * with the path's parameters and the query: `Page({id, query})`. css: its sheet in css/, loaded before it is shown. nav: its word in the
 * bar. role: who may open it.
 */
export const PAGES = [
  { path: "/", name: "live", title: "Live", nav: "Live", css: "live.css", load: () => import("./pages/live.js") },
  { path: "/coils", name: "coils", title: "Coils", nav: "Coils", css: "coils.css", load: () => import("./pages/coils.js") },
  { path: "/coils/:id", name: "coils", title: "Coil", css: "coils.css", load: () => import("./pages/coils.js") },
  { path: "/events", name: "events", title: "Events", nav: "Events", css: "events.css", load: () => import("./pages/events.js") },
  { path: "/events/:seq", name: "events", title: "Event", css: "events.css", load: () => import("./pages/events.js") },
  { path: "/evidence", name: "evidence", title: "Evidence", nav: "Evidence", css: "evidence.css", load: () => import("./pages/evidence.js") },
  { path: "/label", name: "label", title: "Label", nav: "Label", css: "label.css", load: () => import("./pages/label.js") },
  { path: "/calibrate", name: "calibrate", title: "Calibrate", nav: "Calibrate", css: "calibrate.css", load: () => import("./pages/calibrate.js") },
  { path: "/calibrate/:camera", name: "calibrate", title: "Calibrate", css: "calibrate.css", load: () => import("./pages/calibrate.js") },
  { path: "/model", name: "model", title: "Model", nav: "Model", css: "model.css", load: () => import("./pages/model.js") },
  { path: "/setup", name: "setup", title: "Set up", css: "setup.css", load: () => import("./pages/setup.js") },
  { path: "/node", name: "node", title: "Node", nav: "Node", css: "node.css", load: () => import("./pages/node.js") },
  { path: "/fleet", name: "fleet", title: "Fleet", nav: "Fleet", css: "fleet.css", load: () => import("./pages/fleet.js") },
];

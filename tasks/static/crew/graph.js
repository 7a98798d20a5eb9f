// Draws a picture of `tasks/picture.py`: every task, or sums of them. It only shows: what to load,
// and when, is the page's business. Colours, shapes of text and dark mode are in graph.css.
//
//   const graph = new Graph(element, {onOpen, onOpenBucket, onStale});
//   graph.show(picture);           // again when tasks came or went: the view stays where it is
//   graph.update([{id, state}]);   // what changed; onStale() asks for a new picture
const NS = "http://www.w3.org/2000/svg";
const COLUMN = 212;
const ROWS = { tasks: 112, buckets: 124 };
const BOX = { tasks: [184, 64], buckets: [184, 76] };
const FAR = 0.42; // below this scale words can not be read
const [LEAST, MOST, FITTED] = [0.02, 2.5, 1.1];
const LEAST_HIGH = 0.08; // a long chain is not shrunk further: it is shown from its top
const PAD = 24;
const PAUSE = 500; // ms between two pictures of sums, and between two calls of onStale
const number = new Intl.NumberFormat();

// In the order of `progress.State`; each has a shape of its own, as colour alone says too little.
export const STATES = {
  complete: { label: "complete", shape: "M3 8.5l3.5 3.5L13 4.5" },
  executing: { label: "executing", shape: "M5.5 3.5l7 4.5-7 4.5z", solid: true },
  following: {
    label: "following",
    shape: "M6 4.2a3.8 3.8 0 1 0 0 7.6a3.8 3.8 0 1 0 0-7.6M10 4.2a3.8 3.8 0 1 1 0 7.6a3.8 3.8 0 1 1 0-7.6",
  },
  failed: { label: "failed", shape: "M4 4l8 8M12 4l-8 8" },
  paused: { label: "paused", shape: "M5.5 3.5v9M10.5 3.5v9" },
  blocked: { label: "blocked", shape: "M4 3h8L8 8l4 5H4l4-5z" },
  unassigned: {
    label: "no worker",
    shape: "M5.3 5.8a2.7 2.7 0 1 1 4 2.3C8.4 8.7 8 9.2 8 10M8 13v.1",
  },
  scheduled: { label: "scheduled", shape: "M8 2.5a5.5 5.5 0 1 0 0 11a5.5 5.5 0 1 0 0-11M8 5v3l2 1.5" },
  ready: { label: "ready", shape: "M8 2.5L13.5 8 8 13.5 2.5 8z" },
};

export class Graph {
  #on;
  #picture = null;
  #index = new Map(); // of a node, by its key
  #near = []; // the edges of each node
  #rows = []; // the middles of boxes, row by row: what arrows go around
  #nodes = []; // elements
  #worded = false; // whether every box has its words
  #pending = new Map(); // changes to draw
  #view = { k: 1, x: 0, y: 0 };
  #moved = false; // by a person: then the view is theirs
  #pointers = new Map();
  #lit = "";
  #next = null; // a picture that waits for its turn
  #shown = -Infinity;
  #timers = {};
  #frame = 0;

  constructor(container, { onOpen, onOpenBucket, onStale } = {}) {
    this.#on = { open: onOpen, bucket: onOpenBucket, stale: onStale };
    this.root = html("div", { class: "crew-graph" });
    this.legend = html("ul", { class: "crew-legend", "aria-label": "States; press one to highlight it" });
    const zoom = html("div", { class: "crew-zoom", role: "group", "aria-label": "Zoom" });
    for (const [sign, label, act] of [
      ["+", "Zoom in", () => this.zoom(1.4)],
      ["−", "Zoom out", () => this.zoom(1 / 1.4)],
      ["Fit", "Fit the whole graph", () => this.fit()],
    ]) {
      zoom.append(listen(html("button", { type: "button", "aria-label": label, title: label }, sign), "click", act));
    }
    const stage = html("div", { class: "crew-stage" });
    this.svg = svg("svg", { class: "crew-canvas", role: "group", tabindex: "-1" });
    this.scene = this.svg.appendChild(svg("g", { class: "crew-scene" }));
    this.note = html("p", { class: "crew-note" });
    const keys = "Arrow keys walk along the graph, Enter opens, plus and minus zoom, 0 fits.";
    stage.append(this.svg, zoom);
    this.root.append(this.legend, html("p", { class: "crew-unseen" }, keys), stage, this.note);
    container.replaceChildren(this.root);
    this.#listen();
    this.resizes = new ResizeObserver(() => (this.#moved ? this.#place() : this.fit()));
    this.resizes.observe(this.svg);
  }

  // Shows a picture, in the next frame; sums at most twice a second, the last one wins.
  show(picture) {
    this.#next = picture;
    const wait = picture.kind === "buckets" ? this.#shown + PAUSE - performance.now() : 0;
    if (wait > 0) this.#later("show", wait, () => this.#soon());
    else this.#soon();
  }

  // Changes of tasks that are shown; those of others, and of sums, only make the picture stale.
  update(changes) {
    for (const change of changes) {
      const drawn = this.#picture?.kind === "tasks" && this.#index.has(change.id);
      if (drawn && (change.state ?? "ready") in STATES) {
        this.#pending.set(change.id, { ...this.#pending.get(change.id), ...change });
      } else {
        this.#later("stale", PAUSE, () => this.#on.stale?.());
      }
    }
    if (this.#pending.size) this.#soon();
  }

  // Dims all but one state; "" ends it.
  highlight(state) {
    this.#lit = state;
    this.#light();
    this.#count();
  }

  focus(key) {
    const at = this.#index.get(key);
    if (at !== undefined) this.#go(at);
  }

  fit() {
    const [width, height] = this.#size();
    if (!this.#picture || !width) return;
    const [w, h] = this.#extent();
    const k = Math.min(FITTED, (width - 2 * PAD) / w, Math.max(LEAST_HIGH, (height - 2 * PAD) / h));
    const inset = this.#picture.kind === "buckets" ? 70 * k : 0; // the names of the bands
    this.#moved = false;
    this.#view = { k, x: (width - w * k + inset) / 2, y: Math.max(PAD, (height - h * k) / 2) };
    this.#place();
  }

  zoom(by, at = this.#size().map((side) => side / 2)) {
    const { k, x, y } = this.#view;
    const to = Math.min(MOST, Math.max(LEAST, k * by));
    this.#view = { k: to, x: at[0] - ((at[0] - x) * to) / k, y: at[1] - ((at[1] - y) * to) / k };
    this.#moved = true;
    this.#place();
  }

  destroy() {
    this.resizes.disconnect();
    cancelAnimationFrame(this.#frame);
    Object.values(this.#timers).forEach(clearTimeout);
    this.root.remove();
  }

  // --- Drawing ---

  #soon() {
    this.#frame ||= requestAnimationFrame(() => {
      this.#frame = 0;
      // A box that is replaced under a finger would swallow the click.
      if (this.#pointers.size) return this.#later("held", 100, () => this.#soon());
      if (this.#next) this.#draw(this.#next);
      this.#apply();
    });
  }

  #later(name, wait, act) {
    this.#timers[name] ??= setTimeout(() => {
      delete this.#timers[name];
      act();
    }, wait);
  }

  #draw(picture) {
    const other = picture.group !== this.#picture?.group || picture.kind !== this.#picture.kind;
    const focused = this.svg.contains(document.activeElement) ? this.#key(document.activeElement.closest(".crew-node")?.dataset.at) : null;
    this.#next = null;
    this.#shown = performance.now();
    this.#picture = picture;
    this.#index = new Map(picture.nodes.map((node, at) => [key(node), at]));
    this.#rows = rowsOf(picture);
    this.#near = picture.nodes.map(() => []);
    for (const edge of picture.edges) for (const end of [edge[0], edge[1]]) this.#near[end].push(edge);
    this.#nodes = picture.nodes.map((node, at) => this.#node(node, at));
    this.hot = svg("g", { class: "crew-hot" });
    const boxes = svg("g", {});
    boxes.append(...this.#nodes);
    const parts = [this.#edges(), boxes, this.hot];
    if (picture.kind === "buckets") parts.push(this.#bands());
    this.scene.replaceChildren(...parts);
    this.svg.classList.toggle("crew-sums", picture.kind === "buckets");
    this.svg.classList.toggle("crew-dense", picture.edges.length > 150);
    this.svg.setAttribute("aria-label", `Graph of ${several(picture.total, "task")}`);
    this.note.textContent = words(picture);
    this.#nodes[0]?.firstChild.setAttribute("tabindex", "0");
    if (other || !this.#moved) this.fit();
    else this.#place();
    if (focused !== null && this.#index.has(focused)) this.#go(this.#index.get(focused), false);
    if (this.#lit) this.#light();
    this.#count();
  }

  #apply() {
    if (!this.#pending.size) return;
    const { nodes, counts } = this.#picture;
    for (const [id, change] of this.#pending) {
      const at = this.#index.get(id);
      if (at === undefined) continue;
      const node = nodes[at];
      const { state = node.state, name = node.name } = change;
      const renamed = name !== node.name;
      counts[node.state] -= 1;
      counts[state] = (counts[state] ?? 0) + 1;
      Object.assign(node, { state, name });
      if (renamed) this.#fill(this.#nodes[at], node);
      else this.#mark(this.#nodes[at], node);
    }
    this.#pending.clear();
    this.#write();
    if (this.#lit) this.#light();
    this.#count();
  }

  #node(node, at) {
    const [x, y] = middle(node);
    const element = svg("g", { class: "crew-node", transform: `translate(${x} ${y})` });
    element.append(svg("g", { role: "button", tabindex: "-1" }));
    element.dataset.at = at;
    this.#fill(element, node);
    return element;
  }

  // Only what is seen from afar; the words come when they can be read.
  #fill(element, node) {
    const [w, h] = BOX[this.#picture.kind];
    const box = svg("rect", { class: "crew-box", x: -w / 2, y: -h / 2, width: w, height: h, rx: 10 });
    element.replaceChildren(element.firstChild);
    element.firstChild.replaceChildren(box, node.states ? bar(node) : glyph(node.state, "translate(-72 0)"));
    delete element.dataset.words;
    this.#mark(element, node);
    this.#worded = false;
  }

  #mark(element, node) {
    element.firstChild.setAttribute("aria-label", this.#label(node, nameOf(node, this.#picture)));
    if (node.states) return;
    element.dataset.state = node.state;
    const path = element.querySelector(".crew-glyph path");
    path.setAttribute("d", STATES[node.state].shape);
    path.classList.toggle("crew-solid", STATES[node.state].solid === true);
  }

  // Writes the boxes that are in sight, once each. Words may be cut, so they are beside the button,
  // which has a name of its own.
  #write() {
    const { k, x, y } = this.#view;
    if (k < FAR || this.#worded || !this.#picture) return;
    const [width, height] = this.#size();
    let missing = 0;
    this.#picture.nodes.forEach((node, at) => {
      const element = this.#nodes[at];
      if (element.dataset.words) return;
      const [left, top] = middle(node);
      const seen = (at, size, half) => at > -half * k && at < size + half * k;
      if (!seen(x + left * k, width, 220) || !seen(y + top * k, height, 120)) return (missing += 1);
      element.dataset.words = "1";
      const group = element.appendChild(svg("g", { "aria-hidden": "true" }));
      group.append(...(node.states ? sums(node, nameOf(node, this.#picture)) : task(node)));
    });
    this.#worded = missing === 0;
  }

  #label(node, name) {
    if (!node.states) {
      return `${name}: ${STATES[node.state].label}, ${node.worker ? `worker ${node.worker}` : "no worker"}`;
    }
    const parts = known(node.states).map((state) => `${number.format(node.states[state])} ${STATES[state].label}`);
    return `${name}, ${levels(this.#picture.bands[node.band])}: ${several(node.count, "task")}, ${parts.join(", ")}`;
  }

  #edges() {
    const group = svg("g", { class: "crew-edges", "aria-hidden": "true" });
    const { nodes } = this.#picture;
    // Those within a band are only shown at the box that is pointed at.
    const edges = this.#picture.edges.filter(([from, to]) => nodes[from].y < nodes[to].y);
    const most = Math.max(1, ...edges.map((edge) => edge[2] ?? 1));
    const widths = new Map();
    for (const edge of edges) {
      const width = edge[2] ? 1 + Math.round(4 * Math.sqrt(edge[2] / most)) : 1.4;
      if (!widths.has(width)) widths.set(width, []);
      widths.get(width).push(edge);
    }
    for (const [width, some] of widths) group.append(...this.#arrows(some, width));
    return group;
  }

  // Arrows in few paths. What many share, as those of a fan do, is drawn once; and a path holds
  // but a few of them, so that what is out of sight costs nothing.
  #arrows(edges, width) {
    const bends = new Set();
    const tips = new Set();
    const falls = new Map(); // straight parts: their ends by their starts
    for (const [from, to] of edges) {
      const [tip, some, x, top, low] = arrow(this.#picture, from, to, width, this.#rows);
      tips.add(tip);
      for (const bend of some) bends.add(bend);
      if (x !== undefined) falls.set(`M${x} ${top}V`, Math.max(low, falls.get(`M${x} ${top}V`) ?? low));
    }
    const lines = [...falls].map(([start, low]) => start + low);
    const attributes = { "stroke-width": width };
    return [
      ...paths([...bends], attributes),
      ...paths(lines, attributes),
      ...paths([...tips], { class: "crew-tips" }),
    ];
  }

  #bands() {
    const group = svg("g", {});
    this.#picture.bands.forEach((band, at) => {
      if (band[1] !== null) group.append(svg("text", { class: "crew-band", x: -6, y: (at + 0.5) * ROWS.buckets + 4 }, levels(band)));
    });
    return group;
  }

  #light() {
    this.svg.classList.toggle("crew-lit", this.#lit !== "");
    this.#picture?.nodes.forEach((node, at) => {
      const on = node.states ? this.#lit in node.states : node.state === this.#lit;
      this.#nodes[at].classList.toggle("crew-on", on);
      for (const part of this.#nodes[at].querySelectorAll(".crew-part")) {
        part.classList.toggle("crew-on", part.dataset.state === this.#lit);
      }
    });
  }

  #count() {
    const { counts } = this.#picture ?? { counts: {} };
    const shown = Object.keys(STATES).filter((state) => counts[state] > 0 || state === this.#lit);
    if (shown.join() !== this.legend.dataset.states) {
      this.legend.dataset.states = shown.join();
      this.legend.replaceChildren(...shown.map((state) => this.#entry(state)));
    }
    for (const button of this.legend.querySelectorAll("button")) {
      const { state } = button.dataset;
      button.lastChild.textContent = number.format(counts[state] ?? 0);
      button.setAttribute("aria-pressed", String(state === this.#lit));
    }
  }

  #entry(state) {
    const button = html("button", { type: "button" });
    button.dataset.state = state;
    const picture = svg("svg", { viewBox: "-12 -12 24 24", "aria-hidden": "true" });
    picture.append(glyph(state));
    button.append(picture, html("span", {}, STATES[state].label), html("b", {}));
    const item = html("li", {});
    item.append(listen(button, "click", () => this.highlight(this.#lit === state ? "" : state)));
    return item;
  }

  // --- The view ---

  #size() {
    return [this.svg.clientWidth, this.svg.clientHeight];
  }

  #extent() {
    return [this.#picture.width * COLUMN, this.#picture.height * ROWS[this.#picture.kind]];
  }

  #place() {
    const view = this.#view;
    if (this.#picture) {
      // Some of the graph always stays in sight.
      const [width, height] = this.#size();
      const [w, h] = this.#extent();
      view.x = Math.min(width - 60, Math.max(60 - w * view.k, view.x));
      view.y = Math.min(height - 60, Math.max(60 - h * view.k, view.y));
    }
    this.scene.setAttribute("transform", `translate(${view.x} ${view.y}) scale(${view.k})`);
    this.svg.classList.toggle("crew-far", view.k < FAR);
    this.#write();
  }

  #key(at) {
    return at === undefined ? null : key(this.#picture.nodes[at]);
  }

  // Focuses a box and brings it into sight; not after a redraw, when a person may have left it.
  #go(at, follow = true) {
    const button = this.#nodes[at].firstChild;
    this.scene.querySelector('[tabindex="0"]')?.setAttribute("tabindex", "-1");
    button.setAttribute("tabindex", "0");
    button.focus({ preventScroll: true });
    if (!follow) return;
    const [x, y] = middle(this.#picture.nodes[at]);
    const [width, height] = this.#size();
    const { k } = this.#view;
    const [left, top] = [this.#view.x + x * k, this.#view.y + y * k];
    if (left < 100 * k || left > width - 100 * k || top < 40 * k || top > height - 40 * k) {
      this.#view = { k, x: width / 2 - x * k, y: height / 2 - y * k };
      this.#moved = true;
      this.#place();
    }
  }

  // --- People ---

  #listen() {
    const at = (event) => event.target.closest?.(".crew-node")?.dataset.at;
    let dragged = false;
    listen(this.svg, "wheel", (event) => {
      event.preventDefault();
      const step = event.deltaY * (event.deltaMode ? 20 : 1) * (event.ctrlKey ? 0.01 : 0.0016);
      this.zoom(Math.exp(-Math.max(-0.6, Math.min(0.6, step))), this.#point(event));
    }, { passive: false });
    listen(this.svg, "pointerdown", (event) => {
      if (event.button) return;
      if (!this.#pointers.size) dragged = false;
      this.#pointers.set(event.pointerId, this.#point(event));
    });
    listen(this.svg, "pointermove", (event) => {
      if (!this.#pointers.has(event.pointerId)) return;
      dragged = this.#drag(event.pointerId, this.#point(event), dragged) || dragged;
    });
    for (const end of ["pointerup", "pointercancel", "lostpointercapture"]) {
      listen(this.svg, end, (event) => {
        // A box loses a finger that it held when the whole takes it: that is no end.
        if (end === "lostpointercapture" && event.target !== this.svg) return;
        this.#pointers.delete(event.pointerId);
        if (!this.#pointers.size) this.svg.classList.remove("crew-held");
      });
    }
    // A finger or a mouse that leaves before it has dragged is not captured.
    listen(this.svg, "pointerleave", (event) => dragged || this.#pointers.delete(event.pointerId));
    listen(this.svg, "click", (event) => {
      if (!dragged) this.#open(at(event));
      dragged = false;
    });
    listen(this.svg, "keydown", (event) => this.#press(event, at(event)));
    listen(this.svg, "pointerover", (event) => this.#heat(at(event)));
    listen(this.svg, "focusin", (event) => this.#heat(at(event)));
    listen(this.svg, "focusout", () => this.#heat(undefined));
  }

  #point(event) {
    const box = this.svg.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }

  #drag(pointer, to, dragged) {
    const from = this.#pointers.get(pointer);
    const [dx, dy] = [to[0] - from[0], to[1] - from[1]];
    if (!dragged && Math.hypot(dx, dy) < 4) return false;
    this.svg.setPointerCapture(pointer);
    this.svg.classList.add("crew-held");
    const other = [...this.#pointers].find(([id]) => id !== pointer)?.[1];
    this.#pointers.set(pointer, to);
    this.#moved = true;
    if (other) {
      const apart = (one) => Math.max(20, Math.hypot(one[0] - other[0], one[1] - other[1]));
      this.#view.x += dx / 2;
      this.#view.y += dy / 2;
      this.zoom(apart(to) / apart(from), [(to[0] + other[0]) / 2, (to[1] + other[1]) / 2]);
    } else {
      this.#view.x += dx;
      this.#view.y += dy;
      this.#place();
    }
    return true;
  }

  #open(at) {
    if (at === undefined) return;
    const node = this.#picture.nodes[at];
    if (node.states) this.#on.bucket?.({ band: node.band, worker: node.worker, count: node.count });
    else this.#on.open?.(node.id);
  }

  #press(event, at) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const acts = { "+": () => this.zoom(1.4), "=": () => this.zoom(1.4), "-": () => this.zoom(1 / 1.4), 0: () => this.fit() };
    if (at !== undefined) {
      const step = (way) => () => {
        const to = this.#beside(Number(at), way);
        if (to !== undefined) this.#go(to);
      };
      for (const way of ["Up", "Down", "Left", "Right"]) acts[`Arrow${way}`] = step(way);
      Object.assign(acts, { Home: () => this.#go(0), End: () => this.#go(this.#nodes.length - 1) });
      acts.Enter = acts[" "] = () => this.#open(at);
    }
    if (!acts[event.key]) return;
    event.preventDefault();
    acts[event.key]();
  }

  // Up and down follow the arrows to the nearest parent or child, left and right the row.
  #beside(at, way) {
    const { nodes } = this.#picture;
    const here = nodes[at];
    const right = way === "Right";
    let found;
    if (way === "Up" || way === "Down") {
      const end = way === "Down" ? 1 : 0;
      found = this.#near[at].filter((edge) => edge[1 - end] === at).map((edge) => edge[end]);
    } else {
      const side = (node) => (right ? node.x > here.x : node.x < here.x);
      found = [...nodes.keys()].filter((n) => Math.abs(nodes[n].y - here.y) < 0.01 && side(nodes[n]));
    }
    return found.sort((a, b) => Math.abs(nodes[a].x - here.x) - Math.abs(nodes[b].x - here.x))[0];
  }

  #heat(at) {
    const node = this.#nodes[at];
    if (node?.lastChild.nodeName !== "title") node?.append(svg("title", {}));
    if (node) node.lastChild.textContent = node.firstChild.getAttribute("aria-label");
    this.hot?.replaceChildren(...(at === undefined ? [] : this.#arrows(this.#near[at], 2.5)));
  }
}

// --- Parts of a picture ---

const key = (node) => node.id ?? JSON.stringify([node.band, node.worker]);
const middle = (node) => [node.x * COLUMN, node.y * ROWS[node.states ? "buckets" : "tasks"]];
const known = (states) => Object.keys(STATES).filter((state) => states[state]);
const several = (count, word) => `${number.format(count)} ${word}${count === 1 ? "" : "s"}`;
const levels = ([first, last]) =>
  last === null ? "all levels" : first === last ? `level ${first + 1}` : `levels ${first + 1}–${last + 1}`;

function nameOf(node, picture) {
  if (!node.states) return node.name || node.id;
  if (node.worker === null) return several(picture.lanes.at(-1).workers, "other worker");
  return node.worker || "no worker";
}

function words(picture) {
  if (!picture.nodes.length) return "This group has no tasks yet.";
  if (picture.kind === "tasks") return picture.cut ? "Only the nearest tasks are shown." : "";
  const what = "A box sums up the tasks of one worker on some levels of the graph. Open it to see them.";
  if (picture.hidden === null) return `${what} So many tasks are not sorted by depth.`;
  return picture.hidden ? `${what} ${number.format(picture.hidden)} more connections are not drawn.` : what;
}

function task(node) {
  const lines = twoLines(node.name || node.id, 138, "600 13px");
  const two = lines.length > 1;
  return [
    ...lines.map((line, n) => svg("text", { x: -52, y: n * 15 - (two ? 12 : 4) }, line)),
    svg("text", { class: "crew-small", x: -52, y: two ? 21 : 14 }, cut(node.worker || "no worker", 138, "11.5px")),
  ];
}

const BAR = 160;

function sums(node, name) {
  const parts = [
    svg("text", { x: -BAR / 2, y: -17 }, cut(name, BAR, "600 13px")),
    svg("text", { class: "crew-small", x: -BAR / 2, y: 0 }, several(node.count, "task")),
  ];
  if (!node.states.failed) return parts;
  const text = number.format(node.states.failed);
  const flag = svg("g", { class: "crew-flag" });
  flag.dataset.state = "failed";
  flag.append(glyph("failed", `translate(${BAR / 2 - 12 - 7 * text.length} -4) scale(0.6)`));
  return [...parts, flag, svg("text", { class: "crew-small", x: BAR / 2, y: 0, "text-anchor": "end" }, text)];
}

// The states of a box side by side; even the rarest can be seen.
function bar(node) {
  const group = svg("g", {});
  const states = known(node.states);
  const least = 4;
  let x = -BAR / 2;
  for (const state of states) {
    const width = least + ((BAR - least * states.length) * node.states[state]) / node.count;
    const part = svg("g", { class: "crew-part" });
    part.dataset.state = state;
    part.append(svg("rect", { x, y: 10, width, height: 18 }));
    if (width >= 18) part.append(glyph(state, `translate(${x + width / 2} 19) scale(0.75)`));
    group.append(part);
    x += width;
  }
  return group;
}

function glyph(state, transform) {
  const { shape, solid } = STATES[state];
  const group = svg("g", { class: "crew-glyph", ...(transform && { transform }) });
  group.append(svg("rect", { x: -11, y: -11, width: 22, height: 22, rx: 6 }));
  group.append(svg("path", { d: shape, transform: "translate(-8 -8)", ...(solid && { class: "crew-solid" }) }));
  return group;
}

// The rows of a picture from the top: [y, [x, x, ...]].
function rowsOf({ nodes }) {
  const rows = new Map();
  for (const node of nodes) {
    const [x, y] = middle(node);
    if (!rows.has(y)) rows.set(y, []);
    rows.get(y).push(x);
  }
  return [...rows].sort((a, b) => a[0] - b[0]).map(([y, xs]) => [y, xs.sort((a, b) => a - b)]);
}

// The tip of the arrow from a box to another, the bends of its line, and its straight part.
function arrow({ nodes, kind, edges }, from, to, width, rows) {
  const [w, h] = BOX[kind];
  const [x1, y1] = middle(nodes[from]).map(Math.round);
  const [x2, y2] = middle(nodes[to]).map(Math.round);
  const size = Math.min(8, 4 + width);
  const long = Math.round(1.6 * size);
  if (y2 <= y1) {
    // Within a band: below the boxes.
    const [low, end] = [y1 + h / 2, y2 + h / 2 + long];
    const tip = `M${x2 - size} ${end}L${x2} ${y2 + h / 2}L${x2 + size} ${end}z`;
    return [tip, [`M${x1} ${low}C${x1} ${low + 34} ${x2} ${end + 34} ${x2} ${end}`]];
  }
  const [start, end] = [y1 + h / 2, y2 - h / 2 - long];
  const tip = `M${x2 - size} ${end}L${x2} ${y2 - h / 2}L${x2 + size} ${end}z`;
  const between = rowsBetween(rows, start + h / 2 + 8, end - h / 2 - 4);
  const [left, right] = [Math.min(x1, x2) - w / 2, Math.max(x1, x2) + w / 2];
  if (!between.some(([, xs]) => isIn(xs, left, right))) {
    return [tip, [bend(x1, start, x2, end, 0.5)]];
  }
  // Past the boxes in between: down a corridor, with a bend before and after it.
  const x = Math.round(corridor(x1, x2, between, w / 2 + 4, edges.length > 600));
  const top = Math.round(between[0][0] - h / 2);
  const low = Math.round(between.at(-1)[0] + h / 2);
  return [tip, [bend(x1, start, x, top, 0.6), bend(x, low, x2, end, 0.6)], x, top, low];
}

function bend(x1, y1, x2, y2, share) {
  const far = Math.round((y2 - y1) * share);
  return `M${x1} ${y1}C${x1} ${y1 + far} ${x2} ${y2 - far} ${x2} ${y2}`;
}

function paths(bits, attributes) {
  const found = [];
  for (let at = 0; at < bits.length; at += 50) {
    found.push(svg("path", { d: bits.slice(at, at + 50).join(""), ...attributes }));
  }
  return found;
}

function rowsBetween(rows, top, low) {
  return rows.slice(after(rows, top, (row) => row[0]), after(rows, low, (row) => row[0]));
}

// Of some ways down, the one past the fewest boxes; the first ones are the shortest.
function corridor(x1, x2, rows, half, few) {
  // In a grid the way in is left of a box and the way out right of it: neighbours' do not cross.
  const ways = [x2 - COLUMN / 2, x1 + COLUMN / 2];
  if (!few) ways.unshift(x2);
  if (!few) for (const step of [0.5, 1, 1.5, 2, 3]) ways.push(x1, x2 + step * COLUMN, x2 - step * COLUMN);
  let best = x2;
  let fewest = Infinity;
  for (const x of ways) {
    let hits = 0;
    for (const [, xs] of rows) if (isIn(xs, x - half, x + half)) hits += 1;
    if (hits < fewest) [best, fewest] = [x, hits];
    if (!hits) break;
  }
  return best;
}

function isIn(sorted, from, to) {
  const next = after(sorted, from, (one) => one);
  return next < sorted.length && sorted[next] < to;
}

// The index of the first item whose value is larger.
function after(items, value, of) {
  let [low, high] = [0, items.length];
  while (low < high) {
    const half = (low + high) >> 1;
    if (of(items[half]) > value) high = half;
    else low = half + 1;
  }
  return low;
}

const ruler = document.createElement("canvas").getContext("2d");
const widths = new Map(); // of letters, by font and letter: a thousand names are measured at once

function wide(letter, font) {
  const known = font + letter;
  if (!widths.has(known)) {
    ruler.font = `${font} system-ui, sans-serif`;
    widths.set(known, ruler.measureText(letter).width);
  }
  return widths.get(known);
}

// A long text in two lines, the second cut if it must be.
function twoLines(text, width, font) {
  const whole = cut(text, width, font);
  if (whole === text) return [text];
  const fits = whole.length - 1;
  const space = text.lastIndexOf(" ", fits);
  const end = space > fits / 3 ? space : fits;
  return [text.slice(0, end), cut(text.slice(end).trim(), width, font)];
}

function cut(text, width, font) {
  let used = 0;
  let kept = 0; // letters that leave room for the dots
  for (const letter of text) {
    used += wide(letter, font);
    if (used > width) return `${text.slice(0, kept).trimEnd()}…`;
    if (used + wide("…", font) <= width) kept += letter.length;
  }
  return text;
}

function svg(name, attributes, text) {
  return make(document.createElementNS(NS, name), attributes, text);
}

function html(name, attributes, text) {
  return make(document.createElement(name), attributes, text);
}

function make(element, attributes, text) {
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== undefined) element.textContent = text;
  return element;
}

function listen(element, event, act, options) {
  element.addEventListener(event, act, options);
  return element;
}

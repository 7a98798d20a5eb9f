// Draws a picture of `tasks/insight/graph/picture.py`: every task, or sums of them. It only shows: what to load,
// and when, is the page's business. Colours, shapes of text and dark mode are in graph.css.
//
//   const graph = new Graph(element, {onOpen, onOpenBucket, onStale});
//   graph.show(picture);           // again when tasks came or went: the view stays where it is
//   graph.update([{id, state}]);   // what changed; onStale() asks for a new picture
import { arrow, paths, rowsOf } from "./arrows.js";
import { bar, BOX, COLUMN, glyph, key, known, levels, middle, nameOf, number } from "./boxes.js";
import { ROWS, several, sums, task, words } from "./boxes.js";
import { STATES } from "./states.js";
import { html, listen, svg } from "./svg.js";

export { STATES };

const FAR = 0.42; // below this scale words cannot be read
const [LEAST, MOST, FITTED] = [0.02, 2.5, 1.1];
const LEAST_HIGH = 0.08; // a long chain is not shrunk further: it is shown from its top
const PAD = 24;
const PAUSE = 500; // ms between two pictures of sums, and between two calls of onStale

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

  /**
   * @param {HTMLElement} container
   * @param {{ onOpen?: Function, onOpenBucket?: Function, onStale?: Function }} on
   */
  constructor(container, { onOpen, onOpenBucket, onStale } = {}) {
    this.#on = { open: onOpen, bucket: onOpenBucket, stale: onStale };
    this.root = html("div", { class: "crew-graph" });
    this.legend = html("ul", {
      class: "crew-legend",
      "aria-label": "States; press one to highlight it",
    });
    const zoom = html("div", { class: "crew-zoom", role: "group", "aria-label": "Zoom" });
    for (const [sign, label, act] of [
      ["+", "Zoom in", () => this.zoom(1.4)],
      ["−", "Zoom out", () => this.zoom(1 / 1.4)],
      ["Fit", "Fit the whole graph", () => this.fit()],
    ]) {
      zoom.append(
        listen(
          html("button", { type: "button", "aria-label": label, title: label }, sign),
          "click",
          act,
        ),
      );
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
    /** @type {HTMLElement | null} */
    const node = document.activeElement?.closest(".crew-node") ?? null;
    const focused = node && this.svg.contains(node) ? this.#key(node.dataset.at) : null;
    this.#next = null;
    this.#shown = performance.now();
    this.#picture = picture;
    this.#index = new Map(picture.nodes.map((node, at) => [key(node), at]));
    this.#rows = rowsOf(picture);
    this.#near = picture.nodes.map(() => []);
    for (const edge of picture.edges)
      for (const end of [edge[0], edge[1]]) this.#near[end].push(edge);
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
    const box = svg("rect", {
      class: "crew-box",
      x: -w / 2,
      y: -h / 2,
      width: w,
      height: h,
      rx: 10,
    });
    element.replaceChildren(element.firstChild);
    element.firstChild.replaceChildren(
      box,
      node.states ? bar(node) : glyph(node.state, "translate(-72 0)"),
    );
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
      if (!seen(x + left * k, width, 220) || !seen(y + top * k, height, 120)) {
        missing += 1;
        return;
      }
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
    const parts = known(node.states).map(
      (state) => `${number.format(node.states[state])} ${STATES[state].label}`,
    );
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
      if (x !== undefined)
        falls.set(`M${x} ${top}V`, Math.max(low, falls.get(`M${x} ${top}V`) ?? low));
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
      if (band[1] !== null)
        group.append(
          svg(
            "text",
            { class: "crew-band", x: -6, y: (at + 0.5) * ROWS.buckets + 4 },
            levels(band),
          ),
        );
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
    listen(
      this.svg,
      "wheel",
      (event) => {
        event.preventDefault();
        const step = event.deltaY * (event.deltaMode ? 20 : 1) * (event.ctrlKey ? 0.01 : 0.0016);
        this.zoom(Math.exp(-Math.max(-0.6, Math.min(0.6, step))), this.#point(event));
      },
      { passive: false },
    );
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
    const acts = {
      "+": () => this.zoom(1.4),
      "=": () => this.zoom(1.4),
      "-": () => this.zoom(1 / 1.4),
      0: () => this.fit(),
    };
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
      found = [...nodes.keys()].filter(
        (n) => Math.abs(nodes[n].y - here.y) < 0.01 && side(nodes[n]),
      );
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

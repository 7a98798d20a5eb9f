// The tab with a group's tasks: filtered and paged by the server, kept live row by row.
import { wholePage } from "./api.js";
import { bulk, VERBS } from "./bulk.js";
import { el, number, several, single } from "./dom.js";
import { Filters, SIZES } from "./filters.js";
import { show } from "./look.js";
import { soon } from "./paced.js";
import { Picks } from "./picks.js";
import { cells } from "./rows.js";
import { title } from "./verbs.js";

const HEADS = ["State", "Task", "Worker", "Left", "Created", "Actions"];
const SOON = 700; // ms at most between two looks while things happen

export const open = (panel, context) => new Table(panel, context);

class Table {
  #rows = new Map(); // of this page, by id
  #load = new AbortController();
  #soon = soon(() => this.reload(), SOON);
  #count = 0;

  constructor(panel, context) {
    this.context = { ...context, done: (task, verb) => this.#done(task, verb) };
    this.picks = context.may.has("operate") ? new Picks(() => this.#acts()) : null;
    this.filters = new Filters(context.place, () => this.#again());
    this.acts = el("div", { class: "crew-filters crew-picked", hidden: true });
    this.body = el("tbody");
    this.foot = el("nav", { class: "crew-foot", "aria-label": "Pages" });
    const heads = HEADS.map((head) =>
      el("th", { scope: "col", title: head === "Left" ? "Attempts left" : null }, head),
    );
    if (this.picks) heads.unshift(el("th", { scope: "col", class: "crew-pick" }, this.picks.head));
    const table = el(
      "table",
      { class: "crew-table" },
      el("thead", {}, el("tr", {}, ...heads)),
      this.body,
    );
    panel.replaceChildren(
      this.#tools(),
      this.acts,
      el("div", { class: "crew-scroll" }, table),
      this.foot,
    );
    this.reload();
  }

  async reload() {
    this.#load.abort();
    this.#load = new AbortController();
    try {
      this.#draw(
        await wholePage(
          `${this.context.path}/tasks`,
          "tasks",
          this.filters.query,
          this.#load.signal,
        ),
      );
    } catch (error) {
      if (error.name !== "AbortError") this.context.said(error);
    }
  }

  close() {
    this.#load.abort();
    this.#soon.close();
  }

  // Rows that may come, go or move are the server's to say: it knows the filter and the order.
  heard({ type, task }) {
    if (!task) return;
    const there = this.#rows.get(task.id);
    if (type === "update" && there && !this.filters.isLive) return this.#fill(there, task);
    if (type === "delete" && there) this.#gone(task.id);
    if (type !== "update" || this.filters.isLive) this.#soon.heard();
  }

  #draw({ count, tasks }) {
    this.#count = count;
    const pages = Math.max(1, Math.ceil(count / this.filters.pageSize));
    if (this.filters.page > pages) return this.filters.go(pages);
    const before = this.#rows;
    this.#rows = new Map(
      tasks.map((task) => [task.id, before.get(task.id) ?? el("tr", { "data-id": task.id })]),
    );
    const order = [...this.#rows.values()];
    if (
      order.length !== this.body.children.length ||
      order.some((row, n) => row !== this.body.children[n])
    )
      this.body.replaceChildren(...order);
    for (const task of tasks) this.#fill(this.#rows.get(task.id), task);
    if (!tasks.length) this.body.replaceChildren(this.#empty());
    this.picks?.on([...this.#rows.keys()]);
    this.#footer(pages);
  }

  // An open menu stays open: it would be drawn away under the hand. The row follows when it closes.
  #fill(row, task) {
    const menu = row.querySelector("details[open]");
    row.crewLate = menu ? task : null;
    if (menu)
      return void menu.addEventListener(
        "toggle",
        () => row.crewLate && this.#fill(row, row.crewLate),
        { once: true },
      );
    show(row, ...cells(task, this.context, this.picks?.box(task.id, title(task))));
    for (const box of row.querySelectorAll("[data-pick]")) box.checked = this.picks.has(task.id);
  }

  #gone(id) {
    const row = this.#rows.get(id);
    if (row.contains(document.activeElement))
      (row.nextSibling ?? row.previousSibling)?.querySelector("a")?.focus();
    row.remove();
    this.#rows.delete(id);
    this.picks?.drop(id);
    this.#count -= 1;
    this.#footer(Math.max(1, Math.ceil(this.#count / this.filters.pageSize)));
  }

  #done(task, verb) {
    if (verb === "delete" && this.#rows.has(task.id)) this.#gone(task.id);
    this.reload();
  }

  #empty() {
    const words = this.filters.isEmpty
      ? "This group has no tasks yet: add one here, by the API, or with manage.py crewimport."
      : "No task fits the filter.";
    return el("tr", {}, el("td", { colspan: HEADS.length + 1, class: "crew-dim" }, words));
  }

  // --- Around the table ---

  #tools() {
    const tools = el("div", { class: "crew-tools" }, this.filters.node);
    const right = el("div", { class: "crew-filters" });
    right.append(
      el(
        "button",
        { type: "button", class: "crew-button", onclick: () => this.reload() },
        "Refresh",
      ),
    );
    if (this.picks) right.append(this.#menu());
    if (this.context.may.has("write"))
      right.append(
        el("a", { class: "crew-button crew-primary", href: this.context.newTaskUrl }, "Add task"),
      );
    tools.append(right);
    return tools;
  }

  #again() {
    this.picks?.clear();
    this.reload();
  }

  #verbs(which) {
    const known = Object.entries(VERBS).filter(
      ([name]) => name !== "delete" || this.context.may.has("write"),
    );
    const done = (count) => count && this.#again();
    const act = (name) => bulk(name, which(), this.context).then(done, this.context.said);
    return known.map(([name, { words, danger }]) =>
      el(
        "button",
        {
          type: "button",
          class: danger ? "crew-button crew-danger" : "crew-button",
          onclick: single(() => act(name)),
        },
        words,
      ),
    );
  }

  #menu() {
    const verbs = this.#verbs(() => this.#all(this.picks.isAll ? 0 : this.picks.ids.size));
    this.every = el("summary", { class: "crew-button" }, "All that match");
    return el(
      "details",
      { class: "crew-menu", id: "crew-bulk" },
      this.every,
      el("div", {}, ...verbs),
    );
  }

  #all(besides) {
    return { filter: this.filters.which, words: this.filters.words, besides };
  }

  #acts() {
    const words = this.picks.words(this.#count);
    this.acts.hidden = !words;
    if (!words) return this.acts.replaceChildren();
    const which = () => (this.picks.isAll ? this.#all(0) : this.picks.which);
    show(this.acts, words, ...this.#verbs(which));
  }

  #footer(pages) {
    if (this.every)
      this.every.textContent = `All ${this.filters.isEmpty ? several(this.#count, "task") : `${number(this.#count)} that match`}`;
    const { page, pageSize } = this.filters;
    const go = (text, to, label) =>
      el(
        "button",
        {
          type: "button",
          class: "crew-button crew-small",
          disabled: to < 1 || to > pages || to === page,
          "aria-label": label,
          onclick: () => this.filters.go(to),
        },
        text,
      );
    const sizes = SIZES.map((n) => el("option", { value: n, selected: n === pageSize }, n));
    const size = el(
      "select",
      {
        "aria-label": "Rows a page",
        onchange: (event) => this.filters.go(1, Number(event.target.value)),
      },
      ...sizes,
    );
    const first = this.#count ? (page - 1) * pageSize + 1 : 0;
    const last = Math.min(this.#count, page * pageSize);
    const ends = pages > 2 ? [go("«", 1, "First page"), go("»", pages, "Last page")] : [];
    show(
      this.foot,
      el(
        "span",
        { "aria-live": "polite", id: "crew-count" },
        `${number(first)}–${number(last)} of ${number(this.#count)}`,
      ),
      ends[0],
      go("‹", page - 1, "Page before"),
      go("›", page + 1, "Next page"),
      ends[1],
      size,
    );
  }
}

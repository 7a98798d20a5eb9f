// The filter above the tasks of a group. What is asked for stands in the URL, so that a reload and
// the way back find the same rows.
import { el } from "./dom.js";
import { STATES } from "./states.js";

export const SIZES = [20, 50, 100, 500];
const NAMES = ["q", "state", "worker", "workgroup", "key", "skipCompleted", "seeds"];

export class Filters {
  // `place` is {read(), write(URLSearchParams)}; `changed` is called when other rows are asked for.
  constructor(place, changed) {
    this.place = place;
    this.changed = changed;
    this.timer = 0;
    this.node = el("form", {
      class: "crew-filters",
      role: "search",
      "aria-label": "Filter the tasks",
    });
    this.node.addEventListener("submit", (event) => {
      event.preventDefault();
      this.set("q", this.search.value);
    });
    this.read();
    this.draw();
  }

  read() {
    const given = this.place.read();
    const whole = (name, known) =>
      known(Number(given.get(name))) ? Number(given.get(name)) : null;
    this.page = whole("page", (n) => Number.isInteger(n) && n > 0) ?? 1;
    this.pageSize = whole("pageSize", (n) => SIZES.includes(n)) ?? SIZES[0];
    this.asked = Object.fromEntries(NAMES.map((name) => [name, given.get(name) ?? ""]));
    if (!(this.asked.state in STATES)) this.asked.state = "";
  }

  // The filter as the API takes it; `all=1` for none.
  get which() {
    const which = new URLSearchParams(
      Object.entries(this.asked).filter(([, value]) => value !== ""),
    );
    if (!which.size) which.set("all", "1");
    return which;
  }

  get isEmpty() {
    return Object.values(this.asked).every((value) => value === "");
  }

  // What fits it, to follow "tasks": ` with “x” in the name or id and of state failed`.
  get words() {
    const { q, state, worker, workgroup, key, skipCompleted, seeds } = this.asked;
    const parts = [
      q && `with “${q}” in the name or id`,
      state && `of state ${STATES[state].label}`,
      worker && `of worker ${worker}`,
      workgroup && `of workgroup ${workgroup}`,
      key && `of key ${key}`,
      skipCompleted && "that are not complete",
      seeds && "that are seeds",
    ].filter(Boolean);
    return parts.length ? ` ${parts.join(" and ")}` : " of the group";
  }

  // Whether a change of a task may move it into or out of what is shown.
  get isLive() {
    return this.asked.state !== "" || this.asked.skipCompleted !== "";
  }

  get query() {
    const query = this.which;
    query.delete("all");
    query.set("page", String(this.page));
    query.set("pageSize", String(this.pageSize));
    return query;
  }

  set(name, value) {
    clearTimeout(this.timer);
    if (this.asked[name] === value) return;
    this.asked[name] = value;
    this.go(1);
  }

  go(page, pageSize = this.pageSize) {
    Object.assign(this, { page, pageSize });
    const kept = this.query;
    if (page === 1) kept.delete("page");
    if (pageSize === SIZES[0]) kept.delete("pageSize");
    this.place.write(kept);
    this.changed();
  }

  clear() {
    for (const name of NAMES) this.asked[name] = "";
    this.draw();
    this.go(1);
    this.search.focus();
  }

  draw() {
    const { asked } = this;
    const later = (event) => {
      clearTimeout(this.timer);
      this.timer = setTimeout(() => this.set("q", event.target.value), 300);
    };
    this.search = el("input", {
      type: "search",
      value: asked.q,
      placeholder: "Part of a name or id",
      "aria-label": "Search by name or id",
      oninput: later,
    });
    const states = Object.entries(STATES).map(([name, { label }]) =>
      el("option", { value: name, selected: name === asked.state }, label),
    );
    const state = el(
      "select",
      { "aria-label": "State", onchange: (event) => this.set("state", event.target.value) },
      el("option", { value: "" }, "any state"),
      ...states,
    );
    const exact = (name, words) =>
      el("input", {
        type: "search",
        value: asked[name],
        placeholder: `${words}, exactly`,
        "aria-label": words,
        onchange: (event) => this.set(name, event.target.value.trim()),
      });
    const tick = (name, words) =>
      el(
        "label",
        {},
        el("input", {
          type: "checkbox",
          checked: asked[name] !== "",
          onchange: (event) => this.set(name, event.target.checked ? "1" : ""),
        }),
        ` ${words}`,
      );
    const isRare = ["workgroup", "key", "seeds"].some((name) => asked[name] !== "");
    const rare = el(
      "details",
      { class: "crew-rare", open: isRare },
      el("summary", {}, "More filters"),
      el(
        "div",
        { class: "crew-filters" },
        exact("workgroup", "Workgroup"),
        exact("key", "Key"),
        tick("seeds", "Only seeds"),
      ),
    );
    const clear = el(
      "button",
      { type: "button", class: "crew-button", onclick: () => this.clear() },
      "Clear",
    );
    this.node.replaceChildren(
      this.search,
      state,
      exact("worker", "Worker"),
      tick("skipCompleted", "Hide completed"),
      rare,
      clear,
    );
  }
}

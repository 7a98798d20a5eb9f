// Which rows are picked: one by one, a range by Shift, the page, or all that the filter names.
import { el, number } from "./dom.js";

export class Picks {
  constructor(changed) {
    this.changed = changed;
    this.ids = new Set();
    this.names = new Map(); // of all that were shown, by id
    this.isAll = false; // that match, on every page
    this.shown = []; // the ids of the page, in their order
    this.last = null;
    this.head = el("input", {
      type: "checkbox",
      "aria-label": "Select all tasks of this page",
      onchange: () => this.page(this.head.checked),
    });
  }

  box(id, name) {
    this.names.set(id, name);
    const box = el("input", { type: "checkbox", "aria-label": `Select ${name}`, "data-pick": id });
    box.checked = this.has(id);
    box.addEventListener("click", (event) => this.pick(id, box.checked, event.shiftKey));
    return box;
  }

  // Those that were ticked, by id and by name.
  get which() {
    const ids = [...this.ids];
    return { ids, names: ids.map((id) => this.names.get(id)) };
  }

  has(id) {
    return this.isAll || this.ids.has(id);
  }

  pick(id, on, isRange) {
    if (this.isAll) this.ids = new Set(this.shown);
    this.isAll = false;
    const [from, to] = [
      this.shown.indexOf(isRange ? (this.last ?? id) : id),
      this.shown.indexOf(id),
    ].sort((a, b) => a - b);
    for (const one of this.shown.slice(Math.max(0, from), to + 1))
      on ? this.ids.add(one) : this.ids.delete(one);
    this.last = id;
    this.show();
  }

  page(on) {
    this.isAll = false;
    for (const id of this.shown) on ? this.ids.add(id) : this.ids.delete(id);
    this.show();
  }

  all() {
    this.isAll = true;
    this.show();
  }

  clear() {
    this.isAll = false;
    this.ids.clear();
    this.last = null;
    this.show();
  }

  // What the page shows now; what is gone from the group can be picked no more.
  on(shown) {
    this.shown = shown;
    this.show();
  }

  drop(id) {
    this.ids.delete(id);
    this.show();
  }

  show() {
    const here = this.shown.filter((id) => this.has(id)).length;
    this.head.checked = here > 0 && here === this.shown.length;
    this.head.indeterminate = here > 0 && here < this.shown.length;
    /** @type {NodeListOf<HTMLInputElement>} */
    const boxes = document.querySelectorAll("[data-pick]");
    for (const box of boxes) box.checked = this.has(box.dataset.pick);
    this.changed();
  }

  // "3 selected", with a way to all of `count` and a way back.
  words(count) {
    const picked = this.isAll ? count : this.ids.size;
    if (!picked) return null;
    const button = (words, act) =>
      el("button", { type: "button", class: "crew-copy", onclick: act }, words);
    const more =
      !this.isAll && count > picked
        ? button(`Select all ${number(count)} that match`, () => this.all())
        : null;
    return el(
      "span",
      { role: "status" },
      `${number(picked)} selected `,
      more,
      button("Clear the selection", () => this.clear()),
    );
  }
}

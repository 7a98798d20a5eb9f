// Elements from words: text is always text, never markup.
import { Refused, session } from "./api.js";
import { STATES } from "./states.js";

const SVG = "http://www.w3.org/2000/svg";
const short = new Intl.NumberFormat();
const relative = new Intl.RelativeTimeFormat(undefined, { numeric: "auto", style: "short" });
const exact = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });

export const number = (n) => short.format(n);
export const find = (selector, within = document) => within.querySelector(selector);

// el("a", {href: "…", class: "…", onclick: f}, "text", child, …)
export function el(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value === true) made.setAttribute(key, "");
    else if (value !== false && value != null) made.setAttribute(key, value);
  }
  made.append(...children.filter((child) => child != null));
  return made;
}

// A state as a sign and a word: never by colour alone.
export function badge(state, words = STATES[state]?.label ?? state) {
  const sign = document.createElementNS(SVG, "svg");
  sign.setAttribute("viewBox", "0 0 16 16");
  sign.setAttribute("aria-hidden", "true");
  const path = sign.appendChild(document.createElementNS(SVG, "path"));
  path.setAttribute("d", STATES[state]?.shape ?? "");
  return el("span", { class: "crew-badge", "data-state": state }, sign, words);
}

// "in 5 min", "2 h ago", with the exact time on hover.
export function ago(moment, now = Date.now()) {
  const date = new Date(moment);
  if (!moment || date.getFullYear() < 2) return el("span", { class: "crew-dim" }, "–");
  return el(
    "time",
    { datetime: moment, title: exact.format(date), "data-ago": true },
    words(date.getTime() - now),
  );
}

setInterval(() => {
  if (document.hidden) return;
  /** @type {NodeListOf<HTMLTimeElement>} */
  const places = document.querySelectorAll("time[data-ago]");
  for (const place of places) {
    const now = words(new Date(place.dateTime).getTime() - Date.now());
    if (place.textContent !== now) place.textContent = now;
  }
}, 5_000);

/** @type {[Intl.RelativeTimeFormatUnit, number][]} */
const UNITS = [
  ["day", 86_400],
  ["hour", 3_600],
  ["minute", 60],
];

function words(ms) {
  const seconds = Math.round(ms / 1000);
  for (const [unit, size] of UNITS) {
    if (Math.abs(seconds) >= size) return relative.format(Math.round(seconds / size), unit);
  }
  return relative.format(seconds, "second");
}

// A stacked bar of counts by state.
export function stacked(counts, total, label) {
  const bar = el("div", { class: "crew-bar", role: "img", "aria-label": label });
  for (const state of Object.keys(STATES)) {
    const count = counts[state] ?? 0;
    if (!count) continue;
    const part = el("span", {
      class: "crew-fill",
      "data-state": state,
      title: `${number(count)} ${STATES[state].label}`,
    });
    part.style.width = `${(100 * count) / total}%`;
    bar.append(part);
  }
  return bar;
}

// The state whose colour and sign an attempt's outcome has.
export const OUTCOMES = {
  completed: "complete",
  failed: "failed",
  held: "scheduled",
  abandoned: "paused",
  cancelled: "blocked",
  interrupted: "paused",
  executing: "executing",
};

// The page of a row of the admin, which writes ids into its paths with _3A for ":" and so on.
export function adminUrl(pattern, id) {
  const coded = (c) => `_${c.charCodeAt(0).toString(16).toUpperCase().padStart(2, "0")}`;
  return pattern.replace(
    "__id__",
    encodeURIComponent(id.replace(/[:/_#?;@&=+$,"[\]<>%\n\\]/g, coded)),
  );
}

// Shows on `sign` how the stream is: for `onState` of live.js.
const WORDS = {
  live: "live",
  waiting: "connection lost: what you see may be old; trying again…",
  hidden: "not looked at",
  out: "You are logged out: what you see may be old. ",
};
export function showLive(sign, state = sign.dataset.stream) {
  if (!state) return;
  sign.dataset.stream = state;
  const told = session.isOver ? "out" : state;
  if (sign.dataset.state === told) return;
  sign.dataset.state = told;
  // In a tab of its own, so that nothing that was typed here is lost.
  sign.replaceChildren(
    WORDS[told],
    ...(told === "out"
      ? [el("a", { href: location.pathname + location.search, target: "_blank" }, "Log in again")]
      : []),
  );
}

// Tells an error in the server's own words, where it has some.
export const said = (error) =>
  toast(error instanceof Refused ? error.message : String(error), true);

// Tells what happened, politely; errors stay until they are closed.
export function toast(text, isError = false) {
  let place = find(".crew-toasts");
  if (!place) {
    place = el("div", { class: "crew-toasts", "aria-live": "polite" });
    document.body.append(place);
  }
  const close = el("button", { type: "button", "aria-label": "Close" }, "×");
  const shown = el(
    "div",
    { class: isError ? "crew-toast crew-error" : "crew-toast", role: isError ? "alert" : "status" },
    text,
    close,
  );
  close.addEventListener("click", () => shown.remove());
  place.append(shown);
  if (!isError) setTimeout(() => shown.remove(), 5_000);
}

// What a second press while the first is still at work does not do again.
export function single(act) {
  let busy = false;
  return async () => {
    if (busy) return;
    busy = true;
    try {
      await act();
    } finally {
      busy = false;
    }
  };
}

// Asks before something that cannot be taken back. Gives the form's fields, or null for no.
//
// With `act(given)` the dialog stays until that is done, and shows its error: nothing that was
// typed is lost. Gives what `act` gave, then.
/**
 * @typedef {object} Asked
 * @property {string} [yes]
 * @property {boolean} [danger]
 * @property {boolean} [wide]
 * @property {HTMLElement[]} [fields]
 * @property {(given: FormData) => unknown} [act]
 */
/** @param {string} title @param {string} text @param {Asked} asks */
export function ask(title, text, asks = {}) {
  const { yes = "Do it", danger = false, fields = [], act, wide = false } = asks;
  const id = `crew-dialog-${++asked}`;
  const wrong = el("p", { class: "crew-wrong", role: "alert" });
  const no = el("button", { type: "button", class: "crew-button" }, "Cancel");
  const go = el(
    "button",
    { class: danger ? "crew-button crew-danger" : "crew-button crew-primary", value: "yes" },
    yes,
  );
  const form = el(
    "form",
    { method: "dialog" },
    el("h2", { id }, title),
    el("p", {}, text),
    ...fields,
    wrong,
    el("div", { class: "crew-dialog-buttons" }, no, go),
  );
  const dialog = el(
    "dialog",
    { class: wide ? "crew-dialog crew-wide" : "crew-dialog", "aria-labelledby": id },
    form,
  );
  return new Promise((resolve) => {
    let result = null;
    no.addEventListener("click", () => dialog.close());
    form.addEventListener("submit", async (event) => {
      const given = new FormData(form);
      if (!act) {
        result = given;
        return;
      }
      event.preventDefault();
      go.disabled = true;
      wrong.textContent = "";
      try {
        result = (await act(given)) ?? true;
        dialog.close();
      } catch (error) {
        wrong.textContent = error.message;
        go.disabled = false;
      }
    });
    present(dialog, () => resolve(result));
    /** @type {HTMLElement | null} */
    const first = form.querySelector("input, textarea");
    (first ?? (danger ? no : go)).focus();
  });
}

let asked = 0;

// Shows a dialog over the page until it is closed. Then the focus is where it was.
export function present(dialog, closed = () => {}) {
  const opener = /** @type {HTMLElement | null} */ (document.activeElement);
  const key = focusKey(opener);
  // Its close event comes some time after nobody sees it any more, and a key may be faster.
  const gone = new MutationObserver(() => {
    if (dialog.open) return;
    gone.disconnect();
    dialog.remove();
    closed();
    // The page may have drawn the opener again meanwhile, or it is in a menu that is closed.
    const home = opener?.isConnected ? opener : again(key);
    (home?.closest("details:not([open])")?.querySelector("summary") ?? home)?.focus();
  });
  document.body.append(dialog);
  dialog.showModal();
  gone.observe(dialog, { attributeFilter: ["open"] });
}

const focusKey = (node) =>
  node && node !== document.body
    ? [node.tagName, node.getAttribute("aria-label") ?? node.textContent].join("|")
    : "";

/** @returns {HTMLElement | null} */
const again = (key) =>
  key
    ? [
        .../** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll("a, button, summary")),
      ].find((found) => focusKey(found) === key)
    : null;

// A dialog that only shows something.
export function tell(title, ...parts) {
  const id = `crew-dialog-${++asked}`;
  const close = el("button", { type: "button", class: "crew-button crew-primary" }, "Close");
  const dialog = el(
    "dialog",
    { class: "crew-dialog crew-wide", "aria-labelledby": id },
    el("h2", { id }, title),
    ...parts,
    el("div", { class: "crew-dialog-buttons" }, close),
  );
  close.addEventListener("click", () => dialog.close());
  present(dialog);
  close.focus();
  return dialog;
}

export const attemptsField = () =>
  el(
    "label",
    { class: "crew-field" },
    "Attempts for each task",
    el("input", { type: "number", name: "attempts", min: 1, max: 1000, value: 5, required: true }),
  );

// What becomes of the tasks that earlier answers made, before a reset: its words and its choice.
// `replaced` is how many there are.
export const replacedWords = (replaced) =>
  replaced
    ? ` Earlier answers made ${several(replaced, "task")}, with what hangs on them alone: those that the next answers name are recreated, the others go, but for seeds.`
    : "";
export const keepField = (replaced) =>
  replaced
    ? [
        el(
          "label",
          { class: "crew-field" },
          el("input", { type: "checkbox", name: "keep", value: "yes" }),
          " Keep those that are complete",
        ),
      ]
    : [];
export const several = (count, word) => `${number(count)} ${word}${count === 1 ? "" : "s"}`;

// A quiet button that puts a text into the clipboard. `what` says which.
export function copyButton(text, what, words = "copy") {
  const act = async () => {
    try {
      await navigator.clipboard.writeText(text);
      toast(`Copied: ${what}.`);
    } catch {
      toast("The browser does not let this page copy; it needs https.", true);
    }
  };
  return el(
    "button",
    {
      type: "button",
      class: "crew-copy",
      title: `Copy ${what}`,
      "aria-label": `Copy ${what}`,
      onclick: act,
    },
    words,
  );
}

// Text in a box, to be read and copied.
export function block(text, what) {
  return el(
    "div",
    { class: "crew-block" },
    copyButton(text, what),
    el("pre", { class: "crew-json", tabindex: 0, "aria-label": what }, text),
  );
}

/** @returns {NodeListOf<HTMLDetailsElement>} */
const openMenus = (kind) => document.querySelectorAll(`details.${kind}[open]`);

// A menu of a row hangs below its sign, or above where there is no room, past the table's edges.
document.addEventListener(
  "toggle",
  ({ target }) => {
    if (!(target instanceof Element) || !target.matches("details.crew-more[open]")) return;
    const [sign, menu] = /** @type {Iterable<HTMLElement>} */ (target.children);
    const at = sign.getBoundingClientRect();
    const isLow = at.bottom + menu.offsetHeight > innerHeight && at.top > menu.offsetHeight;
    menu.style.top = `${isLow ? at.top - menu.offsetHeight - 4 : at.bottom + 4}px`;
    menu.style.left = `${Math.max(8, at.right - menu.offsetWidth)}px`;
  },
  true,
);
document.addEventListener(
  "scroll",
  () => {
    for (const menu of openMenus("crew-more")) menu.open = false;
  },
  { capture: true, passive: true },
);

// Menus close by Escape, which gives the focus back, and by a click elsewhere.
document.addEventListener("keydown", (event) => {
  const [menu] = event.key === "Escape" ? openMenus("crew-menu") : [];
  if (!menu) return;
  menu.open = false;
  menu.querySelector("summary").focus();
});
document.addEventListener("click", (event) => {
  const target = /** @type {Element} */ (event.target);
  for (const menu of openMenus("crew-menu")) {
    if (menu.contains(target) && !target.closest("button, a")) continue;
    const sign = menu.contains(document.activeElement) && menu.querySelector("summary");
    menu.open = false;
    if (sign) sign.focus();
  }
});

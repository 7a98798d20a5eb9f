// Elements from words: text is always text, never markup.
import { Refused } from "./api.js";
import { STATES } from "./graph.js";

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
  return el("time", { datetime: moment, title: exact.format(date) }, words(date - now));
}

function words(ms) {
  const seconds = Math.round(ms / 1000);
  for (const [unit, size] of [["day", 86_400], ["hour", 3_600], ["minute", 60]]) {
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
    const part = el("span", { class: "crew-fill", "data-state": state, title: `${number(count)} ${STATES[state].label}` });
    part.style.width = `${(100 * count) / total}%`;
    bar.append(part);
  }
  return bar;
}

// The state whose colour and sign an attempt's outcome has.
export const OUTCOMES = { completed: "complete", failed: "failed", held: "scheduled", abandoned: "paused", cancelled: "blocked", executing: "executing" };

// The page of a row of the admin, which writes ids into its paths with _3A for ":" and so on.
export function adminUrl(pattern, id) {
  const coded = (c) => `_${c.charCodeAt(0).toString(16).toUpperCase().padStart(2, "0")}`;
  return pattern.replace("__id__", encodeURIComponent(id.replace(/[:/_#?;@&=+$,"[\]<>%\n\\]/g, coded)));
}

// Shows on `sign` how the stream is: for `onState` of live.js.
const WORDS = { live: "live", waiting: "connection lost: what you see may be old; trying again…", hidden: "not looked at" };
export function showLive(sign, state) {
  sign.textContent = WORDS[state];
  sign.dataset.state = state;
}

// Tells an error in the server's own words, where it has some.
export const said = (error) => toast(error instanceof Refused ? error.message : String(error), true);

// Tells what happened, politely; errors stay until they are closed.
export function toast(text, isError = false) {
  let place = find(".crew-toasts");
  if (!place) document.body.append((place = el("div", { class: "crew-toasts", "aria-live": "polite" })));
  const close = el("button", { type: "button", "aria-label": "Close" }, "×");
  const shown = el("div", { class: isError ? "crew-toast crew-error" : "crew-toast", role: isError ? "alert" : "status" }, text, close);
  close.addEventListener("click", () => shown.remove());
  place.append(shown);
  if (!isError) setTimeout(() => shown.remove(), 5_000);
}

// Asks before something that can not be taken back. Gives the form's fields, or null for no.
export function ask(title, text, { yes = "Do it", danger = false, fields = [] } = {}) {
  const dialog = el("dialog", { class: "crew-dialog", "aria-labelledby": "crew-dialog-title" });
  const form = el("form", { method: "dialog" }, el("h2", { id: "crew-dialog-title" }, title), el("p", {}, text), ...fields);
  const no = el("button", { type: "button", class: "crew-button" }, "Cancel");
  const go = el("button", { class: danger ? "crew-button crew-danger" : "crew-button crew-primary", value: "yes" }, yes);
  form.append(el("div", { class: "crew-dialog-buttons" }, no, go));
  dialog.append(form);
  document.body.append(dialog);
  return new Promise((resolve) => {
    no.addEventListener("click", () => dialog.close());
    dialog.addEventListener("close", () => {
      resolve(dialog.returnValue === "yes" ? new FormData(form) : null);
      dialog.remove();
    });
    dialog.showModal();
    (danger ? no : go).focus();
  });
}

export const attemptsField = () =>
  el("label", { class: "crew-field" }, "Attempts for each task", el("input", { type: "number", name: "attempts", min: 1, max: 1000, value: 5, required: true }));

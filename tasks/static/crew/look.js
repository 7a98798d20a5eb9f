// Pages that look again and again, for as long as somebody sees them.
import { el, showLive } from "./dom.js";

const AGAIN = 2_000; // ms between two looks
let ahead = 0; // ms by which the server's clock is ahead of the browser's

// Reads and draws now, every two seconds, and whenever the result is called. None while the tab is
// hidden. Of two looks at once the later counts. `gone` is called when what is looked at is gone.
export function every(read, draw, sign, gone = () => {}) {
  let timer = 0;
  let turn = 0;
  async function look() {
    const mine = ++turn;
    clearTimeout(timer);
    try {
      const seen = await read();
      if (mine !== turn) return;
      if (seen.at) ahead = Date.parse(seen.at) - Date.now();
      draw(seen);
      showLive(sign, "live");
    } catch (error) {
      if (mine !== turn) return;
      if (!("status" in error)) throw error; // a bug of ours
      if (error.status === 404) return gone();
      showLive(sign, "waiting");
    }
    if (!document.hidden) timer = setTimeout(look, AGAIN);
  }
  document.addEventListener("visibilitychange", () =>
    document.hidden ? clearTimeout(timer) : look(),
  );
  look();
  return look;
}

// Where a selection begins. To ask for it lays the page out again: for each of many cells, seconds.
let selected = null;
const late = new Map(); // what was to be shown meanwhile, by its place
document.addEventListener("selectionchange", () => {
  const selection = getSelection();
  selected = selection.isCollapsed ? null : selection.anchorNode;
  for (const [place, nodes] of late) if (!place.contains(selected)) show(place, ...nodes);
});

// Puts the nodes in place, but leaves alone what is as it was, and what somebody is selecting: that
// is done when they are ready.
// What had the focus has it afterwards.
export function show(place, ...nodes) {
  const next = place.cloneNode(false);
  next.append(...nodes.filter((node) => node != null));
  late.delete(place);
  if (place.isEqualNode(next)) return;
  if (selected && place.contains(selected)) return void late.set(place, [...next.childNodes]);
  const key = place.contains(document.activeElement) ? keyOf(document.activeElement) : null;
  place.replaceChildren(...next.childNodes);
  if (key)
    [...place.querySelectorAll("a, button, summary, input")]
      .find((found) => keyOf(found) === key)
      ?.focus({ preventScroll: true });
}

const keyOf = (node) =>
  [
    node.tagName,
    node.dataset.key ?? node.getAttribute("aria-label") ?? node.textContent,
    node.getAttribute("href"),
  ].join("|");

// The time that is left until then; it counts by itself.
export function countdown(moment) {
  return el(
    "time",
    {
      class: "crew-count",
      datetime: moment,
      "data-until": Date.parse(moment),
      title: new Date(moment).toLocaleString(),
    },
    left(Date.parse(moment)),
  );
}

function left(until) {
  const seconds = Math.max(0, Math.ceil((until - Date.now() - ahead) / 1000));
  return seconds ? `in ${span(seconds)}` : "now";
}

// 4:05 min, 2:10:00 h, 3 d 4 h: for what is counted by the second.
export function span(seconds) {
  const whole = Math.floor(seconds);
  const two = (n) => String(n).padStart(2, "0");
  const [days, hours, minutes] = [
    Math.floor(whole / 86_400),
    Math.floor(whole / 3_600) % 24,
    Math.floor(whole / 60) % 60,
  ];
  if (days) return `${days} d ${hours} h`;
  if (hours) return `${hours}:${two(minutes)}:${two(whole % 60)} h`;
  if (minutes) return `${minutes}:${two(whole % 60)} min`;
  return `${whole} s`;
}

setInterval(() => {
  /** @type {NodeListOf<HTMLElement>} */
  const places = document.querySelectorAll("[data-until]");
  for (const place of places) {
    const words = left(Number(place.dataset.until));
    if (place.textContent !== words) place.textContent = words;
  }
}, 1_000);

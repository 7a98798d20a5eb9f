// A box of the graph: a task, or the sum of many. Where it stands, what is written and drawn in it.
import { cut, twoLines } from "./measure.js";
import { STATES } from "./states.js";
import { svg } from "./svg.js";

export const COLUMN = 212;
export const ROWS = { tasks: 112, buckets: 124 };
export const BOX = { tasks: [184, 64], buckets: [184, 76] };
export const number = new Intl.NumberFormat();

export const key = (node) => node.id ?? JSON.stringify([node.band, node.worker]);
export const middle = (node) => [node.x * COLUMN, node.y * ROWS[node.states ? "buckets" : "tasks"]];
export const known = (states) => Object.keys(STATES).filter((state) => states[state]);
export const several = (count, word) => `${number.format(count)} ${word}${count === 1 ? "" : "s"}`;
export const levels = ([first, last]) =>
  last === null
    ? "all levels"
    : first === last
      ? `level ${first + 1}`
      : `levels ${first + 1}–${last + 1}`;

export function nameOf(node, picture) {
  if (!node.states) return node.name || node.id;
  if (node.worker === null) return several(picture.lanes.at(-1).workers, "other worker");
  return node.worker || "no worker";
}

export function words(picture) {
  if (!picture.nodes.length) return "This group has no tasks yet.";
  if (picture.kind === "tasks") return picture.cut ? "Only the nearest tasks are shown." : "";
  const what =
    "A box sums up the tasks of one worker on some levels of the graph. Open it to see them.";
  if (picture.hidden === null) return `${what} So many tasks are not sorted by depth.`;
  return picture.hidden
    ? `${what} ${number.format(picture.hidden)} more connections are not drawn.`
    : what;
}

export function task(node) {
  const lines = twoLines(node.name || node.id, 138, "600 13px");
  const two = lines.length > 1;
  return [
    ...lines.map((line, n) => svg("text", { x: -52, y: n * 15 - (two ? 12 : 4) }, line)),
    svg(
      "text",
      { class: "crew-small", x: -52, y: two ? 21 : 14 },
      cut(node.worker || "no worker", 138, "11.5px"),
    ),
  ];
}

const BAR = 160;

export function sums(node, name) {
  const parts = [
    svg("text", { x: -BAR / 2, y: -17 }, cut(name, BAR, "600 13px")),
    svg("text", { class: "crew-small", x: -BAR / 2, y: 0 }, several(node.count, "task")),
  ];
  if (!node.states.failed) return parts;
  const text = number.format(node.states.failed);
  const flag = svg("g", { class: "crew-flag" });
  flag.dataset.state = "failed";
  flag.append(glyph("failed", `translate(${BAR / 2 - 12 - 7 * text.length} -4) scale(0.6)`));
  return [
    ...parts,
    flag,
    svg("text", { class: "crew-small", x: BAR / 2, y: 0, "text-anchor": "end" }, text),
  ];
}

// The states of a box side by side; even the rarest can be seen.
export function bar(node) {
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

export function glyph(state, transform) {
  const { shape, solid } = STATES[state];
  const group = svg("g", { class: "crew-glyph", ...(transform && { transform }) });
  group.append(svg("rect", { x: -11, y: -11, width: 22, height: 22, rx: 6 }));
  group.append(
    svg("path", { d: shape, transform: "translate(-8 -8)", ...(solid && { class: "crew-solid" }) }),
  );
  return group;
}

// Arrows between boxes, and the way around what stands between them. Only arithmetic.
import { BOX, COLUMN, middle } from "./boxes.js";
import { svg } from "./svg.js";

// The rows of a picture from the top: [y, [x, x, ...]].
export function rowsOf({ nodes }) {
  const rows = new Map();
  for (const node of nodes) {
    const [x, y] = middle(node);
    if (!rows.has(y)) rows.set(y, []);
    rows.get(y).push(x);
  }
  return [...rows].sort((a, b) => a[0] - b[0]).map(([y, xs]) => [y, xs.sort((a, b) => a - b)]);
}

// The tip of the arrow from a box to another, the bends of its line, and its straight part.
/**
 * The tip, the bends, and of a straight part its x, its top and its end.
 *
 * @returns {[string, string[], number?, number?, number?]}
 */
export function arrow({ nodes, kind, edges }, from, to, width, rows) {
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

export function paths(bits, attributes) {
  const found = [];
  for (let at = 0; at < bits.length; at += 50) {
    found.push(svg("path", { d: bits.slice(at, at + 50).join(""), ...attributes }));
  }
  return found;
}

function rowsBetween(rows, top, low) {
  return rows.slice(
    after(rows, top, (row) => row[0]),
    after(rows, low, (row) => row[0]),
  );
}

// Of some ways down, the one past the fewest boxes; the first ones are the shortest.
function corridor(x1, x2, rows, half, few) {
  // In a grid the way in is left of a box and the way out right of it: neighbours' do not cross.
  const ways = [x2 - COLUMN / 2, x1 + COLUMN / 2];
  if (!few) ways.unshift(x2);
  if (!few)
    for (const step of [0.5, 1, 1.5, 2, 3]) ways.push(x1, x2 + step * COLUMN, x2 - step * COLUMN);
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

// The list of groups: how far each of the shown is, live, and its id to copy.
import { get } from "./api.js";
import { el, find, said, toast } from "./dom.js";
import { every, show } from "./look.js";
import { groupProgress } from "./parts.js";

const IDS_PER_CALL = 25; // ids in one call: the path stays short
/** @type {NodeListOf<HTMLElement>} */
const places = document.querySelectorAll("[data-group]");
const cells = new Map([...places].map((cell) => [cell.dataset.group, cell]));
const ids = [...cells.keys()];

async function read() {
  const parts = [];
  for (let n = 0; n < ids.length; n += IDS_PER_CALL) parts.push(ids.slice(n, n + IDS_PER_CALL));
  const answers = await Promise.all(
    parts.map((part) =>
      get(`api/v1/task_groups/now?ids=${part.map(encodeURIComponent).join(",")}`),
    ),
  );
  return { groups: answers.flatMap((answer) => answer.groups) };
}

function draw({ groups }) {
  const seen = new Map(groups.map((row) => [row.id, row]));
  for (const [id, cell] of cells) {
    const row = seen.get(id);
    show(cell, ...(row ? groupProgress(row) : [el("span", { class: "crew-dim" }, "gone")]));
  }
}

/** @type {NodeListOf<HTMLElement>} */
const copied = document.querySelectorAll("[data-copy]");
for (const place of copied) {
  const id = place.dataset.copy;
  const copy = () => navigator.clipboard.writeText(id).then(() => toast("Copied."), said);
  place.after(
    el(
      "button",
      {
        type: "button",
        class: "crew-copy",
        title: `Copy the id ${id}`,
        "aria-label": `Copy the id ${id}`,
        onclick: copy,
      },
      "copy",
    ),
  );
}
if (ids.length) every(read, draw, find("#crew-live"));

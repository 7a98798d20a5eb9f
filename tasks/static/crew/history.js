// What people did to a group or a task, the newest first.
import { wholePage } from "./api.js";
import { ago, copyButton, el, number } from "./dom.js";
import { show } from "./look.js";
import { soon } from "./paced.js";

const PAGE = 50;

export const open = (panel, context) => history(panel, `${context.path}/history`, context.said);

// `path` is that of the history; a server without one answers 404.
export function history(panel, path, said) {
  let pages = 1;
  async function reload() {
    try {
      const found = await wholePage(path, "entries", { page: 1, pageSize: PAGE });
      for (let n = 2; n <= pages && found.entries.length < found.count; n += 1)
        found.entries.push(
          ...(await wholePage(path, "entries", { page: n, pageSize: PAGE })).entries,
        );
      draw(found);
    } catch (error) {
      if (error.status !== 404) return said(error);
      show(panel, el("p", { class: "crew-empty" }, "No history is kept."));
    }
  }

  function older() {
    pages += 1;
    reload();
  }

  function draw({ count, entries }) {
    if (!entries.length)
      return show(panel, el("p", { class: "crew-empty" }, "Nobody did anything to it yet."));
    const heads = ["When", "Who", "Did", "To", "Tasks", "Detail"].map((head) =>
      el("th", { scope: "col" }, head),
    );
    const table = el(
      "table",
      { class: "crew-table" },
      el("thead", {}, el("tr", {}, ...heads)),
      el("tbody", {}, ...entries.map(row)),
    );
    const more =
      count > entries.length
        ? el(
            "button",
            { type: "button", class: "crew-button", onclick: older },
            `Older ones: ${number(count - entries.length)}`,
          )
        : null;
    show(panel, el("div", { class: "crew-scroll" }, table), more ? el("div", {}, more) : null);
  }

  reload();
  return { reload, ...soon(reload, 2_000) };
}

function row(entry) {
  const cell = (label, ...children) => el("td", { "data-label": label }, ...children);
  return el(
    "tr",
    {},
    cell("When", ago(entry.at)),
    cell("Who", entry.who),
    cell("Did", entry.verb),
    cell(
      "To",
      el("code", { class: "crew-id" }, `${entry.kind} ${entry.id}`),
      entry.id ? copyButton(entry.id, `the id ${entry.id}`) : null,
    ),
    cell("Tasks", number(entry.count ?? 1)),
    cell("Detail", el("span", { class: "crew-wrap" }, words(entry.detail))),
  );
}

// {remainingAttempts: 5} as "remaining attempts: 5".
function words(detail) {
  if (typeof detail !== "object" || detail === null) return String(detail ?? "");
  const told = (value) =>
    Array.isArray(value)
      ? value.join(", ")
      : typeof value === "object"
        ? JSON.stringify(value)
        : String(value);
  const name = (key) => key.replace(/[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`);
  return Object.entries(detail)
    .map(([key, value]) => `${name(key)}: ${told(value)}`)
    .join("; ");
}

// The tab with the graph, as `graph.js` draws it, and the list behind a node of a summed one.
import { get } from "./api.js";
import { card } from "./card.js";
import { el, number } from "./dom.js";
import { Graph } from "./graph.js";
import { paced } from "./paced.js";

const EVERY = 500; // ms at least from one look to the next

let prepared = null;

// Asks for the picture before the tab is opened: the first of a large graph takes the server longest.
export function prepare(path) {
  prepared = get(`${path}/graph`).catch(() => null);
}

export function open(panel, context) {
  const place = el("div");
  const list = el("div", { class: "crew-bucket", hidden: true, tabindex: -1 });
  panel.replaceChildren(place, list);
  let opened = null;
  const graph = new Graph(place, {
    onOpen: async (id) => (opened = await card(id, { ...context, done: () => reload() })),
    onOpenBucket: (node) => bucket(node.band, node.worker).catch(context.said),
    onStale: () => reload(),
  });
  let ended = false;
  const reload = paced(() => (ended ? null : look()), EVERY);

  async function look() {
    const early = prepared;
    prepared = null;
    try {
      const picture = (await early) ?? (await get(`${context.path}/graph`));
      if (!ended) graph.show(picture);
      if (early) reload(); // it may be old
    } catch (error) {
      context.said(error);
    }
  }

  async function bucket(band, worker, page = 1) {
    const asked = new URLSearchParams({ band, page: String(page) });
    if (worker !== null) asked.set("worker", worker);
    const found = await get(`${context.path}/graph/bucket?${asked}`);
    const links = found.ids.map((id) => el("li", {}, el("a", { href: context.taskUrl(id) }, id)));
    const more =
      page < found.pages
        ? el(
            "button",
            {
              type: "button",
              class: "crew-button",
              onclick: () => bucket(band, worker, page + 1).catch(context.said),
            },
            "Next 100",
          )
        : null;
    list.replaceChildren(
      el("h3", {}, `${number(found.count)} tasks of ${worker ?? "other workers"}`),
      el("ul", {}, ...links),
      more,
    );
    list.hidden = false;
    list.focus();
  }

  reload();
  return {
    reload,
    close: () => (ended = true),
    heard({ type, task }) {
      if (!task) return;
      if (opened?.isOpen() && opened.id === task.id) opened.look();
      if (type === "update") graph.update([{ id: task.id, state: task.state, name: task.name }]);
      else reload();
    },
  };
}

// The page of a group: its head, and the tab that is open. Everything live comes by one stream.
import { at, del, get, post } from "./api.js";
import { empty } from "./bulk.js";
import {
  adminUrl,
  ask,
  attemptsField,
  el,
  find,
  number,
  said,
  showLive,
  single,
  stacked,
  toast,
} from "./dom.js";
import { STATES } from "./states.js";
import { Live } from "./live.js";
import { show } from "./look.js";
import { paced } from "./paced.js";
import * as place from "./place.js";

const page = find("#crew-group-page");
const group = page.dataset.group;
const may = new Set(page.dataset.may.split(" "));
const path = at`api/v1/task_group/${group}`;
const PROGRESS_EVERY = 500; // ms at most between two looks while things happen
const PULSE = 5_000; // and while nothing comes: times pass, schedulers die
const TABS = {
  tasks: () => import("./table.js"),
  graph: () => import("./picture.js"),
  timeline: () => import("./timeline.js"),
  failures: () => import("./failures.js"),
  history: () => import("./history.js"),
  settings: async () => ({ open: () => ({}) }),
};

const context = {
  group,
  path,
  may,
  taskUrl: (id) => adminUrl(page.dataset.taskUrl, id),
  newTaskUrl: page.dataset.newTaskUrl,
  childUrl: (id) => `${page.dataset.newTaskUrl}&parents=${encodeURIComponent(id)}`,
  said,
};
let shown = null; // the open tab's {heard(message), reload()}
let missing = false; // its script did not come
let paused = null;
let deleting = false;

// --- The head ---

async function progress() {
  if (deleting) return;
  let now, row;
  try {
    [now, row] = await Promise.all([get(`${path}/progress`), get(path)]);
  } catch (error) {
    showLive(find("#crew-live"));
    return error.status === 404 ? gone() : undefined; // the next look may do
  }
  showLive(find("#crew-live"));
  head(now, row);
  if (paused !== row.isPaused) {
    paused = row.isPaused;
    actions(paused);
  }
}

function head(now, row) {
  const percent = (100 * now.completedPercent).toFixed(2);
  const count = el(
    "span",
    { class: "crew-dim" },
    ` ${number(now.complete)} of ${number(now.total)} tasks complete `,
  );
  const held = row.isPaused
    ? el("strong", { class: "crew-chip", "data-state": "paused" }, "group paused")
    : null;
  const chips = Object.keys(STATES)
    .filter((state) => now[state])
    .map((state) =>
      el(
        "li",
        {},
        el(
          "a",
          { class: "crew-chip", "data-state": state, href: `#tasks?state=${state}` },
          `${number(now[state])} ${STATES[state].label}`,
        ),
      ),
    );
  show(
    find("#crew-progress"),
    el("h2", { class: "crew-name", id: "crew-name" }, row.name || row.id),
    el("p", { class: "crew-percent" }, `${percent} %`, count, held),
    stacked(now, now.total || 1, `${percent} % complete`),
    el("ul", { class: "crew-chips" }, ...chips),
  );
}

function actions(isPaused) {
  if (!may.has("operate")) return;
  const button = (text, act, kind = "") =>
    el(
      "button",
      { type: "button", class: `crew-button ${kind}`, onclick: single(() => act().catch(said)) },
      text,
    );
  show(
    find("#crew-actions"),
    isPaused
      ? button("Resume", () => verb("resume", "Resumed."))
      : button("Pause", () => verb("pause", "Paused: running attempts finish.")),
    button("Retry…", retry),
    button("Reset…", reset),
    button("Cancel…", cancel),
    ...(may.has("write") ? [button("Delete…", remove, "crew-danger")] : []),
  );
}

async function verb(name, told, body = {}) {
  await post(`${path}/${name}`, body);
  toast(told);
  refresh();
}

async function retry() {
  const { failed = 0 } = await get(`${path}/progress`);
  await ask(
    "Retry this group",
    `Every task that is not complete gets its attempts back: ${number(failed)} have none left. Error delays are skipped.`,
    {
      yes: "Retry",
      fields: [attemptsField()],
      act: (given) =>
        verb("retry", "Attempts given back.", { remainingAttempts: Number(given.get("attempts")) }),
    },
  );
}

async function reset() {
  const [all, seeds] = await Promise.all([
    get(`${path}/tasks?pageSize=1`),
    get(`${path}/tasks?pageSize=1&seeds=1`),
  ]);
  const { replaced } = seeds.count ? {} : await post(`${path}/tasks/reset?all=1&dryRun=1`);
  const what = seeds.count
    ? `${number(seeds.count)} seeds stay, and ${number(all.count - seeds.count)} other tasks are deleted.`
    : `It has no seeds, so all ${number(all.count)} tasks stay.${made(replaced)}`;
  await ask(
    "Reset this group",
    `${what} What stays is as if it had never run: outputs and errors go, and it starts again. Attempts in flight are given up.`,
    {
      yes: "Reset",
      danger: true,
      fields: [attemptsField()],
      act: (given) => verb("reset", "Reset.", { remainingAttempts: Number(given.get("attempts")) }),
    },
  );
}

// Those that answers made are replaced by those of the next answers.
const made = (replaced) =>
  replaced
    ? ` ${number(replaced)} of them were made by answers, or hang on such: those that the next answers do not name go then.`
    : "";

async function cancel() {
  const now = await get(`${path}/progress`);
  const text = `${number(now.total - now.complete)} tasks that are not complete are tried no more; ${number(now.executing)} attempts in flight are given up. A retry brings them back.`;
  await ask("Cancel this group", text, {
    yes: "Stop it",
    danger: true,
    act: () => verb("cancel", "Cancelled."),
  });
}

async function remove() {
  const { total } = await get(`${path}/progress`);
  if (
    !(await ask("Delete this group", `The group and its ${number(total)} tasks go for good.`, {
      yes: "Delete",
      danger: true,
    }))
  )
    return;
  deleting = true; // nobody looks for what goes
  try {
    if (await empty(path, total)) {
      await del(path);
      return location.assign(page.dataset.listUrl);
    }
  } catch (error) {
    said(error);
  }
  deleting = false;
  refresh();
}

// Somebody else deleted it; of our own doing nothing needs to be said.
function gone() {
  if (deleting) return;
  deleting = true;
  live.end();
  ask("Task group deleted", "Somebody deleted this group; what is shown here is no more.", {
    yes: "To the groups",
  }).then(() => location.assign(page.dataset.listUrl));
}

// --- Tabs ---

const tabs = [...page.querySelectorAll("[role=tab]")];

async function open(name) {
  for (const tab of tabs) {
    const isIt = tab.id === `tab-${name}`;
    tab.setAttribute("aria-selected", isIt);
    tab.tabIndex = isIt ? 0 : -1;
    find(`#${tab.getAttribute("aria-controls")}`).hidden = !isIt;
  }
  shown?.close?.();
  shown = null;
  const tab = await TABS[name]().catch(() => null);
  if (name !== place.tab(TABS, first)) return; // another was asked for meanwhile
  missing = !tab;
  const panel = find(`#panel-${name}`);
  if (missing) panel.replaceChildren(...absent());
  else shown = tab.open(panel, { ...context, place: place.of(name) });
}

// It is asked for again when the stream is back; there are browsers that remember a script as missing.
function absent() {
  const button = el(
    "button",
    { type: "button", class: "crew-button", onclick: () => location.reload() },
    "Load the page again",
  );
  return [
    el("p", { role: "alert" }, "This tab could not be loaded; perhaps the server was away. "),
    el("p", {}, button),
  ];
}

// The other tabs' scripts, and the graph, are there before the click.
async function begin() {
  await open(place.tab(TABS, first));
  try {
    const [picture] = await Promise.all([TABS.graph(), ...Object.values(TABS).map((tab) => tab())]);
    if (place.tab(TABS, first) !== "graph") picture.prepare(path);
  } catch {
    // The click asks again.
  }
}

const go = (name) => {
  if (find(`#tab-${name}`).getAttribute("aria-selected") === "true") return;
  place.of(name).write(new URLSearchParams());
  open(name);
};

for (const tab of tabs) {
  tab.addEventListener("click", () => go(tab.id.slice(4)));
  tab.addEventListener("keydown", (event) => {
    const here = tabs.indexOf(tab);
    const next = { ArrowRight: here + 1, ArrowLeft: here - 1, Home: 0, End: tabs.length - 1 }[
      event.key
    ];
    if (next === undefined) return;
    event.preventDefault();
    const other = tabs.at(next % tabs.length);
    other.focus();
    go(other.id.slice(4));
  });
}

// --- Live ---

const look = paced(progress, PROGRESS_EVERY);

function refresh() {
  if (deleting) return;
  look();
  shown?.reload?.();
}

const live = new Live(group, {
  onMessage(message) {
    if (deleting) return;
    look();
    if (message.taskGroup && message.type === "delete") return gone();
    shown?.heard?.(message);
  },
  onState(state) {
    showLive(find("#crew-live"), state);
    if (state === "live" && missing) open(place.tab(TABS, first));
  },
  onReload: refresh,
});

setInterval(() => document.hidden || look(), PULSE);
look();
const first = "wrong" in page.dataset ? "settings" : "tasks";
begin();
// Links to a tab, as the chips of the states are, and the way back.
window.addEventListener("hashchange", () => open(place.tab(TABS, first)));

// The page of a group: its head, and the tab that is open. Everything live comes by one stream.
import { at, del, get, post } from "./api.js";
import { adminUrl, ask, attemptsField, el, find, number, said, showLive, stacked, toast } from "./dom.js";
import { STATES } from "./graph.js";
import { Live } from "./live.js";

const page = find("#crew-group-page");
const group = page.dataset.group;
const may = new Set(page.dataset.may.split(" "));
const path = at`api/v1/task_group/${group}`;
const PROGRESS_EVERY = 500; // ms at most between two looks while things happen
const PULSE = 5_000; // and while nothing is told: times pass, schedulers die
const TABS = {
  tasks: () => import("./table.js"),
  graph: () => import("./picture.js"),
  timeline: () => import("./timeline.js"),
  failures: () => import("./failures.js"),
  settings: async () => ({ open: () => ({}) }),
};

const context = {
  group,
  path,
  may,
  taskUrl: (id) => adminUrl(page.dataset.taskUrl, id),
  newTaskUrl: page.dataset.newTaskUrl,
  said,
};
let shown = null; // the open tab's {heard(message), reload()}
let paused = null;

// --- The head ---

const soon = (work, ms) => {
  let timer = 0;
  return () => (timer ||= setTimeout(() => ((timer = 0), work()), ms));
};

async function progress() {
  let now, row;
  try {
    [now, row] = await Promise.all([get(`${path}/progress`), get(path)]);
  } catch (error) {
    return error.status === 404 ? gone() : undefined; // the next look may do
  }
  const percent = (100 * now.completedPercent).toFixed(2);
  const chips = Object.keys(STATES)
    .filter((state) => now[state])
    .map((state) => el("li", { class: "crew-chip", "data-state": state }, `${number(now[state])} ${STATES[state].label}`));
  find("#crew-progress").replaceChildren(
    el("p", { class: "crew-percent" }, `${percent} %`, el("span", { class: "crew-dim" }, ` ${number(now.complete)} of ${number(now.total)} tasks complete`), row.isPaused ? el("strong", { class: "crew-chip", "data-state": "paused" }, "group paused") : null),
    stacked(now, now.total || 1, `${percent} % complete`),
    el("ul", { class: "crew-chips" }, ...chips),
  );
  if (paused !== row.isPaused) actions((paused = row.isPaused));
}

function actions(isPaused) {
  if (!may.has("operate")) return;
  const button = (text, act, kind = "") => el("button", { type: "button", class: `crew-button ${kind}`, onclick: () => act().catch(said) }, text);
  find("#crew-actions").replaceChildren(
    isPaused ? button("Resume", () => verb("resume", "Resumed.")) : button("Pause", () => verb("pause", "Paused: running attempts finish.")),
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
  const given = await ask("Retry this group", `Every task that is not complete gets its attempts back: ${number(failed)} have none left. Error delays are skipped.`, { yes: "Retry", fields: [attemptsField()] });
  if (given) await verb("retry", "Attempts given back.", { remainingAttempts: Number(given.get("attempts")) });
}

async function reset() {
  const [all, seeds] = await Promise.all([get(`${path}/tasks?pageSize=1`), get(`${path}/tasks?pageSize=1&seeds=1`)]);
  const what = seeds.count
    ? `${number(seeds.count)} seeds stay, and ${number(all.count - seeds.count)} other tasks are deleted.`
    : `It has no seeds, so all ${number(all.count)} tasks stay.`;
  const given = await ask("Reset this group", `${what} What stays is as if it had never run: outputs and errors go, and it starts again. Attempts in flight are given up.`, { yes: "Reset", danger: true, fields: [attemptsField()] });
  if (given) await verb("reset", "Reset.", { remainingAttempts: Number(given.get("attempts")) });
}

async function cancel() {
  const now = await get(`${path}/progress`);
  const text = `${number(now.total - now.complete)} tasks that are not complete are tried no more; ${number(now.executing)} attempts in flight are given up. A retry brings them back.`;
  if (await ask("Cancel this group", text, { yes: "Stop it", danger: true })) await verb("cancel", "Cancelled.");
}

async function remove() {
  const now = await get(`${path}/progress`);
  if (!(await ask("Delete this group", `The group and its ${number(now.total)} tasks go for good.`, { yes: "Delete", danger: true }))) return;
  await del(path);
  location.assign(page.dataset.listUrl);
}

function gone() {
  live.end();
  ask("This group is gone", "Somebody deleted it.", { yes: "To the groups" }).then(() => location.assign(page.dataset.listUrl));
}

// --- Tabs ---

async function open(name) {
  for (const tab of page.querySelectorAll("[role=tab]")) {
    const isIt = tab.id === `tab-${name}`;
    tab.setAttribute("aria-selected", isIt);
    tab.tabIndex = isIt ? 0 : -1;
    find(`#${tab.getAttribute("aria-controls")}`).hidden = !isIt;
  }
  shown?.close?.();
  shown = null;
  history.replaceState(null, "", `#${name}`);
  const tab = await TABS[name]();
  shown = tab.open(find(`#panel-${name}`), context);
}

for (const tab of page.querySelectorAll("[role=tab]")) {
  tab.addEventListener("click", () => open(tab.id.slice(4)));
  tab.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const all = [...page.querySelectorAll("[role=tab]")];
    const next = all[(all.indexOf(tab) + step + all.length) % all.length];
    next.focus();
    next.click();
  });
}

// --- Live ---

const look = soon(progress, PROGRESS_EVERY);

function refresh() {
  look();
  shown?.reload?.();
}

const live = new Live(group, {
  onMessage(message) {
    look();
    if (message.taskGroup && message.type === "delete") return gone();
    shown?.heard?.(message);
  },
  onState: (state) => showLive(find("#crew-live"), state),
  onReload: refresh,
});

setInterval(() => document.hidden || look(), PULSE);
progress();
open(location.hash.slice(1) in TABS ? location.hash.slice(1) : page.querySelector(".errornote, .errorlist") ? "settings" : "tasks");

// The page of a task: what it is doing and why, every attempt, what is around it.
import { at, get, text, wholePage } from "./api.js";
import {
  adminUrl,
  ago,
  badge,
  block,
  copyButton,
  el,
  find,
  number,
  said,
  showLive,
  single,
} from "./dom.js";
import { attempts, callNow, duplicates } from "./facts.js";
import { Graph } from "./graph.js";
import { history } from "./history.js";
import { member, pretty } from "./json.js";
import { Live } from "./live.js";
import { show } from "./look.js";
import { verbsOf } from "./verbs.js";

const page = find("#crew-task-page");
const { task: id, group } = page.dataset;
const one = at`api/v1/task/${id}`;
const PULSE = 5_000; // ms: a scheduler may die, a time may come
const context = {
  path: at`api/v1/task_group/${group}`,
  may: new Set(page.dataset.may.split(" ")),
  taskUrl: (other) => adminUrl(page.dataset.taskUrl, other),
};
const groupUrl = adminUrl(page.dataset.groupUrl, group);
const links = (ids) =>
  ids.flatMap((other, n) => [n ? ", " : " ", el("a", { href: context.taskUrl(other) }, other)]);
let around = null;
let past = null;
let timer = 0;

// --- What it is, and why it waits ---

function head(task, why) {
  const verdict =
    task.isComplete || task.state === "executing"
      ? null
      : el(
          "p",
          {},
          why.startsItself
            ? "It will start by itself."
            : "It will not start by itself: somebody has to do something.",
        );
  const made = why.createdBy ? [" · created by the answer of ", ...links([why.createdBy])] : [];
  const line = el(
    "p",
    { class: "crew-dim" },
    `worker ${task.worker || "none"} · workgroup ${task.workgroup || "none"} · key ${task.key || "none"} · ${number(task.remainingAttempts)} attempts left · created `,
    ago(task.createdAt),
    " · in group ",
    el("a", { href: groupUrl }, group),
    ...made,
  );
  const name = el("h2", { class: "crew-name", id: "crew-name" }, task.name || task.id);
  const ident = el(
    "p",
    { class: "crew-ident" },
    el("code", { class: "crew-id" }, task.id),
    copyButton(task.id, `the id ${task.id}`),
  );
  const seed = task.isSeed ? el("strong", { class: "crew-chip" }, "seed") : null;
  show(
    find("#crew-state"),
    name,
    ident,
    el("p", { class: "crew-percent" }, badge(task.state), seed),
    line,
    verdict,
  );
}

function gates(task, why) {
  const words = { complete: "It is complete.", executing: "It is running." }[task.state];
  if (words) return show(find("#crew-why"), el("p", { class: "crew-dim" }, words));
  if (!why.gates.length)
    return show(
      find("#crew-why"),
      el("p", {}, "Nothing keeps it: it starts at the next look of a scheduler."),
    );
  show(find("#crew-why"), el("ol", { class: "crew-gates" }, ...why.gates.map(gate)));
}

function gate({ text: words, opensItself, until, tasks, count }) {
  const sign = badge(
    opensItself ? "scheduled" : "failed",
    opensItself ? "opens by itself" : "needs you",
  );
  const time = until ? el("span", {}, " It opens ", ago(until)) : null;
  const more =
    tasks.length && count > tasks.length ? ` and ${number(count - tasks.length)} more` : null;
  return el("li", {}, sign, el("span", {}, words, time, ...links(tasks), more));
}

// --- What may be done ---

function actions(task) {
  const done = (name) => (did) => (did && name === "delete" ? location.assign(groupUrl) : look());
  const button = ({ name, words, danger, act }) =>
    el(
      "button",
      {
        type: "button",
        class: `crew-button ${danger ? "crew-danger" : ""}`,
        onclick: single(() => act().then(done(name), said)),
      },
      words,
    );
  const made = verbsOf(task, context).map(button);
  if (context.may.has("write")) {
    const child = `${page.dataset.newTaskUrl}?group=${encodeURIComponent(group)}&parents=${encodeURIComponent(id)}`;
    made.push(
      el("a", { class: "crew-button", href: child }, "Add child"),
      el("a", { class: "crew-button", href: "#edit", onclick: edit }, "Edit"),
    );
  }
  show(find("#crew-actions"), ...made);
}

function edit() {
  const form = find("#crew-edit");
  if (!form) return;
  form.open = true;
  form.scrollIntoView();
  form
    .querySelector("form :is(input:not([type=hidden]), select, textarea)")
    ?.focus({ preventScroll: true });
}

// --- What it was given, and gave ---

function data(raw, task) {
  show(find("#crew-input"), block(pretty(member(raw, "input")), "the input"));
  show(find("#crew-output"), block(pretty(member(raw, "output")), "the output"));
  show(
    find("#crew-errors"),
    ...task.errors
      .toReversed()
      .map((error) => el("pre", { class: "crew-error-text", tabindex: 0 }, error)),
  );
}

async function look() {
  timer = 0;
  try {
    const [raw, why, ended, call, picture] = await Promise.all([
      text(one),
      get(`${one}/explain`),
      get(`${one}/attempts?pageSize=100`),
      get(`${one}/call`),
      get(`${one}/around`),
    ]);
    const task = JSON.parse(raw);
    head(task, why);
    gates(task, why);
    actions(task);
    data(raw, task);
    attempts(find("#crew-attempts"), ended);
    callNow(find("#crew-call"), call, task);
    const same = task.key
      ? await wholePage(`${context.path}/tasks`, "tasks", { key: task.key, page: 1, pageSize: 50 })
      : null;
    duplicates(find("#crew-duplicates"), task, why, same, context);
    around ??= new Graph(find("#crew-around"), {
      onOpen: (other) => other === id || location.assign(context.taskUrl(other)),
    });
    around.show(picture);
    past ??= history(find("#crew-history"), `${one}/history`, said);
    showLive(find("#crew-live"));
  } catch (error) {
    showLive(find("#crew-live"));
    if (error.status === 404) return gone();
    if (!("status" in error)) throw error; // a bug of ours
  }
}

function gone() {
  live.end();
  clearInterval(pulse);
  show(find("#crew-state"), el("p", { class: "crew-alarm" }, "This task is gone."));
  show(find("#crew-actions"), el("a", { class: "crew-button", href: groupUrl }, "To its group"));
}

// Of other tasks of a busy group much is heard; here they matter only as neighbours.
const soon = (ms) => (timer ||= setTimeout(look, ms));
const live = new Live(group, {
  onMessage({ task }) {
    soon(task && task.id !== id ? 2_000 : 200);
    past?.heard();
  },
  onReload: () => soon(200),
  onState: (state) => showLive(find("#crew-live"), state),
});
const pulse = setInterval(() => document.hidden || soon(0), PULSE);
// The form after the rest, which would push it away.
look().then(() => (location.hash === "#edit" || "wrong" in page.dataset) && edit());

// The page of a task: what it is doing and why, every attempt, what is around it.
import { at, get, post, put, Refused } from "./api.js";
import { adminUrl, ago, ask, attemptsField, badge, el, find, number, OUTCOMES, said, showLive } from "./dom.js";
import { Graph } from "./graph.js";
import { Live } from "./live.js";

const page = find("#crew-task-page");
const { task: id, group } = page.dataset;
const may = new Set(page.dataset.may.split(" "));
const path = at`api/v1/task_group/${group}`;
const one = at`api/v1/task/${id}`;
const PULSE = 5_000; // ms: a scheduler may die, a time may come
const taskUrl = (other) => adminUrl(page.dataset.taskUrl, other);
const links = (ids) => ids.flatMap((other, n) => [n ? ", " : " ", el("a", { href: taskUrl(other) }, other)]);
const json = (value) => JSON.stringify(value, null, 2);
let around = null;
let timer = 0;

function state(task, why) {
    const attempts = `${number(task.remainingAttempts)} attempts left`;
  const line = el("p", { class: "crew-dim" }, `worker ${task.worker || "none"} · workgroup ${task.workgroup || "none"} · key ${task.key || "none"} · ${attempts} · created `, ago(task.createdAt), " · in group ", el("a", { href: adminUrl(page.dataset.groupUrl, group) }, group));
  const verdict = task.isComplete || task.state === "executing" ? null : el("p", {}, why.startsItself ? "It will start by itself." : "It will not start by itself: somebody has to do something.");
  find("#crew-state").replaceChildren(...[el("p", { class: "crew-percent" }, badge(task.state)), line, verdict].filter(Boolean));
}

function gates(task, why) {
  const words = { complete: "It is complete.", executing: "It is running." }[task.state];
  if (words) return find("#crew-why").replaceChildren(el("p", { class: "crew-dim" }, words));
  const list = why.gates.map((gate) =>
    el("li", {}, badge(gate.opensItself ? "scheduled" : "failed", gate.opensItself ? "opens by itself" : "needs you"), el("span", {}, gate.text, gate.until ? [" Until ", ago(gate.until)] .reduce((holder, part) => (holder.append(part), holder), el("span", {})) : null, ...links(gate.tasks), gate.count > gate.tasks.length ? ` and ${number(gate.count - gate.tasks.length)} more` : null)),
  );
  find("#crew-why").replaceChildren(list.length ? el("ol", { class: "crew-gates" }, ...list) : el("p", {}, "Nothing keeps it: it starts at the next look of a scheduler."));
}

function attempts(rows) {
  if (!rows.length) return find("#crew-attempts").replaceChildren(el("p", { class: "crew-dim" }, "No attempt has ended yet."));
  const ran = (row) => `${((Date.parse(row.finishedAt) - Date.parse(row.startedAt)) / 1000).toFixed(2)} s`;
  const late = (row) => (row.late ? el("p", { class: "crew-dim" }, "A late answer came ", ago(row.late.at), ` (${row.late.outcome}) and changed nothing.`) : null);
  const body = rows.map((row) =>
    el("tr", {}, el("th", { scope: "row" }, `#${row.number}`), el("td", { "data-label": "Outcome" }, badge(OUTCOMES[row.outcome], row.outcome)), el("td", { "data-label": "HTTP" }, row.status ?? "–"), el("td", { "data-label": "Started" }, ago(row.startedAt)), el("td", { "data-label": "Ran" }, ran(row)), el("td", { "data-label": "Said" }, el("span", { class: "crew-wrap" }, row.error || row.note || "–"), late(row))),
  );
  find("#crew-attempts").replaceChildren(el("table", { class: "crew-table" }, el("thead", {}, el("tr", {}, ...["Attempt", "Outcome", "HTTP", "Started", "Ran", "Said"].map((head) => el("th", { scope: "col" }, head)))), el("tbody", {}, ...body)));
}

function actions(task) {
  if (!may.has("operate")) return;
  const ids = { ids: [id] };
  const button = (text, act, kind = "") => el("button", { type: "button", class: `crew-button ${kind}`, onclick: () => act().then(look, said) }, text);
  const made = [];
  if (!task.isComplete) made.push(task.isPaused ? button("Resume", () => post(`${path}/tasks/resume`, ids)) : button("Pause", () => post(`${path}/tasks/pause`, ids)));
  if (task.state === "failed") made.push(button("Retry", () => post(`${path}/tasks/retry`, ids), "crew-primary"));
  if (!task.busyExecuting) made.push(button("Reset…", () => reset(ids)));
  if (may.has("write") && !task.busyExecuting) made.push(button("Edit input and run again…", () => rerun(task)));
  if (may.has("write") && !task.isComplete && !task.busyExecuting) made.push(button("Complete by hand…", complete));
  if (may.has("write")) made.push(el("a", { class: "crew-button", href: `${page.dataset.newTaskUrl}?group=${encodeURIComponent(group)}&parents=${encodeURIComponent(id)}` }, "Add child"));
  find("#crew-actions").replaceChildren(...made);
}

async function reset(ids) {
  const given = await ask("Reset this task", "It is as if it had never run: its output and errors go, and it starts again. Its children are not reset.", { yes: "Reset", danger: true, fields: [attemptsField()] });
  if (given) await post(`${path}/tasks/reset`, { ...ids, remainingAttempts: Number(given.get("attempts")) });
}

const area = (label, value) => el("label", { class: "crew-field" }, label, Object.assign(el("textarea", { name: "json", rows: 10, spellcheck: "false" }), { value }));

async function rerun(task) {
  const given = await ask("Edit the input and run again", "The task is reset, and starts with this input.", { yes: "Run", fields: [area("Input, as JSON", json(task.input))] });
  if (!given) return;
  const input = parsed(given.get("json"));
  await put(`${path}/task/${encodeURIComponent(id)}`, { input });
  await post(`${path}/tasks/reset`, { ids: [id] });
}

async function complete() {
  const given = await ask("Complete by hand", "The task counts as done with this output, and its children start.", { yes: "Complete", danger: true, fields: [area("Output, as JSON", "null")] });
  if (given) await put(`${path}/task/${encodeURIComponent(id)}`, { isComplete: true, output: parsed(given.get("json")) });
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new Refused(400, `Not JSON: ${error.message}`);
  }
}

async function look() {
  timer = 0;
  try {
    const [task, why, ended, picture] = await Promise.all([get(one), get(`${one}/explain`), get(`${one}/attempts?pageSize=100`), get(`${one}/around`)]);
    state(task, why);
    gates(task, why);
    attempts(ended.attempts);
    actions(task);
    find("#crew-input").textContent = json(task.input);
    find("#crew-output").textContent = json(task.output);
    find("#crew-errors").replaceChildren(...task.errors.toReversed().map((error) => el("pre", { class: "crew-error-text" }, error)));
    around ??= new Graph(find("#crew-around"), { onOpen: (other) => other === id || location.assign(taskUrl(other)) });
    around.show(picture);
  } catch (error) {
    if (error.status === 404) find("#crew-state").replaceChildren(el("p", { class: "crew-alarm" }, "This task is gone."));
  }
}

const soon = () => (timer ||= setTimeout(look, 200));
new Live(group, {
  onMessage: soon,
  onReload: soon,
  onState: (state) => showLive(find("#crew-live"), state),
});
setInterval(() => document.hidden || soon(), PULSE);
look();

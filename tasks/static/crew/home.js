// The first page: which groups have something to do, what failed, what is held back, who works.
import { get, post, put } from "./api.js";
import { adminUrl, ago, ask, badge, el, find, number, said, showLive, stacked } from "./dom.js";
import { open as openFailures } from "./failures.js";
import { STATES } from "./graph.js";

const page = find("#crew-home");
const may = new Set(page.dataset.may.split(" "));
const EVERY = 2_000; // ms between two looks; none while nobody sees the page
const groupUrl = (id) => adminUrl(page.dataset.groupUrl, id);
const taskUrl = (id) => adminUrl(page.dataset.taskUrl, id);
const segments = (name) => name.split("/").map(encodeURIComponent).join("/");
let timer = 0;

function groups(rows) {
  if (!rows.length) {
    return [el("p", { class: "crew-empty" }, "No groups yet. ", el("a", { href: page.dataset.newGroupUrl }, "Add one"), ", or run ", el("code", {}, "./crew demo"), ".")];
  }
  return rows.map((row) => {
    const { progress } = row;
    const total = progress.total + row.uncounted;
    const percent = total ? ((100 * progress.complete) / total).toFixed(progress.complete === total ? 0 : 1) : "0";
    const chips = Object.keys(STATES)
      .filter((state) => state !== "complete" && progress[state])
      .map((state) => el("span", { class: "crew-chip", "data-state": state }, `${number(progress[state])} ${STATES[state].label}`));
    return el("a", { class: "crew-card crew-group", href: groupUrl(row.id) },
      el("div", { class: "crew-group-head" }, el("strong", {}, row.name || row.id), el("span", { class: "crew-dim" }, ago(row.createdAt))),
      stacked(progress, total || 1, `${percent} % complete`),
      el("div", { class: "crew-group-foot" }, el("span", {}, `${percent} % of ${number(total)}`), row.isPaused ? badge("paused", "group paused") : null, ...chips));
  });
}

function schedulers(rows) {
  if (!rows.length) return [el("p", { class: "crew-alarm", role: "alert" }, badge("failed", "No scheduler is running: nothing starts."), " Start one: ", el("code", {}, "manage.py runscheduler"))];
  return rows.map((row) => {
    const share = el("meter", { min: 0, max: row.slots, value: row.busy, "aria-label": `${row.busy} of ${row.slots} slots` });
    return el("p", { class: "crew-line" }, el("span", {}, `${row.host} · ${row.pid}`), share, el("span", {}, `${number(row.busy)} / ${number(row.slots)} slots`), el("span", { class: "crew-dim" }, `beat ${row.beatSeconds.toFixed(0)} s ago`));
  });
}

function holds(rows) {
  if (!rows.length) return [el("p", { class: "crew-dim" }, "No workgroup is held.")];
  return rows.map((row) => {
    const by = row.heldBy ? el("a", { href: taskUrl(row.heldBy) }, "a worker asked") : "by a person";
    const open = may.has("operate") ? el("button", { type: "button", class: "crew-button crew-small", onclick: () => post(`api/v1/workgroup/${segments(row.workgroup)}/open`).then(look, said) }, "Open now") : null;
    return el("p", { class: "crew-line" }, badge("scheduled", row.workgroup), el("span", {}, `holds ${number(row.waiting)}${row.isMore ? "+" : ""} back, until `, ago(row.until)), by, open);
  });
}

function workers(rows) {
  if (!rows.length) return el("p", { class: "crew-dim" }, "No workers yet: the first task that names one brings it.");
  const body = rows.map((row) => {
    const limit = row.limit === null ? "no limit" : number(row.limit);
    const failed = row.hour.attempts ? `${((100 * row.hour.failures) / row.hour.attempts).toFixed(0)} %` : "–";
    const edit = may.has("operate") ? el("button", { type: "button", class: "crew-button crew-small", "aria-label": `Set the limit of ${row.name}`, onclick: () => limitWorker(row).catch(said) }, "Limit…") : null;
    return el("tr", {}, el("th", { scope: "row" }, row.name), el("td", { "data-label": "In flight" }, `${number(row.inFlight)} / ${limit}`), el("td", { "data-label": "Last hour" }, number(row.hour.attempts)), el("td", { "data-label": "Failed" }, failed),
      el("td", { "data-label": "Last error" }, row.hour.error ? el("a", { href: taskUrl(row.hour.errorTask), class: "crew-error-line", title: row.hour.error }, row.hour.error) : el("span", { class: "crew-dim" }, "none")), el("td", {}, edit));
  });
  return el("table", { class: "crew-table" }, el("thead", {}, el("tr", {}, ...["Worker", "In flight", "Last hour", "Failed", "Last error", ""].map((head) => el("th", { scope: "col" }, head)))), el("tbody", {}, ...body));
}

async function limitWorker(row) {
  const field = el("label", { class: "crew-field" }, "Attempts in flight over all schedulers; empty for the default, 0 for none", el("input", { type: "number", name: "limit", min: 0, value: row.limit ?? "" }));
  const given = await ask(`Limit ${row.name}`, "It takes effect at once; running attempts finish.", { yes: "Set", fields: [field] });
  if (!given) return;
  const value = given.get("limit");
  await put(`api/v1/worker/${segments(row.name)}`, { maxConcurrency: value === "" ? null : Number(value) });
  look();
}

// The last hour, a column a minute: completed below, held and failed on top.
function hour(minutes) {
  const most = Math.max(1, ...minutes.map((m) => m.completed + m.failed + m.held));
  const sum = minutes.reduce((n, m) => n + m.completed + m.failed + m.held, 0);
  const bars = minutes.map((m) => {
    const column = el("span", { class: "crew-column", title: `${m.completed} completed, ${m.failed} failed, ${m.held} held` });
    for (const [state, count] of [["failed", m.failed], ["scheduled", m.held], ["complete", m.completed]]) {
      if (!count) continue;
      const part = el("span", { class: "crew-fill", "data-state": state });
      part.style.height = `${(100 * count) / most}%`;
      column.append(part);
    }
    return column;
  });
  return [el("p", { class: "crew-dim" }, `${number(sum)} attempts ended in the last hour; at most ${number(most)} in a column.`), el("div", { class: "crew-hour", role: "img", "aria-label": `${sum} attempts in the last hour` }, ...bars)];
}

async function look() {
  clearTimeout(timer);
  try {
    const now = await get("api/v1/overview");
    find("#crew-groups").replaceChildren(...groups(now.groups));
    if (now.fleet) {
      const { fleet } = now;
      find("#crew-schedulers").replaceChildren(...schedulers(fleet.schedulers), fleet.lagSeconds > 5 ? el("p", { class: "crew-alarm" }, `The oldest due task has waited ${number(Math.round(fleet.lagSeconds))} s.`) : "");
      find("#crew-holds").replaceChildren(...holds(fleet.holds));
      find("#crew-hour").replaceChildren(...hour(fleet.minutes));
      find("#crew-workers").replaceChildren(workers(fleet.workers));
    }
    showLive(find("#crew-live"), "live");
  } catch {
    showLive(find("#crew-live"), "waiting");
  }
  if (!document.hidden) timer = setTimeout(look, EVERY);
}

document.addEventListener("visibilitychange", () => document.hidden || look());
const failures = openFailures(find("#crew-failures"), { may, taskUrl, said });
setInterval(() => document.hidden || document.querySelector("dialog[open]") || failures.reload(), 10_000);
look();

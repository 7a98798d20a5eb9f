// The tab with a group's tasks: filtered and paged by the server, kept live row by row.
import { del, get, post } from "./api.js";
import { ago, ask, attemptsField, badge, el, number, toast } from "./dom.js";
import { STATES } from "./graph.js";

const SIZES = [20, 50, 100];

export function open(panel, context) {
  const asked = { page: 1, pageSize: SIZES[0], search: "", state: "", worker: "", skipCompleted: "" };
  const rows = new Map(); // of this page, by id
  const body = el("tbody");
  const foot = el("div", { class: "crew-foot" });
  const filters = el("form", { class: "crew-filters", role: "search" });
  let load = new AbortController();
  let count = 0;
  let timer = 0;

  const query = () => new URLSearchParams(Object.entries(asked).filter(([, value]) => value !== ""));

  async function reload() {
    load.abort();
    load = new AbortController();
    try {
      const found = await get(`${context.path}/tasks?${query()}`, load.signal);
      count = found.count;
      rows.clear();
      body.replaceChildren(...found.tasks.map(row));
      if (!found.tasks.length) body.append(empty());
      footer();
    } catch (error) {
      if (error.name !== "AbortError") context.said(error);
    }
  }

  function empty() {
    const words = query().has("search") || asked.state ? "No task fits the filter." : "This group has no tasks yet: add one here, by the API, or with manage.py crewimport.";
    return el("tr", {}, el("td", { colspan: 7, class: "crew-dim" }, words));
  }

  function row(task) {
    const made = el("tr", { "data-id": task.id }, ...cells(task));
    rows.set(task.id, made);
    return made;
  }

  function cells(task) {
    const title = task.name || task.id;
    const why = task.errors.length ? el("span", { class: "crew-error-line", title: task.errors.at(-1) }, task.errors.at(-1)) : null;
    const label = (name, ...children) => el("td", { "data-label": name }, ...children);
    const until = task.state === "scheduled" ? ago(task.runAfter) : null;
    return [
      label("State", badge(task.state), " ", until),
      label("Task", el("a", { href: context.taskUrl(task.id) }, title), copy(task.id), why),
      label("Worker", task.worker || el("span", { class: "crew-dim" }, "none")),
      label("Workgroup", task.workgroup || el("span", { class: "crew-dim" }, "–")),
      label("Attempts left", number(task.remainingAttempts)),
      label("Created", ago(task.createdAt)),
      label("Actions", ...buttons(task)),
    ];
  }

  function copy(id) {
    const act = () => navigator.clipboard.writeText(id).then(() => toast("Id copied."));
    return el("button", { type: "button", class: "crew-copy", title: `Copy the id ${id}`, "aria-label": `Copy the id ${id}`, onclick: act }, "copy");
  }

  function buttons(task) {
    if (!context.may.has("operate")) return [];
    const one = (text, act) => el("button", { type: "button", class: "crew-button crew-small", "aria-label": `${text.replace("…", "")} ${task.name || task.id}`, onclick: () => act().then(reload, context.said) }, text);
    const ids = { ids: [task.id] };
    const made = [];
    if (!task.isComplete) made.push(task.isPaused ? one("Resume", () => post(`${context.path}/tasks/resume`, ids)) : one("Pause", () => post(`${context.path}/tasks/pause`, ids)));
    if (task.state === "failed") made.push(one("Retry", () => post(`${context.path}/tasks/retry`, ids)));
    const more = [];
    if (!task.busyExecuting) more.push(one("Reset…", () => reset(ids, task.name || task.id)));
    if (context.may.has("write")) more.push(one("Delete…", () => remove(ids, task.name || task.id)));
    if (more.length) made.push(menu(task.name || task.id, ...more));
    return made;
  }

  // What can not be taken back stands one click further away.
  function menu(title, ...buttons) {
    const sign = el("summary", { class: "crew-button crew-small", "aria-label": `More for ${title}` }, "⋯");
    return el("details", { class: "crew-menu crew-more" }, sign, el("div", {}, ...buttons));
  }

  async function reset(ids, title) {
    const given = await ask(`Reset ${title}`, "It is as if it had never run: its output and errors go, and it starts again. Its children are not reset.", { yes: "Reset", danger: true, fields: [attemptsField()] });
    if (given) await post(`${context.path}/tasks/reset`, { ...ids, remainingAttempts: Number(given.get("attempts")) });
  }

  async function remove(ids, title) {
    if (await ask(`Delete ${title}`, "The task goes for good, and with it every descendant that is left without any parent.", { yes: "Delete", danger: true })) await post(`${context.path}/tasks/delete`, ids);
  }

  // --- All that match ---

  async function all(verb, past, danger = false) {
    const filter = new URLSearchParams([...query()].filter(([name]) => !["page", "pageSize"].includes(name)));
    if (![...filter].length) filter.set("all", 1);
    const found = await post(`${context.path}/tasks/${verb}?${filter}&dryRun=1`);
    if (!found.count) return toast("No task fits the filter.");
    const title = `${verb[0].toUpperCase()}${verb.slice(1)} ${number(found.count)} tasks`;
    const fields = ["retry", "reset"].includes(verb) ? [attemptsField()] : [];
    const given = await ask(title, "All that the filter above names, on every page.", { yes: verb, danger, fields });
    if (!given) return;
    const body = given.get("attempts") ? { remainingAttempts: Number(given.get("attempts")) } : {};
    const done = await post(`${context.path}/tasks/${verb}?${filter}`, body);
    toast(`${past} ${number(done.count)} tasks.`);
    reload();
  }

  // --- Around the table ---

  function footer() {
    const pages = Math.max(1, Math.ceil(count / asked.pageSize));
    const go = (text, page, label) => el("button", { type: "button", class: "crew-button crew-small", disabled: page < 1 || page > pages || page === asked.page, "aria-label": label, onclick: () => ((asked.page = page), reload()) }, text);
    const size = el("select", { "aria-label": "Rows a page", onchange: (event) => ((asked.pageSize = Number(event.target.value)), (asked.page = 1), reload()) }, ...SIZES.map((n) => el("option", { value: n, selected: n === asked.pageSize }, n)));
    const first = count ? (asked.page - 1) * asked.pageSize + 1 : 0;
    const last = Math.min(count, asked.page * asked.pageSize);
    foot.replaceChildren(el("span", {}, `${number(first)}–${number(last)} of ${number(count)}`), go("‹", asked.page - 1, "Page before"), go("›", asked.page + 1, "Next page"), size);
  }

  function filter() {
    const changed = () => ((asked.page = 1), reload());
    const search = el("input", { type: "search", placeholder: "Part of a name", "aria-label": "Search by name", oninput: (event) => (clearTimeout(timer), (timer = setTimeout(() => ((asked.search = event.target.value), changed()), 300))) });
    const state = el("select", { "aria-label": "State", onchange: (event) => ((asked.state = event.target.value), changed()) }, el("option", { value: "" }, "any state"), ...Object.entries(STATES).map(([name, { label }]) => el("option", { value: name }, label)));
    const worker = el("input", { type: "search", placeholder: "Worker, exactly", "aria-label": "Worker", onchange: (event) => ((asked.worker = event.target.value), changed()) });
    const hide = el("label", {}, el("input", { type: "checkbox", onchange: (event) => ((asked.skipCompleted = event.target.checked ? "1" : ""), changed()) }), " hide complete");
    filters.addEventListener("submit", (event) => event.preventDefault());
    filters.append(search, state, worker, hide);
    if (context.may.has("write")) filters.append(el("a", { class: "crew-button crew-primary", href: context.newTaskUrl }, "Add task"));
    if (!context.may.has("operate")) return;
    const bulk = el("details", { class: "crew-menu" }, el("summary", { class: "crew-button" }, "All that match"));
    const list = [["pause", "Paused"], ["resume", "Resumed"], ["retry", "Gave attempts back to"], ["reset", "Reset", true], ...(context.may.has("write") ? [["delete", "Deleted", true]] : [])];
    bulk.append(el("div", {}, ...list.map(([verb, past, danger]) => el("button", { type: "button", onclick: () => ((bulk.open = false), all(verb, past, danger).catch(context.said)) }, verb[0].toUpperCase() + verb.slice(1)))));
    filters.append(bulk);
  }

  filter();
  const heads = ["State", "Task", "Worker", "Workgroup", "Attempts left", "Created", "Actions"];
  const table = el("table", { class: "crew-table" }, el("thead", {}, el("tr", {}, ...heads.map((head) => el("th", { scope: "col" }, head)))), body);
  panel.replaceChildren(filters, el("div", { class: "crew-scroll" }, table), foot);
  reload();

  let again = 0;
  const soon = () => (again ||= setTimeout(() => ((again = 0), reload()), 700));
  return {
    reload,
    close: () => (load.abort(), clearTimeout(again)),
    heard({ type, task }) {
      if (!task) return;
      const there = rows.get(task.id);
      // Rows that may come, go or move are the server's to say: it knows the filter and the order.
      if (type !== "update" || asked.state || asked.skipCompleted) soon();
      else if (there) there.replaceChildren(...cells(task));
    },
  };
}

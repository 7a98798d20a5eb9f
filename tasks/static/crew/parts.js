// What several live pages show of groups, schedulers, holds and workers, and what can be done there.
import { post, put } from "./api.js";
import { adminUrl, ago, ask, badge, el, find, number, stacked, said } from "./dom.js";
import { STATES } from "./graph.js";
import { countdown } from "./look.js";

// The page tells who may do what, and where pages are: see `crew_page` in templatetags/crew.py.
const page = find("[data-crew-api]");
const may = new Set((page.dataset.may ?? "").split(" "));
export const canOperate = may.has("operate");
export const url = Object.fromEntries(
  ["group", "task", "worker", "workgroup"].map((kind) => [
    kind,
    (id) => adminUrl(page.dataset[`${kind}Url`], id),
  ]),
);
export const segments = (name) => name.split("/").map(encodeURIComponent).join("/");
export const dim = (...words) => el("p", { class: "crew-dim" }, ...words);
export const many = (n, word, isMore = false) =>
  `${number(n)}${isMore ? "+" : ""} ${word}${n === 1 && !isMore ? "" : "s"}`;
export const button = (words, act, attributes = {}) =>
  el(
    "button",
    {
      type: "button",
      class: "crew-button crew-small",
      ...attributes,
      onclick: () => act().catch(said),
    },
    words,
  );

// head: words of the columns; rows: lists of cells, of which the first names the row. Tables of few
// columns stay tables on a phone.
export function table(head, rows) {
  const label = (cell, n) =>
    el(n ? "td" : "th", n ? { "data-label": head[n] } : { scope: "row" }, cell);
  const body = rows.map((cells) => el("tr", {}, ...cells.map(label)));
  return el(
    "table",
    { class: head.length > 4 ? "crew-table" : "crew-few" },
    el("thead", {}, el("tr", {}, ...head.map((words) => el("th", { scope: "col" }, words)))),
    el("tbody", {}, ...body),
  );
}

// So many of so many, as a bar with words; `most` null means that there is no limit.
export function gauge(n, most, what) {
  const words = most === null ? `${number(n)}` : `${number(n)} / ${number(most)}`;
  const told = `${words} ${what}`;
  if (most === null)
    return el(
      "span",
      { class: "crew-gauge", title: `${told}, no limit` },
      el("span", {}, words),
      el("span", { class: "crew-dim" }, "no limit"),
    );
  const fill = el("span", { class: "crew-fill", "data-state": n >= most ? "paused" : "executing" });
  fill.style.width = `${most ? Math.min(100, (100 * n) / most) : 100}%`;
  return el(
    "span",
    { class: "crew-gauge", title: told },
    el("span", { class: "crew-bar", role: "img", "aria-label": told }, n || most === 0 ? fill : ""),
    el("span", {}, words),
  );
}

// --- Groups ---

export function groupProgress(row) {
  const { progress } = row;
  const total = progress.total + row.uncounted;
  const percent = total
    ? ((100 * progress.complete) / total).toFixed(progress.complete === total ? 0 : 1)
    : "0";
  const chips = Object.keys(STATES)
    .filter((state) => state !== "complete" && progress[state])
    .map((state) =>
      el(
        "span",
        { class: "crew-chip", "data-state": state },
        `${number(progress[state])} ${STATES[state].label}`,
      ),
    );
  return [
    stacked(progress, total || 1, `${percent} % complete`),
    el(
      "div",
      { class: "crew-group-foot" },
      el("span", {}, total ? `${percent} % of ${number(total)}` : "no tasks"),
      row.isPaused ? badge("paused", "group paused") : null,
      ...chips,
    ),
  ];
}

// --- Schedulers ---

export function noScheduler() {
  return el(
    "p",
    { class: "crew-alarm", role: "alert" },
    badge("failed", "No scheduler is running: nothing starts."),
    " Start one: ",
    el("code", {}, "manage.py runscheduler"),
  );
}

export function schedulers(rows) {
  if (!rows.length) return [noScheduler()];
  return rows.map((row) =>
    el(
      "p",
      { class: "crew-line" },
      el("span", {}, `${row.host} · ${row.pid}`),
      gauge(row.busy, row.slots, "slots busy"),
      el("span", { class: "crew-dim" }, `beat ${row.beatSeconds.toFixed(0)} s ago`),
    ),
  );
}

export const lag = (seconds) =>
  seconds > 5
    ? el(
        "p",
        { class: "crew-alarm" },
        `The oldest due task has waited ${number(Math.round(seconds))} s.`,
      )
    : null;

// What makes everything slower until somebody acts.
export function troubles(rows) {
  return rows.map((row) =>
    el(
      "div",
      { class: "crew-alarm crew-card", role: "alert" },
      el(
        "p",
        {},
        row.what,
        row.since ? el("span", { class: "crew-dim" }, " Since ", ago(row.since), ".") : null,
      ),
      el("p", {}, row.todo),
    ),
  );
}

// --- Holds ---

export const heldBy = (id, name = "") =>
  id
    ? el("span", {}, "as ", el("a", { href: url.task(id) }, name || "a task"), " asked")
    : "by a person";

export function holds(rows, look) {
  if (!rows.length) return [dim("No workgroup is held.")];
  return rows.map((row) =>
    el(
      "div",
      { class: "crew-hold" },
      el(
        "p",
        { class: "crew-line" },
        el("a", { href: url.workgroup(row.workgroup) }, badge("scheduled", row.workgroup)),
        el("span", {}, "opens ", countdown(row.until)),
      ),
      openButton(row.workgroup, look),
      dim(`keeps ${many(row.waiting, "task", row.isMore)} back; held `, heldBy(row.heldBy)),
    ),
  );
}

export function openButton(name, look) {
  return canOperate
    ? button("Open now", () => post(`api/v1/workgroup/${segments(name)}/open`).then(look), {
        "aria-label": `Open now: ${name}`,
      })
    : null;
}

export function holdButton(name, look) {
  return canOperate
    ? button("Hold…", () => hold(name, look), { "aria-label": `Hold ${name}` })
    : null;
}

async function hold(name, look) {
  const field = el(
    "label",
    { class: "crew-field" },
    "Seconds from now",
    el("input", {
      type: "number",
      name: "seconds",
      min: 1,
      max: 31_622_400,
      value: 60,
      required: true,
    }),
  );
  const given = await ask(
    `Hold ${name}`,
    "No task of the workgroup starts until then, in any group; running attempts finish. It can be opened earlier.",
    { yes: "Hold", fields: [field] },
  );
  if (!given) return;
  await post(`api/v1/workgroup/${segments(name)}/hold`, { seconds: Number(given.get("seconds")) });
  look();
}

// --- Workers ---

const WHY = {
  no_scheduler: ["failed", "no scheduler is running"],
  worker_closed: ["paused", "limit 0: nothing starts"],
  worker_rests: ["failed", "it failed and rests"],
  worker_ramp: ["paused", "it recovers: few at a time"],
  worker_full: ["paused", "full: the rest waits for room"],
  held: ["scheduled", "all that waits is held"],
  no_slot: ["blocked", "all slots are busy"],
  slots_kept: ["blocked", "it holds most slots"],
};

// What keeps due tasks of a worker waiting.
export const why = (line) =>
  WHY[line.why]
    ? badge(...WHY[line.why])
    : line.ready
      ? badge("ready", "starting")
      : line.inFlight
        ? badge("executing", "works")
        : el("span", { class: "crew-dim" }, "nothing waits");

export const failedShare = (tally) =>
  tally.attempts ? `${((100 * tally.failures) / tally.attempts).toFixed(0)} %` : "–";

export const lastError = (tally) =>
  tally.error
    ? el(
        "a",
        { href: url.task(tally.errorTask), class: "crew-error-line", title: tally.error },
        tally.error,
      )
    : el("span", { class: "crew-dim" }, "none");

export function workers(rows, look) {
  if (!rows.length) return dim("No workers yet: the first task that names one brings it.");
  const lines = rows.map((row) => [
    el("a", { href: url.worker(row.name) }, row.name),
    gauge(row.inFlight, row.limit, "in flight"),
    `${number(row.ready + row.held)}${row.isMore ? "+" : ""}`,
    row.rest?.until
      ? el(
          "span",
          { class: "crew-until" },
          why(row),
          el("span", {}, "until ", countdown(row.rest.until)),
        )
      : why(row),
    number(row.hour.attempts),
    failedShare(row.hour),
    lastError(row.hour),
    el("span", { class: "crew-buttons" }, tryButton(row, look), limitButton(row, look)),
  ]);
  return table(
    ["Worker", "In flight", "Waiting", "State", "Last hour", "Failed", "Last error", ""],
    lines,
  );
}

export function tryButton(line, look) {
  return canOperate && line.rest?.until
    ? button(
        "Try now",
        () => put(`api/v1/worker/${segments(line.name)}`, { tryNow: true }).then(look),
        { "aria-label": `Try ${line.name} now` },
      )
    : null;
}

// What is shown of a worker that failed: until when it rests, and what came last.
export function rest({ rest: told }) {
  if (!told) return null;
  const failed = told.failures ? `${many(told.failures, "failure")} in a row` : "it failed of late";
  const now = told.until
    ? el("span", {}, "it rests; one call tries it ", countdown(told.until), ".")
    : `${number(told.inFlight)} of ${many(told.allowed, "attempt")} that it may have for now.`;
  return el(
    "p",
    { class: "crew-alarm" },
    `${failed}: `,
    now,
    told.error ? el("span", { class: "crew-dim" }, ` The last: ${told.error}`) : null,
  );
}

// `own` is the limit that was set for it; without, the one that counts.
export function limitButton(line, look, own = line.limit) {
  return canOperate
    ? button("Limit…", () => limit(line.name, own, look), {
        "aria-label": `Set the limit of ${line.name}`,
      })
    : null;
}

async function limit(name, now, look) {
  const field = el(
    "label",
    { class: "crew-field" },
    "Attempts in flight over all schedulers; empty for the default, 0 for none",
    el("input", { type: "number", name: "limit", min: 0, max: 1_000_000, value: now ?? "" }),
  );
  const given = await ask(`Limit ${name}`, "It takes effect at once; running attempts finish.", {
    yes: "Set",
    fields: [field],
  });
  if (!given) return;
  const value = given.get("limit");
  await put(
    `api/v1/worker/${segments(name)}`,
    value === "" ? { clear: ["maxConcurrency"] } : { maxConcurrency: Number(value) },
  );
  look();
}

// --- The last hour ---

// A column a minute: completed below, held and failed on top. With `step` above 1 it is estimated.
export function hour(minutes, step = 1) {
  const sums = minutes.map((m) => m.completed + m.failed + m.held);
  const most = Math.max(1, ...sums);
  const sum = sums.reduce((n, count) => n + count, 0);
  const columns = minutes.map((m) => {
    const time = new Date(m.at).toLocaleTimeString(undefined, { timeStyle: "short" });
    const column = el("span", {
      class: "crew-column",
      title: `${time}: ${number(m.completed)} completed, ${number(m.failed)} failed, ${number(m.held)} held`,
    });
    for (const [state, count] of [
      ["failed", m.failed],
      ["scheduled", m.held],
      ["complete", m.completed],
    ]) {
      if (!count) continue;
      const part = el("span", { class: "crew-fill", "data-state": state });
      part.style.height = `${(100 * count) / most}%`;
      column.append(part);
    }
    return column;
  });
  const [now, before] = [sums.at(-1), sums.at(-2)];
  const words = `${step > 1 ? "about " : ""}${many(sum, "attempt")} ended in the last hour, ${number(before)} in the last full minute and ${number(now)} in this one.`;
  return [
    dim(words),
    el("div", { class: "crew-hour", role: "img", "aria-label": words }, ...columns),
    el(
      "p",
      { class: "crew-dim crew-axis" },
      el("span", {}, "an hour ago"),
      el("span", {}, `at most ${number(most)} a minute`),
      el("span", {}, "now"),
    ),
  ];
}

// Live pages of workers, workgroups and schedulers: above their lists, and of one of them.
import { get } from "./api.js";
import { ago, badge, el, find, number } from "./dom.js";
import { countdown, every, show, span } from "./look.js";
import {
  dim,
  failedShare,
  gauge,
  heldBy,
  holdButton,
  holds,
  hour,
  lag,
  lastError,
  limitButton,
  many,
  noScheduler,
  openButton,
  rest,
  segments,
  table,
  troubles,
  tryButton,
  url,
  why,
  workers,
} from "./parts.js";

const page = find("#crew-fleet");
const { kind, name } = page.dataset;
const places = {};

const columns = [...page.querySelectorAll(".crew-stack")];

// A card by its title; made once, in the order of the first look.
function card(title, ...nodes) {
  cardIn(columns[0], title, ...nodes);
}

function aside(title, ...nodes) {
  cardIn(columns[1], title, ...nodes);
}

function cardIn(column, title, ...nodes) {
  if (!places[title]) {
    places[title] = el("div", { class: "crew-scroll" });
    column.append(el("div", { class: "crew-card" }, el("h2", {}, title), places[title]));
  }
  show(places[title], ...nodes);
}

const head = (...nodes) => show(find("#crew-head"), ...nodes);
const actions = (...nodes) => show(find("#crew-actions"), ...nodes);
const waiting = (n) => `${number(n.count)}${n.isMore ? "+" : ""}`;
const taskLink = (task) => el("a", { href: url.task(task.id) }, task.name || task.id);
const groupLink = (id, words) => el("a", { href: url.group(id) }, words || id);
const namesOf = (groups) => new Map(groups.map((row) => [row.id, row.name]));

// --- Lists ---

const lists = {
  worker(fleet) {
    if (!fleet.schedulers.length) head(noScheduler());
    else
      head(
        lag(fleet.lagSeconds) ??
          dim(
            fleet.areAllWorkers
              ? ""
              : "Those that failed and worked most of late; all of them are below.",
          ),
      );
    card("Now", workers(fleet.workers, look));
    card("Last hour, all workers", ...hour(fleet.minutes, fleet.step));
  },
  workgroup(fleet) {
    card(
      "Held now",
      ...holds(fleet.holds, look),
      fleet.areAllLanes
        ? null
        : dim("There is more than could be looked at: the counts may be too low."),
    );
  },
  schedulerprocess(fleet) {
    const busy = fleet.schedulers.reduce((n, row) => n + row.busy, 0);
    const slots = fleet.schedulers.reduce((n, row) => n + row.slots, 0);
    if (fleet.schedulers.length)
      head(
        el(
          "p",
          { class: "crew-percent" },
          `${number(busy)} of ${number(slots)}`,
          el(
            "span",
            { class: "crew-dim" },
            ` slots busy in ${many(fleet.schedulers.length, "scheduler")}`,
          ),
        ),
        lag(fleet.lagSeconds),
        ...troubles(fleet.troubles),
      );
    else head(noScheduler());
    const rows = [
      ...fleet.schedulers.map((row) => [row, badge("complete", "alive")]),
      ...fleet.dead.map((row) => [row, badge("failed", "dead")]),
    ];
    if (rows.length)
      card(
        "Processes",
        table(["Host and process", "State", "Slots", "Heartbeat", "Started"], rows.map(process)),
      );
    card("Last hour", ...hour(fleet.minutes, fleet.step));
  },
};

function process([row, state]) {
  return [
    el("span", {}, `${row.host} · ${row.pid}`),
    state,
    gauge(row.busy, row.slots, "slots busy"),
    `${span(row.beatSeconds)} ago`,
    ago(row.startedAt),
  ];
}

// --- One of them ---

const ones = {
  worker(now) {
    const { line } = now;
    const limit =
      now.ownLimit === null
        ? line.limit === null
          ? "no limit"
          : "the default limit"
        : "its own limit";
    head(
      el(
        "p",
        { class: "crew-percent" },
        line.limit === null
          ? number(line.inFlight)
          : `${number(line.inFlight)} of ${number(line.limit)}`,
        el("span", { class: "crew-dim" }, ` in flight, ${limit}`),
      ),
      line.limit === null ? null : gauge(line.inFlight, line.limit, "in flight"),
      el(
        "p",
        { class: "crew-chips" },
        why(line),
        line.ready
          ? el(
              "span",
              { class: "crew-chip", "data-state": "ready" },
              `${number(line.ready)}${line.isMore ? "+" : ""} ready`,
            )
          : null,
        line.held
          ? el(
              "span",
              { class: "crew-chip", "data-state": "scheduled" },
              `${number(line.held)} held back`,
            )
          : null,
      ),
      rest(line),
    );
    actions(tryButton(line, look), limitButton(line, look, now.ownLimit));
    card("Last hour", ...hour(now.minutes, now.step), facts(now));
    aside("What waits, by workgroup", lanes(now.lanes, "workgroup"));
    card("In flight, oldest first", running(now, line.inFlight, "workgroup"));
    aside("Next", following(now));
    aside("Groups", groups(now.groups));
    card("What people did", acts(now.acts));
  },
  workgroup(now) {
    head(
      now.heldUntil
        ? el(
            "p",
            { class: "crew-percent" },
            badge("scheduled", "held"),
            " opens ",
            countdown(now.heldUntil),
            el(
              "span",
              { class: "crew-dim" },
              "held ",
              heldBy(now.heldBy, now.heldByName || now.heldBy),
            ),
          )
        : el("p", { class: "crew-percent" }, badge("complete", "open")),
      el(
        "p",
        { class: "crew-chips" },
        el(
          "span",
          { class: "crew-chip", "data-state": now.heldUntil ? "scheduled" : "ready" },
          `${waiting(now.due)} ${now.heldUntil ? "held back" : "ready"}`,
        ),
        el(
          "span",
          { class: "crew-chip", "data-state": "executing" },
          `${number(now.inFlight)} in flight`,
        ),
        now.later.count
          ? el(
              "span",
              { class: "crew-chip", "data-state": "blocked" },
              `${waiting(now.later)} due later`,
            )
          : null,
      ),
      now.areAllLanes
        ? null
        : dim("There is more than could be looked at: the counts may be too low."),
    );
    actions(holdButton(name, look), now.heldUntil ? openButton(name, look) : null);
    card("What waits, by worker", lanes(now.lanes, "worker"));
    card("In flight, oldest first", running(now, now.inFlight, "worker"));
    aside("Next", following(now));
    aside("Groups", groups(now.groups));
    card("Answers of the last hour that asked to wait", recent(now.recent));
    card("What people did", acts(now.acts));
  },
};

function facts(now) {
  const tally = now.line.hour;
  const latency = now.latency
    ? `half of its last ${many(now.latency.answers, "answer")} came within ${seconds(now.latency.median)}, 95 % within ${seconds(now.latency.p95)}`
    : "no answers in the last hour";
  return el(
    "dl",
    { class: "crew-facts" },
    el("dt", {}, "Failed"),
    el(
      "dd",
      {},
      failedShare(tally),
      tally.failures ? ` of ${many(tally.attempts, "attempt")}` : "",
    ),
    el("dt", {}, "Latency"),
    el("dd", {}, latency),
    el("dt", {}, "Last error"),
    el("dd", {}, lastError(tally), tally.errorAt && tally.error ? ago(tally.errorAt) : ""),
  );
}

const seconds = (n) =>
  n < 1 ? `${Math.round(n * 1000)} ms` : n < 60 ? `${n.toFixed(1)} s` : span(n);

function lanes(rows, by) {
  if (!rows.length) return dim("Nothing waits.");
  const named = (row) =>
    row[by]
      ? el("a", { href: url[by](row[by]) }, row[by])
      : el("span", { class: "crew-dim" }, "none");
  const opens = (row) =>
    row.heldUntil ? countdown(row.heldUntil) : el("span", { class: "crew-dim" }, "open");
  return table(
    [by === "worker" ? "Worker" : "Workgroup", "Due", "Due later", "Opens"],
    rows.map((row) => [named(row), waiting(row.due), waiting(row.later), opens(row)]),
  );
}

function running({ at, running: rows, groups }, inFlight, by) {
  if (!rows.length) return dim("Nothing runs.");
  const names = namesOf(groups);
  const lines = rows.map((row) => [
    taskLink(row),
    span(Math.max(0, Date.parse(at) - Date.parse(row.since)) / 1000),
    row[by] || "–",
    groupLink(row.groupId, names.get(row.groupId)),
  ]);
  const shown = table(
    ["Task", "Runs for", by === "worker" ? "Worker" : "Workgroup", "Group"],
    lines,
  );
  return rows.length < inFlight
    ? el("div", {}, shown, dim(`${number(inFlight - rows.length)} more run.`))
    : shown;
}

function following({ next, groups }) {
  if (!next.length) return dim("Nothing waits.");
  const names = namesOf(groups);
  return table(
    ["Task", "Due", "Group"],
    next.map((row) => [
      taskLink(row),
      ago(row.runAfter),
      groupLink(row.groupId, names.get(row.groupId)),
    ]),
  );
}

function groups(rows) {
  if (!rows.length) return dim("None at the moment.");
  return el(
    "ul",
    { class: "crew-plain" },
    ...rows.map((row) =>
      el(
        "li",
        {},
        groupLink(row.id, row.name),
        el(
          "span",
          { class: "crew-dim" },
          row.running ? ` ${number(row.running)} in flight` : " next",
        ),
      ),
    ),
  );
}

function recent(rows) {
  if (!rows.length) return dim("None.");
  return table(
    ["Task", "Worker", "When", "Answer"],
    rows.map((row) => [
      el("a", { href: url.task(row.taskId) }, row.taskId),
      row.worker,
      ago(row.at),
      el("span", { class: "crew-wrap" }, row.error),
    ]),
  );
}

function acts(rows) {
  if (!rows.length) return dim("Nothing.");
  const asked = (detail) =>
    Object.entries(detail)
      .map(([key, value]) => `${key} ${value ?? "default"}`)
      .join(", ");
  return table(
    ["When", "Who", "Did"],
    rows.map((row) => [
      ago(row.at),
      row.who,
      [row.verb, asked(row.detail)].filter(Boolean).join(": "),
    ]),
  );
}

function gone() {
  head(el("p", { class: "crew-alarm" }, "It is gone."));
}

const paths = {
  worker: () => `api/v1/worker/${segments(name)}`,
  workgroup: () => `api/v1/workgroup/${segments(name)}/now`,
};
const look = name
  ? every(() => get(paths[kind]()), ones[kind], find("#crew-live"), gone)
  : every(() => get("api/v1/fleet"), lists[kind], find("#crew-live"));

// Parts of a task's page: its attempts, the call to its worker, the tasks of its key.
import { at, get } from "./api.js";
import { ago, badge, block, el, number, OUTCOMES, said, single, tell } from "./dom.js";
import { pretty } from "./json.js";
import { show } from "./look.js";
import { title } from "./verbs.js";

const dim = (...words) => el("p", { class: "crew-dim" }, ...words);

// --- Attempts: what each worker was asked, and what came back ---

export function attempts(place, { attempts: rows, count }) {
  if (!rows.length) return show(place, dim("No attempt has ended yet."));
  const heads = ["Attempt", "Outcome", "HTTP", "Worker", "Started", "Ran", "Answer"].map((head) =>
    el("th", { scope: "col" }, head),
  );
  const more =
    count > rows.length
      ? dim(`${number(count - rows.length)} older ones are in the list of attempts below.`)
      : null;
  show(
    place,
    el(
      "table",
      { class: "crew-table" },
      el("thead", {}, el("tr", {}, ...heads)),
      el("tbody", {}, ...rows.map(attempt)),
    ),
    more,
  );
}

function attempt(row) {
  const cell = (label, ...children) => el("td", { "data-label": label }, ...children);
  const ran = ((Date.parse(row.finishedAt) - Date.parse(row.startedAt)) / 1000).toFixed(2);
  const late = row.late
    ? dim(
        "A late answer came ",
        ago(row.late.at),
        ` (${row.late.outcome}) and changed nothing.`,
        row.late.error ? ` ${row.late.error}` : "",
      )
    : null;
  const note = row.note ? dim(row.note) : null;
  const words = row.error
    ? el("span", { class: "crew-wrap" }, row.error)
    : row.outcome === "completed"
      ? "its output"
      : "–";
  const open = el(
    "button",
    {
      type: "button",
      class: "crew-copy crew-look",
      "aria-label": `Request and answer of attempt ${row.number}`,
      onclick: single(() => exchange(row).catch(said)),
    },
    "request and answer",
  );
  return el(
    "tr",
    {},
    el("th", { scope: "row" }, `#${row.number}`),
    cell("Outcome", badge(OUTCOMES[row.outcome], row.outcome)),
    cell("HTTP", row.status ?? "–"),
    cell("Worker", row.worker),
    cell("Started", ago(row.startedAt)),
    cell("Ran", `${ran} s`),
    cell("Answer", words, note, late, el("div", {}, open)),
  );
}

// What went over the wire, as far as it was kept.
async function exchange({ taskId, number: n }) {
  const { request, answer, status, error } = await get(at`api/v1/task/${taskId}/attempts/${n}`);
  const unsent = dim(
    "Nothing is kept of it: it was not sent, or the scheduler that sent it died, or the settings say so.",
  );
  const silent = dim(status === null ? error || "None came." : "Nothing is kept of it.");
  const part = (head, words, what, none) =>
    el("section", {}, el("h3", {}, head), words === null ? none : block(readable(words), what));
  tell(
    `Attempt ${n}`,
    part("Request", request, "the request", unsent),
    part("Answer", answer, "the answer", silent),
  );
}

// A body that is JSON, and whole, is indented.
function readable(message) {
  const end = message.indexOf("\n\n") + 2;
  try {
    JSON.parse(message.slice(end));
    return message.slice(0, end) + pretty(message.slice(end));
  } catch {
    return message;
  }
}

// --- The call ---

export function callNow(place, call, task) {
  const when = task.isComplete
    ? "It is complete. Run again, it would be sent this:"
    : "Sent now, it would be this:";
  const line = call.url
    ? el("p", {}, el("strong", {}, "POST "), el("code", { class: "crew-id" }, call.url))
    : null;
  const headers = Object.entries(call.headers)
    .map(([name, value]) => `${name}: ${value}`)
    .join("\n");
  const cut = call.isCut
    ? dim(`Only its beginning is shown, of ${number(call.size)} bytes.`)
    : null;
  const refused = call.refused
    ? el("p", { class: "crew-alarm" }, `It would not be sent: ${call.refused}`)
    : null;
  const more = headers
    ? el("details", {}, el("summary", {}, "Headers"), block(headers, "the headers"))
    : null;
  // Opened details stay open: only what is shown is drawn again.
  const key = JSON.stringify([
    call.url,
    call.refused,
    call.body,
    headers.replace(/^webhook-timestamp.*$/m, ""),
    task.isComplete,
  ]);
  if (place.crewShown === key) return;
  place.crewShown = key;
  place.replaceChildren(
    ...[
      dim(when),
      refused,
      line,
      more,
      block(call.isCut ? call.body : pretty(call.body), "the body"),
      cut,
    ].filter(Boolean),
  );
}

// --- The tasks of its key ---

export function duplicates(place, task, why, same, context) {
  const others = (same?.tasks ?? []).filter((other) => other.id !== task.id);
  place.closest(".crew-card").hidden = !task.key;
  if (!task.key) return;
  const followed = why.mergedInto
    ? el(
        "p",
        {},
        task.isComplete ? "Its output is that of " : "It waits for the attempt of ",
        link(why.mergedInto, context),
        ", which has the same key.",
      )
    : null;
  const list = others.map((other) =>
    el("li", {}, badge(other.state), " ", link(other.id, context, title(other))),
  );
  const none = others.length ? null : dim("No other task of the group has this key.");
  const more =
    same.count > same.tasks.length
      ? dim(`and ${number(same.count - same.tasks.length)} more`)
      : null;
  const words = dim(
    `Of the tasks of the group with the key ${task.key}, one runs and settles the others.`,
  );
  show(place, followed, words, none, el("ul", { class: "crew-plain" }, ...list), more);
}

const link = (id, context, words = id) => el("a", { href: context.taskUrl(id) }, words);

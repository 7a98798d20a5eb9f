// One task as a row of the table: what it is, what it said, and what may be done to it.
import { at, text } from "./api.js";
import { ago, badge, block, copyButton, el, number, single, tell } from "./dom.js";
import { member, pretty } from "./json.js";
import { title, verbsOf } from "./verbs.js";

// Verbs that stand in the row; the others are one click further away.
const NEAR = ["pause", "resume", "retry"];

// `context` is that of the tab, with `done(task, verb)` for after a verb.
export function cells(task, context, picker) {
  const label = (name, ...children) => el("td", { "data-label": name }, ...children);
  const dim = (words) => el("span", { class: "crew-dim" }, words);
  const until = task.state === "scheduled" ? ago(task.runAfter) : null;
  const cell = [
    label("State", badge(task.state), " ", until),
    label(
      "Task",
      el("a", { href: context.taskUrl(task.id) }, title(task)),
      ident(task),
      said(task),
    ),
    label(
      "Worker",
      task.worker || dim("none"),
      task.workgroup
        ? el("span", { class: "crew-dim crew-under", title: "Workgroup" }, task.workgroup)
        : null,
    ),
    label("Attempts left", number(task.remainingAttempts)),
    label("Created", ago(task.createdAt)),
    label("Actions", ...buttons(task, context)),
  ];
  return picker ? [el("td", { class: "crew-pick" }, picker), ...cell] : cell;
}

function ident(task) {
  const shown = task.name ? el("code", { class: "crew-id" }, task.id) : null;
  return el("span", { class: "crew-ident" }, shown, copyButton(task.id, `the id ${task.id}`));
}

// The newest error in a line, and what there is more of.
function said(task) {
  const made = el("span", { class: "crew-said" });
  const quiet = (words, act) =>
    el(
      "button",
      {
        type: "button",
        class: "crew-copy crew-look",
        "aria-label": `${words} of ${title(task)}`,
        onclick: act,
      },
      words,
    );
  if (task.errors.length) {
    const newest = task.errors.at(-1);
    const words = task.errors.length === 1 ? "1 error" : `${number(task.errors.length)} errors`;
    made.append(
      el("span", { class: "crew-error-line", title: newest }, newest),
      quiet(words, () => errors(task)),
    );
  }
  if (task.output !== null) made.append(quiet("output", () => output(task)));
  return made.childNodes.length ? made : null;
}

export function errors(task) {
  const list = task.errors
    .toReversed()
    .map((error, n) => block(error, n ? `the error ${n} before` : "the newest error"));
  tell(`Errors of ${title(task)}, newest first`, ...list);
}

export async function output(task) {
  const raw = await text(at`api/v1/task/${task.id}`);
  tell(`Output of ${title(task)}`, block(pretty(member(raw, "output")), "the output"));
}

function buttons(task, context) {
  const made = verbsOf(task, context).map((verb) => [verb.name, button(verb, task, context)]);
  const near = made.filter(([name]) => NEAR.includes(name)).map(([, node]) => node);
  const far = made.filter(([name]) => !NEAR.includes(name)).map(([, node]) => node);
  if (context.may.has("write")) {
    far.unshift(
      el("a", { class: "crew-button crew-small", href: context.childUrl(task.id) }, "Add child"),
    );
    far.unshift(
      el(
        "a",
        { class: "crew-button crew-small", href: `${context.taskUrl(task.id)}#edit` },
        "Edit",
      ),
    );
  }
  return far.length ? [...near, menu(title(task), far)] : near;
}

function button(verb, task, context) {
  const act = () => verb.act().then((done) => done && context.done(task, verb.name), context.said);
  const kind = verb.danger ? "crew-button crew-small crew-danger" : "crew-button crew-small";
  return el(
    "button",
    {
      type: "button",
      class: kind,
      "aria-label": `${verb.words.replace("…", "")} ${title(task)}`,
      onclick: single(act),
    },
    verb.words,
  );
}

function menu(name, buttons) {
  const sign = el(
    "summary",
    { class: "crew-button crew-small", "aria-label": `More for ${name}` },
    "⋯",
  );
  return el("details", { class: "crew-menu crew-more" }, sign, el("div", {}, ...buttons));
}

// A task of the graph as a card: what it is, what it said, what may be done to it.
import { at, text } from "./api.js";
import { badge, block, copyButton, el, number, single, tell } from "./dom.js";
import { member, pretty } from "./json.js";
import { title, verbsOf } from "./verbs.js";

// `context.done(id)` is called after a verb; the card then shows what came of it.
export async function card(id, context) {
  const body = el("div", { class: "crew-stack" });
  const dialog = tell("Task", body);
  dialog.id = "crew-card";
  const look = async () => {
    try {
      const raw = await text(at`api/v1/task/${id}`);
      draw(body, dialog, raw, context, look);
    } catch (error) {
      if (error.status !== 404) context.said(error);
      body.replaceChildren(el("p", { class: "crew-alarm" }, "This task is gone."));
    }
  };
  await look();
  return { id, look, isOpen: () => dialog.open };
}

function draw(body, dialog, raw, context, look) {
  const task = JSON.parse(raw);
  dialog.querySelector("h2").textContent = title(task);
  const facts = [
    ["Id", el("code", { class: "crew-id" }, task.id), copyButton(task.id, `the id ${task.id}`)],
    ["Worker", task.worker || "none"],
    ["Workgroup", task.workgroup || "none"],
    ["Attempts left", number(task.remainingAttempts)],
  ].flatMap(([name, ...parts]) => [el("dt", {}, name), el("dd", {}, ...parts)]);
  const errors = task.errors
    .toReversed()
    .slice(0, 5)
    .map((error) => block(error, "an error"));
  const output =
    task.output === null
      ? null
      : el(
          "details",
          {},
          el("summary", {}, "Output"),
          block(pretty(member(raw, "output")), "the output"),
        );
  const link = el(
    "a",
    { class: "crew-button crew-primary", href: context.taskUrl(task.id) },
    "Open the task",
  );
  const after = (verb) => (done) => {
    if (!done) return;
    context.done?.(task.id);
    if (verb.name === "delete") dialog.close();
    else look();
  };
  const buttons = verbsOf(task, context).map((verb) =>
    el(
      "button",
      {
        type: "button",
        class: `crew-button ${verb.danger ? "crew-danger" : ""}`,
        onclick: single(() => verb.act().then(after(verb), context.said)),
      },
      verb.words,
    ),
  );
  body.replaceChildren(
    el("p", {}, badge(task.state)),
    el("dl", { class: "crew-facts" }, ...facts),
    ...errors,
    ...(output ? [output] : []),
    el("div", { class: "crew-actions" }, link, ...buttons),
  );
}

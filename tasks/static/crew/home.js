// The first page: which groups have something to do, what failed, what is held back, who works.
import { get } from "./api.js";
import { ago, el, find, said } from "./dom.js";
import { open as openFailures } from "./failures.js";
import { every, show } from "./look.js";
import { groupProgress, holds, hour, lag, schedulers, troubles, url, workers } from "./parts.js";

const page = find("#crew-home");

function groups(rows) {
  if (!rows.length) {
    return [
      el(
        "p",
        { class: "crew-empty" },
        "No groups yet. ",
        el("a", { href: page.dataset.newGroupUrl }, "Add one"),
        ", or run ",
        el("code", {}, "./crew demo"),
        ".",
      ),
    ];
  }
  return rows.map((row) =>
    el(
      "a",
      { class: "crew-card crew-group", href: url.group(row.id) },
      el(
        "div",
        { class: "crew-group-head" },
        el("strong", {}, row.name || row.id),
        el("span", { class: "crew-dim" }, ago(row.createdAt)),
      ),
      ...groupProgress(row),
    ),
  );
}

function draw(now) {
  show(find("#crew-groups"), ...groups(now.groups));
  if (!now.fleet) return;
  const { fleet } = now;
  show(find("#crew-troubles"), ...troubles(fleet.troubles));
  show(find("#crew-schedulers"), ...schedulers(fleet.schedulers), lag(fleet.lagSeconds));
  show(find("#crew-holds"), ...holds(fleet.holds, look));
  show(find("#crew-hour"), ...hour(fleet.minutes, fleet.step));
  show(find("#crew-workers"), workers(fleet.workers, look));
}

const failures = openFailures(find("#crew-failures"), {
  may: new Set(page.dataset.may.split(" ")),
  taskUrl: url.task,
  said,
});
setInterval(
  () => document.hidden || document.querySelector("dialog[open]") || failures.reload(),
  10_000,
);
const look = every(() => get("api/v1/overview"), draw, find("#crew-live"));

// Failed tasks by worker and kind of error, newest first: of one group, or of all.
import { get, post } from "./api.js";
import { ago, ask, attemptsField, el, number, single, toast } from "./dom.js";
import { show } from "./look.js";
import { soon } from "./paced.js";

const SOON = 2_000; // ms at most between two looks while things happen

export function open(panel, context) {
  const only = context.group ? `group=${encodeURIComponent(context.group)}` : "";

  async function reload() {
    try {
      draw(await get(`api/v1/failures?${only}`));
    } catch (error) {
      context.said(error);
    }
  }

  function draw(said) {
    if (!said.found.length) {
      return show(panel, el("p", { class: "crew-empty" }, "Nothing has failed for good."));
    }
    const head = said.isCapped
      ? `${number(said.total)} failed tasks; the newest are grouped here.`
      : `${number(said.total)} failed ${said.total === 1 ? "task" : "tasks"} of ${number(said.kinds)} ${said.kinds === 1 ? "kind" : "kinds"}.`;
    show(
      panel,
      el("p", { class: "crew-dim" }, head),
      el("ul", { class: "crew-failures" }, ...said.found.map(failure)),
    );
  }

  function failure(kind) {
    const facts = el(
      "p",
      { class: "crew-dim" },
      kind.status ? `HTTP ${kind.status} · ` : "",
      "newest ",
      ago(kind.newestAt),
      ` · in ${number(kind.groupCount)} ${kind.groupCount === 1 ? "group" : "groups"} · `,
      el("a", { href: context.taskUrl(kind.taskId) }, "an example"),
    );
    const button = context.may.has("operate")
      ? el(
          "button",
          {
            type: "button",
            class: "crew-button crew-primary",
            "aria-label": `Retry ${number(kind.count)} of ${kind.worker || "no worker"}: ${kind.error}`,
            onclick: single(() => retry(kind).catch(context.said)),
          },
          `Retry ${number(kind.count)}`,
        )
      : null;
    return el(
      "li",
      { class: "crew-card" },
      el(
        "div",
        {},
        el(
          "h3",
          {},
          el("span", { class: "crew-chip", "data-state": "failed" }, `${number(kind.count)}×`),
          ` ${kind.worker || "no worker"}`,
        ),
        el("pre", { class: "crew-error-text", tabindex: "0" }, kind.error || "no error was given"),
        facts,
      ),
      button,
    );
  }

  async function retry(kind) {
    const route = `api/v1/failure/${kind.key}/retry?${only}`;
    const { count } = await post(`${route}&dryRun=1`);
    const act = (given) => post(route, { remainingAttempts: Number(given.get("attempts")) });
    const done = await ask(
      `Retry ${number(count)} tasks of ${kind.worker || "no worker"}`,
      "All that failed in this way get their attempts back and start again.",
      { yes: "Retry", fields: [attemptsField()], act },
    );
    if (!done) return;
    toast(`Gave attempts back to ${number(done.count)} tasks.`);
    reload();
  }

  reload();
  return { reload, ...soon(reload, SOON) };
}

// The tab with the timeline: a row for each task, its attempts as bars, its wait as a thin line.
import { get } from "./api.js";
import { el, number, OUTCOMES } from "./dom.js";
import { show as put } from "./look.js";
import { soon } from "./paced.js";

const SVG = "http://www.w3.org/2000/svg";
const ROW = 22;
const NAMES = 180;
const ROWS_PER_STEP = 300; // rows drawn; more are asked for by a button

const svg = (name, attributes, ...children) => {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
};
const span = (seconds) =>
  seconds < 1
    ? `${Math.round(seconds * 1000)} ms`
    : seconds < 120
      ? `${seconds.toFixed(1)} s`
      : seconds < 7200
        ? `${(seconds / 60).toFixed(1)} min`
        : `${(seconds / 3600).toFixed(1)} h`;

export function open(panel, context) {
  let rows = ROWS_PER_STEP;
  let ended = false;
  // It stays, and where it is scrolled to.
  const scroll = el("div", { class: "crew-scroll" });

  async function reload() {
    try {
      const chart = await get(`${context.path}/timeline`);
      if (!ended) show(chart);
    } catch (error) {
      context.said(error);
    }
  }

  function show(chart) {
    const ran = chart.tasks.filter((task) => task.attempts.length);
    if (!ran.length)
      return panel.replaceChildren(el("p", { class: "crew-empty" }, "Nothing has run yet."));
    const from = Math.min(
      ...ran.map((task) => Date.parse(task.attempts[0].dueAt ?? task.attempts[0].startedAt)),
    );
    const to = Math.max(Date.parse(chart.finishedAt ?? chart.at), from + 1000);
    const critical = new Set(chart.criticalPath);
    const waited = ran
      .flatMap((task) => task.attempts)
      .reduce((sum, bar) => sum + (bar.queuedSeconds ?? 0), 0);
    const worked = ran
      .flatMap((task) => task.attempts)
      .reduce((sum, bar) => sum + bar.ranSeconds, 0);
    const words = `${span((to - from) / 1000)} from first to last · ${span(worked)} of work in attempts, ${span(waited)} waited after it was due · critical path of ${number(critical.size)} tasks${chart.leftOut ? ` · ${number(chart.leftOut)} tasks are left out` : ""}`;
    const longer = () => {
      rows += ROWS_PER_STEP;
      show(chart);
    };
    const shown = ran.slice(0, rows);
    const more =
      ran.length > rows
        ? el(
            "button",
            { type: "button", class: "crew-button", onclick: longer },
            `${number(ran.length - rows)} more`,
          )
        : null;
    const head = el("p", { class: "crew-dim" }, words);
    if (scroll.parentNode !== panel) panel.replaceChildren(head, scroll);
    panel.firstChild.replaceWith(head);
    put(scroll, draw(shown, from, to, critical), more);
  }

  function draw(tasks, from, to, critical) {
    const width = Math.max(panel.clientWidth || 900, 640);
    const x = (moment) => NAMES + ((Date.parse(moment) - from) / (to - from)) * (width - NAMES - 8);
    const height = tasks.length * ROW + 28;
    const drawn = svg("svg", {
      class: "crew-timeline",
      width,
      height,
      role: "list",
      "aria-label": "Attempts over time",
    });
    for (let n = 0; n <= 4; n += 1) {
      const at = NAMES + (n / 4) * (width - NAMES - 8);
      drawn.append(
        svg("line", { x1: at, x2: at, y1: 20, y2: height, class: "crew-tick" }),
        svg(
          "text",
          {
            x: at,
            y: 13,
            class: "crew-tick-words",
            "text-anchor": n === 4 ? "end" : n ? "middle" : "start",
          },
          n ? `+${span(((n / 4) * (to - from)) / 1000)}` : new Date(from).toLocaleTimeString(),
        ),
      );
    }
    for (const [n, task] of tasks.entries()) {
      drawn.append(row(task, 24 + n * ROW, x, to, critical.has(task.id)));
    }
    return drawn;
  }

  function row(task, y, x, to, isCritical) {
    const title = task.name || task.id;
    const link = svg("a", {
      href: context.taskUrl(task.id),
      role: "listitem",
      "data-key": task.id,
      class: isCritical ? "crew-critical" : "",
    });
    link.append(
      svg(
        "text",
        { x: 0, y: y + 14 },
        `${isCritical ? "◆ " : ""}${title.length > 24 ? `${title.slice(0, 23)}…` : title}`,
      ),
    );
    for (const bar of task.attempts) {
      const start = x(bar.startedAt);
      const end = bar.finishedAt ? x(bar.finishedAt) : x(new Date(to).toISOString());
      if (bar.dueAt)
        link.append(
          svg("line", { x1: x(bar.dueAt), x2: start, y1: y + 10, y2: y + 10, class: "crew-wait" }),
        );
      const told = `${title}, attempt ${bar.number}: ${bar.outcome}${bar.status ? ` (HTTP ${bar.status})` : ""}, ran ${span(bar.ranSeconds)}${bar.queuedSeconds == null ? "" : `, waited ${span(bar.queuedSeconds)}`}`;
      link.append(
        svg(
          "rect",
          {
            x: start,
            y: y + 3,
            width: Math.max(2, end - start),
            height: 14,
            rx: 3,
            "data-state": OUTCOMES[bar.outcome],
            class: "crew-bar-of",
          },
          svg("title", {}, told),
        ),
      );
    }
    return link;
  }

  reload();
  const { heard, close } = soon(reload, 2_000);
  const end = () => {
    ended = true;
    close();
  };
  return { reload, heard, close: end };
}

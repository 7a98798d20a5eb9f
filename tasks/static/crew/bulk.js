// One verb on many tasks: asked once, done slice by slice, so that a group of a million is never
// held for long. It shows how far it is and can be stopped; what was done stays done, and is shown.
import { post } from "./api.js";
import {
  ask,
  attemptsField,
  el,
  keepField,
  number,
  present,
  replacedWords,
  several,
  toast,
} from "./dom.js";

const SLICE = 2_000; // tasks of one call
const NAMED = 5; // of those selected, before it is done
export const VERBS = {
  pause: {
    words: "Pause",
    past: "Paused",
    about: "Nothing of them starts any more; running attempts finish.",
  },
  resume: { words: "Resume", past: "Resumed", about: "The pause is taken from them." },
  retry: {
    words: "Retry",
    past: "Gave attempts back to",
    attempts: true,
    about:
      "Those that are not complete get their attempts back, and their error delays are skipped.",
  },
  reset: {
    words: "Reset",
    past: "Reset",
    attempts: true,
    danger: true,
    about:
      "They are as if they had never run: outputs and errors go, and they start again. One that executes stops it.",
  },
  delete: { words: "Delete", past: "Deleted", danger: true, about: "They go for good." },
};

// `which` is {ids, names} or {filter, words, besides}: a URLSearchParams, the same in words, and how
// many are selected beside it. Gives whether anything was done.
export async function bulk(name, which, { path }) {
  const { words, past, attempts, danger, about } = VERBS[name];
  const route = `${path}/tasks/${name}?${which.filter ?? ""}`;
  const named = which.ids ? { ids: which.ids } : {};
  const found = await post(`${route}&dryRun=1`, named);
  if (!found.count) return toast("No task fits the filter.");
  const mine = found.count - (found.descendants ?? 0);
  const with_ = found.descendants
    ? ` With them ${several(found.descendants, "descendant")} that would have no parent left.`
    : replacedWords(found.replaced);
  const given = await ask(
    `${words} ${several(mine, "task")}`,
    `${scope(which, mine)} ${about}${with_}`,
    {
      yes: `${words} ${several(mine, "task")}`,
      danger,
      fields: attempts ? [attemptsField(), ...keepField(found.replaced)] : [],
    },
  );
  if (!given) return false;
  const keep = given.has?.("keep") && { keepComplete: true };
  const body = {
    ...named,
    ...(attempts && { remainingAttempts: Number(given.get("attempts")) }),
    ...keep,
  };
  const done = which.ids
    ? (await post(route, body)).count
    : await inSlices(words, route, body, found.count);
  if (done !== null) toast(`${past} ${several(done, "task")}.`);
  return true;
}

// Which they are: nobody has to remember what was ticked, or what the filter says.
function scope({ ids, names, words, besides }, count) {
  const all = count === 1 ? "The 1 task" : `${ids ? "The" : "All"} ${number(count)} tasks`;
  if (!ids)
    return `${all}${words}, on every page${besides ? `, not only the ${number(besides)} you selected` : ""}.`;
  const more = names.length > NAMED ? ` and ${number(names.length - NAMED)} more` : "";
  return `${all} you selected: ${names.slice(0, NAMED).join(", ")}${more}.`;
}

// Deletes what a group holds, so that it goes as quickly as an empty one; gives whether all is gone.
// Its tasks are tried no more first: a child whose parents went would start. A small group goes
// whole, by the deletion of the group itself.
export async function empty(path, total) {
  if (total <= SLICE) return true;
  await post(`${path}/cancel`);
  return (
    (await inSlices("Delete", `${path}/tasks/delete?all=1&children=detach`, {}, total)) !== null
  );
}

// Gives how many it was done to, or null when the dialog has shown it.
async function inSlices(words, route, body, total) {
  const run = { done: 0, after: null, stopped: false };
  const step = async () => {
    const place = run.after ? `&after=${encodeURIComponent(run.after)}` : "";
    const told = await post(`${route}&limit=${SLICE}${place}`, body);
    run.done += told.count;
    run.after = told.next;
  };
  if (total <= SLICE) {
    await step();
    if (!run.after) return run.done;
  }
  return new Promise((resolve) => progress(words, run, step, total, resolve));
}

function progress(words, run, step, total, resolve) {
  const bar = el("progress", { max: total, value: run.done, "aria-label": `${words}: tasks done` });
  const told = el("p", { role: "status" });
  const stop = el("button", { type: "button", class: "crew-button" }, "Stop");
  const again = el(
    "button",
    { type: "button", class: "crew-button crew-primary", hidden: true },
    "Go on",
  );
  const dialog = el(
    "dialog",
    { class: "crew-dialog", "aria-labelledby": "crew-bulk-title" },
    el("h2", { id: "crew-bulk-title" }, `${words} ${several(total, "task")}`),
    bar,
    told,
    el("div", { class: "crew-dialog-buttons" }, again, stop),
  );
  const show = (text) => {
    bar.value = run.done;
    told.textContent = text;
  };
  const go = async () => {
    Object.assign(run, { stopped: false, running: true });
    again.hidden = true;
    stop.textContent = "Stop";
    try {
      do {
        show(`${number(run.done)} of ${number(total)} done…`);
        await step();
      } while (run.after && !run.stopped);
      if (!run.after) return dialog.close();
      show(`Stopped: ${number(run.done)} of ${number(total)} are done, and stay so.`);
    } catch (error) {
      const maybe =
        error.status === 0
          ? ` Up to ${number(SLICE)} more may be done, whose answer got lost.`
          : "";
      show(
        `${number(run.done)} of ${number(total)} are done, and stay so.${maybe} Then: ${error.message}`,
      );
    } finally {
      run.running = false;
    }
    again.hidden = false;
    stop.textContent = "Close";
  };
  stop.addEventListener("click", () => {
    if (run.running) run.stopped = true;
    else dialog.close();
  });
  again.addEventListener("click", go);
  dialog.addEventListener("cancel", (event) => {
    if (!run.running) return;
    event.preventDefault();
    run.stopped = true;
  });
  present(dialog, () => resolve(run.after ? null : run.done));
  stop.focus();
  go();
}

// What a person may do to one task: the same on its row, its card in the graph and its page.
import { at, post, send, text } from "./api.js";
import { ask, attemptsField, el, keepField, number, replacedWords, several, toast } from "./dom.js";
import { fault, member, object, pretty } from "./json.js";

// [{name, words, danger, act}]; `act()` asks first where it must, and gives null when it was not done.
// `context` is {path, may}, `path` that of the group.
export function verbsOf(task, context) {
  const [operate, write] = [context.may.has("operate"), context.may.has("write")];
  const still = !task.busyExecuting;
  const open = !task.isComplete;
  const verb = (name, words, act, danger = false) => ({
    name,
    words,
    danger,
    act: () => act(task, context),
  });
  return [
    operate && open && !task.isPaused && verb("pause", "Pause", pause),
    operate && open && task.isPaused && verb("resume", "Resume", resume),
    operate && open && task.remainingAttempts <= 0 && verb("retry", "Retry…", retry),
    operate && still && verb("reset", "Reset…", reset, true),
    operate && write && still && verb("rerun", "Edit input and run again…", rerun),
    write && open && still && verb("complete", "Complete by hand…", complete, true),
    write && verb("delete", "Delete…", remove, true),
  ].filter(Boolean);
}

export const title = (task) => task.name || task.id;
const only = (task) => ({ ids: [task.id] });
const attempts = (given) => ({ remainingAttempts: Number(given.get("attempts")) });

async function pause(task, { path }) {
  await post(`${path}/tasks/pause`, only(task));
  return toast(task.busyExecuting ? "Paused: the running attempt finishes." : "Paused.");
}

async function resume(task, { path }) {
  await post(`${path}/tasks/resume`, only(task));
  return toast("Resumed.");
}

const retry = (task, { path }) =>
  ask(
    `Retry ${title(task)}`,
    "It gets its attempts back and starts as soon as it may. Its error delay is skipped.",
    {
      yes: "Retry",
      fields: [attemptsField()],
      act: (given) => post(`${path}/tasks/retry`, { ...only(task), ...attempts(given) }),
    },
  );

const kept = (given) => ({ keepComplete: given.has("keep") });

async function reset(task, { path }) {
  const { replaced } = await post(`${path}/tasks/reset?dryRun=1`, only(task));
  return ask(
    `Reset ${title(task)}`,
    `It is as if it had never run: its output and errors go, and it starts again. Its children are not reset.${replacedWords(replaced)}`,
    {
      yes: "Reset",
      danger: true,
      fields: [attemptsField(), ...keepField(replaced)],
      act: (given) =>
        post(`${path}/tasks/reset`, { ...only(task), ...attempts(given), ...kept(given) }),
    },
  );
}

async function rerun(task, { path }) {
  const input = pretty(member(await text(at`api/v1/task/${task.id}`), "input"));
  const { replaced } = await post(`${path}/tasks/reset?dryRun=1`, only(task));
  return ask(
    `Run ${title(task)} again`,
    `The task is reset, and starts with this input. Its children are not reset.${replacedWords(replaced)}`,
    {
      yes: "Run",
      wide: true,
      fields: [area("Input, as JSON", input), attemptsField(), ...keepField(replaced)],
      act: (given) => {
        const members = {
          ...set("input", checked(given.get("json"))),
          remainingAttempts: Number(given.get("attempts")),
          ...kept(given),
        };
        return send("POST", `${path}/task/${encodeURIComponent(task.id)}/rerun`, object(members));
      },
    },
  );
}

const complete = (task, { path }) =>
  ask(
    `Complete ${title(task)} by hand`,
    "The task counts as done with this output, and its children may start.",
    {
      yes: "Complete",
      danger: true,
      wide: true,
      fields: [area("Output, as JSON", "null")],
      act: (given) => {
        const members = { isComplete: true, ...set("output", checked(given.get("json"))) };
        return send("PUT", `${path}/task/${encodeURIComponent(task.id)}`, object(members));
      },
    },
  );

async function remove(task, { path }) {
  const route = `${path}/tasks/delete`;
  const { descendants } = await post(`${route}?dryRun=1`, only(task));
  const with_ = descendants
    ? `, and with it ${several(descendants, "descendant")} that it leaves without any parent`
    : "";
  return ask(`Delete ${title(task)}`, `The task goes for good${with_}.`, {
    yes: descendants ? `Delete ${number(descendants + 1)} tasks` : "Delete",
    danger: true,
    act: () => post(route, only(task)),
  });
}

// A field for JSON, with what is wrong with it beside it.
function area(label, value) {
  const wrong = el("span", { class: "crew-wrong" });
  const field = el("textarea", {
    name: "json",
    rows: 10,
    spellcheck: "false",
    autocapitalize: "off",
  });
  field.value = value;
  field.addEventListener("input", () => {
    const why = fault(field.value);
    wrong.textContent = why && `Not JSON: ${why}`;
    field.setAttribute("aria-invalid", String(why !== ""));
  });
  return el("label", { class: "crew-field" }, label, field, wrong);
}

// A null in a change leaves the field as it is; to be empty it is cleared.
const set = (name, json) => (json.trim() === "null" ? { clear: `["${name}"]` } : { [name]: json });

function checked(json) {
  const why = fault(json);
  if (why) throw new Error(`Check the field: it is not JSON. ${why}`);
  return json;
}

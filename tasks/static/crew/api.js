// Calls to Crew's API from pages of the admin: the session's cookie says who asks.
//
// <html> or any element above may carry data-crew-api, the prefix under which the API is mounted,
// and data-crew-csrf, the CSRF token.
/** @type {HTMLElement | null} */
const root = document.querySelector("[data-crew-api]");
export const base = root?.dataset.crewApi ?? "/";
// A login, in another tab too, makes a new one; the cookie is of today.
const csrf = () =>
  document.cookie.match(/(?:^|; )(?:__Host-)?csrftoken=([^;]+)/)?.[1] ??
  root?.dataset.crewCsrf ??
  "";
// Whether the last answer was that nobody is logged in.
export const session = { isOver: false };

export class Refused extends Error {
  constructor(status, words) {
    super(words);
    this.status = status;
  }
}

export const get = async (path, signal) => JSON.parse(await call("GET", path, undefined, signal));

// A page of a list, all of it: what does not fit into one answer comes in smaller pages, each of a size that begins
// where the last one ended. `name` is that of the rows; `asked` says page and pageSize.
export async function wholePage(path, name, asked, signal) {
  const query = new URLSearchParams(asked);
  const pageSize = Number(query.get("pageSize"));
  const begin = (Number(query.get("page") ?? 1) - 1) * pageSize;
  const found = await get(`${path}?${query}`, signal);
  const end = Math.min(begin + pageSize, found.count);
  let next = found;
  while (next.isCut && next[name].length) {
    const start = begin + found[name].length;
    let size = Math.max(1, end - start);
    while (start % size) size -= 1;
    query.set("pageSize", String(size));
    query.set("page", String(start / size + 1));
    next = await get(`${path}?${query}`, signal);
    found[name].push(...next[name]);
    next.isCut ||= begin + found[name].length < end;
  }
  return found;
}

export const post = async (path, body = {}) =>
  JSON.parse(await send("POST", path, JSON.stringify(body)));
export const put = async (path, body) => JSON.parse(await send("PUT", path, JSON.stringify(body)));
export const del = async (path) => JSON.parse(await call("DELETE", path));
// As text, for what JSON.parse would change (json.js).
export const text = (path, signal) => call("GET", path, undefined, signal);
export const send = (method, path, body) => call(method, path, body);

// `path` parts are quoted: at`api/v1/task/${id}`.
export const at = (parts, ...values) =>
  parts.reduce((path, part, n) => path + encodeURIComponent(values[n - 1]) + part);

// Gives the answer's text; throws Refused with the server's own sentence.
async function call(method, path, body, signal) {
  let answer, said;
  try {
    answer = await fetch(base + path, {
      method,
      signal,
      credentials: "same-origin",
      headers:
        method === "GET" ? {} : { "X-CSRFToken": csrf(), "Content-Type": "application/json" },
      body,
    });
    said = await answer.text();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused(0, "The server cannot be reached.");
  }
  session.isOver = answer.status === 401;
  if (answer.ok) return said;
  if (session.isOver)
    throw new Refused(401, "You are logged out: log in again in another tab, then try again here.");
  throw new Refused(answer.status, words(said, answer));
}

function words(said, answer) {
  const isJson = (answer.headers.get("Content-Type") ?? "").includes("json");
  const told = isJson ? JSON.parse(said) : { detail: said };
  return told.detail ?? told.message ?? said;
}

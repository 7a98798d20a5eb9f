// Calls to Crew's API from pages of the admin: the session's cookie says who asks.
//
// <html> or any element above may carry data-crew-api, the prefix under which the API is mounted,
// and data-crew-csrf, the CSRF token.
const root = document.querySelector("[data-crew-api]");
export const base = root?.dataset.crewApi ?? "/";
const csrf = root?.dataset.crewCsrf ?? "";

export class Refused extends Error {
  constructor(status, words) {
    super(words);
    this.status = status;
  }
}

export const get = (path, signal) => call("GET", path, undefined, signal);
export const post = (path, body = {}) => call("POST", path, body);
export const put = (path, body) => call("PUT", path, body);
export const del = (path) => call("DELETE", path);

// `path` parts are quoted: at`api/v1/task/${id}`.
export const at = (parts, ...values) =>
  parts.reduce((path, part, n) => path + encodeURIComponent(values[n - 1]) + part);

// Gives the answer's JSON; throws Refused with the server's own sentence.
async function call(method, path, body, signal) {
  let answer;
  try {
    answer = await fetch(base + path, {
      method,
      signal,
      credentials: "same-origin",
      headers: method === "GET" ? {} : { "X-CSRFToken": csrf, "Content-Type": "application/json" },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused(0, "The server can not be reached.");
  }
  const kind = answer.headers.get("Content-Type") ?? "";
  const said = kind.includes("json") ? await answer.json() : await answer.text();
  if (answer.ok) return said;
  throw new Refused(answer.status, said.detail ?? said.message ?? String(said));
}

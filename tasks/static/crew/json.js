// JSON as text: numbers of any length and keys in their order stay as the server wrote them, which
// JSON.parse and JSON.stringify would not keep.
const TOKEN = /"[^"\\]*(?:\\.[^"\\]*)*"|[{}[\],:]|[^\s{}[\],:"]+/gs;
const opens = (token) => token === "{" || token === "[";
const closes = (token) => token === "}" || token === "]";

// The same JSON, indented.
export function pretty(text) {
  let made = "";
  let depth = 0;
  let before = "";
  const line = () => `\n${"  ".repeat(depth)}`;
  for (const [token] of text.matchAll(TOKEN)) {
    if (closes(token)) depth -= 1;
    if (closes(token) ? !opens(before) : opens(before) || before === ",") made += line();
    made += token === ":" ? ": " : token;
    if (opens(token)) depth += 1;
    before = token;
  }
  return made;
}

// The text of one member of an object; undefined if it has none of that name.
export function member(text, name) {
  let depth = 0;
  let before = "";
  let key = "";
  let start = -1;
  for (const { 0: token, index } of text.matchAll(TOKEN)) {
    if (depth === 1 && start >= 0 && (token === "," || token === "}"))
      return text.slice(start, index).trim();
    if (depth === 1 && token === ":") key = before;
    if (depth === 1 && before === ":" && JSON.parse(key) === name) start = index;
    if (opens(token)) depth += 1;
    if (closes(token)) depth -= 1;
    before = token;
  }
  return undefined;
}

// An object of members that are JSON texts already.
export function object(members) {
  const parts = Object.entries(members).map(([name, text]) => `${JSON.stringify(name)}:${text}`);
  return `{${parts.join(",")}}`;
}

// Says what is wrong with a text that is no JSON; "" for one that is. The server reads it again.
export function fault(text) {
  try {
    JSON.parse(text);
    return "";
  } catch (error) {
    return error.message;
  }
}

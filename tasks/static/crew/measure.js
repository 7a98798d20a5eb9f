// Text that fits a box: how wide it is, and where to cut it.
const ruler = document.createElement("canvas").getContext("2d");
const widths = new Map(); // of letters, by font and letter: a thousand names are measured at once

function wide(letter, font) {
  const known = font + letter;
  if (!widths.has(known)) {
    ruler.font = `${font} system-ui, sans-serif`;
    widths.set(known, ruler.measureText(letter).width);
  }
  return widths.get(known);
}

// A long text in two lines, the second cut if it must be.
export function twoLines(text, width, font) {
  const whole = cut(text, width, font);
  if (whole === text) return [text];
  const fits = whole.length - 1;
  const space = text.lastIndexOf(" ", fits);
  const end = space > fits / 3 ? space : fits;
  return [text.slice(0, end), cut(text.slice(end).trim(), width, font)];
}

export function cut(text, width, font) {
  let used = 0;
  let kept = 0; // letters that leave room for the dots
  for (const letter of text) {
    used += wide(letter, font);
    if (used > width) return `${text.slice(0, kept).trimEnd()}…`;
    if (used + wide("…", font) <= width) kept += letter.length;
  }
  return text;
}

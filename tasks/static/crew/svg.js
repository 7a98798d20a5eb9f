// Elements for drawings.
const NS = "http://www.w3.org/2000/svg";

export function svg(name, attributes, text) {
  return make(document.createElementNS(NS, name), attributes, text);
}

export function html(name, attributes, text) {
  return make(document.createElement(name), attributes, text);
}

function make(element, attributes, text) {
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== undefined) element.textContent = text;
  return element;
}

export function listen(element, event, act, options) {
  element.addEventListener(event, act, options);
  return element;
}

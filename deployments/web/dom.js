// Elements made once and then changed in place: nothing on the page grows with time.

const SVG = "http://www.w3.org/2000/svg";

function filled(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) node.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

export const el = (tag, attributes = {}, ...children) => filled(document.createElement(tag), attributes, children);
export const svg = (tag, attributes = {}, ...children) =>
  filled(document.createElementNS(SVG, tag), attributes, children);

let unused = 0;
export const newId = (word) => `${word}-${(unused += 1)}`;

// Its whole text. Screen readers and selections are left alone where nothing has changed.
export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

export function set(node, name, value) {
  if (node.getAttribute(name) !== value) node.setAttribute(name, value);
}

export function show(node, isShown) {
  if (node.hidden === isShown) node.hidden = !isShown;
}

// A figure, with the name that it has for whoever reads the page by program.
export function tell(node, name, text) {
  set(node, "data-figure", name);
  say(node, text);
}

// Children of `parent` for items with keys, behind `first` if there is one: `make(item)` gives
// {node, update(item)}, once for each key.
export function keyed(parent, make, first = null) {
  const parts = new Map();
  return (items, keyOf) => {
    const present = new Set();
    let at = first === null ? parent.firstElementChild : first.nextElementSibling;
    for (const item of items) {
      const key = keyOf(item);
      present.add(key);
      let part = parts.get(key);
      if (part === undefined) {
        part = make(item);
        parts.set(key, part);
      }
      if (part.node === at) at = at.nextElementSibling;
      else parent.insertBefore(part.node, at);
      part.update(item);
    }
    for (const [key, part] of parts) {
      if (present.has(key)) continue;
      part.node.remove();
      parts.delete(key);
    }
  };
}

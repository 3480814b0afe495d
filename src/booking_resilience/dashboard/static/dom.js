// Small helpers: elements, numbers and moments. Texts become text nodes only, never markup.

export const $ = id => document.getElementById(id);

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) if (value !== null && value !== undefined) node.setAttribute(name, value);
  node.append(...children);
  return node;
}
export const make = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);
export const draw = (tag, attributes = {}, ...children) => fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);

/** Set a text only if it is another, so that nothing is announced or selected anew. */
export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

const figures = new Intl.NumberFormat("en-GB", { maximumFractionDigits: 2 });
export const number = value => figures.format(value);
export const plural = (count, one, more = `${one}s`) => `${number(count)} ${count === 1 ? one : more}`;

// --- moments: relative to the server's clock, or exact in the visitor's time zone -----------------------------------
let ahead = 0, exact = false;
const full = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "medium" });

export const setClock = iso => { ahead = Date.parse(iso) - Date.now(); };
export const now = () => Date.now() + ahead;
export const exactly = iso => full.format(new Date(iso));

export function ago(iso) {
  const seconds = Math.round((now() - Date.parse(iso)) / 1000);
  if (seconds < 2) return "just now";
  if (seconds < 60) return `${seconds} s ago`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 172800) return `${Math.floor(seconds / 3600)} h ago`;
  return `${Math.floor(seconds / 86400)} d ago`;
}

const shown = iso => exact ? exactly(iso) : ago(iso);
export const time = iso => make("time", { datetime: iso, title: exactly(iso) }, shown(iso));

export function setTime(node, iso) {
  if (node.dateTime === iso) return;
  node.dateTime = iso;
  node.title = exactly(iso);
  say(node, shown(iso));
}

export function refreshTimes() {
  for (const node of document.querySelectorAll("time")) say(node, shown(node.dateTime));
}

export function showExact(on) {
  exact = on;
  refreshTimes();
}

export function zone() {
  const name = Intl.DateTimeFormat().resolvedOptions().timeZone || "local time", minutes = -new Date().getTimezoneOffset();
  const offset = `UTC${minutes < 0 ? "−" : "+"}${String(Math.floor(Math.abs(minutes) / 60)).padStart(2, "0")}:${String(Math.abs(minutes) % 60).padStart(2, "0")}`;
  return `Times are in ${name} (${offset}).`;
}

/** Keep the children of a list in step with items: one node for each key, made once and updated in place. */
export function keep(parent, items, key, create, update) {
  const known = new Map([...parent.children].map(node => [node.dataset.key, node]));
  let place = parent.firstElementChild;
  for (const item of items) {
    const id = key(item);
    let node = known.get(id);
    known.delete(id);
    if (!node) {
      node = create(item);
      node.dataset.key = id;
    }
    update(node, item);
    if (node === place) place = place.nextElementSibling;
    else parent.insertBefore(node, place);
  }
  for (const node of known.values()) node.remove();
}

// The filters; they stand in the page's address, too, so that it can be passed on.

import { $, make } from "./dom.js";

const form = $("filters");
const NAMES = ["text", "category", "severity", "outcome", "operation", "process", "last", "since", "until"];

/** Return the values that are set. */
function values() {
  const found = {};
  for (const name of NAMES) if (form.elements[name].value.trim()) found[name] = form.elements[name].value.trim();
  if (found.last !== "range") {
    delete found.since;
    delete found.until;
  }
  return found;
}

/** Return the query that asks the server for what the filters let through. */
export function query(more = {}) {
  const found = values();
  if (found.last === "range") delete found.last;
  for (const name of ["since", "until"]) if (found[name]) found[name] = new Date(found[name]).toISOString();
  return new URLSearchParams({ ...found, ...more }).toString();
}

function mark() {
  const found = values();
  for (const name of NAMES) form.elements[name].classList.toggle("on", name in found);
  for (const label of form.querySelectorAll(".range")) label.hidden = found.last !== "range";
}

/** Offer the operations and processes that there are; what is chosen stays. */
export function offer(state) {
  options("operation", state.operations.map(name => [name, name]));
  options("process", state.record_processes.map(name => {
    const at = name.lastIndexOf(" ");
    return [name, `${name.slice(at + 1)} on ${name.slice(0, at)}`];
  }));
  $("process-filter").hidden = state.record_processes.length < 2 && !form.elements.process.value;
}

function options(name, pairs) {
  const select = form.elements[name], chosen = select.value;
  if (chosen && !pairs.some(([value]) => value === chosen)) pairs.push([chosen, chosen]);
  const facts = JSON.stringify(pairs);
  if (select.facts === facts) return;
  select.facts = facts;
  select.replaceChildren(select.options[0], ...pairs.map(([value, text]) => make("option", { value }, text)));
  select.value = chosen;
}

export function startFilters(changed) {
  for (const [name, value] of new URLSearchParams(location.search)) {
    const field = NAMES.includes(name) ? form.elements[name] : null;
    if (!field) continue;
    if (name === "operation" || name === "process") field.append(make("option", { value }, value));
    field.value = value;
    if (field.value !== value) field.value = "";   // not one of those that there are
  }
  let waiting = 0;
  const apply = () => {
    mark();
    const address = new URLSearchParams(values()).toString();
    history.replaceState(null, "", address ? `?${address}` : location.pathname);
    clearTimeout(waiting);
    waiting = setTimeout(changed, 150);
  };
  form.addEventListener("input", apply);
  form.addEventListener("change", apply);
  form.addEventListener("reset", () => setTimeout(apply));
  form.addEventListener("submit", event => event.preventDefault());
  mark();
}

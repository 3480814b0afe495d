// The breakers with their countdowns, and the dialog that asks before one is isolated or reset.

import { $, keep, make, number, plural, say } from "./dom.js";

const token = document.querySelector("meta[name=dashboard-token]").content;
const visitor = document.querySelector("meta[name=dashboard-visitor]").content;
const deadlines = new Map();   // by key: when a trial is due, by this browser's clock

const keyOf = breaker => `${breaker.nth} ${breaker.name}`;

export function showBreakers(breakers) {
  $("breakers-card").hidden = breakers.length === 0;
  say($("breakers-of"), breakers.some(breaker => breaker.shared) ? "As the answering process has them; shared breakers act for the whole fleet." : "Of the process that answers.");
  keep($("breakers"), breakers, keyOf, create, update);
  countDown();
}

function create(breaker) {
  const button = (action, text) => {
    const made = make("button", { type: "button", "aria-label": `${text} ${breaker.name}` }, text);
    made.addEventListener("click", () => act(breaker, action, text));
    return made;
  };
  return make("li", {},
    make("span", { class: "name" }, breaker.name, make("span", { class: "badge" }), make("span", { class: "wait" })),
    make("span", { class: "why" }),
    make("span", { class: "tools" }, button("isolate", "Isolate"), button("reset", "Reset")));
}

function update(node, breaker) {
  const key = keyOf(breaker), badge = node.querySelector(".badge");
  badge.className = `badge ${breaker.state}`;
  say(badge, breaker.state.replace("_", "-"));
  if (breaker.state === "open" && breaker.retry_after !== null) deadlines.set(key, performance.now() + 1000 * breaker.retry_after);
  else deadlines.delete(key);
  const facts = [breaker.reason, `${plural(breaker.consecutive_failures, "failure")} in a row`, `${number(breaker.refused)} refused`, plural(breaker.trips, "trip")];
  if (breaker.shared) facts.push(breaker.shared.connected ? `shared: ${breaker.shared.state.replace("_", "-")} in the fleet` : "shared, but Redis can't be reached");
  say(node.querySelector(".why"), facts.filter(Boolean).join(" · "));
}

export function countDown() {
  for (const node of $("breakers").children) {
    const due = deadlines.get(node.dataset.key), left = due === undefined ? 0 : Math.ceil((due - performance.now()) / 1000);
    say(node.querySelector(".wait"), due === undefined ? "" : left > 0 ? `next trial in ${left} s` : "the next call is a trial");
  }
}

// --- asking -----------------------------------------------------------------------------------------------------------
let asked = null, done = () => {};

function act(breaker, action, text) {
  asked = { name: breaker.name, nth: breaker.nth, action };
  const fleet = breaker.shared ? " This acts on all processes that share it." : "";
  say($("ask-title"), `${text} ${breaker.name}?`);
  say($("ask-text"), (action === "isolate" ? "It rejects every call until somebody resets it." : "It closes, and its counts start again.") + fleet);
  say($("ask-who"), visitor ? `It is recorded as done by ${visitor}.` : "The reason stands in events, in the log and on this page.");
  say($("ask-yes"), `Yes, ${action}`);
  $("ask-reason").value = "";
  $("ask").showModal();
}

async function send() {
  const { action, name } = asked;
  let text, ok = false;
  try {
    const answer = await fetch("api/breakers", {
      method: "POST", headers: { "Content-Type": "application/json", "X-Dashboard-Token": token },
      body: JSON.stringify({ ...asked, reason: $("ask-reason").value }),
    });
    const facts = await answer.json();
    ok = answer.ok;
    text = ok ? `${name}: ${action === "isolate" ? "isolated" : "reset"}.` : `${name} was not changed: ${facts.message}.`;
    if (ok) showBreakers(facts.breakers);
  } catch {
    text = `The server doesn't answer; ${name} may or may not have changed.`;
  }
  done(text, ok);
}

export function startBreakers(told) {
  done = told;
  $("ask-no").addEventListener("click", () => $("ask").close());
  $("ask-form").addEventListener("submit", event => {
    event.preventDefault();
    $("ask").close();
    send();
  });
}

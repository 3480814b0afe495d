// The errors by group, each with a spark line; unfolded, its kept records one at a time.

import { $, keep, make, number, plural, say, setTime, time } from "./dom.js";
import { spark } from "./chart.js";
import { query } from "./filters.js";

const short = type => type.split(".").pop();

export function showGroups(state) {
  const isFiltered = state.filtered;
  keep($("groups"), state.groups, group => group.fingerprint, create, (node, group) => update(node, group, isFiltered));
  $("empty").hidden = state.groups.length > 0;
  say($("empty"), isFiltered ? "No kept record passes the filters." : "No errors.");
  const hidden = !isFiltered && state.stats.groups > state.groups.length ? `; the newest ${number(state.groups.length)} are shown` : "";
  say($("shown"), isFiltered ? `${plural(state.groups.length, "group")} with a kept record that passes the filters.`
    : `${plural(state.stats.groups, "group")}, ${plural(state.kept, "record")} kept${hidden}.`);
}

function create(group) {
  const inside = make("div", { class: "details" });
  const details = make("details", {}, make("summary", { class: "group" },
    make("span", { class: "count" }),
    make("span", { class: "what" }, make("b", {}, group.operation), ` ${short(group.error_type)}`, make("small", {})),
    spark(group.spark),
    make("span", { class: "when" }, "last ", time(group.last_seen), make("br"), "first ", time(group.first_seen)),
    make("span", { class: "marks" })), inside);
  details.addEventListener("toggle", () => {
    if (details.open && !inside.hasChildNodes()) unfold(group.fingerprint, inside, 0);
    if (!details.open) inside.replaceChildren();
  });
  return make("li", {}, details);
}

function update(node, group, isFiltered) {
  const summary = node.querySelector(".group"), facts = JSON.stringify([group, isFiltered]);
  if (node.facts === facts) return;
  node.facts = facts;
  const count = isFiltered ? [number(group.matching), make("small", {}, ` of ${number(group.count)}`)] : [number(group.count), make("small", {}, " ×")];
  summary.querySelector(".count").replaceChildren(...count);
  say(summary.querySelector(".what small"), `${group.category} · ${group.message === null ? "no record is kept" : group.message || "no message"}`);
  summary.querySelector(".spark").replaceWith(spark(group.spark));
  const [last, first] = summary.querySelectorAll("time");
  setTime(last, group.last_seen);
  setTime(first, group.first_seen);
  const badges = group.severity === null ? [] : [make("span", { class: `badge ${group.severity}` }, group.severity)];
  if (group.outcome && group.outcome !== "failed") badges.push(make("span", { class: `badge ${group.outcome}` }, group.outcome.replace("_", " ")));
  summary.querySelector(".marks").replaceChildren(...badges);
}

async function unfold(fingerprint, inside, index, focus = null) {
  let answer, facts;
  try {
    answer = await fetch(`api/groups/${encodeURIComponent(fingerprint)}?${query({ index })}`);
    facts = await answer.json();
  } catch {
    answer = { ok: false };
    facts = { message: "The server doesn't answer." };
  }
  if (!inside.parentNode.open) return;
  if (!answer.ok) {
    inside.replaceChildren(make("p", { class: "muted" }, facts.message));
    return;
  }
  const turn = (name, to, off) => {
    const button = make("button", { type: "button", "data-turn": name }, name);
    button.disabled = off;
    button.addEventListener("click", () => unfold(fingerprint, inside, to, name));
    return button;
  };
  const { count } = facts;
  inside.replaceChildren(
    make("div", { class: "turn" }, make("span", {}, `Record ${number(facts.index + 1)} of ${number(count)} kept, newest first`),
      turn("Newer", facts.index - 1, facts.index === 0), turn("Older", facts.index + 1, facts.index + 1 >= count)),
    ...sections(facts.record, facts.frames));
  if (focus) (inside.querySelector(`[data-turn=${focus}]:enabled`) || inside.querySelector("[data-turn]:enabled") || inside.parentNode.firstChild).focus();
}

function sections(record, frames) {
  const parts = [], section = (title, ...nodes) => parts.push(make("h3", {}, title), ...nodes);
  const list = texts => make("ol", { class: "numbered" }, ...texts.map(text => make("li", {}, text)));
  const table = rows => make("dl", {}, ...rows.filter(([, value]) => value !== null && value !== undefined && value !== "")
    .flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value instanceof Node ? value : String(value))]));
  parts.push(table([
    ["error", `${record.error_type}: ${record.message}`],
    ["when", time(record.timestamp)],
    ["operation", record.operation],
    ["outcome", `${record.outcome.replace("_", " ")}, ${plural(record.attempts, "attempt")}`],
    ["duration", record.duration === null ? null : `${number(record.duration)} s`],
    ["process", record.pid === null ? null : `${record.pid} on ${record.host}`],
    ["trace", record.trace_id],
    ["record", record.id],
  ]));
  if (record.causes.length) section("Causes", list(record.causes));
  if (record.attempt_errors.length) section("Attempts that failed", list(record.attempt_errors));
  if (record.notes.length) section("Notes", list(record.notes));
  const context = Object.entries(record.context);
  if (context.length) section("Context", table(context.map(([name, value]) => [name, typeof value === "string" ? value || "(empty)" : JSON.stringify(value)])));
  if (frames.length) {
    section("Stack, own code first", make("ol", { class: "frames" }, ...frames.map(frame =>
      make("li", { class: frame.own ? "own" : "" }, `${frame.file}:${frame.line} in ${frame.function}`, ...(frame.code ? [make("code", {}, frame.code)] : [])))));
  }
  if (record.stacktrace) {
    parts.push(make("details", {}, make("summary", {}, "Whole traceback"), make("pre", { tabindex: 0, role: "region", "aria-label": "Whole traceback" }, record.stacktrace)));
  } else parts.push(make("p", { class: "muted" }, "It was never raised, so there is no stack."));
  return parts;
}

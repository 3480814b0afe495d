// The page: asks for its state every second while it is seen, and shows it.

import { $, keep, make, number, plural, refreshTimes, say, setClock, setTime, showExact, time, zone } from "./dom.js";
import { showChart, startChart } from "./chart.js";
import { showGroups } from "./groups.js";
import { offer, query, startFilters } from "./filters.js";
import { countDown, showBreakers, startBreakers } from "./breakers.js";
import { showLimits } from "./limits.js";

const EVERY = 1000, TOO_LONG = 8000, title = document.title;
let version = "", asking = null, timer = 0, noticed = 0;

async function refresh() {
  clearTimeout(timer);
  if (asking) asking.abort();
  if (document.hidden) return;
  const mine = asking = new AbortController(), late = setTimeout(() => mine.abort("late"), TOO_LONG);
  try {
    const answer = await fetch(`api/state?${query({ span: $("span").value, seen: version })}`, { signal: mine.signal });
    if (mine !== asking) return;
    if (answer.status === 200) {
      const state = await answer.json();
      if (mine !== asking) return;
      version = state.version;
      show(state);
      connection("live", "Live");
    } else if (answer.status === 204) connection("live", "Live");
    else connection("lost", answer.status === 403 ? "No longer allowed; load the page again" : `The server answers ${answer.status}`);
  } catch (error) {
    if (mine !== asking) return;
    connection("lost", "Connection lost, trying again");
  } finally {
    clearTimeout(late);
    if (mine === asking) {
      asking = null;
      timer = setTimeout(refresh, EVERY);
    }
  }
}

function connection(state, text) {
  $("connection").dataset.state = state;
  say($("connection-text"), text);
}

function show(state) {
  setClock(state.now);
  showAlert(state);
  showTiles(state.stats, state.alert !== null);
  showChart(state.chart);
  showBreakers(state.breakers);
  showLimits(state.limits);
  $("side").hidden = state.breakers.length + state.limits.length === 0;
  showProcesses(state.processes);
  offer(state);
  showGroups(state);
  document.title = state.stats.error_rate ? `${number(state.stats.error_rate)}/min · ${title}` : title;
}

function banner(parent, kind, ...parts) {
  const text = parts.map(part => typeof part === "string" ? part : part.dateTime).join("");
  if (parent.facts === text) return;
  parent.facts = text;
  parent.replaceChildren(...(text ? [make("p", { class: `banner ${kind}` }, ...parts)] : []));
}

function showAlert({ alert, stats, stale_since: stale }) {
  if (alert) banner($("alert"), "bad", `The alert is firing: ${number(stats.error_rate)} errors per minute, ${number(alert.peak)} at most, since `, time(alert.since), ".");
  else banner($("alert"), "bad");
  if (stale) banner($("stale"), "warn", "The journal isn't read to its end; some records may be missing. Behind since ", time(stale), ".");
  else banner($("stale"), "warn");
}

function showTiles(stats, over) {
  const rows = [
    ["errors per minute", stats.error_rate], ["records", stats.total], ["failed", stats.failed], ["recovered", stats.recovered],
    ["refused", stats.refused], ["fell back", stats.fell_back], ["no longer kept", stats.dropped],
  ];
  if (stats.unjournaled) rows.push(["not journaled", stats.unjournaled]);
  keep($("tiles"), rows, ([name]) => name, ([name]) => make("div", {}, make("dt", {}, name), make("dd", {})), (node, [name, value]) => {
    say(node.lastChild, number(value));
    node.lastChild.classList.toggle("over", over && name === "errors per minute");
  });
}

function showProcesses(processes) {
  $("processes-card").hidden = processes === null;
  if (processes === null) return;
  say($("processes-title"), plural(processes.length, "process", "processes"));
  keep($("processes"), processes, each => `${each.host} ${each.pid} ${each.started}`,
    each => make("li", {}, make("span", { class: "name" }, `${each.pid} on ${each.host}`),
      make("span", { class: "why" }, make("span", {}), " · last seen ", time(each.last_seen), " · started ", time(each.started))),
    (node, each) => {
      const lost = each.unjournaled ? `, ${number(each.unjournaled)} not journaled` : "";
      say(node.querySelector(".why span"), `${plural(each.records, "record")}${lost}`);
      setTime(node.querySelector("time"), each.last_seen);
    });
}

function told(text, ok) {
  $("notice").replaceChildren(make("p", { class: `banner ${ok ? "good" : "bad"}` }, text));
  clearTimeout(noticed);
  noticed = setTimeout(() => $("notice").replaceChildren(), 10000);
  refresh();
}

startChart();
startFilters(refresh);
startBreakers(told);
say($("zone"), zone());
$("exact").addEventListener("click", () => {
  const on = $("exact").getAttribute("aria-pressed") !== "true";
  $("exact").setAttribute("aria-pressed", String(on));
  showExact(on);
});
$("span").addEventListener("change", refresh);
document.addEventListener("visibilitychange", refresh);
setInterval(() => { countDown(); refreshTimes(); }, 1000);
refresh();

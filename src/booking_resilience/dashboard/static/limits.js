// The limits and rates: how full they are, who waits, and how many calls they rejected.

import { $, keep, make, number, plural, say } from "./dom.js";

export function showLimits(limits) {
  $("limits-card").hidden = limits.length === 0;
  keep($("limits"), limits, limit => `${limit.nth} ${limit.name}`, create, update);
}

function create(limit) {
  const meter = limit.is_rate ? [] : [make("meter", { min: 0, "aria-label": `Calls in flight within ${limit.name}` })];
  return make("li", {},
    make("span", { class: "name" }, limit.name, make("span", { class: "badge" })),
    make("span", { class: "why" }), ...meter);
}

function update(node, limit) {
  const badge = node.querySelector(".badge"), meter = node.querySelector("meter");
  badge.className = `badge ${limit.is_full ? "warning" : "closed"}`;
  say(badge, limit.is_full ? "full" : "free");
  if (meter) {
    meter.max = limit.limit;
    meter.high = limit.limit - 0.5;
    meter.value = limit.in_flight;
  }
  const use = limit.is_rate ? `rate, ${plural(limit.limit, "call")} at once` : `${number(limit.in_flight)} of ${number(limit.limit)} in flight`;
  say(node.querySelector(".why"), `${use} · ${number(limit.queued)} queued · ${number(limit.refused)} refused`);
}

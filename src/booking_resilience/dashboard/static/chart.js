// The chart of errors per minute by severity, with the alert's and the breakers' transitions marked on it.

import { $, draw, keep, make, number, plural, say, setTime, time } from "./dom.js";

const SEVERITIES = ["critical", "error", "warning", "info"];
const MARKS = { alert: "M-4 0h8l-4 7z", breaker: "M0 0l4 4-4 4-4-4z" };
const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" });
let latest = null;

function step(most) {
  const rough = most / 4, power = 10 ** Math.floor(Math.log10(rough));
  return power * [1, 2, 5, 10].find(factor => factor * power >= rough);
}

export function showChart(chart) {
  latest = chart;
  drawChart();
  $("marks").hidden = chart.marks.length === 0;
  say($("marks-title"), plural(chart.marks.length, "mark: alert and breakers", "marks: alert and breakers"));
  keep($("marks-list"), [...chart.marks].reverse(), mark => `${mark.at} ${mark.text}`,
    mark => make("li", {}, time(mark.at), make("span", {}, mark.text)),
    (node, mark) => setTime(node.firstChild, mark.at));
}

function drawChart() {
  const chart = $("chart"), width = chart.clientWidth, height = chart.clientHeight;
  if (!latest || !width) return;
  const { series, start, minutes_per_bar: wide, span } = latest, bars = series.error.length;
  const totals = Array.from({ length: bars }, (_, at) => SEVERITIES.reduce((sum, name) => sum + series[name][at], 0));
  const peak = Math.max(...totals), unit = step(Math.max(4, peak)), most = unit * Math.ceil(Math.max(4, peak) / unit);
  const left = 34, right = width - 4, top = 12, bottom = height - 22, one = (right - left) / bars, begin = Date.parse(start);
  const y = value => bottom - (bottom - top) * value / most, x = moment => left + (right - left) * (moment - begin) / (span * 60000);
  const parts = [];
  for (let value = 0; value <= most + unit / 2; value += unit) {
    parts.push(draw("line", { class: "rule", x1: left, x2: right, y1: y(value), y2: y(value) }));
    parts.push(draw("text", { x: left - 6, y: y(value) + 4, "text-anchor": "end" }, number(value)));
  }
  const ticks = width < 500 ? 2 : 6;
  for (let at = 0; at <= ticks; at += 1) {
    const moment = begin + span * 60000 * at / ticks, anchor = at === 0 ? "start" : at === ticks ? "end" : "middle";
    parts.push(draw("text", { x: x(moment), y: height - 4, "text-anchor": anchor }, clock.format(moment)));
  }
  for (let at = 0; at < bars; at += 1) {
    let base = 0;
    for (const name of [...SEVERITIES].reverse()) {
      const value = series[name][at];
      if (!value) continue;
      const high = Math.max(1, y(base) - y(base + value));
      parts.push(draw("rect", { class: `bar ${name}`, x: left + at * one, width: Math.max(1, one - 1), y: y(base + value), height: high },
        draw("title", {}, `${clock.format(begin + at * wide * 60000)}: ${number(value)} ${name} per minute`)));
      base += value;
    }
  }
  for (const mark of latest.marks) {
    const at = Math.min(right, Math.max(left, x(Date.parse(mark.at))));
    parts.push(draw("g", { class: `mark ${mark.kind}` },
      draw("line", { x1: at, x2: at, y1: top, y2: bottom }),
      draw("path", { d: MARKS[mark.kind], transform: `translate(${at} ${mark.kind === "alert" ? 1 : bottom - 4})` }),
      draw("title", {}, mark.text)));
  }
  const last = totals[totals.length - 1];
  chart.setAttribute("viewBox", `0 0 ${width} ${height}`);
  chart.setAttribute("aria-label", `Errors per minute over the last ${span < 120 ? `${span} minutes` : `${span / 60} hours`}: `
    + `${number(last)} now, ${number(peak)} at most; ${plural(latest.marks.length, "mark")}.`);
  chart.replaceChildren(...parts);
}

export function startChart() {
  const key = (kind, text) => make("li", {}, draw("svg", { viewBox: "-5 -1 10 10", "aria-hidden": "true" }, draw("path", { class: kind, d: MARKS[kind] })), text);
  $("key").append(...SEVERITIES.map(name => make("li", {}, make("i", { class: name }), name)), key("alert", "alert"), key("breaker", "breaker"));
  new ResizeObserver(() => requestAnimationFrame(drawChart)).observe($("chart"));
}

/** A spark line of numbers; flat without any. */
export function spark(counts) {
  const values = counts || [0, 0], most = Math.max(1, ...values);
  const line = values.map((value, at) => `${at ? "L" : "M"}${(100 * at / (values.length - 1)).toFixed(1)} ${(23 - 21 * value / most).toFixed(1)}`);
  return draw("svg", { class: "spark", viewBox: "0 0 100 24", preserveAspectRatio: "none", "aria-hidden": "true" },
    draw("path", { class: counts ? "" : "base", d: line.join("") }));
}

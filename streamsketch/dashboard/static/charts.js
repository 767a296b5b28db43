"use strict";
/* Small helpers over uPlot: themed charts that are made once and given new data. */
const Charts = (() => {
  const made = new Set();
  const css = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const units = ["", "k", "M", "G", "T"];
  function short(v) {
    if (v === null || v === undefined || Number.isNaN(v)) return "–";
    const a = Math.abs(v);
    if (a !== 0 && a < 1e-3) return v.toExponential(1);
    if (a < 1000) return String(Number(v.toPrecision(3)));
    const k = Math.min(Math.floor(Math.log10(a) / 3), 4);
    return Number((v / 1000 ** k).toPrecision(3)) + units[k];
  }
  function axis(label, more = {}) {
    return {label, labelSize: 20, labelFont: "12px system-ui", font: "11px system-ui", size: 48,
      stroke: () => css("--soft"), grid: {stroke: () => css("--line"), width: 1},
      ticks: {stroke: () => css("--line"), width: 1}, values: (u, vs) => vs.map(short), ...more};
  }
  /* lines: [{label, unit, colour, dash, points, stepped}]; x: {time, label, log}. */
  function chart(box, {lines, unit, x, yLog, band}) {
    const colours = ["--c1", "--c2", "--c3", "--c4"];
    const series = [{label: x.time ? "time" : x.label,
      value: x.time ? "{YYYY}-{MM}-{DD} {HH}:{mm}:{ss}" : (u, v) => short(v)}];
    lines.forEach((line, i) => {
      const colour = line.colour || colours[i % 4];
      series.push({label: line.label, stroke: () => css(colour), width: 2, dash: line.dash,
        spanGaps: true, points: line.points ? {show: true, size: 5, fill: () => css(colour)} : {},
        paths: line.stepped ? uPlot.paths.stepped({align: 1}) : undefined,
        value: (u, v) => v === null || v === undefined ? "–" : `${short(v)} ${unit}`});
    });
    const axes = [axis(x.label || "time", {size: 34, labelSize: 18,
      ...(x.time ? {values: undefined} : {})}), axis(unit)];
    const options = {width: Math.max(box.clientWidth, 220), height: 190, series, axes,
      scales: {x: {time: Boolean(x.time)}, y: yLog ? {distr: 3} : {range: (u, lo, hi) =>
        [Math.min(0, lo ?? 0), (hi ?? 0) > 0 ? hi * 1.08 : 1]}},
      bands: band ? [{series: band, fill: () => css("--band")}] : undefined,
      legend: {live: true}, cursor: {drag: {x: true, y: false}}};
    const plot = new uPlot(options, [[], ...lines.map(() => [])], box);
    plot.root.querySelector("canvas").setAttribute("aria-hidden", "true");
    made.add(plot);
    const resized = new ResizeObserver(() => {
      const width = Math.max(box.clientWidth, 220);
      if (width !== plot.width) plot.setSize({width, height: 190});
    });
    resized.observe(box);
    return {set: data => plot.setData(data), count: () => plot.data[0].length,
      drop: () => { resized.disconnect(); made.delete(plot); plot.destroy(); }};
  }
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () =>
    made.forEach(plot => plot.redraw(false, true)));
  return {chart, short, css};
})();

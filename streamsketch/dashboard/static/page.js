"use strict";
const at = id => document.getElementById(id);
const {chart, short} = Charts;
const past = {};            // process -> its figures over time, oldest first
const panels = {};          // id -> panel
let range = 3600, paused = false, facts = null, lawsFrom = "";

function make(tag, attributes = {}, ...inside) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...inside);
  return made;
}
const when = t => t ? new Date(t * 1000).toLocaleString(undefined, {dateStyle: "medium", timeStyle: "medium"}) : "–";
const day = t => new Date(t * 1000).toLocaleDateString(undefined, {dateStyle: "full"});
function size(bytes) {
  const k = bytes > 0 ? Math.min(Math.floor(Math.log2(bytes) / 10), 4) : 0;
  return `${Number((bytes / 1024 ** k).toPrecision(3))} ${["B", "KiB", "MiB", "GiB", "TiB"][k]}`;
}
const show = v => v === null || v === undefined ? "–" : typeof v === "number" ? (Number.isInteger(v)
  ? v.toLocaleString() : short(v)) : typeof v === "object" ? JSON.stringify(v) : String(v);

/* A panel: heading, what it means, the values now (for all readers), and a chart or a table. */
function panel(group, id, title, meaning) {
  if (panels[id]) return panels[id];
  const now = make("p", {class: "now"}), body = make("div", {class: "plot none"});
  const box = make("article", {class: "panel", id, "aria-labelledby": `${id}-h`},
    make("h3", {id: `${id}-h`}, title), make("p", {}, meaning), now, body);
  at(group).append(box);
  return panels[id] = {box, now, body, chart: null, key: ""};
}
function draw(p, key, options, data, now) {
  p.now.textContent = now;
  const any = data[0].length > 0;
  p.body.classList.toggle("none", !any);
  if (!any) { if (p.chart) { p.chart.drop(); p.chart = null; p.key = ""; } return; }
  if (p.key !== key) {
    if (p.chart) p.chart.drop();
    p.body.replaceChildren();
    p.chart = chart(p.body, options);
    p.key = key;
  }
  p.chart.set(data);
}
function table(names, rows, label) {
  return make("div", {class: "scroll", tabindex: "0", role: "region", "aria-label": label}, make("table", {},
    make("thead", {}, make("tr", {}, ...names.map(n => make("th", {scope: "col"}, n)))),
    make("tbody", {}, ...rows.map(r => make("tr", {}, ...r.map(v =>
      v instanceof Node ? make("td", {class: "bar"}, v) : make("td", {}, show(v))))))));
}
function fill(p, node, now) { p.body.classList.add("none"); p.body.replaceChildren(node); p.now.textContent = now; }

const since = () => range ? Date.now() / 1000 - range : 0;
const consumers = () => Object.keys(past).filter(n => n.startsWith("consumer"));
/* Series over time of some keys of some processes, on one common axis. */
function over(wanted) {
  const times = new Map(), first = since();
  wanted.forEach(([name, read], i) => {
    for (const said of past[name] || []) {
      if (said.time < first) continue;
      const t = Math.round(said.time);
      if (!times.has(t)) times.set(t, wanted.map(() => null));
      const v = read(said);
      times.get(t)[i] = v === undefined ? null : v;
    }
  });
  const sorted = [...times.keys()].sort((a, b) => a - b);
  return [sorted, ...wanted.map((w, i) => sorted.map(t => times.get(t)[i]))];
}
const last = values => { for (let i = values.length; i--;) if (values[i] !== null) return values[i]; return null; };
function timed(group, id, title, meaning, unit, wanted, more = {}) {
  const data = over(wanted.map(([, name, read]) => [name, read]));
  const lines = wanted.map(([label, , , style]) => ({label, ...style}));
  const keep = data.slice(1).some(v => v.some(x => x !== null));
  const now = keep ? wanted.map(([label], i) => `${label}: ${show(last(data[i + 1]))} ${unit}`).slice(0, 6).join(", ")
    : "Nothing to show in this range.";
  draw(panel(group, id, title, meaning), lines.map(l => l.label).join("|"),
    {lines, unit, x: {time: true, label: "time"}, ...more}, keep ? data : [[]], now);
}

function stream() {
  const names = consumers();
  if (facts.private) {
    timed("stream", "p-releases", "Releases", "With a privacy mechanism on, only what has been released is told: no counts of rows, lag or refusals.",
      "releases", names.map(n => [n, n, s => s.releases]));
    return;
  }
  timed("stream", "p-rate", "Rows read", "How many rows each consumer learns, over the last ten seconds.",
    "rows/s", names.map(n => [n, n, s => s.rows_per_s]));
  const parts = [...new Set(names.flatMap(n => (past[n] || []).slice(-1).flatMap(s => Object.keys(s.lags || {}))))].slice(0, 8);
  const owner = (part, i) => s => s.lags && s.lags[part] ? s.lags[part][i] : null;
  const by = i => parts.map(part => [part, names.find(n => (past[n] || []).slice(-1).some(s => s.lags && part in s.lags)), owner(part, i)]);
  timed("stream", "p-lag", "Lag in rows", "Rows that wait in each part of the source; it should not grow.", "rows", by(0));
  timed("stream", "p-lag-s", "Lag in seconds", "Age of the oldest row that waits, in each part.", "s", by(1));
  const reasons = [...new Set(names.flatMap(n => (past[n] || []).slice(-1).flatMap(s => Object.keys(s.reasons || {}))))].slice(0, 6);
  timed("stream", "p-dead", "Rows refused", "Rows set apart as dead letters since the consumer started, by reason.", "rows",
    reasons.length ? reasons.map(r => [r, names[0], s => (s.reasons || {})[r] ?? null]) : names.map(n => [n, n, s => s.dead]));
  timed("stream", "p-durations", "Saving and releasing", "How long the last save and the last release took; a slow disk shows here.", "s",
    names.flatMap(n => [[`save ${n}`, n, s => s.save_s], [`release ${n}`, n, s => s.release_s]]).slice(0, 6));
  if (names.some(n => (past[n] || []).some(s => "open_windows" in s)))
    timed("stream", "p-windows", "Open windows", "Windows of event time that still wait for rows. " + names.map(n => {
      const said = (past[n] || []).slice(-1)[0] || {};
      return said.watermark ? `Watermark of ${n}: ${said.watermark}.` : ""; }).join(" "),
      "windows", names.map(n => [n, n, s => s.open_windows]));
}

function snapshots() {
  const all = facts.snapshots.filter(s => s.time && s.time >= since() && !s.damaged).reverse();
  const x = all.map(s => s.time), options = (unit, label, more = {}) =>
    ({lines: [{label, points: true}], unit, x: {time: true, label: "time"}, ...more});
  draw(panel("snapshots", "p-snapshot-rows", "Rows in each snapshot", "How many rows each released snapshot covers."),
    "rows", options("rows", "rows"), [x, all.map(s => s.rows)],
    all.length ? `${facts.snapshots_in_all} snapshots; the newest covers ${show(all[all.length - 1].rows)} rows` : "No snapshot in this range.");
  const moved = all.filter(s => s.times !== undefined && s.times !== null);
  const newest = moved[moved.length - 1];
  draw(panel("snapshots", "p-moved", "How far each snapshot moved", "Distance of the new rows from the ones before, over what chance alone gives: about 1 while nothing changes."),
    "moved", {lines: [{label: "moved", points: true}, {label: "chance", dash: [6, 4]}], unit: "× chance", x: {time: true, label: "time"}},
    [moved.map(s => s.time), moved.map(s => s.times), moved.map(() => 1)],
    newest ? `Last: ${short(newest.times)} × chance${newest.columns ? "; most moved: " + newest.columns.map(([c, v]) => `${c} (${short(v)} ×)`).join(", ") : ""}` : "Needs two snapshots with new rows between them.");
  if (facts.private) return;
  const names = consumers().filter(n => (past[n] || []).some(s => "drift" in s));
  if (names.length) timed("snapshots", "p-drift", "Drift statistic", "The detector on the rows themselves; an alarm is raised where it crosses the threshold.", "",
    names.flatMap(n => [[n, n, s => s.drift], [`threshold ${n}`, n, s => s.drift_threshold, {dash: [6, 4]}]]));
  if (facts.alarms.length) {
    const p = panel("snapshots", "p-alarms", "Drift alarms", "When the stream has changed, newest first.");
    fill(p, table(["time", "part", "row"], facts.alarms.slice(-8).reverse().map(a => [when(a.time), a.part, a.row]), "Drift alarms"),
      `${facts.alarms.length} alarms`);
  }
}

function training() {
  timed("training", "p-loss", "Training loss", "Loss of the training that runs; it should fall, then rest.", "loss", [["loss", "trainer", s => s.loss]]);
  timed("training", "p-heldout", "Held-out distance while training", "Distance on frequencies that are never trained on; the floor is what a perfect generator would have.", "distance",
    [["held-out", "trainer", s => s.heldout], ["floor", "trainer", s => s.floor, {dash: [6, 4]}]]);
  const all = facts.checkpoints.filter(c => typeof c.heldout === "number").reverse();
  const x = all.map((c, i) => Number(c.name.match(/\d+/)[0])), first = facts.checkpoints.find(c => !c.damaged);
  draw(panel("training", "p-checkpoints", "Held-out distance of checkpoints", "How good each published generator is: near the floor is as good as the sketch can tell; near independent columns is useless."),
    "checkpoints", {lines: [{label: "held-out", points: true}, {label: "floor", dash: [6, 4]}, {label: "independent columns", dash: [2, 3]}],
      unit: "distance", x: {label: "checkpoint"}},
    [x, all.map(c => c.heldout), all.map(c => c.floor ?? null), all.map(c => c.independent ?? null)],
    first ? (first.verdict ? String(first.verdict) : `Newest: held-out ${short(first.heldout)}, floor ${short(first.floor)}`) : "No generator yet.");
  timed("training", "p-sampler", "Sampler: distance to the target", "Discrepancy of all rows issued so far, beside that of as many independent draws (less is better).", "distance",
    [["issued", "sampler", s => s.discrepancy], ["independent", "sampler", s => s.discrepancy_iid, {dash: [6, 4]}]]);
  timed("training", "p-issued", "Rows issued", "Rows that the sampler has drawn since it started.", "rows", [["rows", "sampler", s => s.rows]]);
}

function state() {
  const b = facts.privacy, p = panel("state", "p-privacy", "Privacy budget", "What releases have spent of the declared budget, and when it ends at this pace.");
  if (!b) fill(p, make("div"), "No mechanism is on: snapshots are exact and not private.");
  else fill(p, table(["of the budget", "value"], [["mechanism", b.mechanism], ["epsilon of the epoch", b.epsilon], ["delta", b.delta], ["unit", b.unit],
    ["releases made", `${b.made} of ${b.releases}`], ["releases left", b.left], ["ends", b.ends ? day(b.ends) : "–"]], "Privacy budget"),
    `${Math.round(b.share * 100)} % spent, ${b.left} releases left${b.ends ? `; at this pace it ends on ${when(b.ends)}` : ""}`);
  const bytes = Object.entries(facts.bytes), total = bytes.reduce((a, [, v]) => a + v, 0);
  fill(panel("state", "p-storage", "Storage", "What the store takes on disk."),
    bytes.length ? table(["folder", "size"], bytes.map(([k, v]) => [k, size(v)]), "Storage") : make("div"),
    bytes.length ? `${size(total)} in all` : "Not known: the store is on another machine.");
  const said = q => Object.entries(q).filter(([k, v]) => v !== null && typeof v !== "object" &&
    !["name", "phase", "seconds_ago", "alive", "time", "pid"].includes(k)).map(([k, v]) => `${k.replaceAll("_", " ")} ${show(v)}`).join(", ");
  const rows = facts.processes.map(q => [q.name, q.alive ? "runs" : q.phase === "ended" ? "has ended" : "stopped without a word", `${show(q.seconds_ago)} s ago`, said(q)]);
  fill(panel("state", "p-processes", "Processes", "What each process last said of itself, and when."),
    rows.length ? table(["process", "state", "last said", "figures"], rows, "Processes") : make("div"),
    rows.length ? `${facts.processes.filter(q => q.alive).length} of ${rows.length} run` : facts.local ? "None has run here." : "The store is of another machine; its processes tell their figures there.");
}

function cards() {
  const alive = facts.processes.filter(p => p.alive), newest = facts.snapshots.find(s => !s.damaged) || {};
  const sum = key => alive.reduce((a, p) => a + (p[key] || 0), 0);
  const found = facts.private ? [] : [["rows/s now", show(sum("rows_per_s"))], ["rows behind", show(sum("lag"))]];
  found.push(["rows in the newest snapshot", show(newest.rows)], ["snapshots", show(facts.snapshots_in_all)],
    ["checkpoints", show(facts.checkpoints_in_all)], ["privacy", newest.private ? `ε = ${short(newest.epsilon)}` : newest.mechanism || "–"]);
  at("cards").replaceChildren(...found.map(([k, v]) => make("div", {}, make("dt", {}, k), make("dd", {}, v))));
}

function all() {
  if (!facts) return;
  at("store").textContent = facts.store;
  const v = at("verdict");
  v.dataset.level = facts.verdict.level;
  if (at("verdict-text").textContent !== facts.verdict.text) at("verdict-text").textContent = facts.verdict.text;
  if (at("verdict-do").textContent !== facts.verdict.do) at("verdict-do").textContent = facts.verdict.do;
  cards(); stream(); snapshots(); training(); state();
  at("main").setAttribute("aria-busy", "false");
}

function law(c) {
  const id = `law-${[...c.name].map(x => x.codePointAt(0).toString(16)).join("-")}`;
  const p = panel("laws", id, c.name, c.kind === "category" ? "Share of each value." : "Share of the rows in each interval.");
  if (c.kind === "category") {
    const top = Math.max(...c.values.flatMap(v => [v.sketch, v.generator ?? 0]), 1e-9);
    const bars = v => { const a = make("i", {class: "a"}), b = make("i", {class: "b"});
      a.style.width = `${100 * v.sketch / top}%`; b.style.width = `${100 * (v.generator ?? 0) / top}%`;
      return make("span", {class: "bars", "aria-hidden": "true"}, a, b); };
    const share = (x, e) => x === null ? "–" : `${(100 * x).toFixed(1)} %${e ? ` ± ${(100 * e).toFixed(1)}` : ""}`;
    fill(p, table(["value", "sketch", "generator", "compared"], c.values.map(v => [v.value, share(v.sketch, v.error), share(v.generator), bars(v)]), c.name),
      c.more ? `The ${c.values.length} most frequent of ${c.values.length + c.more} values.` : `${c.values.length} values.`);
    return;
  }
  const x = c.edges.slice(0, -1), end = c.edges[c.edges.length - 1], tail = v => [...v, v[v.length - 1]];
  const lines = [{label: "upper", colour: "--c1", stepped: true, dash: [2, 3]}, {label: "lower", colour: "--c1", stepped: true, dash: [2, 3]}, {label: "sketch", colour: "--c1", stepped: true}];
  const data = [[...x, end], tail(c.high), tail(c.low), tail(c.sketch)];
  if (c.generator) { lines.push({label: "generator", colour: "--c2", stepped: true}); data.push(tail(c.generator)); }
  const mode = c.sketch.indexOf(Math.max(...c.sketch)), place = v => c.kind === "time" ? when(v) : short(v);
  draw(p, `law${lines.length}`, {lines, unit: "share", x: {time: c.kind === "time", label: c.name.slice(0, 40)}, band: [1, 2]}, data,
    `Most rows between ${place(c.edges[mode])} and ${place(c.edges[mode + 1])}.`);
}
async function laws() {
  if (!facts || paused || document.hidden) return;
  const key = [facts.snapshots[0], facts.checkpoints[0]].map(f => f ? f.name : "").join(" ");
  if (key === lawsFrom || !facts.snapshots.length) {
    if (!facts.snapshots.length) at("laws-note").textContent = "There is no snapshot yet.";
    return;
  }
  at("laws").setAttribute("aria-busy", "true");
  try {
    const answer = await fetch("marginals"), found = await answer.json();
    if (!answer.ok) throw new Error(found.error);
    lawsFrom = key;
    found.columns.forEach(law);
    if (found.pairs.length) {
      const p = panel("laws", "p-pairs", "Pairs of columns", "How far each pair is from independence: 0 if independent, towards 1 if one tells the other.");
      const bars = v => { const a = make("i", {class: "a"}), b = make("i", {class: "b"});
        a.style.width = `${100 * v.sketch}%`; b.style.width = `${100 * (v.generator ?? 0)}%`;
        return make("span", {class: "bars", "aria-hidden": "true"}, a, b); };
      fill(p, table(["pair", "sketch", "generator", "compared"], found.pairs.map(v => [v.pair.join(", "), short(v.sketch), short(v.generator), bars(v)]), "Pairs of columns"),
        `The ${found.pairs.length} strongest pairs.`);
    }
    at("laws-note").textContent = found.columns.length ? `From ${found.snapshot}${found.checkpoint ? `, the generator of ${found.checkpoint}` : "; no generator yet"}.`
      : "This sketch has no frequencies along single columns: sketch with law = \"multiscale+axis\" to see them.";
  } catch (error) {
    at("laws-note").textContent = error.message;
  }
  at("laws").setAttribute("aria-busy", "false");
}

function hear(said) {
  facts = said;
  for (const p of said.processes) {
    const known = past[p.name] = past[p.name] || [], newest = known[known.length - 1];
    if (p.alive && (!newest || p.time > newest.time + 0.9)) known.push(p);
    if (known.length > 20000) known.splice(0, known.length - 20000);
  }
  at("when").textContent = `${paused ? "paused at" : "live,"} ${new Date(said.time * 1000).toLocaleTimeString()}`;
  all();
}
function listen() {
  const source = new EventSource("events");
  source.onmessage = event => { if (!paused) hear(JSON.parse(event.data)); };
  source.onerror = () => { at("when").textContent = "not reached; trying again"; };
}
for (const button of at("range").children) button.onclick = () => {
  range = Number(button.dataset.seconds);
  for (const other of at("range").children) other.setAttribute("aria-pressed", String(other === button));
  all();
};
at("pause").onclick = () => {
  paused = !paused;
  at("pause").setAttribute("aria-pressed", String(paused));
  at("pause").textContent = paused ? "Go on" : "Pause";
};
at("draw").onclick = async () => {
  at("draw").disabled = true;
  try {
    const got = await (await fetch("sample?n=8")).json();
    at("rows").replaceChildren(got.error ? make("p", {}, got.error) : table(Object.keys(got[0] || {}), got.map(r => Object.values(r)), "Rows"));
  } catch (error) { at("rows").replaceChildren(make("p", {}, error.message)); }
  at("draw").disabled = false;
};
at("zone").textContent = `Times are of ${Intl.DateTimeFormat().resolvedOptions().timeZone || "this machine"}.`;
(async () => {
  try { Object.assign(past, await (await fetch("history")).json()); } catch (error) { /* the page begins without a past */ }
  listen();
  setInterval(laws, 3000);
})();

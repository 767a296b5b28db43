"""The live page: one HTML document without anything from elsewhere."""

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>streamsketch</title><style>
:root { --ink:#27313d; --soft:#66717e; --line:#e3e7ec; --page:#f6f7f9; --card:#fff;
  --mark:#c2410c; }
@media (prefers-color-scheme: dark) { :root { --ink:#e8ebef; --soft:#9aa5b1; --line:#343c46;
  --page:#171b20; --card:#20262d; --mark:#ff9d5c; } }
* { box-sizing:border-box; }
body { margin:0; background:var(--page); color:var(--ink); font:15px/1.5 system-ui,sans-serif; }
main { max-width:70rem; margin:0 auto; padding:2rem 1.25rem 4rem; }
header { display:flex; align-items:baseline; gap:1rem; flex-wrap:wrap; }
h1 { font-size:1.35rem; margin:0; }
h2 { font-size:1rem; margin:1.8rem 0 .5rem; }
#when { color:var(--soft); margin-left:auto; font-size:.88rem; }
.cards { display:grid; grid-template-columns:repeat(auto-fit,minmax(11rem,1fr)); gap:.8rem;
  margin-top:1.2rem; }
.card { background:var(--card); border:1px solid var(--line); border-radius:10px; padding:.9rem;
  overflow-x:auto; }
.card b { display:block; font-size:1.45rem; font-variant-numeric:tabular-nums; }
.card span, th, .empty { color:var(--soft); font-size:.86rem; }
table { border-collapse:collapse; width:100%; font-variant-numeric:tabular-nums;
  font-size:.88rem; white-space:nowrap; }
th, td { text-align:left; padding:.35rem .7rem .35rem 0; border-bottom:1px solid var(--line); }
th { font-weight:600; }
tr:last-child td { border:0; }
svg { width:100%; height:120px; display:block; }
button { font:inherit; padding:.35rem .8rem; border-radius:7px; border:1px solid var(--line);
  background:var(--card); color:var(--ink); cursor:pointer; }
button:hover { border-color:var(--mark); }
.bad { color:var(--mark); }
</style></head><body><main>
<header><h1>streamsketch</h1><span id="store"></span><span id="when">loading</span></header>
<div class="cards" id="cards"></div>
<h2>How far each snapshot moved from the one before</h2><div class="card" id="moved"></div>
<h2>Processes</h2><div class="card" id="processes"></div>
<h2>Snapshots</h2><div class="card" id="snapshots"></div>
<h2>Checkpoints</h2><div class="card" id="checkpoints"></div>
<h2>Rows of the newest checkpoint <button id="draw">draw 8</button></h2>
<div class="card" id="rows"><span class="empty">Rows are drawn when you ask.</span></div>
</main><script>
"use strict";
const at = id => document.getElementById(id);
const show = v => typeof v === "number" ? (Number.isInteger(v) ? v.toLocaleString("en")
  : Number(v.toPrecision(4)).toString()) : v === null || v === undefined ? "" :
  typeof v === "object" ? JSON.stringify(v) : String(v);
function element(tag, text, inside = []) {
  const made = document.createElement(tag);
  if (text !== "") made.textContent = text;
  made.append(...inside);
  return made;
}
function table(rows, empty) {
  if (!rows.length) { const e = element("span", empty); e.className = "empty"; return e; }
  const names = [...new Set(rows.flatMap(Object.keys))];
  const head = element("tr", "", names.map(n => element("th", n.replaceAll("_", " "))));
  const body = rows.map(r => element("tr", "", names.map(n => element("td", show(r[n])))));
  return element("table", "", [head, ...body]);
}
function card(value, text) {
  const made = element("div", "", [element("b", show(value)), element("span", text)]);
  made.className = "card";
  return made;
}
function said_by({name, phase, seconds_ago, ...rest}) {
  const figures = Object.entries(rest).filter(([, v]) => v !== null);
  return {process: name, phase, "seconds ago": seconds_ago,
    said: figures.map(([k, v]) => `${k.replaceAll("_", " ")} ${show(v)}`).join(", ")};
}
function line(values) {
  if (values.length < 2) return element("span", "Needs three snapshots.");
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const top = Math.max(...values) || 1, w = 1000, h = 110;
  svg.setAttribute("viewBox", `0 0 ${w} 120`);
  svg.setAttribute("preserveAspectRatio", "none");
  const path = document.createElementNS(svg.namespaceURI, "polyline");
  path.setAttribute("points", values.map((v, i) =>
    `${i * w / (values.length - 1)},${h - v / top * (h - 10)}`).join(" "));
  path.setAttribute("style", "fill:none;stroke:var(--mark);stroke-width:2;vector-effect:non-scaling-stroke");
  svg.append(path);
  return svg;
}
async function refresh() {
  try {
    const said = await (await fetch("status")).json();
    if (said.error) throw new Error(said.error);
    const newest = said.snapshots[0] || {}, sums = said.processes.filter(
      p => "rows_per_s" in p && p.phase !== "ended");
    at("store").textContent = said.store;
    at("when").textContent = new Date().toLocaleTimeString();
    at("when").className = "";
    at("cards").replaceChildren(
      card(newest.rows ?? 0, "rows in the newest snapshot"),
      card(said.snapshots_in_all, "snapshots"), card(said.checkpoints_in_all, "checkpoints"),
      card(sums.reduce((a, p) => a + p.rows_per_s, 0), "rows/s read"),
      card(newest.mechanism ?? "none yet", newest.epsilon ? `epsilon ${show(newest.epsilon)}`
        : "privacy mechanism"));
    at("moved").replaceChildren(
      line(said.snapshots.map(s => s.moved).filter(v => v !== undefined).reverse()));
    at("processes").replaceChildren(table(said.processes.map(said_by), "None on this machine."));
    at("snapshots").replaceChildren(table(said.snapshots.slice(0, 10), "None yet."));
    at("checkpoints").replaceChildren(table(said.checkpoints.slice(0, 10), "None yet."));
  } catch (error) {
    at("when").textContent = "not reached: " + error.message;
    at("when").className = "bad";
  }
}
at("draw").onclick = async () => {
  const got = await (await fetch("sample?n=8")).json();
  at("rows").replaceChildren(got.error ? element("span", got.error) : table(got, "No rows."));
};
refresh();
setInterval(refresh, 2000);
</script></body></html>
"""

"use strict";
const make = (tag, ...inside) => { const made = document.createElement(tag); made.append(...inside); return made; };
const type = s => s.enum ? s.enum.join(" | ") : s.anyOf ? s.anyOf.map(type).filter(t => t !== "null").join(" | ")
  : s.type === "array" ? `${type(s.items)}, may be repeated` : [s.type, s.minimum !== undefined ? `≥ ${s.minimum}` : "",
    s.maximum !== undefined ? `≤ ${s.maximum}` : ""].filter(Boolean).join(" ");
(async () => {
  const said = await (await fetch("openapi.json")).json();
  for (const [path, {get}] of Object.entries(said.paths)) {
    const box = make("article", make("h2", `GET ${path}`), make("p", get.description || ""));
    box.className = "panel";
    if (get.parameters) box.append(make("table", make("tbody", ...get.parameters.map(p => make("tr",
      make("th", p.name), make("td", type(p.schema)), make("td", p.schema.default !== undefined ? `default ${p.schema.default}` : ""), make("td", p.description || ""))))));
    box.append(make("table", make("tbody", ...Object.entries(get.responses).map(([code, r]) => make("tr",
      make("th", code), make("td", r.description), make("td", Object.keys(r.content || {}).join(", ")))))));
    document.getElementById("paths").append(box);
  }
})();

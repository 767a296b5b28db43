"""The report of an evaluation: a folder with JSON, PNG pictures and one self-contained page."""

import base64
import html
import json
from collections.abc import Mapping
from pathlib import Path

from streamsketch.evaluate.frame import Data
from streamsketch.evaluate.pictures import pictures
from streamsketch.evaluate.tables import (
    CEILING,
    FLOOR,
    METRICS,
    SYNTHETIC,
    Evaluation,
    number,
)

_CAPTIONS = {
    "anchors": "Each line runs from rows without any dependence to other real rows; the dot is "
    "the synthetic rows. Further right is better.",
    "columns": "Each column alone, the worst first: real filled, synthetic as a line or a dash.",
    "pairs": "The most correlated pairs of numbers, on the same axes.",
    "associations": "Rank correlation of numbers, Cramer's V of the other pairs.",
}

_STYLE = """
:root { --ink:#27313d; --soft:#66717e; --line:#e3e7ec; --page:#f6f7f9; --card:#fff;
  --mark:#c2410c; }
@media (prefers-color-scheme: dark) { :root { --ink:#e8ebef; --soft:#9aa5b1; --line:#343c46;
  --page:#171b20; --card:#20262d; --mark:#ff9d5c; } }
* { box-sizing:border-box; }
body { margin:0; background:var(--page); color:var(--ink); font:15px/1.55 system-ui,sans-serif; }
main { max-width:60rem; margin:0 auto; padding:2.5rem 1.25rem 4rem; }
h1 { font-size:1.6rem; margin:0 0 .3rem; }
h2 { font-size:1.08rem; margin:2.2rem 0 .6rem; }
p, figcaption, dl { color:var(--soft); }
p.lead { margin:.2rem 0 1.4rem; font-size:1.02rem; }
.card { background:var(--card); border:1px solid var(--line); border-radius:10px;
  padding:1rem; overflow-x:auto; }
table { border-collapse:collapse; width:100%; font-variant-numeric:tabular-nums; }
th, td { text-align:right; padding:.42rem .6rem; border-bottom:1px solid var(--line); }
th { font-weight:600; color:var(--soft); font-size:.86rem; }
tr:last-child td { border:0; }
th:first-child, td:first-child, td.text { text-align:left; }
td.mark { color:var(--mark); font-weight:650; }
td small { display:block; color:var(--soft); font-weight:400; }
@media (prefers-color-scheme: dark) { img { filter:invert(.88) hue-rotate(180deg); } }
figure { margin:0; }
img { max-width:100%; height:auto; display:block; margin:auto; border-radius:6px; }
figcaption { font-size:.88rem; margin-top:.6rem; }
dl { display:grid; grid-template-columns:max-content 1fr; gap:.15rem 1.2rem; margin:0;
  font-size:.9rem; }
dd { margin:0; overflow-wrap:anywhere; white-space:pre-line; }
"""


def write_report(
    folder: str | Path,
    synthetic: "Data",
    real: "Data",
    evaluation: Evaluation,
    *,
    title: str = "Synthetic rows against real rows",
    about: Mapping[str, str] | None = None,
    card: Mapping[str, Mapping[str, str]] | None = None,
) -> Path:
    """Write report.html, scores.json and the pictures as PNG files into a folder.

    Args:
        folder: made if it does not exist; files of the same names are replaced.
        synthetic: the synthetic rows that were evaluated.
        real: the held-out real rows.
        evaluation: what `evaluate` returned.
        title: the page's heading.
        about: what else to state, such as the checkpoint and how its snapshot was released.
        card: the generator's model card (`card.model_card`).

    Returns:
        The path of report.html. It loads nothing: the pictures are inside.
    """
    home = Path(folder)
    home.mkdir(parents=True, exist_ok=True)
    files = pictures(synthetic, real, evaluation)
    for name, data in files.items():
        (home / f"{name}.png").write_bytes(data)
    scores = {**evaluation.to_dict(), "about": dict(about or {}), "card": dict(card or {})}
    (home / "scores.json").write_text(json.dumps(scores, indent=2) + "\n")
    page = home / "report.html"
    page.write_text(_page(title, evaluation, files, about or {}, card or {}), encoding="utf-8")
    return page


def _page(
    title: str,
    evaluation: Evaluation,
    files: Mapping[str, bytes],
    about: Mapping[str, str],
    card: Mapping[str, Mapping[str, str]],
) -> str:
    figures = "".join(_figure(name, data) for name, data in files.items())
    facts = {
        **about,
        "predicted column (TSTR)": evaluation.label or "none",
        "reference rows": str(evaluation.notes["rows"]["reference"]),
        "synthetic rows": str(evaluation.notes["rows"][SYNTHETIC]),
        "anchors": str(evaluation.notes["anchors"]),
        "seed": str(evaluation.notes["seed"]),
    }
    chapters = "".join(
        f"<h2>Generator: {_e(name)}</h2><div class=card>{_list(said)}</div>"
        for name, said in card.items()
    )
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{_e(title)}</title><style>{_STYLE}</style></head>
<body><main>
<h1>{_e(title)}</h1>
<p class="lead">{_e(verdict(evaluation))}</p>
<div class="card">{_scores(evaluation)}</div>
{figures}
<h2>Each column</h2><div class="card">{_columns(evaluation)}</div>
{_closeness(evaluation)}
{chapters}
<h2>How this was measured</h2><div class="card">{_list(facts)}</div>
</main></body></html>
"""


def verdict(evaluation: Evaluation) -> str:
    """One plain sentence: how much of the dependence between columns the synthetic rows have.

    It speaks of pairs, because wrong dependence is what single columns cannot show.
    """
    pairs, marginal = evaluation.skill("pair_tv"), evaluation.scores[SYNTHETIC]["marginal_tv"]
    if pairs != pairs:
        return f"Single columns are {number(marginal)} from the real ones in total variation."
    where = (
        "as close as other real rows"
        if pairs >= 0.95
        else f"{max(pairs, 0):.0%} of the way from independent columns to other real rows"
        if pairs > 0
        else "no closer than independent columns"
    )
    return (
        f"Pairs of columns are {where}; single columns are {number(marginal)} from the real ones "
        "in total variation."
    )


def _scores(evaluation: Evaluation) -> str:
    head = "".join(f"<th>{_e(n)}</th>" for n in ("", FLOOR, SYNTHETIC, CEILING, "skill"))
    lines = []
    for name, metric in METRICS.items():
        if name not in evaluation.scores[SYNTHETIC]:
            continue
        floor, made, ceiling = (
            number(evaluation.scores[row][name]) for row in (FLOOR, SYNTHETIC, CEILING)
        )
        way = "higher is better" if metric.higher else "lower is better"
        lines.append(
            f"<tr><td>{_e(metric.title)}<small>{_e(metric.meaning)}; {way}</small></td>"
            f"<td>{floor}</td><td class=mark>{made}</td><td>{ceiling}</td>"
            f"<td>{number(evaluation.skill(name), 2)}</td></tr>"
        )
    note = (
        "<p>Skill: 0 is shuffled columns (right marginals, no dependence), 1 is other real rows. "
        "Marginal scores have no skill where shuffling keeps them as they are.</p>"
    )
    return f"<table><tr>{head}</tr>{''.join(lines)}</table>{note}"


def _columns(evaluation: Evaluation) -> str:
    head = "".join(
        f"<th>{n}</th>" for n in ("column", "kind", "total variation", "Kolmogorov-Smirnov")
    )
    lines = "".join(
        f"<tr><td>{_e(m.column)}</td><td class=text>{m.kind}</td><td>{number(m.tv)}</td>"
        f"<td>{'-' if m.ks is None else number(m.ks)}</td></tr>"
        for m in evaluation.columns
    )
    return f"<table><tr>{head}</tr>{lines}</table>"


def _closeness(evaluation: Evaluation) -> str:
    """Whether rows were remembered; nothing where the learned rows are not known."""
    if not evaluation.closeness:
        return ""
    lines = "".join(
        f"<tr><td>{_e(one.title)}<small>{_e(one.meaning)}</small></td>"
        f"<td class=mark>{number(one.synthetic)}</td><td>{number(one.held)}</td></tr>"
        for one in evaluation.closeness
    )
    note = (
        "<p>Held-out rows were never learned: synthetic rows that are equal to training rows more often, "
        "or nearer to them, repeat what was learned.</p>"
    )
    head = f"<th></th><th>{SYNTHETIC}</th><th>held-out rows</th>"
    return f"<h2>Copies</h2><div class=card><table><tr>{head}</tr>{lines}</table>{note}</div>"


def _list(facts: Mapping[str, str]) -> str:
    listed = "".join(f"<dt>{_e(k)}</dt><dd>{_e(v)}</dd>" for k, v in facts.items())
    return f"<dl>{listed}</dl>"


def _figure(name: str, data: bytes) -> str:
    code = base64.b64encode(data).decode("ascii")
    caption = _CAPTIONS[name]
    return (
        f"<h2>{name.capitalize()}</h2><figure class=card>"
        f'<img alt="{_e(caption)}" src="data:image/png;base64,{code}">'
        f"<figcaption>{_e(caption)}</figcaption></figure>"
    )


def _e(text: str) -> str:
    return html.escape(text, quote=True)

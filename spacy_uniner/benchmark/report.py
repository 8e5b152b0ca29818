"""Show scores: tables in Markdown, plots, and a page with examples of errors.

Reads the JSON of scores and predictions, so that a report can be made again without the
system. Figures that others published are marked as such.
"""

import html
import json
from pathlib import Path
from statistics import mean
from typing import Any, Dict, Iterable, List, Mapping, Optional, Sequence

import spacy
from spacy.tokens import Doc
from spacy.util import filter_spans

from ..errors import Errors
from ..visual import render
from .running import read_predictions
from .score import Prediction, Span

PUBLISHED = Path(__file__).parent / "published.json"
ZERO_SHOT = (
    "mit_movie mit_restaurant crossner_ai crossner_literature crossner_music "
    "crossner_politics crossner_science"
).split()
COLUMNS = (
    "set,domain,learned,types,passages,P,R,F1,95 %,F1 by place,F1 partial,passages/s"
).split(",")
MEANS = {
    "zero_shot": "the paper's 7 zero-shot sets",
    "table6": "the 49 rows of its Table 6",
    "learned": "those whose training part was learned",
    "unseen": "the others",
}
EXAMPLES = 3  # of errors, a set
STYLE = (
    "body{font-family:system-ui,sans-serif;margin:2rem auto;max-width:76rem;padding:0 1rem;"
    "line-height:1.5;color:#222;background:#fff}table{border-collapse:collapse;"
    "font-variant-numeric:tabular-nums}th,td{padding:.2rem .6rem;text-align:right;"
    "border-bottom:1px solid #ddd;font-size:.85rem}td{white-space:nowrap}"
    "th{vertical-align:bottom}th:first-child,td:first-child{text-align:left}"
    "h3{margin:2rem 0 .2rem}.told{color:#666;margin:.6rem 0 0;font-size:.85rem}"
    ".entities{line-height:2.2!important}img{max-width:100%}div.table{overflow-x:auto}"
)
# systems in the plot of sets, with marker and colour
COMPARED = {
    "ChatGPT (0301)": ("^", "#ddaa33"),
    "UniNER-7B-type": ("D", "#cc6677"),
    "GLiNER-L": ("o", "#228833"),
    "GNER-LLaMA-7B": ("s", "#aa3377"),
}
Table = List[List[str]]


def averages(sets: Mapping[str, Mapping[str, Any]]) -> Dict[str, Any]:
    """Average official F1 over sets, as the paper does: each counts the same.

    sets (Mapping[str, Mapping[str, Any]]): Scores by name.
    RETURNS (Dict[str, Any]): "zero_shot" over those of the paper's seven that are there,
        "table6" over its rows, "learned" and "unseen" over those whose training part the
        system has seen, and others; "domains": each with "f1" and "sets", their number.
    """

    def average(names: Iterable[str]) -> Dict[str, float]:
        figures = [sets[name]["official"]["f1"] for name in names if name in sets]
        return {"f1": round(mean(figures), 2) if figures else 0.0, "sets": len(figures)}

    rows = [name for name, scores in sets.items() if scores["dataset"]]
    domains = sorted({sets[name]["domain"] for name in rows})
    return {
        "zero_shot": average(ZERO_SHOT),
        "table6": average(rows),
        "learned": average(n for n in rows if sets[n]["learned"]),
        "unseen": average(n for n in rows if not sets[n]["learned"]),
        "domains": {
            domain: average(n for n in rows if sets[n]["domain"] == domain)
            for domain in domains
        },
    }


def make_tables(scores: Mapping[str, Any]) -> Dict[str, Table]:
    """Put scores in tables.

    scores (Mapping[str, Any]): Those of a system.
    RETURNS (Dict[str, Table]): Heading -> rows, the first of which names the columns.
    """
    sets = scores["sets"]
    published = json.loads(PUBLISHED.read_text(encoding="utf8"))
    tables = {
        f"Sets: {scores['system']}": _set_table(sets, published["supervised"]),
        "Domains": [["domain", "sets", "F1"]]
        + [
            [domain, str(found["sets"]), f"{found['f1']:.1f}"]
            for domain, found in scores["averages"]["domains"].items()
        ],
    }
    at_hand = [name for name in ZERO_SHOT if name in sets]
    for heading, mode in (
        ("Zero-shot, strict", "official"),
        ("Zero-shot, partial", "partial"),
    ):
        known = published["zero_shot" if mode == "official" else "partial"]
        if at_hand:
            tables[heading] = _zero_shot_table(scores, at_hand, mode, known)
    return tables


def _set_table(sets: Mapping[str, Any], published: Mapping[str, Any]) -> Table:
    rows = [[*COLUMNS, *(f"{name}, trained (published)" for name in published)]]
    for name, scores in sets.items():
        official = scores["official"]
        low, high = official["interval"]
        row = [name, scores["domain"], "yes" if scores["learned"] else "no"]
        row += [str(scores["types"]), str(scores["passages"])]
        row += [f"{official[key]:.1f}" for key in ("precision", "recall", "f1")]
        row += [f"{low:.1f}-{high:.1f}"]
        row += [
            f"{scores[m]['f1']:.1f}" if m in scores else "-"
            for m in ("spans", "partial")
        ]
        row += [f"{scores['passages_per_second']:.1f}"]
        row += [
            f"{known[name]:.1f}" if name in known else "-"
            for known in published.values()
        ]
        rows.append(row)
    return rows


def _zero_shot_table(
    scores: Mapping[str, Any],
    names: Sequence[str],
    mode: str,
    published: Mapping[str, Any],
) -> Table:
    ours = [scores["sets"][name][mode]["f1"] for name in names]
    rows = [["system", *names, "average", "source"]]
    rows.append([scores["system"], *_told(ours), f"{mean(ours):.1f}", "measured here"])
    for system, known in published.items():
        figures = [known.get(name) for name in names]
        complete = [figure for figure in figures if figure is not None]
        average = (
            mean(complete) if len(complete) == len(names) else known.get("average")
        )
        rows.append(
            [
                system,
                *_told(figures),
                *_told([average]),
                f"published: {known['source']}",
            ]
        )
    return rows


def _told(figures: Iterable[Optional[float]]) -> List[str]:
    return ["-" if figure is None else f"{figure:.1f}" for figure in figures]


def as_markdown(scores: Mapping[str, Any]) -> str:
    """RETURNS (str): The report in Markdown."""
    parts = [
        f"# {scores['system']} on {scores['split']} sets",
        "",
        _summary(scores),
        "",
    ]
    for heading, rows in make_tables(scores).items():
        parts += [f"## {heading}", "", "| " + " | ".join(rows[0]) + " |"]
        parts += ["|" + "---|" * len(rows[0])]
        parts += ["| " + " | ".join(row) + " |" for row in rows[1:]]
        parts += [""]
    if scores["missing"]:
        parts += ["## Not at hand", "", "| set | how to get it |", "|---|---|"]
        for name, how in scores["missing"].items():
            parts.append(f"| {name} | {how.split('is not at hand: ')[-1]} |")
    return "\n".join(parts).rstrip() + "\n"


def _summary(scores: Mapping[str, Any]) -> str:
    found, machine = scores["averages"], scores["machine"]
    versions = ", ".join(f"{k} {v}" for k, v in machine["versions"].items())
    told = [
        f"{of} ({found[key]['sets']}): {found[key]['f1']:.1f}"
        for key, of in MEANS.items()
        if found[key]["sets"]
    ]
    return (
        "Micro-F1 in percent; strict as the paper's script counts, if nothing else is "
        f"said. Means over sets: {'; '.join(told)}. {machine['date']}, "
        f"{machine['cores']} cores, load {machine['load']}, {versions}."
    )


def draw_plots(scores: Mapping[str, Any], folder: Path) -> List[Path]:
    """Draw F1 by domain (as Figure 5a) and by set (as Figure 9).

    scores (Mapping[str, Any]): Those of a system. folder (Path): Where plots go.
    RETURNS (List[Path]): The plots, SVG.
    RAISES (ImportError): U038, if matplotlib is missing.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as e:
        message = Errors.U038.format(
            package="matplotlib", purpose="plots", install="'spacy-uniner[benchmark]'"
        )
        raise ImportError(message) from e

    domains = {k: v["f1"] for k, v in scores["averages"]["domains"].items()}
    sets = {name: found["official"]["f1"] for name, found in scores["sets"].items()}
    published = json.loads(PUBLISHED.read_text(encoding="utf8"))
    paths = []
    for name, figures in (("domains", domains), ("sets", sets)):
        figure = Figure(figsize=(7, 0.8 + 0.26 * len(figures)), layout="constrained")
        axes = figure.subplots()
        ordered = sorted(figures, key=lambda key: figures[key])
        bars = axes.barh(ordered, [figures[k] for k in ordered], color="#4477aa")
        axes.bar_label(bars, fmt="%.1f", padding=3, fontsize=8)
        if name == "sets":
            for system, (marker, colour) in COMPARED.items():
                known = published["zero_shot"][system]
                shown = [key for key in ordered if key in known]
                told = f"{system}, zero-shot (published)"
                dots = [known[key] for key in shown]
                axes.plot(dots, shown, marker, color=colour, ms=4, label=told)
            axes.legend(loc="lower right", fontsize=8, frameon=False)
        axes.margins(y=0.01)
        axes.set_xlim(0, 100)
        axes.set_xlabel("strict micro-F1, percent")
        axes.set_title(f"{scores['system']}, by {name[:-1]}", loc="left", fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
        paths.append(folder / f"{name}.svg")
        figure.savefig(paths[-1], metadata={"Date": None})
    return paths


def as_page(scores: Mapping[str, Any], predictions: Mapping[str, Path]) -> str:
    """Make a page with tables and examples of errors.

    scores (Mapping[str, Any]): Those of a system.
    predictions (Mapping[str, Path]): Name of a set -> what was found in it.
    RETURNS (str): HTML.
    """
    title = html.escape(f"{scores['system']} on {scores['split']} sets")
    parts = [f"<h1>{title}</h1>", f"<p>{html.escape(_summary(scores))}</p>"]
    parts += [f"<p><code>{html.escape(scores['command'])}</code></p>"]
    for heading, rows in make_tables(scores).items():
        cells = [
            "".join(f"<t{tag}>{html.escape(cell)}</t{tag}>" for cell in row)
            for tag, row in zip("h" + "d" * len(rows), rows)
        ]
        body = "".join(f"<tr>{row}</tr>" for row in cells)
        parts += [
            f"<h2>{html.escape(heading)}</h2>",
            f'<div class="table"><table>{body}</table></div>',
        ]
    parts += [
        f'<img src="{name}.svg" alt="F1 by {name[:-1]}">'
        for name in ("domains", "sets")
    ]
    parts += ["<h2>Errors</h2>"]
    nlp = spacy.blank("xx")
    for name, path in predictions.items():
        parts += [f"<h3>{html.escape(name)}</h3>", _types(scores["sets"][name])]
        for example in _errors(read_predictions(path)):
            for told, spans in (("there", example.gold), ("found", example.found)):
                parts += [
                    f'<p class="told">{told}</p>',
                    _shown(nlp, example.text, spans),
                ]
    head = f'<meta charset="utf-8"><title>{title}</title><style>{STYLE}</style>'
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{"".join(parts)}</body></html>'


def _types(scores: Mapping[str, Any]) -> str:
    """RETURNS (str): F1 and number of mentions of each type, as HTML."""
    by_type = sorted(scores["by_type"].items(), key=lambda item: -item[1]["f1"])
    told = [f"{kind} {each['f1']:.1f} ({each['mentions']})" for kind, each in by_type]
    return f'<p class="told">F1 (mentions): {html.escape(", ".join(told))}</p>'


def _errors(predictions: Iterable[Prediction]) -> List[Prediction]:
    """RETURNS (List[Prediction]): The first passages where places differ."""
    found: List[Prediction] = []
    for each in predictions:
        if each.answers is None and set(each.gold) != set(each.found):
            found.append(each)
        if len(found) == EXAMPLES:
            break
    return found


def _shown(nlp: spacy.language.Language, text: str, spans: Sequence[Span]) -> str:
    doc: Doc = nlp.make_doc(text)
    marked = [
        doc.char_span(s, e, label=k, alignment_mode="expand") for s, e, k in spans
    ]
    doc.ents = filter_spans([span for span in marked if span is not None])
    return render(doc, scores=False, jupyter=False)

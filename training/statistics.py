"""Statistics of distilled data as the paper prints them: passages, entities, types,
and how few types hold most entities (Table 1). Writes JSON, Markdown and a plot.

    python -m training.statistics --answers answers.jsonl --out statistics
    python -m training.statistics --set DIR --out statistics

SOURCE: arXiv 2308.03279, Table 1 and Figure 2.
"""

import argparse
from collections import Counter
from pathlib import Path
from typing import Any, Dict, Iterable, List, Optional, Sequence

from .cleaning import Cleaning, read_merges
from .files import InputError, run_script, write_json, writing
from .labelled import Source
from .sets import Labelled

# shares of the types, the most frequent first
BANDS = ((0.0, 0.01), (0.01, 0.10), (0.10, 1.0))
EXAMPLES = 10


def describe(rows: Iterable[Labelled]) -> Dict[str, Any]:
    """Count passages, entities and types.

    rows (Iterable[Labelled]): Passages, taken one by one.
    RETURNS (Dict[str, Any]): Totals, the three bands of types with their shares and
        examples, and how often each type occurs, the most frequent first.
    RAISES (InputError): If nothing is named.
    """
    kinds: Counter = Counter()
    totals: Counter = Counter()
    for row in rows:
        totals["passages"] += 1
        totals["characters"] += len(row.text)
        totals["asked in vain"] += sum(not found for found in row.mentions.values())
        kinds.update(
            {kind: len(found) for kind, found in row.mentions.items() if found}
        )
    if not kinds:
        raise InputError(f"None of {totals['passages']} passages has an entity.")
    n = sum(kinds.values())
    return {
        "passages": totals["passages"],
        "entities": n,
        "types": len(kinds),
        "entities_per_passage": round(n / totals["passages"], 2),
        "characters_per_passage": round(totals["characters"] / totals["passages"], 1),
        "empty_answers": totals["asked in vain"],
        "bands": _bands(kinds),
        "frequencies": dict(kinds.most_common()),
    }


def _bands(kinds: Counter) -> List[Dict[str, Any]]:
    """Cut the types into the paper's three bands."""
    ranked = kinds.most_common()
    n = sum(kinds.values())
    bands = []
    for low, high in BANDS:
        band = ranked[round(low * len(ranked)) : round(high * len(ranked))]
        bands.append(
            {
                "from": low,
                "to": high,
                "types": len(band),
                "share_of_entities": round(sum(count for _, count in band) / n, 4),
                "examples": [kind for kind, _ in band[:EXAMPLES]],
            }
        )
    return bands


def to_markdown(found: Dict[str, Any]) -> str:
    """Write statistics as the paper's Table 1.

    found (Dict[str, Any]): What `describe` returned.
    RETURNS (str): Markdown.
    """
    lines = [
        f"{found['passages']:,} passages, {found['entities']:,} entities, "
        f"{found['types']:,} types; {found['entities_per_passage']} entities a passage.",
        "",
        "| types by frequency | types | share of entities | examples |",
        "|---|---|---|---|",
    ]
    for band in found["bands"]:
        lines.append(
            f"| {band['from']:.0%} to {band['to']:.0%} | {band['types']:,} "
            f"| {band['share_of_entities']:.1%} | {', '.join(band['examples'])} |"
        )
    if found.get("cleaning"):
        lines += ["", "| in cleaning | |", "|---|---|"]
        lines += [f"| {reason} | {n:,} |" for reason, n in found["cleaning"].items()]
    return "\n".join(lines) + "\n"


def plot(frequencies: Sequence[int], path: Path) -> None:
    """Draw how often types occur, and what share of entities the first so many hold.

    frequencies (Sequence[int]): Entities of each type, the most frequent first.
    path (Path): PNG.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    import numpy as np

    ranks = np.arange(1, len(frequencies) + 1)
    shares = np.cumsum(frequencies) / sum(frequencies)
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
    left.loglog(ranks, frequencies, color="#2a6f97", linewidth=2)
    left.set(
        xlabel="rank of the type", ylabel="entities", title="How often types occur"
    )
    right.semilogx(ranks / len(ranks), shares, color="#2a6f97", linewidth=2)
    right.set(
        xlabel="share of the types, the most frequent first",
        ylabel="share of the entities",
        title="How few types hold most entities",
        ylim=(0, 1.02),
    )
    for share in (0.01, 0.1):
        right.axvline(share, color="#999999", linewidth=0.8, linestyle="--")
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    part = path.with_name(f".{path.name}.part")
    figure.savefig(part, dpi=120, format="png")
    part.replace(path)
    plt.close(figure)


def _source(answers: Optional[Path], folder: Optional[Path], split: str) -> Source:
    path = answers or folder
    if path is None or not path.exists():
        raise InputError(f"There is nothing at {path}: give --answers or --set.")
    return Source(path.stem, 0, path, split)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--answers", type=Path, help="of a teacher, JSON lines")
    parser.add_argument("--set", type=Path, help="folder of a set")
    parser.add_argument("--split", default="train", help="of the set")
    parser.add_argument("--merge", type=Path, help="types to merge, JSON lines")
    parser.add_argument(
        "--definitions", action="store_true", help="types are sentences"
    )
    parser.add_argument("--out", type=Path, required=True, help="without suffix")
    args = parser.parse_args()
    counts: Counter = Counter()
    cleaning = Cleaning(definitions=args.definitions, merge=read_merges(args.merge))
    found = describe(_source(args.answers, args.set, args.split).rows(cleaning, counts))
    found["cleaning"] = dict(counts)
    write_json(args.out.with_suffix(".json"), found)
    with writing(args.out.with_suffix(".md")) as out:
        out.write(to_markdown(found))
    plot(list(found["frequencies"].values()), args.out.with_suffix(".png"))
    print(to_markdown(found))


if __name__ == "__main__":
    run_script(main)

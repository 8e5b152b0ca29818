"""Tables and a plot from the figures of `inference`: made again without any model.

python -m benchmarks.report benchmarks/results/inference.json
"""

import argparse
import json
from pathlib import Path
from typing import Any, Dict, List


def to_markdown(results: Dict[str, Any]) -> str:
    """Write the tables of the README.

    results (Dict[str, Any]): The figures.
    RETURNS (str): Markdown.
    """
    cells = results["cells"]
    names = list(next(iter(cells.values()))["rates"])
    lines = [_row(["tokens × types", *names]), "|---" * (len(names) + 1) + "|"]
    for cell, found in cells.items():
        rates = {n: found["rates"][n]["passages_per_second"] for n in names}
        ours = rates["tree"]
        told = [f"{rates[n]:.3g} ({ours / rates[n]:.1f}×)" for n in names[1:]]
        lines.append(_row([cell, f"**{ours:.1f}**", *told]))
    lines += ["", "Passages per second, and how many times faster the tree is."]
    lines += ["", *_ablation(results["ablation"])]
    lines += ["", *(f"- {line}" for line in _remarks(results))]
    return "\n".join(lines) + "\n"


def _row(cells: List[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _ablation(found: Dict[str, Any]) -> List[str]:
    """The tree without one of its parts."""
    whole = found["tree"]["passages_per_second"]
    lines = [
        _row(["CrossNER, own types", "passages/s", "of the whole"]),
        "|---|---|---|",
    ]
    for name, part in found.items():
        rate = part["passages_per_second"]
        lines.append(_row([name, f"{rate:.1f}", f"{rate / whole:.2f}"]))
    return lines


def _remarks(results: Dict[str, Any]) -> List[str]:
    """What else was measured, in words."""
    first = next(iter(results["cells"].values()))
    work, agreement = first["work"], first["agreement"]
    forwards = first["forwards_per_32"]
    outside = [
        cell["work"]["share_outside_model"] for cell in results["cells"].values()
    ]
    latency = ", ".join(
        f"{name.split()[0]} {t['p50_ms']:.0f} ({t['p95_ms']:.0f})"
        for name, t in first["latency"].items()
    )
    memory = ", ".join(
        f"{name.split()[0]} {mib:.0f}"
        for name, mib in results["peak_memory_mib"].items()
    )
    loads = f"{results['load_before']:.1f} before, {results['load_after']:.1f} after"
    return [
        f"One passage of CrossNER alone, p50 (p95), in ms: {latency}.",
        f"Forwards per 32 passages: {forwards['alone']:g} when nothing follows, "
        f"{forwards['in_stream']:g} in a stream; "
        f"{work['tokens_per_passage']:.0f} tokens a passage.",
        f"Time outside the model: {min(outside):.0%} to {max(outside):.0%} over the cells.",
        *_slope(results["cells"]),
        f"Of {agreement['answers']:,} answers {agreement['certified']:.1%} are certified; of these "
        f"{agreement['equal_if_certified']:.1%} equal A's, of all {agreement['equal']:.1%}.",
        f"Peak resident memory in MiB, a process each: {memory}.",
        f"{results['machine']}, {results['threads']} threads, load {loads}; torch "
        f"{results['versions']['torch']}, transformers {results['versions']['transformers']}; {results['date']}.",
    ]


def _slope(cells: Dict[str, Any]) -> List[str]:
    """What one more type costs, for the shortest passages of the grid."""
    grid = [cell for cell in cells.values() if "types" in cell]
    length = min((cell["tokens"] for cell in grid), default=0)
    rows = sorted(
        (
            (cell["types"], cell["rates"]["tree"]["passages_per_second"], cell["work"])
            for cell in grid
            if cell["tokens"] == length
        ),
        key=lambda row: row[0],
    )
    if len(rows) < 2:
        return []
    (few, fast, less), (many, slow, more) = rows[0], rows[-1]
    per_type = (1 / slow - 1 / fast) / (many - few)
    passage = 1 / fast - few * per_type
    tokens = more["tokens_per_passage"] / less["tokens_per_passage"]
    return [
        f"From {few} to {many} types at {length} tokens, passages per second fall {fast / slow:.1f}-fold, tokens rise "
        f"{tokens:.1f}-fold; one more type costs {per_type / passage:.2f} of the passage itself."
    ]


def plot(results: Dict[str, Any], path: Path) -> None:
    """Draw passages per second over the number of types, a panel per length.

    results (Dict[str, Any]): The figures.
    path (Path): Where to.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    grid = [cell for cell in results["cells"].values() if "types" in cell]
    lengths = sorted({cell["tokens"] for cell in grid})
    figure, axes = pyplot.subplots(
        1,
        len(lengths),
        figsize=(4.2 * len(lengths), 4.4),
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for axis, length in zip(axes[0], lengths):
        rows = sorted(
            ((c["types"], c["rates"]) for c in grid if c["tokens"] == length),
            key=lambda row: row[0],
        )
        counts = [n_types for n_types, _ in rows]
        for name in rows[0][1]:
            values = [rates[name]["passages_per_second"] for _, rates in rows]
            width = 2.5 if name == "tree" else 1.2
            axis.plot(counts, values, marker="o", lw=width, label=name)
        axis.set(xscale="log", yscale="log", xlabel="types", title=f"{length} tokens")
        axis.set_xticks(counts, [str(n) for n in counts])
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    axes[0][0].set_ylabel("passages per second")
    lines = axes[0][0].get_legend_handles_labels()
    figure.legend(*lines, loc="outside lower center", ncols=4, fontsize=8)
    figure.savefig(path, dpi=110)


def write(out: Path, results: Dict[str, Any]) -> None:
    """Write the figures, whole or not at all.

    out (Path): Where to, without suffix.
    results (Dict[str, Any]): The figures.
    """
    partial = out.with_suffix(".tmp")
    text = json.dumps(results, indent=1, ensure_ascii=False) + "\n"
    partial.write_text(text, encoding="utf8")
    partial.replace(out.with_suffix(".json"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("figures", type=Path)
    args = parser.parse_args()
    results = json.loads(args.figures.read_text(encoding="utf8"))
    args.figures.with_suffix(".md").write_text(to_markdown(results), encoding="utf8")
    plot(results, args.figures.with_suffix(".png"))


if __name__ == "__main__":
    main()

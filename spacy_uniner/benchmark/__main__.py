"""`python -m spacy_uniner.benchmark`: list and fetch test sets, let a system read them,
score what it found, and report.

A folder holds a run: `run.json`, `predictions/SET.jsonl`, `scores.json`, `report.md`,
`report.html` and plots. Exit codes: 0 done, 1 something was wrong with what was given.
"""

import json
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any, Dict, List, Optional, Tuple

import requests
import srsly
import typer
from rich.console import Console
from rich.table import Table
from typer import Argument, Option

from ..errors import Errors
from .examples import Example, draw, read_split
from .export import save_docs
from .fetching import default_roots, fetch, place_of, present
from .registry import SPLITS, TestSet, get_set, load_sets
from .report import as_markdown, as_page, averages, draw_plots
from .running import describe_machine, load_system, n_done, predict, read_predictions
from .score import score_set

MIRROR_HELP = "A folder with files that were fetched before; looked at first."
SYSTEM_HELP = 'A pipeline, a config with a section [benchmark], or "uniner".'
SET_HELP = (
    "Change a setting of the config, such as components.uniner.student.model=DIR."
)
LEARNED_HELP = "A set whose training part it has seen; may be repeated."
NAME_HELP = "What tables call it."
SEEN_HELP = "A file with types that the system has learned, one a line."
SPANS_HELP = "Group of spans to read in place of doc.ents, for a saved pipeline."

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Named entities, measured.",
)
Mirror = Annotated[Optional[Path], Option(help=MIRROR_HELP)]
Folder = Annotated[Path, Argument(metavar="FOLDER", help="Of the run.")]


def _roots(mirror: Optional[Path]) -> List[Path]:
    return [*([mirror] if mirror else []), *default_roots()]


def _chosen(names: Optional[List[str]]) -> Dict[str, TestSet]:
    sets = load_sets()
    if not names:
        return {name: each for name, each in sets.items() if each.dataset}
    return {name: get_set(name, sets) for name in names}


@app.command("list")
def list_sets(mirror: Mirror = None, split: str = "test") -> None:
    """Show all sets, and what is at hand."""
    sets = load_sets()
    missing = present(sets, split, _roots(mirror))
    table = Table(
        "set", "of", "domain", "types", "licence", f"{split} at hand", box=None
    )
    for name, each in sorted(
        sets.items(), key=lambda item: (not item[1].dataset, item[1].domain)
    ):
        at_hand = "no" if missing[name] else "yes"
        kinds = str(each.table6.get("types", len(each.types) or "?"))
        table.add_row(
            name, each.dataset or "-", each.domain, kinds, each.licence, at_hand
        )
    rows = [each for each in sets.values() if each.dataset]
    n = sum(not missing[each.name] for each in rows)
    Console().print(table)
    Console().print(
        f"{len({each.dataset for each in rows})} sets of the paper in {len(rows)} rows; "
        f"{n} rows at hand; {len(sets) - len(rows)} further."
    )


@app.command("fetch")
def fetch_sets(
    names: Annotated[Optional[List[str]], Argument(metavar="[SET]...")] = None,
) -> None:
    """Fetch raw files to the cache; all sets that may be, if none is named."""
    root, failed = default_roots()[-1], 0
    for name, each in _chosen(names).items():
        try:
            fetch(each, root)
            typer.echo(f"{name}: {root / place_of(each)}")
        except FileNotFoundError as err:
            typer.echo(f"{name}: {err}", err=True)
            failed += bool(names)
        except requests.RequestException as err:
            typer.echo(
                f"{name}: {err}. Try again: it goes on where it stopped.", err=True
            )
            failed += 1
    raise typer.Exit(int(failed > 0))


@app.command("export")
def export_set(
    name: Annotated[str, Argument(metavar="SET")],
    folder: Annotated[Path, Argument(metavar="FOLDER", help="For SPLIT.spacy files.")],
    mirror: Mirror = None,
) -> None:
    """Write the splits of a set that are at hand as .spacy, for `spacy train`."""
    each = _chosen([name])[name]
    folder.mkdir(parents=True, exist_ok=True)
    for split in SPLITS:
        try:
            examples = read_split(each, split, _roots(mirror))
        except FileNotFoundError as err:
            typer.echo(err, err=True)
            continue
        nested = save_docs(examples, folder / f"{split}.spacy")
        typer.echo(f"{split}: {len(examples)} passages, {nested} nested spans left out")


@app.command("run")
def run_sets(
    folder: Folder,
    system: Annotated[str, Option(help=SYSTEM_HELP)] = "uniner",
    name: Annotated[str, Option(help=NAME_HELP)] = "",
    sets: Annotated[
        Optional[List[str]], Option("--only", help="A set; may be repeated.")
    ] = None,
    split: Annotated[str, Option(help="train, dev or test.")] = "test",
    pairs: Annotated[int, Option(help="Most (passage, type) pairs a set.")] = 200_000,
    seed: Annotated[int, Option(help="Of the choice of passages.")] = 0,
    change: Annotated[Optional[List[str]], Option("--set", help=SET_HELP)] = None,
    spans_key: Annotated[str, Option(help=SPANS_HELP)] = "",
    learned: Annotated[Optional[List[str]], Option(help=LEARNED_HELP)] = None,
    mirror: Mirror = None,
) -> None:
    """Let a system read sets. A run that was stopped goes on."""
    if split not in SPLITS:
        raise ValueError(
            Errors.U014.format(setting="split", allowed=SPLITS, found=split)
        )
    overrides = dict(_setting(each) for each in change or [])
    about = {
        "name": name or system,
        "system": system,
        "set": overrides,
        "split": split,
        "pairs": pairs,
        "seed": seed,
        "spans_key": spans_key,
    }
    told = _open_run(folder, about)
    chosen = _chosen(sets)
    examples, missing = _read_all(chosen, split, _roots(mirror))
    told["missing"] = {
        name: how
        for name, how in {**told["missing"], **missing}.items()
        if name not in examples
    }
    srsly.write_json(folder / "run.json", told)
    for key, all_of_it in examples.items():
        each, path = chosen[key], folder / "predictions" / f"{key}.jsonl"
        drawn = draw(all_of_it, n_types=len(each.types), pairs=pairs, seed=seed)
        if key in told["sets"] and n_done(path, drawn) == len(drawn):
            continue
        reader = load_system(system, each, overrides, spans_key)
        now = predict(reader, drawn, path)
        before = told["sets"].get(key, {"passages": 0, "seconds": 0.0})
        sums = {k: round(before[k] + now[k], 2) for k in ("passages", "seconds")}
        told["sets"][key] = {
            **sums,
            "learned": key in {*reader.learned, *(learned or ())},
        }
        told["machine"] = describe_machine()
        srsly.write_json(folder / "run.json", told)
    names = ", ".join(told["missing"])
    typer.echo(f"{len(told['sets'])} sets read to {folder}.")
    if names:
        typer.echo(f"Not at hand, see `report` for how to get them: {names}.", err=True)


def _read_all(
    sets: Dict[str, TestSet], split: str, roots: List[Path]
) -> Tuple[Dict[str, List[Example]], Dict[str, str]]:
    """Read all sets before work starts, so that what is wrong with one is told first.

    RETURNS (Tuple[Dict[str, List[Example]], Dict[str, str]]): By name the passages of
        those that are at hand, and how to get the others."""
    examples, missing = {}, {}
    for name, each in sets.items():
        try:
            examples[name] = read_split(each, split, roots)
        except FileNotFoundError as err:
            missing[name] = str(err)
    return examples, missing


def _setting(text: str) -> Any:
    name, equals, value = text.partition("=")
    if not equals:
        raise ValueError(
            Errors.U014.format(setting="--set", allowed="NAME=VALUE", found=text)
        )
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _open_run(folder: Path, about: Dict[str, Any]) -> Dict[str, Any]:
    """RETURNS (Dict[str, Any]): What is known of the run. One that was made with other
    settings is refused."""
    path = folder / "run.json"
    (folder / "predictions").mkdir(parents=True, exist_ok=True)
    command = "python -m spacy_uniner.benchmark " + shlex.join(sys.argv[1:])
    if not path.exists():
        told = {"about": about, "command": command, "machine": describe_machine()}
        return {**told, "sets": {}, "missing": {}}
    told = srsly.read_json(path)
    if told["about"] != about:
        raise ValueError(
            Errors.U083.format(
                path=folder, what="setting", found=told["about"], expected=about
            )
        )
    return told


@app.command("score")
def score_run(
    folder: Folder, seen: Annotated[Optional[Path], Option(help=SEEN_HELP)] = None
) -> None:
    """Score what a system found."""
    told, sets = srsly.read_json(folder / "run.json"), load_sets()
    learned = None
    if seen:
        learned = {line.strip().lower() for line in seen.open(encoding="utf8")}
    scores: Dict[str, Any] = {}
    for name, done in told["sets"].items():
        each = get_set(name, sets)
        predictions = list(read_predictions(folder / "predictions" / f"{name}.jsonl"))
        found = score_set(predictions, each.types, seen=learned)
        rate = round(done["passages"] / max(done["seconds"], 1e-9), 2)
        about = {
            "dataset": each.dataset,
            "domain": each.domain,
            "learned": done["learned"],
            "passages_per_second": rate,
        }
        scores[name] = {**about, **found}
    about = {"system": told["about"]["name"], "split": told["about"]["split"]}
    about.update({key: told[key] for key in ("about", "command", "missing", "machine")})
    result = {**about, "averages": averages(scores), "sets": scores}
    srsly.write_json(folder / "scores.json", result)
    for name, found in scores.items():
        typer.echo(f"{name:24} {found['official']['f1']:6.2f}")


@app.command("report")
def report_run(folder: Folder) -> None:
    """Write tables, plots and a page with examples of errors."""
    scores = srsly.read_json(folder / "scores.json")
    predictions = {n: folder / "predictions" / f"{n}.jsonl" for n in scores["sets"]}
    (folder / "report.md").write_text(as_markdown(scores), encoding="utf8")
    draw_plots(scores, folder)
    (folder / "report.html").write_text(as_page(scores, predictions), encoding="utf8")
    typer.echo(folder / "report.md")


def main() -> None:
    """Run the command line; what is wrong with what was given is told in one line."""
    try:
        app()
    except (ImportError, OSError, ValueError) as err:
        raise SystemExit(f"Error: {err}") from None


if __name__ == "__main__":
    main()

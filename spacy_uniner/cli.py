"""`python -m spacy_uniner`: annotate text, print a prompt, tell about a student.

Reads and writes files and talks to the terminal; all else is in the library.
Exit codes: 0 done, 1 something was wrong with what was given, 130 interrupted.
"""

import json
import sys
from pathlib import Path
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Dict,
    Iterable,
    Iterator,
    List,
    Mapping,
    Optional,
    Tuple,
    cast,
)

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text
from typer import Argument, Option

from .align import BUCKETS
from .corpora.formats import to_row
from .corpora.recipe import Recipe
from .errors import Errors
from .visual import save_page, span_scores

if TYPE_CHECKING:
    from .component import UniNER
    from .corpora import Runner, Summary

INPUT_HELP = "Text, or .txt, .jsonl, .spacy files; - for standard input."
LABELS_HELP = 'Types, with commas: "person, medical condition".'
MODEL_HELP = '"mini" for the shipped student, a folder, or a hub name.'
PIPELINE_HELP = "A pipeline that was saved with nlp.to_disk."
OUTPUT_HELP = "A .jsonl, .spacy or .html file."
CORPUS_HELP = "Files .txt, .jsonl (also .gz), .spacy, and folders of them."
FOLDER_HELP = "A folder for shards, errors.jsonl and the manifest."
IN_PLACE_HELP = "A pipeline that was saved with nlp.to_disk, in place of --labels."
CODE_HELP = "A Python file that registers what the pipeline needs."
ADDRESS_HELP = 'A cluster of Ray, such as "auto"; without it, Ray starts here.'
WORKERS_HELP = "How many, over Ray; one per GPU, or CPU, if not given."
VERIFY_HELP = "Load it, and check the SHA-256 of its files."
SHOWN = ("aligned", "snapped", "merged")  # buckets of the ledger that are entities
INPUTS = (".txt", ".jsonl", ".spacy")
OUTPUTS = (".jsonl", ".spacy", ".html")

app = typer.Typer(
    add_completion=False, no_args_is_help=True, help="Any kind of entity from any text."
)


@app.command()
def annotate(
    inputs: Annotated[List[str], Argument(metavar="TEXT|FILE...", help=INPUT_HELP)],
    labels: Annotated[str, Option("--labels", "-l", help=LABELS_HELP)],
    model: Annotated[str, Option(help=MODEL_HELP)] = "mini",
    hub: Annotated[
        bool, Option("--hub", help="Allow the download of a hub name.")
    ] = False,
    threshold: Annotated[float, Option(help="Least probability, in [0, 1].")] = 0.0,
    output: Annotated[
        Optional[Path], Option("--output", "-o", help=OUTPUT_HELP)
    ] = None,
    lang: Annotated[str, Option(help="Language of spaCy's tokenizer.")] = "en",
    device: Annotated[str, Option(help='"auto", "cpu", "cuda", ...')] = "auto",
) -> None:
    """Annotate text with types of your choice."""
    if output is not None and output.suffix not in OUTPUTS:
        raise ValueError(
            Errors.U061.format(path=str(output), allowed=", ".join(OUTPUTS))
        )
    if output is not None and not output.resolve().parent.is_dir():
        raise ValueError(Errors.U063.format(path=str(output)))
    recipe = Recipe(
        labels=_split_labels(labels),
        model=model,
        hub=hub,
        threshold=threshold,
        lang=lang,
        device=device,
    )
    nlp = recipe.build()
    docs = _annotate(nlp, list(_read_all(inputs, nlp.vocab)))
    if output is not None:
        _write(output, docs)
        typer.echo(
            f"{len(docs)} document(s), {sum(len(d.ents) for d in docs)} entities -> {output}",
            err=True,
        )
    elif sys.stdout.isatty():
        _print_tables(docs)
    else:
        for doc in docs:
            typer.echo(json.dumps(to_row(doc), ensure_ascii=False))
    _tell_ledger(cast("UniNER", nlp.get_pipe("uniner")).ledger)


@app.command("annotate-corpus")
def annotate_corpus(
    inputs: Annotated[List[Path], Argument(metavar="INPUT...", help=CORPUS_HELP)],
    output: Annotated[Path, Option("--output", "-o", help=FOLDER_HELP)],
    labels: Annotated[str, Option("--labels", "-l", help=LABELS_HELP)] = "",
    model: Annotated[str, Option(help=MODEL_HELP)] = "mini",
    hub: Annotated[
        bool, Option("--hub", help="Allow the download of a hub name.")
    ] = False,
    threshold: Annotated[float, Option(help="Least probability, in [0, 1].")] = 0.0,
    lang: Annotated[str, Option(help="Language of spaCy's tokenizer.")] = "en",
    device: Annotated[str, Option(help='"auto", "cpu", "cuda", ...')] = "auto",
    pipeline: Annotated[Optional[Path], Option(help=IN_PLACE_HELP)] = None,
    code: Annotated[Optional[Path], Option(help=CODE_HELP)] = None,
    format: Annotated[str, Option(help="jsonl, spacy or parquet.")] = "jsonl",
    shard_size: Annotated[int, Option(help="Documents of a shard, at most.")] = 1000,
    ray: Annotated[bool, Option("--ray", help="Share the work out over Ray.")] = False,
    address: Annotated[Optional[str], Option(help=ADDRESS_HELP)] = None,
    workers: Annotated[Optional[int], Option(help=WORKERS_HELP)] = None,
    gpus: Annotated[Optional[float], Option(help="GPUs per worker, of Ray.")] = None,
) -> None:
    """Annotate files of any size into a folder of shards; run again, it goes on."""
    from .corpora import annotate_corpus, run_on_ray

    recipe = Recipe(
        labels=_split_labels(labels),
        model=model,
        hub=hub,
        threshold=threshold,
        lang=lang,
        device=device,
        pipeline=pipeline,
        code=code,
    )
    runner: Optional[Runner] = None
    given = {"address": address, "workers": workers, "gpus": gpus}
    if ray:
        runner = run_on_ray(recipe, format, address=address, workers=workers, gpus=gpus)
    elif unused := [name for name, value in given.items() if value is not None]:
        problem = "is a setting of workers over Ray: give --ray as well"
        raise ValueError(Errors.U118.format(setting=unused[0], problem=problem))
    summary = annotate_corpus(
        inputs,
        output,
        recipe,
        format=format,
        shard_size=shard_size,
        runner=runner,
        show_progress=sys.stderr.isatty(),
    )
    _tell_summary(summary, output)


def _tell_summary(summary: "Summary", output: Path) -> None:
    """Say what stands in the folder."""
    told = [f"{summary.written} of {summary.documents} document(s)"]
    told += [f"{summary.entities} entities", f"{summary.shards} shard(s)"]
    typer.echo(f"{', '.join(told)} -> {output}", err=True)
    if summary.errors:
        where = output / "errors.jsonl"
        typer.echo(f"{summary.errors} document(s) set aside -> {where}", err=True)
    if summary.damaged:
        names = ", ".join(summary.damaged[:3])
        more = ", ..." if len(summary.damaged) > 3 else ""
        typer.echo(f"missing or changed, made again: {names}{more}", err=True)
    new = summary.shards - summary.reused
    now = f"{new} shard(s) in {summary.seconds:.1f} s, {summary.reused} before"
    typer.echo(now, err=True)
    if summary.ledger:
        _tell_ledger(summary.ledger)


def _tell_ledger(ledger: Mapping[str, int]) -> None:
    """Say what became of the strings that a student gave."""
    found = [(name, ledger.get(name, 0)) for name in BUCKETS if name not in SHOWN]
    left_out = [f"{name} {number}" for name, number in found if number]
    if left_out:
        typer.echo("not entities: " + ", ".join(left_out), err=True)
    told = f"{ledger.get('certified', 0)} of {ledger.get('answers', 0)} answers"
    typer.echo(f"certified equal to unconstrained decoding: {told}", err=True)


def _split_labels(labels: str) -> Tuple[str, ...]:
    return tuple(label.strip() for label in labels.split(",") if label.strip())


@app.command()
def prompt(
    passage: Annotated[str, Argument(help="The text that is asked about.")],
    entity_type: Annotated[str, Argument(help="The type that is asked for.")],
    template: Annotated[str, Option(help="Name of the template.")] = "uniner",
    dataset: Annotated[
        Optional[str], Option(help="Name for the dataset field.")
    ] = None,
) -> None:
    """Print the exact prompt for a passage and a type."""
    from .prompt import render_prompt

    typer.echo(
        render_prompt(passage, entity_type, dataset=dataset, template=template),
        nl=False,
    )


@app.command()
def info(
    model: Annotated[str, Option(help=MODEL_HELP)] = "mini",
    pipeline: Annotated[Optional[Path], Option(help=PIPELINE_HELP)] = None,
    verify: Annotated[bool, Option("--verify", help=VERIFY_HELP)] = False,
) -> None:
    """Tell about a student, or about those of a saved pipeline: size, licence,
    template, device, labels."""
    from .about import about
    from .component import UniNER
    from .students.local import make_local_student

    if pipeline is None:
        _tell(about(make_local_student(model=model), verify=verify))
        return
    import spacy

    for name, component in spacy.load(pipeline).pipeline:
        if isinstance(component, UniNER):
            types = component.types.items()
            labels = [f"{label}: {', '.join(asked)}" for label, asked in types]
            rows = {"component": name, "labels": "; ".join(labels)}
            _tell({**rows, **about(component.student, verify=verify)})


@app.command("copy-for-server")
def copy_for_server(
    output: Annotated[Path, Argument(help="A folder that does not exist yet.")],
    model: Annotated[str, Option(help=MODEL_HELP)] = "mini",
) -> None:
    """Copy a student for vLLM, llama.cpp or `transformers serve`: the shipped one and
    its like need that, other checkpoints do not."""
    from .students.serving.folder import write_copy

    typer.echo(f"{model} -> {write_copy(model, output)}", err=True)


def _tell(rows: Dict[str, Any]) -> None:
    for name, value in rows.items():
        typer.echo(f"{name:16}{value}")


def _read_all(inputs: List[str], vocab: Any) -> Iterator[Any]:
    """Read texts and documents from what was given."""
    for given in inputs:
        if given == "-":
            yield sys.stdin.read()
        elif _is_file(given) or (Path(given).suffix in INPUTS and " " not in given):
            yield from _read_file(Path(given), vocab)
        else:
            yield given


def _is_file(given: str) -> bool:
    try:
        return Path(given).is_file()
    except OSError:  # too long for a name: a text
        return False


def _read_file(path: Path, vocab: Any) -> Iterator[Any]:
    """Read one file.

    RAISES (ValueError): U060 if it can't be read, U062 at a line that is no row.
    """
    from spacy.tokens import DocBin

    try:
        if path.suffix == ".spacy":
            yield from DocBin().from_disk(path).get_docs(vocab)
            return
        text = path.read_text(encoding="utf8")
    except (OSError, ValueError) as e:
        raise ValueError(Errors.U060.format(path=str(path), reason=e)) from e
    if path.suffix != ".jsonl":
        yield text
        return
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if not isinstance(row, dict) or not isinstance(row.get("text"), str):
            found = line[:60]
            raise ValueError(
                Errors.U062.format(line=number, path=str(path), found=found)
            )
        yield row["text"]


def _annotate(nlp: Any, docs: List[Any]) -> List[Any]:
    """Annotate, with a progress bar on a terminal."""
    from tqdm import tqdm

    stream = nlp.pipe(docs)
    quiet = not sys.stderr.isatty() or len(docs) < 2
    return list(
        tqdm(stream, total=len(docs), unit="doc", disable=quiet, file=sys.stderr)
    )


def _write(output: Path, docs: List[Any]) -> None:
    """Write a file, whole or not at all."""
    from spacy.tokens import DocBin

    if output.suffix == ".html":
        save_page(docs, output)
        return
    partial = output.with_name(output.name + ".tmp")
    if output.suffix == ".spacy":
        DocBin(docs=docs, store_user_data=True).to_disk(partial)
    else:
        lines = (json.dumps(to_row(doc), ensure_ascii=False) + "\n" for doc in docs)
        with partial.open("w", encoding="utf8") as out:
            out.writelines(lines)
    partial.replace(output)


def _print_tables(docs: Iterable[Any]) -> None:
    """Show entities on a terminal."""
    console = Console()
    for doc in docs:
        scores = span_scores(doc)
        table = Table(
            "entity", "label", "probability", "characters", box=None, pad_edge=False
        )
        for ent in doc.ents:
            score = scores.get((ent.start, ent.end, ent.label_))
            told = "" if score is None else f"{score:.2f}"
            place = f"{ent.start_char}-{ent.end_char}"
            table.add_row(_plain(ent.text), _plain(ent.label_), told, place)
        console.print(table if doc.ents else "no entities found")


def _plain(text: str) -> Text:
    """Text for a terminal: no markup, and no control characters."""
    return Text("".join(c if c.isprintable() else " " for c in text))


def main() -> None:
    """Run, and turn errors into one line and an exit code."""
    try:
        code = app(standalone_mode=False)
    except (ValueError, ImportError, RuntimeError, OSError) as e:
        typer.echo(f"error: {e}", err=True)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    except SystemExit:
        raise
    except Exception as e:
        # typer's own: usage errors carry their exit code and message
        code = getattr(e, "exit_code", None)
        if code is None:
            raise
        message = getattr(e, "format_message", lambda: "")()
        if message:
            typer.echo(f"error: {message}", err=True)
        sys.exit(code)
    # typer makes an exit code of Ctrl-C, and gives it back
    sys.exit(code if isinstance(code, int) else 0)

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
    Optional,
    cast,
)

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text
from typer import Argument, Option

from .align import BUCKETS
from .errors import Errors
from .visual import save_page, span_scores

if TYPE_CHECKING:
    from .component import UniNER
    from .students.local import LocalStudent

INPUT_HELP = "Text, or .txt, .jsonl, .spacy files; - for standard input."
LABELS_HELP = 'Types, with commas: "person, medical condition".'
MODEL_HELP = '"mini" for the shipped student, a folder, or a hub name.'
PIPELINE_HELP = "A pipeline that was saved with nlp.to_disk."
OUTPUT_HELP = "A .jsonl, .spacy or .html file."
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
    import spacy

    if output is not None and output.suffix not in OUTPUTS:
        raise ValueError(
            Errors.U061.format(path=str(output), allowed=", ".join(OUTPUTS))
        )
    if output is not None and not output.resolve().parent.is_dir():
        raise ValueError(Errors.U063.format(path=str(output)))
    nlp = spacy.blank(lang)
    listed = [label.strip() for label in labels.split(",") if label.strip()]
    student = {
        "@misc": "spacy-uniner.LocalStudent.v1",
        "model": model,
        "hub": hub,
        "device": device,
    }
    nlp.add_pipe(
        "uniner", config={"labels": listed, "threshold": threshold, "student": student}
    )
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
            typer.echo(json.dumps(_to_row(doc), ensure_ascii=False))
    ledger = cast("UniNER", nlp.get_pipe("uniner")).ledger
    left_out = [f"{k} {ledger[k]}" for k in BUCKETS if ledger[k] and k not in SHOWN]
    if left_out:
        typer.echo("not entities: " + ", ".join(left_out), err=True)
    told = f"{ledger['certified']} of {ledger['answers']} answers"
    typer.echo(f"certified equal to unconstrained decoding: {told}", err=True)


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
    from .students.local import LocalStudent, make_local_student

    if pipeline is None:
        _tell(_about(make_local_student(model=model), verify))
        return
    import spacy

    for name, component in spacy.load(pipeline).pipeline:
        student = getattr(component, "student", None)
        if isinstance(student, LocalStudent):
            types = cast("UniNER", component).types
            labels = [f"{label}: {', '.join(asked)}" for label, asked in types.items()]
            _tell(
                {
                    "component": name,
                    "labels": "; ".join(labels),
                    **_about(student, verify),
                }
            )


def _tell(rows: Dict[str, Any]) -> None:
    for name, value in rows.items():
        typer.echo(f"{name:14}{value}")


def _about(student: "LocalStudent", verify: bool) -> Dict[str, Any]:
    """What is known of a student; with `verify`, what loading it shows."""
    from .students.calibration import Calibration
    from .students.checkpoint import choose_device, choose_dtype

    checkpoint = student.checkpoint
    device = choose_device(student.device)
    config = checkpoint.config
    sizes = f"{config['num_hidden_layers']} layers, hidden {config['hidden_size']}"
    rows: Dict[str, Any] = {
        "student": checkpoint.name,
        "folder": checkpoint.path,
        "weights": f"{checkpoint.n_bytes / 2**20:.1f} MiB",
        "architecture": f"{sizes}, {config['vocab_size']} pieces",
        "template": student.template,
        "passages": f"up to {student.max_passage_tokens} tokens",
        "licence": checkpoint.licence or "none stated",
        "empty bound": student.empty_bound,
        "calibrated": "no" if student.calibration == Calibration() else "yes",
        "device": device,
        "dtype": choose_dtype(student.dtype, device),
    }
    if verify:
        copied = student.coder.guide("") is not None
        rows["parameters"] = f"{student.model.num_parameters() / 1e6:.1f} M"
        rows["mentions"] = (
            "verbatim by construction" if copied else "checked afterwards"
        )
        rows["verified"] = "yes"
    return rows


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


def _to_row(doc: Any) -> Dict[str, Any]:
    """A document in the test set format, with probabilities."""
    scores = span_scores(doc)
    spans = [[e.start_char, e.end_char, e.label_] for e in doc.ents]
    found = [scores.get((e.start, e.end, e.label_)) for e in doc.ents]
    known = [None if score is None else round(score, 4) for score in found]
    return {"text": doc.text, "spans": spans, "scores": known}


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
        lines = (json.dumps(_to_row(doc), ensure_ascii=False) + "\n" for doc in docs)
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
        app(standalone_mode=False)
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

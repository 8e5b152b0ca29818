"""Let a system read test sets, and write down what it finds as it goes.

A system is any `nlp`: a saved pipeline, or a config with a section `benchmark`, whose
`types` and `dataset` are filled in for each set. A run that is stopped goes on with the
next passage.
"""

import json
import os
import time
from importlib.metadata import version
from pathlib import Path
from typing import (
    Any,
    Collection,
    Dict,
    Iterable,
    Iterator,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
)

import spacy
from confection import Config
from spacy.language import Language
from spacy.tokens import Doc
from spacy.util import load_model_from_config
from tqdm import tqdm

from ..errors import Errors
from .examples import Example
from .registry import TestSet
from .score import Prediction, Span

SYSTEMS = Path(__file__).parent / "systems"
PACKAGES = ("spacy", "spacy-uniner", "torch", "transformers")
Found = Tuple[int, int, str, Optional[float]]  # first character, last + 1, type, score


class System(NamedTuple):
    """What is measured.

    nlp (Language): The pipeline.
    spans_key (str): Group of spans that holds what it finds; empty for `doc.ents`.
    labels (Mapping[str, str]): Its label -> type.
    learned (Collection[str]): Sets whose training part it has seen.
    """

    nlp: Language
    spans_key: str
    labels: Mapping[str, str]
    learned: Collection[str] = ()


def load_system(
    path: str, test_set: TestSet, overrides: Mapping[str, Any], spans_key: str = ""
) -> System:
    """Load a pipeline for a set.

    path (str): A saved pipeline or installed package; a config; or the name of one of
        those in `systems`, such as "uniner".
    test_set (TestSet): What it will be asked.
    overrides (Mapping[str, Any]): Settings of the config to change.
    spans_key (str): Group of spans to read, unless the config says one.
    RETURNS (System): The system. Its labels are types, raw labels of the set, or what
        the config maps to types under `benchmark.labels`.
    """
    kept = {k: t for k, t in test_set.labels.items() if k not in test_set.left_out}
    labels = {**{kind: kind for kind in kept.values()}, **kept}
    own = SYSTEMS / f"{path}.cfg"
    if not own.exists() and not path.endswith(".cfg"):
        return System(spacy.load(path), spans_key, labels)
    told = {"benchmark.types": test_set.types, "benchmark.dataset": test_set.dataset}
    file = own if own.exists() else path
    config = Config().from_disk(file, overrides={**told, **overrides})
    about = config.pop("benchmark", {})
    nlp = load_model_from_config(config, auto_fill=True)
    labels.update(about.get("labels", {}))
    learned = about.get("learned", ())
    return System(nlp, about.get("spans_key", spans_key), labels, learned)


def predict(system: System, examples: Sequence[Example], path: Path) -> Dict[str, Any]:
    """Read passages, from where an earlier run stopped.

    system (System): What reads. examples (Sequence[Example]): The passages.
    path (Path): Predictions, JSON lines: a passage each, with "spans" that are there and
        "found" ones with their probabilities, or null.
    RETURNS (Dict[str, Any]): "passages" that were read now, and "seconds" for them.
    RAISES (ValueError): U077, if the file has predictions of other passages.
    """
    done = n_done(path, examples)
    system.nlp(make_doc(system.nlp, examples[0]))  # loads weights, which is not timed
    start = time.perf_counter()
    left = examples[done:]
    bar = tqdm(total=len(examples), initial=done, desc=path.stem, disable=None)
    # a line is there at once
    with bar, path.open("a", encoding="utf8", buffering=1) as file:
        for example, found in zip(left, find(system, left)):
            row = {k: v for k, v in example._asdict().items() if v is not None}
            line = json.dumps({**row, "found": found}, ensure_ascii=False)
            file.write(line + "\n")
            bar.update()
    seconds = time.perf_counter() - start
    return {"passages": len(left), "seconds": round(seconds, 2)}


def find(system: System, examples: Iterable[Example]) -> Iterator[List[Found]]:
    """Let a system read passages.

    system (System): What reads. examples (Iterable[Example]): The passages.
    YIELDS (List[Found]): What it finds in each, in order.
    RAISES (ValueError): U080, if it has no such group of spans.
    """
    docs = (make_doc(system.nlp, example) for example in examples)
    for doc in system.nlp.pipe(docs):
        if system.spans_key and system.spans_key not in doc.spans:
            raise ValueError(
                Errors.U080.format(key=system.spans_key, known=list(doc.spans))
            )
        group = doc.spans[system.spans_key] if system.spans_key else doc.ents
        scores = getattr(group, "attrs", {}).get("scores", [None] * len(group))
        yield [
            (span.start_char, span.end_char, system.labels[span.label_], score)
            for span, score in zip(group, scores)
            if span.label_ in system.labels
        ]


def n_done(path: Path, examples: Sequence[Example]) -> int:
    """Tell how far an earlier run came; its unfinished last line is cut off.

    path (Path): Its predictions. examples (Sequence[Example]): What it was to read.
    RETURNS (int): Passages that are done.
    RAISES (ValueError): U077, if the predictions are of other passages.
    """
    if not path.exists():
        return 0
    done = n_bytes = 0
    with path.open("rb") as file:
        for line in file:
            if not line.endswith(b"\n"):
                break
            n_bytes, done = n_bytes + len(line), done + 1
    os.truncate(path, n_bytes)
    reason = f"{done} passages, {len(examples)} in the set" * (done > len(examples))
    for row, example in zip(read_predictions(path), examples):
        if row.text != example.text:
            reason = f"passage {example.number} has another text"
    if reason:
        raise ValueError(
            Errors.U077.format(path=str(path), name=path.stem, reason=reason)
        )
    return done


def make_doc(nlp: Language, example: Example) -> Doc:
    """RETURNS (Doc): A passage with the tokens of its set, or else those of a pipeline."""
    words = example.text.split(" ")
    if example.is_tokenized and all(words):
        return Doc(nlp.vocab, words=words, spaces=[True] * (len(words) - 1) + [False])
    return nlp.make_doc(example.text)


def read_predictions(path: Path) -> Iterator[Prediction]:
    """Read predictions.

    path (Path): What `predict` wrote.
    YIELDS (Prediction): A passage.
    RAISES (ValueError): U073, if a line is none of ours.
    """
    with path.open(encoding="utf8") as file:
        for i, line in enumerate(file, 1):
            try:
                row = json.loads(line)
                gold, found = _spans(row["spans"]), _spans(row["found"])
                yield Prediction(row["text"], gold, found, row.get("answers"))
            except (ValueError, KeyError, TypeError) as err:
                raise ValueError(
                    Errors.U073.format(line=i, path=str(path), reason=repr(err))
                ) from err


def _spans(items: Iterable[Sequence]) -> List[Span]:
    return [(start, end, kind) for start, end, kind, *_ in items]


def describe_machine() -> Dict[str, Any]:
    """RETURNS (Dict[str, Any]): What figures depend on: date, processor, versions, load."""
    return {
        "date": time.strftime("%Y-%m-%d"),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 2),
        "versions": {package: version(package) for package in PACKAGES},
    }

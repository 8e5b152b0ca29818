"""The `uniner` component: asks a student for each type and writes entities.

The only module that knows all the others: windows, student, alignment.
"""

import warnings
from collections import Counter
from pathlib import Path
from typing import (
    Any,
    Callable,
    Dict,
    Iterable,
    Iterator,
    List,
    Mapping,
    Optional,
    Sequence,
    Tuple,
    Union,
)

import srsly
from confection import Config
from spacy import util
from spacy.language import Language
from spacy.pipeline import Pipe
from spacy.tokens import Doc, Span, SpanGroup
from spacy.training import Example

from .align import Aligner, Candidate, Named, new_ledger
from .errors import Errors, Warnings
from .prompt import check_type, check_unicode, is_printable_phrase
from .types import Student
from .windows import make_windows

Labels = Union[List[str], Dict[str, Union[str, List[str]]]]

MAX_LABEL_CHARS = 256  # characters
USER_DATA_KEY = "uniner_labels"  # labels for one document, in doc.user_data
ALIGNMENT_MODES = ("expand", "contract", "strict")
OCCURRENCES = ("all", "first")

DEFAULT_CONFIG = {
    "labels": [],
    "threshold": 0.0,
    "spans_key": "uniner",
    "overwrite": False,
    "occurrences": "all",
    "alignment_mode": "expand",
    "batch_size": 32,
    "overlap": 32,
    "student": {"@misc": "spacy-uniner.LocalStudent.v1"},
    "scorer": {"@scorers": "spacy.ner_scorer.v1"},
}


@Language.factory(
    "uniner",
    assigns=["doc.ents", "doc.spans", "token.ent_iob", "token.ent_type"],
    default_config=DEFAULT_CONFIG,
    default_score_weights={
        "ents_f": 1.0,
        "ents_p": 0.0,
        "ents_r": 0.0,
        "ents_per_type": None,
    },
)
def make_uniner(
    nlp: Language,
    name: str,
    labels: Labels,
    threshold: Union[float, Dict[str, float]],
    spans_key: str,
    overwrite: bool,
    occurrences: str,
    alignment_mode: str,
    batch_size: int,
    overlap: int,
    student: Student,
    scorer: Optional[Callable],
) -> "UniNER":
    """Construct a component that takes any type of entity from text.

    labels (Labels): Labels that are also the types asked for, or a mapping of
        label to phrase, definition sentence, or list of phrases.
    threshold (Union[float, Dict[str, float]]): Least probability of a mention, in
        [0, 1]; for all labels or per label.
    spans_key (str): Key in `doc.spans` for every mention, overlaps included, with
        probabilities in `attrs["scores"]`.
    overwrite (bool): Whether ours win over entities that are already there.
    occurrences (str): "all" places where a mention stands, or the "first".
    alignment_mode (str): How mentions snap to tokens: "expand", "contract", "strict".
    batch_size (int): Documents that are asked about together.
    overlap (int): What windows of a long document share, in the student's tokens.
    student (Student): Who answers.
    scorer (Optional[Callable]): The scorer of `nlp.evaluate`.
    RETURNS (UniNER): The component.
    RAISES (ValueError): U002, U011-U016, U020, U039, if a setting is not allowed.
    """
    return UniNER(
        nlp.vocab,
        student,
        name,
        labels=labels,
        threshold=threshold,
        spans_key=spans_key,
        overwrite=overwrite,
        occurrences=occurrences,
        alignment_mode=alignment_mode,
        batch_size=batch_size,
        overlap=overlap,
        scorer=scorer,
    )


class UniNER(Pipe):
    """Writes `doc.ents` and `doc.spans[spans_key]` for types given at run time."""

    def __init__(
        self,
        vocab: Any,
        student: Student,
        name: str = "uniner",
        *,
        labels: Labels = (),  # type: ignore[assignment]
        threshold: Union[float, Dict[str, float]] = 0.0,
        spans_key: str = "uniner",
        overwrite: bool = False,
        occurrences: str = "all",
        alignment_mode: str = "expand",
        batch_size: int = 32,
        overlap: int = 32,
        scorer: Optional[Callable] = None,
    ) -> None:
        """Initialize the component. For settings and errors see `make_uniner`."""
        _check_choice("alignment_mode", alignment_mode, ALIGNMENT_MODES)
        _check_choice("occurrences", occurrences, OCCURRENCES)
        if batch_size < 1:
            raise ValueError(Errors.U015.format(batch_size=batch_size))
        if overlap < 0:
            message = Errors.U039.format(
                setting="overlap", unit="tokens", least=0, found=overlap
            )
            raise ValueError(message)
        self.vocab = vocab
        self.name = name
        self.student = student
        self.scorer = scorer
        self.spans_key = spans_key
        self.overwrite = overwrite
        self.batch_size = batch_size
        self.overlap = overlap
        self.aligner = Aligner(occurrences=occurrences, alignment_mode=alignment_mode)
        self.ledger: Counter = Counter(new_ledger())
        self._types = read_labels(labels)
        self.threshold = threshold
        # what the config says, which stays when labels are added or restored
        self._configured = (labels, threshold)
        _check_threshold(threshold, self.labels)

    @property
    def labels(self) -> Tuple[str, ...]:
        """RETURNS (Tuple[str, ...]): The labels, in order."""
        return tuple(self._types)

    @property
    def label_data(self) -> List[str]:
        """RETURNS (List[str]): The labels, as `initialize` takes them."""
        return list(self._types)

    @property
    def types(self) -> Dict[str, List[str]]:
        """RETURNS (Dict[str, List[str]]): Label -> the phrases that are asked."""
        return {label: list(phrases) for label, phrases in self._types.items()}

    def add_label(self, label: str, phrases: Union[str, List[str], None] = None) -> int:
        """Add a label.

        label (str): What spaCy shows.
        phrases (Union[str, List[str], None]): What is asked; the label itself if None.
        RETURNS (int): 1 if the label is new, else 0. Phrases replace those of a
            label that is known; without phrases it stays as it is.
        RAISES (ValueError): U002, U011, U016, U020, if label or phrase can't be used.
        """
        new = label not in self._types
        if not new and phrases is None:
            return 0
        self._types.update(read_labels({label: label if phrases is None else phrases}))
        return int(new)

    def initialize(
        self,
        get_examples: Callable[[], Iterable[Example]],
        *,
        nlp: Optional[Language] = None,
        labels: Optional[List[str]] = None,
    ) -> None:
        """Take labels from data, if the config gives none.

        get_examples (Callable[[], Iterable[Example]]): Gives examples.
        nlp (Optional[Language]): The pipeline.
        labels (Optional[List[str]]): Labels, as saved by `spacy init labels`.
        """
        if labels is not None:
            for label in labels:
                self.add_label(label)
        elif not self._types:
            for label in sorted(
                {e.label_ for eg in get_examples() for e in eg.reference.ents}
            ):
                self.add_label(label)

    def __call__(self, doc: Doc) -> Doc:
        """Annotate a document.

        doc (Doc): The document.
        RETURNS (Doc): The same document.
        """
        self.set_annotations([doc], self.predict([doc]))
        return doc

    def pipe(
        self, stream: Iterable[Doc], *, batch_size: Optional[int] = None
    ) -> Iterator[Doc]:
        """Annotate a stream of documents, in order.

        stream (Iterable[Doc]): Documents.
        batch_size (Optional[int]): Documents asked about together; the
            component's own setting if None.
        YIELDS (Doc): Each document, annotated.
        """
        error_handler = self.get_error_handler()
        # spaCy passes its own batch size, 1000 by default; ours is the limit
        size = min(batch_size or self.batch_size, self.batch_size)
        for docs in util.minibatch(stream, size=size):
            for doc, named in self._predict_each(docs, error_handler):
                try:
                    self.set_annotations([doc], [named])
                except Exception as e:  # spaCy's contract: the handler decides
                    error_handler(self.name, self, [doc], e)
                else:
                    yield doc

    def _predict_each(
        self, docs: List[Doc], error_handler: Callable
    ) -> Iterator[Tuple[Doc, List[Named]]]:
        """Ask about a batch; if that fails, about one document after another, so
        that a bad one costs no other."""
        try:
            named = self.predict(docs)
        except Exception as e:
            if len(docs) == 1:
                error_handler(self.name, self, docs, e)
            else:
                for doc in docs:
                    yield from self._predict_each([doc], error_handler)
        else:
            yield from zip(docs, named)

    def predict(self, docs: Sequence[Doc]) -> List[List[Named]]:
        """Ask the student about documents, changing nothing.

        docs (Sequence[Doc]): Documents.
        RETURNS (List[List[Named]]): For each document, all answers about it.
        RAISES (ValueError): U010, if there are no labels to ask for; U017, if those of
            a document can't be read; U019, if the student miscounts.
        """
        asked: List[Tuple[int, Any, List[str], List[str]]] = []
        for number, doc in enumerate(docs):
            types = self._types_of(doc)
            pairs = [
                (label, phrase)
                for label, phrases in types.items()
                for phrase in phrases
            ]
            if not pairs:
                continue
            labels, phrases = [p[0] for p in pairs], [p[1] for p in pairs]
            windows = make_windows(
                doc,
                self.student.count_tokens,
                max_tokens=self.student.max_passage_tokens,
                overlap=self.overlap,
            )
            asked += [(number, window, labels, phrases) for window in windows]
        questions = [(window.text, phrases) for _, window, _, phrases in asked]
        answers = self.student(questions) if questions else []
        found, expected = [len(row) for row in answers], [len(p) for _, p in questions]
        if found != expected:
            raise ValueError(Errors.U019.format(found=found, expected=expected))
        named: List[List[Named]] = [[] for _ in docs]
        for (number, window, labels, _), row in zip(asked, answers):
            named[number] += [Named(window, *pair) for pair in zip(labels, row)]
        return named

    def set_annotations(
        self, docs: Sequence[Doc], named: Sequence[Sequence[Named]]
    ) -> None:
        """Write spans, entities and ledger.

        docs (Sequence[Doc]): Documents.
        named (Sequence[Sequence[Named]]): What `predict` gave.
        """
        for doc, answers in zip(docs, named):
            thresholds = {
                label: self._threshold_of(label) for label in self._types_of(doc)
            }
            kept = () if self.overwrite else doc.ents
            spans, best, ledger = self.aligner.align(doc, answers, thresholds, kept)
            group = SpanGroup(doc, name=self.spans_key, spans=_make_spans(doc, spans))
            group.attrs["scores"] = [candidate.score for candidate in spans]
            doc.spans[self.spans_key] = group
            doc.set_ents(self._settle(doc, best))
            doc._.uniner = {**(doc._.uniner or {}), self.name: ledger}
            self.ledger.update(ledger)

    def _settle(self, doc: Doc, best: List[Candidate]) -> List[Span]:
        """Join ours with the entities that are already there."""
        ours = _make_spans(doc, best)
        covered = {i for c in best for i in range(c.start, c.end)}
        theirs = [e for e in doc.ents if covered.isdisjoint(range(e.start, e.end))]
        return sorted([*theirs, *ours], key=lambda span: span.start)

    def _types_of(self, doc: Doc) -> Dict[str, List[str]]:
        """The types of one document: its own, or the component's."""
        own = doc.user_data.get(USER_DATA_KEY)
        context = doc._context  # of nlp.pipe(..., as_tuples=True)
        if own is None and isinstance(context, Mapping):
            own = context.get(USER_DATA_KEY)
        if own is not None:
            if not isinstance(own, (list, tuple, Mapping)):
                raise ValueError(Errors.U017.format(key=USER_DATA_KEY, found=own))
            return read_labels(own)  # type: ignore[arg-type]
        if not self._types:
            raise ValueError(Errors.U010)
        return self._types

    def _threshold_of(self, label: str) -> float:
        if isinstance(self.threshold, Mapping):
            return self.threshold.get(label, 0.0)
        return self.threshold

    # ---- serialization: labels beside the config, which would change a `$` in them

    def _state(self) -> Dict[str, Any]:
        return {
            "labels": self.types,
            "threshold": self.threshold,
            "configured": {
                "labels": self._configured[0],
                "threshold": self._configured[1],
            },
        }

    def _restore(self, saved: Any, where: object) -> None:
        """Take what was saved, unless the config was given something else when loading."""
        try:
            configured = saved["configured"]
            written = _through_config(configured["labels"])
            if self._configured[0] in (configured["labels"], written):
                self._types = read_labels(saved["labels"])
            if self._configured[1] == configured["threshold"]:
                self.threshold = saved["threshold"]
            _check_threshold(self.threshold, self.labels)
        except (KeyError, TypeError, AttributeError, ValueError) as e:
            raise ValueError(Errors.U018.format(path=where, reason=e)) from e

    def to_bytes(self, *, exclude: Iterable[str] = ()) -> bytes:
        """RETURNS (bytes): Labels and thresholds. The student stays in the config."""
        return srsly.msgpack_dumps(
            {} if "labels" in exclude else {"labels": self._state()}
        )

    def from_bytes(self, data: bytes, *, exclude: Iterable[str] = ()) -> "UniNER":
        """Restore labels and thresholds.

        data (bytes): What `to_bytes` gave.
        exclude (Iterable[str]): "labels" to leave them as they are.
        RETURNS (UniNER): The component.
        RAISES (ValueError): U018, if what was saved can't be read.
        """
        saved = srsly.msgpack_loads(data)
        if "labels" in saved and "labels" not in exclude:
            self._restore(saved["labels"], "bytes")
        return self

    def to_disk(self, path: Union[str, Path], *, exclude: Iterable[str] = ()) -> None:
        """Save labels and thresholds to a folder.

        path (Union[str, Path]): The folder.
        """
        folder = util.ensure_path(path)
        folder.mkdir(parents=True, exist_ok=True)
        if "labels" not in exclude:
            srsly.write_json(folder / "labels.json", self._state())

    def from_disk(
        self, path: Union[str, Path], *, exclude: Iterable[str] = ()
    ) -> "UniNER":
        """Restore labels and thresholds from a folder.

        path (Union[str, Path]): The folder.
        exclude (Iterable[str]): "labels" to leave them as they are.
        RETURNS (UniNER): The component.
        RAISES (ValueError): U018, if what was saved can't be read.
        """
        file = util.ensure_path(path) / "labels.json"
        if file.exists() and "labels" not in exclude:
            try:
                saved = srsly.read_json(file)
            except ValueError as e:
                raise ValueError(Errors.U018.format(path=file, reason=e)) from e
            self._restore(saved, file)
        return self


def read_labels(labels: Any) -> Dict[str, List[str]]:
    """Read labels as a config gives them.

    labels (Labels): A list of labels, or a mapping of label to phrase(s).
    RETURNS (Dict[str, List[str]]): Label -> phrases, in order.
    RAISES (ValueError): U011 or U020 for a label, U002, U016 or U020 for a phrase, that
        can't be used.
    """
    if isinstance(labels, str):
        labels = [labels]
    is_mapping = isinstance(labels, Mapping)
    pairs = list(labels.items()) if is_mapping else [(name, name) for name in labels]
    out: Dict[str, List[str]] = {}
    for label, phrases in pairs:
        if not is_printable_phrase(label, MAX_LABEL_CHARS):
            raise ValueError(
                Errors.U011.format(limit=MAX_LABEL_CHARS, label=_short(label))
            )
        check_unicode(label)
        if "${" in label:
            raise ValueError(Errors.U020.format(label=label))
        if label in out:
            warnings.warn(Warnings.U101.format(label=label), stacklevel=3)
            continue
        listed = [phrases] if isinstance(phrases, str) else phrases
        if not isinstance(listed, (list, tuple)) or not listed:
            raise ValueError(Errors.U016.format(label=label))
        for phrase in listed:
            check_type(phrase)
            if "${" in phrase:
                raise ValueError(Errors.U020.format(label=phrase))
        out[label] = list(dict.fromkeys(listed))
    return out


def _through_config(labels: Labels) -> Any:
    """What comes back when labels are written to a config file and read again:
    a `$` is doubled, and keys with `=`, `:` or `#` are cut."""
    try:
        text = Config({"uniner": {"labels": labels}}).to_str()
        return Config().from_str(text, interpolate=False)["uniner"].get("labels", {})
    except (ValueError, KeyError):
        return labels


def _make_spans(doc: Doc, candidates: Sequence[Candidate]) -> List[Span]:
    return [Span(doc, c.start, c.end, label=c.label) for c in candidates]


def _check_choice(setting: str, found: str, allowed: Sequence[str]) -> None:
    if found not in allowed:
        raise ValueError(
            Errors.U014.format(setting=setting, allowed=allowed, found=found)
        )


def _check_threshold(threshold: Any, labels: Sequence[str]) -> None:
    values = threshold.values() if isinstance(threshold, Mapping) else [threshold]
    for value in values:
        if not 0.0 <= value <= 1.0:
            raise ValueError(Errors.U012.format(threshold=value))
    if isinstance(threshold, Mapping):
        unknown = sorted(set(threshold) - set(labels))
        if unknown:
            raise ValueError(Errors.U013.format(unknown=unknown, labels=list(labels)))


def _short(label: object) -> object:
    return label[:60] + "..." if isinstance(label, str) and len(label) > 60 else label


if not Doc.has_extension("uniner"):
    Doc.set_extension("uniner", default=None)

"""Annotate a shard: records in, the bytes of a file out.

Runs in this process or on another machine; reads and writes no files. A document
that fails costs no other: it is tried once more by itself, and if a text that is
surely good passes where it fails, the document is to blame and is set aside. If that
text fails too, the pipeline is, and the run stops before it loses anything.
"""

from collections import Counter
from typing import (
    TYPE_CHECKING,
    Any,
    Callable,
    Dict,
    Iterable,
    Iterator,
    List,
    NamedTuple,
    Tuple,
)

from ..errors import Errors
from .documents import make_doc, make_fault
from .formats import FORMATS, UNWRITABLE
from .recipe import Recipe
from .records import Record
from .shards import Shard

if TYPE_CHECKING:
    from spacy.tokens import Doc

# the number keeps it new to a student that remembers answers
GOOD_TEXT = "Ada Lovelace wrote note {number} in London."
Meta = Dict[str, Any]
Context = Tuple[Record, Meta]


class Result(NamedTuple):
    """What became of a shard.

    number (int): The number of the shard.
    first, last (int): Numbers of its first and last record.
    documents (int): Records it holds.
    written (int): Documents in the file.
    entities (int): Entities in them.
    faults (List[Dict[str, Any]]): A row of `errors.jsonl` for each record that is not.
    ledger (Dict[str, int]): The ledgers of the documents, summed.
    content (bytes): The file.
    """

    number: int
    first: int
    last: int
    documents: int
    written: int
    entities: int
    faults: List[Dict[str, Any]]
    ledger: Dict[str, int]
    content: bytes


class Worker:
    """Makes a pipeline once, when the first shard comes, and annotates shards."""

    def __init__(self, recipe: Recipe, format: str) -> None:
        """Nothing is loaded yet.

        recipe (Recipe): How to make the pipeline.
        format (str): The format of files.
        """
        self.recipe = recipe
        self.format = format
        self._nlp: Any = None
        self._checked = False
        self._failed: List[Tuple[Record, Exception]] = []

    def load(self) -> None:
        """Make the pipeline, if there is none yet."""
        if self._nlp is None:
            self._nlp = self.recipe.build()
            self._nlp.set_error_handler(self._note_failure)

    def annotate(
        self, shard: Shard, tick: Callable[[Record], None] = lambda record: None
    ) -> Result:
        """Annotate a shard. The first makes sure that the pipeline works.

        shard (Shard): The shard.
        tick (Callable[[Record], None]): Called after each record.
        RETURNS (Result): What became of it.
        RAISES (RuntimeError): U114, if the pipeline fails on any text; U119, if a
            component loses track of documents.
        """
        self.load()
        if not self._checked:
            self._check_pipeline(-1)
            self._checked = True
        # words that only this shard has are forgotten with it
        with self._nlp.memory_zone():
            return self._annotate(shard, tick)

    def _annotate(self, shard: Shard, tick: Callable[[Record], None]) -> Result:
        shelf = FORMATS[self.format]()
        faults: Dict[int, Dict[str, Any]] = {}
        ledger: Counter = Counter()
        n_written = n_entities = 0

        def set_aside(record: Record, error: BaseException) -> None:
            faults[record.number] = make_fault(shard.number, record, error)
            tick(record)

        for record, doc, meta in self._read(shard.records, set_aside):
            try:
                shelf.add(record.number, doc, meta)
            except UNWRITABLE as e:
                set_aside(record, e)
                continue
            n_written += 1
            n_entities += len(doc.ents)
            ledger.update(sum_ledgers(doc))
            tick(record)
        first, last = shard.records[0].number, shard.records[-1].number
        return Result(
            shard.number,
            first,
            last,
            len(shard.records),
            n_written,
            n_entities,
            [faults[number] for number in sorted(faults)],
            dict(ledger),
            shelf.to_bytes(),
        )

    def _read(
        self, records: Iterable[Record], set_aside: Callable[[Record, Exception], None]
    ) -> Iterator[Tuple[Record, "Doc", Meta]]:
        """Annotate records, then once more, one by one, those that failed."""
        yield from self._pipe(records, set_aside)
        for record, _ in self._take_failed():
            yield from self._pipe([record], set_aside)
            for _, error in self._take_failed():
                self._check_pipeline(record.number)
                set_aside(record, error)

    def _pipe(
        self, records: Iterable[Record], set_aside: Callable[[Record, Exception], None]
    ) -> Iterator[Tuple[Record, "Doc", Meta]]:
        def docs() -> Iterator[Tuple["Doc", Context]]:
            for record in records:
                try:
                    doc, meta = make_doc(self._nlp, record)
                except (ValueError, RecursionError) as e:
                    set_aside(record, e)
                else:
                    yield doc, (record, meta)

        for doc, context in self._nlp.pipe(docs(), as_tuples=True):
            if context is None:
                raise RuntimeError(Errors.U119)
            yield context[0], doc, context[1]

    def _note_failure(
        self, name: str, component: Any, docs: List["Doc"], error: Exception
    ) -> None:
        """What spaCy calls when a component fails on documents, which it then drops."""
        for doc in docs:
            if doc._context is None:
                raise RuntimeError(Errors.U119) from error
            self._failed.append((doc._context[0], error))

    def _take_failed(self) -> List[Tuple[Record, Exception]]:
        failed, self._failed = self._failed, []
        return failed

    def _check_pipeline(self, number: int) -> None:
        """Let the pipeline read a text that is surely good.

        number (int): Of the record that failed; it makes the text a new one.
        RAISES (RuntimeError): U114, if it fails.
        """
        text = GOOD_TEXT.format(number=number).encode("utf8")
        record = Record(number, "", 1, "text", text, 0)
        for _ in self._pipe([record], lambda record, error: None):
            pass
        for _, error in self._take_failed():
            raise RuntimeError(Errors.U114.format(reason=error)) from error


def sum_ledgers(doc: "Doc") -> Dict[str, int]:
    """RETURNS (Dict[str, int]): The ledgers of all our components for a document."""
    found = doc._.uniner if doc.has_extension("uniner") else None
    ledgers = [own for own in (found or {}).values() if isinstance(own, dict)]
    return dict(sum((Counter(ledger) for ledger in ledgers), Counter()))

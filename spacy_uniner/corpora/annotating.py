"""Annotate a corpus into a folder: cut, hand out, write down, go on after a kill.

Who annotates is a `Runner`: this process, or workers over Ray (`on_ray.py`). Either
way this process alone reads the input and writes the folder, so that one lock and one
journal say what is done.
"""

import time
from pathlib import Path
from typing import (
    Callable,
    Dict,
    Iterable,
    Iterator,
    List,
    NamedTuple,
    Optional,
    Sequence,
    Union,
)

from ..errors import Errors
from .folder import Folder
from .formats import check_format
from .plan import make_plan
from .recipe import Recipe
from .records import Record, Source, find_sources, read_records
from .shards import Shard, cut_shards
from .working import Result, Worker

Tick = Callable[[int, Record], None]  # documents done since the last, the last of them
# a shard is handed out when its worker's last result was taken, which is then on disk
Runner = Callable[[Iterator[Shard], Tick], Iterator[Result]]


class Summary(NamedTuple):
    """What stands in the folder, earlier runs included.

    documents (int): Records of the input.
    written (int): Documents in shard files.
    errors (int): Records set aside, in `errors.jsonl`.
    entities (int): Entities in all documents.
    shards (int): Shard files.
    reused (int): Shards that were done before this run.
    damaged (List[str]): Shard files that were missing or changed, and made again.
    ledger (Dict[str, int]): The ledgers of all documents, summed.
    seconds (float): How long this run took.
    """

    documents: int
    written: int
    errors: int
    entities: int
    shards: int
    reused: int
    damaged: List[str]
    ledger: Dict[str, int]
    seconds: float


def annotate_corpus(
    inputs: Iterable[Union[str, Path]],
    output: Union[str, Path],
    recipe: Recipe,
    *,
    format: str = "jsonl",
    shard_size: int = 1000,
    runner: Optional[Runner] = None,
    show_progress: bool = False,
) -> Summary:
    """Annotate files of any size; a run that was stopped goes on where it was.

    inputs (Iterable[Union[str, Path]]): `.txt` (a document a line), `.jsonl` ("text"
        and other keys), both also gzipped, `.spacy`, and folders of them.
    output (Union[str, Path]): A folder; made if it is not there.
    recipe (Recipe): How to make the pipeline.
    format (str): Of shard files: "jsonl", "spacy" or "parquet".
    shard_size (int): Documents of a shard, at most.
    runner (Optional[Runner]): Who annotates; this process if None.
    show_progress (bool): Whether to show a bar on stderr.
    RETURNS (Summary): What stands in the folder.
    RAISES (ValueError): U014, U039, if a setting is not allowed; U060, U110, if the
        input can't be read; U111, U112, U117, if the folder can't be used. (OSError):
        U113, if it can't be written. (RuntimeError): U114, if the pipeline fails.
    """
    check_format(format)
    if shard_size < 1:
        message = Errors.U039.format(
            setting="shard_size", unit="documents", least=1, found=shard_size
        )
        raise ValueError(message)
    started = time.monotonic()
    target = Path(output)
    sources = find_sources([Path(given) for given in inputs], target)
    plan = make_plan(sources, recipe, format=format, shard_size=shard_size)
    run = run_here(recipe, format) if runner is None else runner
    with Folder(target, format).opened(plan) as folder:
        reused = len(folder.done)
        if folder.n_shards is None or reused < folder.n_shards:
            _run(run, folder, sources, shard_size, show_progress)
        totals = folder.totals
        return Summary(
            documents=totals["documents"],
            written=totals["written"],
            errors=totals["errors"],
            entities=totals["entities"],
            shards=len(folder.done),
            reused=reused,
            damaged=folder.damaged,
            ledger=dict(folder.ledger),
            seconds=time.monotonic() - started,
        )


def run_here(recipe: Recipe, format: str) -> Runner:
    """Annotate in this process.

    recipe (Recipe): How to make the pipeline.
    format (str): Of shard files.
    RETURNS (Runner): Who annotates. Its pipeline is made, so that what is wrong with
        the recipe is told before a folder is written.
    """
    worker = Worker(recipe, format)
    worker.load()

    def run(shards: Iterator[Shard], tick: Tick) -> Iterator[Result]:
        for shard in shards:
            yield worker.annotate(shard, lambda record: tick(1, record))

    return run


def _run(
    runner: Runner,
    folder: Folder,
    sources: Sequence[Source],
    shard_size: int,
    show_progress: bool,
) -> None:
    """Hand out what is not done, and write what comes back."""
    from tqdm import tqdm

    n_shards = 0

    def todo() -> Iterator[Shard]:
        nonlocal n_shards
        done = frozenset(folder.done)
        for shard in cut_shards(read_records(sources), shard_size, done=done):
            n_shards = shard.number + 1
            if shard.records:
                yield shard

    size = sum(source.size for source in sources)
    done = folder.totals["documents"]
    with tqdm(initial=done, unit="doc", disable=not show_progress) as bar:

        def tick(documents: int, last: Record) -> None:
            # how many there are is guessed from how far the input was read
            bar.total = round((last.number + 1) * size / max(last.position, 1))
            bar.update(documents)

        for result in runner(todo(), tick):
            folder.commit(result)
    folder.finish(n_shards)

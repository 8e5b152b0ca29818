"""Sample a corpus: files of text in, passages for the teacher out.

Cuts documents into passages that fit the student, leaves out copies, other languages
and what the test sets contain, and draws from each source the same number, or the
number that is asked for. Reads a stream: memory grows with the quota, not with the
input. Asks no teacher. Beside the output stands a report of what became of
everything that was read.

    python -m training.corpus novels/ notes.txt.gz abstracts.jsonl \\
        --out passages.jsonl --quota 50000 --tests DIR
"""

import argparse
import json
from collections import Counter
from hashlib import sha256
from pathlib import Path
from typing import Callable, Dict, Iterable, Iterator, List, Tuple

from tqdm import tqdm

from .files import InputError, alone, run_script, write_json, writing
from .passages.contamination import Contamination
from .passages.cutting import Cutter, load_tokenizer
from .passages.documents import Document
from .passages.sampling import Passage, Sample, choose, rank_text
from .passages.sources import OUTCOMES, Source, find_sources, share_quota

SHIPPED = Path(__file__).parent.parent / "spacy_uniner" / "mini"
BATCH = 1 << 20  # characters that are cut together
TELLING = 256  # characters of a passage whose language is looked at
FEW_LETTERS = 20  # too few to tell a language
Test = Callable[[str], bool]  # says whether a passage is left out


def sample_source(
    source: Source,
    documents: Iterable[Document],
    cutter: Cutter,
    tests: Dict[str, Test],
    *,
    min_chars: int,
    seed: int,
) -> None:
    """Draw the sample of a source.

    source (Source): The source; its sample and its counts are filled.
    documents (Iterable[Document]): Its documents.
    cutter (Cutter): What makes passages of them.
    tests (Dict[str, Test]): Outcome -> what says that a passage ends there. Asked
        only about passages that would be drawn.
    min_chars (int): Shortest passage, in characters.
    seed (int): Of the sample.
    """
    counts, sample = source.counts, source.sample
    for document, start, end in _cut(documents, cutter):
        counts["passages"] += 1
        text = document.text[start:end]
        if len(text) < min_chars:
            counts["too_short"] += 1
            continue
        rank = rank_text(text, seed)
        if rank in sample:
            counts["duplicates"] += 1
        elif not sample.admits(rank):
            counts["not_drawn"] += 1
        elif outcome := next(
            (name for name, is_out in tests.items() if is_out(text)), ""
        ):
            counts[outcome] += 1
        else:
            offset = document.start + start
            passage = Passage(rank, text, document.source, offset)
            counts["not_drawn"] += sample.add(passage)


def _cut(
    documents: Iterable[Document], cutter: Cutter
) -> Iterator[Tuple[Document, int, int]]:
    """YIELDS (Tuple[Document, int, int]): A document, start and end of a passage."""
    for batch in _batches(documents):
        for document, stretches in zip(batch, cutter.cut([d.text for d in batch])):
            for start, end in stretches:
                yield document, start, end


def _batches(documents: Iterable[Document]) -> Iterator[List[Document]]:
    batch: List[Document] = []
    size = 0
    for document in documents:
        batch.append(document)
        size += len(document.text)
        if size >= BATCH:
            yield batch
            batch, size = [], 0
    yield batch


def is_foreign(text: str) -> bool:
    """Tell what is no English, or hardly any.

    text (str): A passage.
    RETURNS (bool): Whether another language is likelier. False for a few letters.
    """
    from py3langid.langid import classify

    beginning = text[:TELLING]
    if sum(map(str.isalpha, beginning)) < FEW_LETTERS:
        return False
    return classify(beginning)[0] != "en"


def check_result(sources: List[Source]) -> None:
    """Refuse an empty result.

    sources (List[Source]): The sources, all read.
    RAISES (InputError): If nothing is left, with what was seen.
    """
    total = sum((source.counts for source in sources), Counter())
    if total["kept"]:
        return
    faults = [f"{f}: {why}" for s in sources for f, why in s.faults.files.items()]
    rows = sum((source.faults.rows for source in sources), Counter())
    seen = f"{sum(len(s.files) for s in sources)} files, {total['documents']} documents"
    more = "; ".join([*(f"{n} {what}" for what, n in rows.items()), *faults[:3]])
    if not total["passages"]:
        raise InputError(f"Nothing to sample: {seen}. {more}".rstrip())
    outcomes = ", ".join(f"{total[o]} {o}" for o in OUTCOMES if total[o])
    raise InputError(
        f"Nothing is left of {total['passages']} passages ({outcomes}) of {seen}. "
        f"{more}".rstrip()
    )


def write_passages(path: Path, passages: Iterable[Passage]) -> None:
    """Write passages.

    path (Path): The file.
    passages (Iterable[Passage]): The passages.
    """
    with writing(path) as out:
        for passage in passages:
            row = {
                "id": sha256(passage.text.encode("utf8")).hexdigest()[:16],
                "text": passage.text,
                "source": passage.source,
                "offset": passage.offset,
            }
            out.write(json.dumps(row, ensure_ascii=False) + "\n")


def parse_quota(text: str) -> Tuple[str, int]:
    """RETURNS (Tuple[str, int]): Source and passages, of NAME=N."""
    name, _, number = text.rpartition("=")
    if not name or not number.isdecimal():
        raise argparse.ArgumentTypeError(f"must be NAME=N, got {text!r}")
    return name, int(number)


def make_parser() -> argparse.ArgumentParser:
    """RETURNS (argparse.ArgumentParser): What the command understands."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add = parser.add_argument
    add(
        "inputs", type=Path, nargs="+", metavar="INPUT", help="file or folder: a source"
    )
    add("--out", type=Path, required=True, help="JSON lines of passages")
    add("--tokenizer", type=Path, default=SHIPPED, help="folder with tokenizer.json")
    add("--max-tokens", type=int, default=256, help="longest passage")
    add("--min-chars", type=int, default=40, help="shortest passage")
    add("--quota", type=int, default=50_000, help="passages in all")
    add(
        "--source-quota",
        type=parse_quota,
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME=N",
        help="passages of one source; a source is called as its file or folder is",
    )
    add("--language", choices=["en", "any"], default="en")
    add("--tests", type=Path, help="folder of test sets that no passage may touch")
    add("--field", default="text", help="of JSON lines")
    add("--seed", type=int, default=0)
    return parser


def main() -> None:
    args = make_parser().parse_args()
    if args.out.suffix != ".jsonl":
        raise InputError(f"Passages are written as .jsonl, got --out {args.out}.")
    sources = find_sources(args.inputs, args.out)
    names = [source.name for source in sources]
    for name, quota in share_quota(names, args.quota, dict(args.source_quota)).items():
        sources[names.index(name)].sample = Sample(quota)
    language = "en" if args.language == "en" else "xx"
    cutter = Cutter(
        load_tokenizer(args.tokenizer), max_tokens=args.max_tokens, language=language
    )
    tests: Dict[str, Test] = {}
    if args.tests:
        tests["contaminated"] = Contamination.from_sets(args.tests).touches
    if args.language == "en":
        tests["wrong_language"] = is_foreign
    with alone(args.out):
        for source in sources:
            documents = tqdm(source.documents(args.field), source.name, disable=None)
            sample_source(
                source,
                documents,
                cutter,
                tests,
                min_chars=args.min_chars,
                seed=args.seed,
            )
        chosen = choose(
            {s.name: s.sample for s in sources}, {s.name: s.counts for s in sources}
        )
        check_result(sources)
        write_passages(args.out, chosen)
        report = {source.name: source.report() for source in sources}
        write_json(args.out.with_suffix(".report.json"), report)
    for name, row in report.items():
        print(f"{name:32}", ", ".join(f"{row[key]} {key}" for key in row if row[key]))
    print(f"{len(chosen)} passages -> {args.out}")


if __name__ == "__main__":
    run_script(main)

"""Make conversations: labelled passages in, questions and answers out.

Cleans answers of teachers, mixes published sets in, asks every passage for present
and absent types under varied names, and writes the official conversation format,
in an order drawn by the seed. The script around `questions` and `mixture`.

    python -m training.conversations --config training/configs/distill.cfg \\
        --answers answers.jsonl --out conversations.jsonl --dev dev.jsonl
"""

import argparse
from pathlib import Path
from typing import Dict, Iterator

from .cleaning import Cleaning, read_merges
from .files import InputError, alone, read_rows, run_script, write_json, writing
from .labelled import parse_source
from .mixture import Mixing, Mixture
from .negatives import WordNet
from .passages.contamination import Contamination
from .questions import Sampling, TypeNames
from .sets import read_set, set_types
from .settings import add_settings, fill, read_settings
from .turns import to_conversation, write_conversations

PARTS = ("cleaning", "sampling", "sources", "dev")  # sections of the config
WORDINGS = ("type", "name", "paraphrases", "definition")


def dev_conversations(
    sets: Dict[str, str], data: Path, mixture: Mixture
) -> Iterator[dict]:
    """Make held-out conversations: every type of a set is asked, under its name.

    sets (Dict[str, str]): Name -> folder of a set, below the data folder.
    data (Path): Folder of sets.
    mixture (Mixture): With what it held out.
    YIELDS (dict): One conversation.
    """
    limit = mixture.mixing.dev_rows
    rows = mixture.names.rows
    for name, path in sets.items():
        own = set_types(data / path)
        for i, row in enumerate(read_set(data / path, "dev", spaced=True)):
            mentions = {**{t: [] for t in own}, **row.mentions}
            asked = [
                (rows.get(t, {"name": t})["name"], ms) for t, ms in mentions.items()
            ]
            if i < limit and len(row.text) < 1200:
                yield to_conversation(f"{name}-{i}", row.text, asked)
    yield from mixture.held_out()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add_settings(parser)
    parser.add_argument(
        "--data", type=Path, default=Path(), help="folder that sources lie below"
    )
    parser.add_argument(
        "--answers", type=Path, default=Path("answers.jsonl"), help="of a teacher"
    )
    parser.add_argument(
        "--out", type=Path, required=True, help=".jsonl, or .json: the official array"
    )
    parser.add_argument(
        "--dev", type=Path, required=True, help="held-out conversations"
    )
    parser.add_argument("--names", type=Path, help="wordings of types, JSON lines")
    parser.add_argument("--merge", type=Path, help="types to merge, JSON lines")
    parser.add_argument("--wordnet", type=Path, help="synsets, JSON lines")
    parser.add_argument("--tests", type=Path, help="folder of test sets")
    args = parser.parse_args()
    paths = [args.out.resolve(), args.dev.resolve(), args.answers.resolve()]
    if len(set(paths)) < len(paths):
        raise InputError("--out, --dev and --answers must be three different files.")
    config = read_settings(args.config, args.set)["conversations"]
    parts = {name: config.pop(name, {}) for name in PARTS}
    mixing = fill(Mixing, config, "conversations")
    sampling = fill(Sampling, parts["sampling"], "conversations.sampling")
    merge = {"merge": read_merges(args.merge)}
    cleaning = fill(Cleaning, {**parts["cleaning"], **merge}, "conversations.cleaning")
    sources = [
        parse_source(name, line, args.data, args.answers)
        for name, line in parts["sources"].items()
    ]
    wordings = read_rows(args.names, fields=WORDINGS) if args.names else ()
    names = TypeNames(list(wordings), sampling)
    taboo = None
    if args.tests:
        splits = ("dev", "test")
        taboo = Contamination.from_sets(args.tests, mixing.never or None, splits)
    with alone(args.out):
        wordnet = WordNet.from_file(args.wordnet)
        mixture = Mixture(mixing, names=names, wordnet=wordnet, folder=args.out.parent)
        for source in sources:
            mixture.add(source, cleaning, taboo)
        with writing(args.out) as out:
            rows = mixture.conversations()
            n_made = write_conversations(out, rows, array=args.out.suffix == ".json")
        with writing(args.dev) as out:
            held = dev_conversations(parts["dev"], args.data, mixture)
            n_dev = write_conversations(out, held, array=args.dev.suffix == ".json")
    report: Dict[str, Dict[str, int]] = {
        shelved.source.name: dict(shelved.counts) for shelved in mixture.sources
    }
    write_json(args.out.with_suffix(".report.json"), report)
    for name, counts in report.items():
        print(f"{name:32}", counts)
    print(f"{n_made} conversations -> {args.out}, {n_dev} -> {args.dev}")


if __name__ == "__main__":
    run_script(main)

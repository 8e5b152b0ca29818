"""Make a list of names from labelled passages: a gazetteer of one's own.

python -m training.names --labelled labelled.jsonl --out names.jsonl
"""

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import Set, Tuple

from .cleaning import Cleaning, clean_answer
from .files import InputError, read_rows, run_script, writing


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--labelled", type=Path, required=True, help='JSON lines of "text", "entities"'
    )
    parser.add_argument("--out", type=Path, required=True, help="names, JSON lines")
    args = parser.parse_args()
    names: Set[Tuple[str, str]] = set()
    for row in read_rows(args.labelled, fields=["text", "entities"]):
        cleaned = clean_answer(row, Cleaning(), Counter())
        for kind, found in cleaned.mentions.items() if cleaned else ():
            names.update((mention, kind) for mention in found)
    if not names:
        raise InputError(f"{args.labelled} names nothing.")
    with writing(args.out) as out:
        for name, kind in sorted(names):
            row = {"name": name, "type": kind, "source": args.labelled.name}
            out.write(json.dumps(row, ensure_ascii=False) + "\n")
    print(f"{len(names)} names -> {args.out}")


if __name__ == "__main__":
    run_script(main)

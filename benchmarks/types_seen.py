"""List the types that conversations teach: those of which they show a mention. For
`python -m spacy_uniner.benchmark score --seen`.

    python -m benchmarks.types_seen conversations.jsonl... --out benchmarks/results/mini-types.txt
"""

import argparse
from pathlib import Path
from typing import Set

from training.files import writing
from training.turns import from_conversation, read_conversations


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("conversations", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    seen: Set[str] = set()
    for path in args.conversations:
        for row in read_conversations(path):
            _, turns = from_conversation(row)
            seen.update(kind.lower() for kind, mentions in turns if mentions)
    with writing(args.out) as file:
        file.writelines(f"{kind}\n" for kind in sorted(seen))
    print(f"{len(seen)} types -> {args.out}")


if __name__ == "__main__":
    main()

"""Put annotations to the passages that they are about.

The project's own readings of free text are kept without the text: characters and
types, beside the sum of the passage. This joins them again, as labelled passages.

    python -m training.standoff --passages passages.jsonl \\
        --annotations assets/read_open.jsonl --out read.jsonl
"""

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import Dict, List

from .files import InputError, read_rows, run_script, writing
from .turns import in_order


def join(text: str, row: dict) -> dict:
    """Write a labelled passage.

    text (str): The passage.
    row (dict): Its annotation: "mentions" as [start, end, type, ...], in characters,
        and "absent" types.
    RETURNS (dict): "text", "entities" as [mention, type, ...], and "queries": all
        mentions of each type, none for absent ones.
    RAISES (InputError): If a mention reaches beyond the text.
    """
    entities: List[List[str]] = []
    queries: Dict[str, List[str]] = {}
    for start, end, *types in row["mentions"]:
        if not 0 <= start < end <= len(text):
            raise InputError(
                f"Passage {row['id']} has {len(text)} characters; a mention stands at "
                f"{start} to {end}."
            )
        entities.append([text[start:end], *types])
        for kind in types:
            queries.setdefault(kind, []).append(text[start:end])
    queries = in_order(text, queries)
    return {
        "text": text,
        "entities": entities,
        "queries": {**queries, **{kind: [] for kind in row["absent"]}},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--passages", type=Path, nargs="+", required=True, help="of training.corpus"
    )
    parser.add_argument("--annotations", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    fields = ["id", "mentions", "absent"]
    waiting = {row["id"]: row for row in read_rows(args.annotations, fields=fields)}
    counts = Counter(annotations=len(waiting))
    with writing(args.out) as out:
        for path in args.passages:
            for passage in read_rows(path, fields=["id", "text"]):
                row = waiting.pop(passage["id"], None)
                if row is not None:
                    joined = join(passage["text"], row)
                    out.write(json.dumps(joined, ensure_ascii=False) + "\n")
                    counts["joined"] += 1
    counts["no such passage"] = len(waiting)
    if not counts["joined"]:
        raise InputError(
            f"{args.annotations} annotates none of the passages in "
            f"{', '.join(map(str, args.passages))}. Cut them as `spacy project run mini` does."
        )
    print(f"{dict(counts)} -> {args.out}")


if __name__ == "__main__":
    run_script(main)

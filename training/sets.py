"""Read labelled sets: files in, passages with named types out.

Knows the three layouts of published sets that are used here (token spans,
character spans, open-type answers) and nothing of prompts or sampling.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Dict, Iterator, List, Optional, Tuple

from .files import read_rows

NO_SPACE_BEFORE = set(".,;:!?)]}%'’") | {
    "n't",
    "'s",
    "’s",
    "''",
    "'re",
    "'ve",
    "'ll",
    "'m",
    "'d",
}
NO_SPACE_AFTER = set("([{$#") | {"``"}


@dataclass
class Labelled:
    """A passage and what is known about it.

    text (str): The passage.
    mentions (Dict[str, List[str]]): Type -> its mentions, verbatim, in order of
        appearance, none twice. An empty list says that the type is absent.
    complete (bool): Whether other types of the same set are surely absent.
    doubtful (List[str]): Types that may be there although no mention of them is known.
    cut (bool): Whether more was said than is known, so that any type may be there.
    """

    text: str
    mentions: Dict[str, List[str]] = field(default_factory=dict)
    complete: bool = True
    doubtful: List[str] = field(default_factory=list)
    cut: bool = False


def read_set(
    folder: Path, split: str, *, complete: bool = True, spaced: Optional[bool] = None
) -> Iterator[Labelled]:
    """Read one split of a set.

    folder (Path): The set, with `META.json` and `SPLIT.jsonl.gz`.
    split (str): "train", "dev" or "test".
    complete (bool): Whether unmarked text is surely no mention.
    spaced (Optional[bool]): Whether tokens are joined by blanks (as benchmarks
        do) or as prose is written; None alternates.
    YIELDS (Labelled): One passage.
    """
    meta = json.loads((folder / "META.json").read_text(encoding="utf8"))
    names = meta.get("label_names", {})
    for i, row in enumerate(read_rows(folder / f"{split}.jsonl.gz")):
        if "queries" in row:
            yield Labelled(row["text"], row["queries"], complete)
            continue
        prose = bool(i % 2) if spaced is None else not spaced
        text, spans = _with_offsets(row, prose)
        found: Dict[str, List[str]] = {}
        for start, end, raw in sorted(spans):
            mention = text[start:end].strip()
            known = found.setdefault(names.get(raw, raw.replace("_", " ")), [])
            if mention and mention not in known:
                known.append(mention)
        yield Labelled(text, found, complete)


def set_types(folder: Path) -> List[str]:
    """List the types of a set by the names that a person would use.

    folder (Path): The set.
    RETURNS (List[str]): Type names, none twice; empty for open-type sets.
    """
    meta = json.loads((folder / "META.json").read_text(encoding="utf8"))
    return list(dict.fromkeys(meta.get("label_names", {}).values()))


def _with_offsets(row: dict, prose: bool) -> Tuple[str, List[Tuple[int, int, str]]]:
    """Give a row as text with character spans."""
    if "text" in row:
        return row["text"], [tuple(span) for span in row["spans"]]
    text, starts, ends = join_tokens(row["tokens"], prose=prose)
    return text, [(starts[i], ends[j - 1], raw) for i, j, raw in row["spans"]]


def join_tokens(tokens: List[str], *, prose: bool) -> Tuple[str, List[int], List[int]]:
    """Join tokens to a text.

    tokens (List[str]): The tokens.
    prose (bool): Leave out the blanks that a writer would leave out.
    RETURNS (Tuple[str, List[int], List[int]]): The text, and where each token
        starts and ends in it, in characters.
    """
    text, starts, ends = "", [], []
    quotes = 0
    for i, token in enumerate(tokens):
        glued = i == 0
        if prose and i:
            closing_quote = token == '"' and quotes % 2 == 1
            opened = tokens[i - 1] in NO_SPACE_AFTER
            opened = opened or (tokens[i - 1] == '"' and quotes % 2 == 1)
            glued = token in NO_SPACE_BEFORE or closing_quote or opened
        quotes += token == '"'
        text += token if glued else " " + token
        starts.append(len(text) - len(token))
        ends.append(len(text))
    return text, starts, ends

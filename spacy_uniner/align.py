"""Find mentions in the document, make spans of them, settle conflicts, keep the books.

Every string that a student gave ends in exactly one bucket of the ledger. Knows
nothing of students or prompts.
"""

import unicodedata
from bisect import bisect_right
from dataclasses import dataclass, field
from typing import Dict, List, Optional, Sequence, Tuple

from spacy.tokens import Doc, Span

from .types import Answer, Passage

BUCKETS = (
    "aligned",  # at least one occurrence is in doc.spans, and in doc.ents
    "snapped",  # the same, after its ends were moved to token borders
    "merged",  # the same occurrences were named before, by another window or phrase
    "conflict",  # in doc.spans, but a better span holds its place in doc.ents
    "below_threshold",
    "not_in_text",
    "misaligned",  # in the text, but at no token border (`alignment_mode`)
    "unreadable",
    "truncated",
)
# of answers, not of strings
COUNTS = (
    "answers",
    "certified",  # the student would have said the same without any constraint
)


def new_ledger() -> Dict[str, int]:
    """RETURNS (Dict[str, int]): Bucket or count -> 0."""
    return dict.fromkeys((*BUCKETS, *COUNTS), 0)


@dataclass
class Candidate:
    """A span that the student named.

    start, end (int): In tokens of the document.
    label (str): Its label.
    score (float): Its probability.
    rank (int): Place of its label among the labels; the lower wins a tie.
    sources (List[int]): Which strings named it.
    """

    start: int
    end: int
    label: str
    score: float
    rank: int
    sources: List[int] = field(default_factory=list)


@dataclass(frozen=True)
class Named:
    """An answer and what it was about.

    passage (Passage): The window that was read.
    label (str): The label whose type was asked.
    answer (Answer): The answer.
    """

    passage: Passage
    label: str
    answer: Answer


class Aligner:
    """Settings of alignment, applied to one document after another."""

    def __init__(self, *, occurrences: str, alignment_mode: str) -> None:
        """Set up an aligner.

        occurrences (str): "all", or "first" of each window.
        alignment_mode (str): "expand", "contract" or "strict", as in `Doc.char_span`.
        """
        self.occurrences = occurrences
        self.alignment_mode = alignment_mode

    def align(
        self,
        doc: Doc,
        named: Sequence[Named],
        thresholds: Dict[str, float],
        kept: Sequence[Span] = (),
    ) -> Tuple[List[Candidate], List[Candidate], Dict[str, int]]:
        """Turn answers into spans.

        doc (Doc): The document.
        named (Sequence[Named]): All answers about it.
        thresholds (Dict[str, float]): Least probability, for every label; its
            order is the order of the labels.
        kept (Sequence[Span]): Entities that win over any of ours.
        RETURNS (Tuple[List[Candidate], List[Candidate], Dict[str, int]]): All
            spans by position, the best ones that do not overlap, and the ledger.
        """
        ledger = new_ledger()
        ranks = {label: rank for rank, label in enumerate(thresholds)}
        found: Dict[Tuple[int, int, str], Candidate] = {}
        snapped: Dict[int, bool] = {}  # string -> were its ends moved
        number = 0
        for item in named:
            ledger["answers"] += 1
            ledger["certified"] += item.answer.certified
            ledger["unreadable"] += item.answer.unreadable
            ledger["truncated"] += item.answer.truncated
            folded: Optional[Tuple[str, List[int]]] = None
            for mention in item.answer.mentions:
                number += 1
                if mention.probability < thresholds[item.label]:
                    ledger["below_threshold"] += 1
                    continue
                places = find_exact(item.passage.text, mention.text.strip())
                if not places:
                    folded = folded or fold(item.passage.text)
                    places = find_folded(item.passage.text, folded, mention.text)
                if not places:
                    ledger["not_in_text"] += 1
                    continue
                if self.occurrences == "first":
                    places = places[:1]
                moved = self._add(
                    doc, item, places, mention.probability, ranks, found, number
                )
                if moved is None:
                    ledger["misaligned"] += 1
                else:
                    snapped[number] = moved
        spans = sorted(found.values(), key=lambda c: (c.start, c.end, c.rank))
        best = choose(spans, [(span.start, span.end) for span in kept])
        _book(spans, best, snapped, ledger)
        return spans, best, ledger

    def _add(
        self,
        doc: Doc,
        item: Named,
        places: List[Tuple[int, int]],
        score: float,
        ranks: Dict[str, int],
        found: Dict[Tuple[int, int, str], Candidate],
        number: int,
    ) -> Optional[bool]:
        """Add the occurrences of a mention. Tells whether all were moved to token
        borders; None if none could be."""
        moved: List[bool] = []
        for start, end in places:
            start, end = start + item.passage.start, end + item.passage.start
            span = doc.char_span(start, end, alignment_mode=self.alignment_mode)
            if span is None or not len(span) or span.text.isspace():
                continue
            moved.append((span.start_char, span.end_char) != (start, end))
            key = (span.start, span.end, item.label)
            rank = ranks[item.label]
            known = found.setdefault(key, Candidate(*key, score=score, rank=rank))
            known.score = max(known.score, score)
            known.sources.append(number)
        return all(moved) if moved else None


def _book(
    spans: Sequence[Candidate],
    best: Sequence[Candidate],
    snapped: Dict[int, bool],
    ledger: Dict[str, int],
) -> None:
    """Put each aligned string in one bucket, by the best that became of it."""
    first = {candidate.sources[0] for candidate in spans}
    chosen = {source for candidate in best for source in candidate.sources}
    for number, moved in snapped.items():
        if number not in first:
            ledger["merged"] += 1
        elif number not in chosen:
            ledger["conflict"] += 1
        else:
            ledger["snapped" if moved else "aligned"] += 1


def find_exact(text: str, mention: str) -> List[Tuple[int, int]]:
    """Find a mention verbatim: at word borders if it stands there at all.

    text (str): A passage.
    mention (str): What to look for.
    RETURNS (List[Tuple[int, int]]): Where it starts and ends, in characters;
        occurrences do not overlap each other.
    """
    places: List[Tuple[int, int]] = []
    inside: List[Tuple[int, int]] = []
    at = text.find(mention) if mention else -1
    while at >= 0:
        end = at + len(mention)
        if _is_at_borders(text, at, end):
            places.append((at, end))
            at = text.find(mention, end)
        else:
            if not inside or at >= inside[-1][1]:
                inside.append((at, end))
            at = text.find(mention, at + 1)
    return places or inside


def find_folded(
    text: str, folded: Tuple[str, List[int]], mention: str
) -> List[Tuple[int, int]]:
    """Find a mention in another spelling: case, blanks, Unicode forms.

    text (str): A passage.
    folded (Tuple[str, List[int]]): What `fold` makes of it.
    mention (str): What to look for.
    RETURNS (List[Tuple[int, int]]): Where it starts and ends in the passage, in
        characters, combining marks included.
    """
    plain, offsets = folded
    places = []
    for i, j in find_exact(plain, fold(mention)[0].strip()):
        end = offsets[j - 1] + 1
        while end < len(text) and unicodedata.combining(text[end]):
            end += 1
        places.append((offsets[i], end))
    return places


def fold(text: str) -> Tuple[str, List[int]]:
    """Fold case, compatibility forms and runs of blanks, and keep the way back.

    text (str): Any text.
    RETURNS (Tuple[str, List[int]]): The folded text, and for each of its
        characters the place of the character that it came from. Combining
        marks fall away, so that composed and decomposed letters are equal.
    """
    out: List[str] = []
    offsets: List[int] = []
    for at, char in enumerate(text):
        for part in unicodedata.normalize("NFKD", char).casefold():
            if part.isspace():
                part = " "
                if out and out[-1] == " ":
                    continue
            elif unicodedata.combining(part):
                continue
            out.append(part)
            offsets.append(at)
    return "".join(out), offsets


def choose(
    candidates: Sequence[Candidate], taken: Sequence[Tuple[int, int]] = ()
) -> List[Candidate]:
    """Choose spans that do not overlap and whose probabilities sum highest.

    Weighted interval scheduling: dynamic programming over spans by their ends.

    candidates (Sequence[Candidate]): Spans of any kind.
    taken (Sequence[Tuple[int, int]]): Stretches where none may lie, in tokens.
    RETURNS (List[Candidate]): The best, by position. Ties go to the longer text,
        then to the earlier label.
    """
    borders = sorted(taken)
    starts = [start for start, _ in borders]

    def is_free(c: Candidate) -> bool:
        at = bisect_right(starts, c.end - 1) - 1
        return at < 0 or borders[at][1] <= c.start

    ordered = sorted(
        (c for c in candidates if is_free(c)), key=lambda c: (c.end, c.start, c.rank)
    )
    ends = [c.end for c in ordered]
    # best[i]: sums over the first i spans, of probability, tokens, and -rank
    best: List[Tuple[float, int, int]] = [(0.0, 0, 0)]
    taken_before: List[Optional[int]] = []
    for i, c in enumerate(ordered):
        before = bisect_right(ends, c.start, 0, i)
        with_it = (
            round(best[before][0] + c.score, 9),
            best[before][1] + c.end - c.start,
            best[before][2] - c.rank,
        )
        # a span of probability 0.0 is still better than none
        take = with_it > best[i]
        best.append(with_it if take else best[i])
        taken_before.append(before if take else None)
    chosen = []
    i = len(ordered)
    while i:
        before_or_none = taken_before[i - 1]
        if before_or_none is None:
            i -= 1
        else:
            chosen.append(ordered[i - 1])
            i = before_or_none
    return chosen[::-1]


def _is_at_borders(text: str, start: int, end: int) -> bool:
    """Whether a stretch cuts no word at its ends."""
    cuts_before = start > 0 and text[start - 1].isalnum() and text[start].isalnum()
    cuts_after = end < len(text) and text[end - 1].isalnum() and text[end].isalnum()
    return not (cuts_before or cuts_after)

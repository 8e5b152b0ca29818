"""Alignment: spans inside the text, no overlaps, every string counted once."""

import os

import pytest
import spacy
from hypothesis import given, settings
from hypothesis import strategies as st

from spacy_uniner.align import (
    BUCKETS,
    Aligner,
    Candidate,
    Named,
    choose,
    find_exact,
    find_folded,
    fold,
)
from spacy_uniner.answers import read_answer
from spacy_uniner.types import Answer, Mention, Passage

NLP = spacy.blank("en")
MAX_EXAMPLES = int(os.environ.get("UNINER_EXAMPLES", "1000"))


@pytest.mark.parametrize(
    "text,mention,expected",
    [
        ("Paris met Paris", "Paris", [(0, 5), (10, 15)]),
        ("the bus to the US", "US", [(15, 17)]),
        ("us in the bus", "us", [(0, 2)]),  # not inside "bus"
        ("Yorkshire", "York", [(0, 4)]),  # it stands nowhere else
        ("covid-19", "covid", [(0, 5)]),
        ("aaaa", "aa", [(0, 2), (2, 4)]),
        ("a a a", "a a", [(0, 3)]),
        ("C++ and C", "C++", [(0, 3)]),
        ("東京都に", "東京", [(0, 2)]),
        ("x", "", []),
        ("x", "y", []),
    ],
)
def test_align_find_exact(text, mention, expected):
    assert find_exact(text, mention) == expected


@pytest.mark.parametrize(
    "text,mention,expected",
    [
        ("Café Müller", "cafe\u0301 mu\u0308ller", "Café Müller"),
        ("New\n  York now", "new york", "New\n  York"),
        ("in \u0130stanbul today", "istanbul", "\u0130stanbul"),
        ("ﬁnance", "FINANCE", "ﬁnance"),
        ("un cafe\u0301 noir", "café", "cafe\u0301"),  # marks at the end belong to it
        ("Straße 5", "strasse 5", "Straße 5"),
    ],
)
def test_align_find_folded_gives_true_offsets(text, mention, expected):
    [(start, end)] = find_folded(text, fold(text), mention)
    assert text[start:end] == expected


def spans(*items):
    return [Candidate(s, e, label, p, rank) for s, e, label, p, rank in items]


@pytest.mark.parametrize(
    "items,expected",
    [
        ([(0, 2, "A", 0.9, 0), (1, 3, "B", 0.8, 1)], [(0, 2)]),
        (
            [(0, 3, "A", 0.9, 0), (0, 1, "B", 0.5, 1), (2, 3, "C", 0.6, 2)],
            [(0, 1), (2, 3)],
        ),
        ([(0, 2, "B", 0.9, 1), (0, 2, "A", 0.9, 0)], [(0, 2)]),
        (
            [(0, 1, "A", 0.5, 0), (0, 2, "A", 0.5, 0)],
            [(0, 2)],
        ),  # a tie goes to the longer
        ([(0, 1, "A", 0.0, 0)], [(0, 1)]),
    ],
)
def test_align_choose(items, expected):
    assert [(c.start, c.end) for c in choose(spans(*items))] == expected


def test_align_choose_ties_go_to_the_earlier_label():
    [best] = choose(spans((0, 2, "B", 0.9, 1), (0, 2, "A", 0.9, 0)))
    assert best.label == "A"


def test_align_choose_keeps_out_of_what_is_taken():
    candidates = spans((0, 2, "A", 0.9, 0), (2, 4, "A", 0.9, 0), (5, 6, "A", 0.1, 0))
    assert [c.start for c in choose(candidates, [(1, 3)])] == [5]


def brute_force(candidates):
    """The best sum over all subsets."""
    best = 0.0
    for bits in range(1 << len(candidates)):
        chosen = [c for i, c in enumerate(candidates) if bits >> i & 1]
        chosen.sort(key=lambda c: c.start)
        if all(a.end <= b.start for a, b in zip(chosen, chosen[1:])):
            best = max(best, sum(c.score for c in chosen))
    return best


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 8), st.integers(1, 4), st.sampled_from([0.1, 0.25, 0.5, 0.9])
        ),
        max_size=8,
    )
)
def test_align_choose_is_the_best_of_all(items):
    candidates = spans(*((s, s + n, "A", p, 0) for s, n, p in items))
    assert sum(c.score for c in choose(candidates)) == pytest.approx(
        brute_force(candidates)
    )


WORDS = st.sampled_from(
    ["Ada", "ada", "Byron", "New", "York", "日本", "é", "e\u0301", "\u0130", "ß", "👩‍👩‍👧", "-", '"',
     "]", "\\", "\n", "  ", "</s>", "\u200f", "שלום", "\x00", "1", "a.b"]
)  # fmt: skip
TEXT = st.one_of(
    st.lists(WORDS, max_size=25).map(" ".join),
    st.lists(WORDS, max_size=25).map("".join),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=80),
)


@st.composite
def cases(draw):
    """A document, and answers that fit it, nearly fit it, or do not."""
    text = draw(TEXT)
    named = []
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, max(0, len(text) - 1)))
        passage = Passage(text[start : draw(st.integers(start, len(text)))], start)
        cut = st.tuples(st.integers(0, 80), st.integers(1, 12)).map(
            lambda p, whole=passage.text: whole[p[0] : p[0] + p[1]]
        )
        strings = draw(st.lists(st.one_of(cut, WORDS, st.text(max_size=5)), max_size=5))
        strings = [s for s in strings if s.strip()]
        scores = draw(
            st.lists(st.floats(0, 1), min_size=len(strings), max_size=len(strings))
        )
        mentions = tuple(Mention(s, p) for s, p in zip(strings, scores))
        reading = read_answer(
            draw(st.sampled_from(["[]", "", '["a', "[1]", "nonsense"]))
        )
        answer = Answer(
            mentions, unreadable=reading.unreadable, truncated=reading.truncated
        )
        named.append(Named(passage, draw(st.sampled_from(["A", "B"])), answer))
    return text, named


def _squeeze(text):
    return " ".join(fold(text)[0].split())


@settings(max_examples=MAX_EXAMPLES, deadline=None)
@given(
    cases(),
    st.sampled_from(["expand", "contract", "strict"]),
    st.sampled_from(["all", "first"]),
    st.sampled_from([0.0, 0.5]),
)
def test_align_every_case(case, mode, occurrences, threshold):
    """Run with UNINER_EXAMPLES=100000 for the full count."""
    text, named = case
    doc = NLP.make_doc(text)
    aligner = Aligner(occurrences=occurrences, alignment_mode=mode)
    found, best, ledger = aligner.align(doc, named, {"A": threshold, "B": threshold})
    said = {_squeeze(m.text) for n in named for m in n.answer.mentions}
    for candidate in found:
        assert 0 <= candidate.start < candidate.end <= len(doc)
        if mode == "expand":
            written = _squeeze(doc[candidate.start : candidate.end].text)
            assert any(mention in written for mention in said)
    assert all(a.end <= b.start for a, b in zip(best, best[1:]))
    strings = sum(len(n.answer.mentions) for n in named)
    strings += sum(n.answer.unreadable + n.answer.truncated for n in named)
    assert sum(ledger[bucket] for bucket in BUCKETS) == strings
    assert ledger["answers"] == len(named)


def test_align_ledger_names_what_became_of_each_string():
    doc = NLP.make_doc("Ada Byron met Ada in New-York.")
    whole = Passage(doc.text)
    answer = Answer(
        (
            Mention("Ada", 0.9),
            Mention("Ada Byron", 0.95),
            Mention("Byron", 0.01),  # below the threshold
            Mention("Babbage", 0.9),  # not in the text
            Mention("Ada", 0.8),  # said twice
            Mention("Yor", 0.5),  # snapped
        ),
        unreadable=2,
        truncated=1,
    )
    aligner = Aligner(occurrences="all", alignment_mode="expand")
    _, _, ledger = aligner.align(doc, [Named(whole, "P", answer)], {"P": 0.1})
    assert {k: n for k, n in ledger.items() if n} == {
        "aligned": 2,
        "below_threshold": 1,
        "not_in_text": 1,
        "merged": 1,
        "snapped": 1,
        "unreadable": 2,
        "truncated": 1,
        "answers": 1,
    }


@pytest.mark.parametrize(
    "mode,expected", [("expand", ["York"]), ("contract", []), ("strict", [])]
)
def test_align_modes(mode, expected):
    doc = NLP.make_doc("New York")
    aligner = Aligner(occurrences="all", alignment_mode=mode)
    named = [Named(Passage(doc.text), "P", Answer((Mention("Yor"),)))]
    found, _, ledger = aligner.align(doc, named, {"P": 0.0})
    assert [doc[c.start : c.end].text for c in found] == expected
    assert ledger["misaligned"] == (not expected)

"""The search over answers: how likely it is that the answer holds a mention, and which
of them are named."""

import json
from collections import Counter
from pathlib import Path

import pytest
import torch

from spacy_uniner.answers import read_answer
from spacy_uniner.students.calibration import Calibration
from spacy_uniner.students.checkpoint import find_checkpoint
from spacy_uniner.students.local import LocalStudent
from spacy_uniner.students.reference import ReferenceStudent
from spacy_uniner.students.search import COUNTED, LEAST

ROWS = (Path(__file__).parent / "data" / "passages.jsonl").read_text(encoding="utf8")
QUESTIONS = [
    (row["text"], list(row["queries"])[:4])
    for row in map(json.loads, ROWS.splitlines()[:6])
] + [
    ("Ada Byron of London met Charles Babbage.", ["person", "city", "disease"]),
    ("Rome, Rome and Rome", ["city", "person"]),
    ('He said "C:\\dir" and [1] </s> <q>', ["quote", "person"]),
    ("x", ["person"]),
    ("", ["person"]),
]


def make_student(bound, **settings):
    settings = {"dtype": "float32", "calibration": Calibration(), **settings}
    return LocalStudent(find_checkpoint("mini"), mention_bound=bound, **settings)


def texts(rows):
    return [[answer.text for answer in row] for row in rows]


def search_slowly(student, passage, entity_type, bound):
    """The same sums, one full forward per list and token: no cache, no mask, no draft.
    RETURNS: the probability of each mention, and that of the empty list."""
    coder = student.coder
    prompt = coder.prefix(passage) + coder.question(entity_type)
    guide, least = coder.guide(passage), min(LEAST, bound / 2)
    found, p_empty, lists = Counter(), 0.0, [((), guide.start, 1.0)]
    while lists:
        ids, state, p = lists.pop()
        with torch.inference_mode():
            logits = student.model(torch.tensor([[*prompt, *ids]])).logits[0, -1]
        legal = guide.legal(state)
        shares = torch.softmax(logits[torch.tensor(legal)], 0).tolist()
        empties = guide.empties(state)
        for at, (token, share) in enumerate(zip(map(int, legal), shares)):
            longer, q = (*ids, token), p * share
            if empties is not None and empties[at]:
                p_empty += q
            if guide.ends_mention(state, token) and q >= COUNTED * least:
                items = read_answer(coder.answer(longer)).items
                *before, named = [item.text.strip() for item in items]
                found[named] += q * (named not in before)
            after = guide.advance(state, token)
            has_room = len(longer) < student.max_new_tokens
            if q >= least and has_room and not guide.is_closed(after):
                lists.append((longer, after, q))
    return found, p_empty


def check_against_slow(student, questions, bound):
    """RETURNS (int): Mentions that were named."""
    named = 0
    for (passage, types), row in zip(questions, student(questions)):
        for entity_type, answer in zip(types, row):
            found, p_empty = search_slowly(student, passage, entity_type, bound)
            expected = {text: p for text, p in found.items() if text and p >= bound}
            told = {m.text: m.probability for m in answer.mentions}
            assert told == pytest.approx(expected, abs=1e-3)
            assert answer.p_empty == pytest.approx(p_empty, abs=1e-3)
            named += len(told)
    return named


@pytest.mark.parametrize("bound", [0.05, 0.2])
def test_search_sums_over_all_lists(bound):
    assert check_against_slow(make_student(bound), QUESTIONS, bound) > 5


@pytest.mark.parametrize("failing", [{1}, {1, 3}, {2, 3}])
def test_search_loses_nothing_when_memory_is_short(failing, monkeypatch):
    """Forwards fail, before anything is read and after."""
    from spacy_uniner.students.llama import Llama

    expected = texts(make_student(0.1)(QUESTIONS * 3))
    read, calls, failures = Llama.read, Counter(), Counter()

    def fail_at_times(llama, readings):
        calls["all"] += 1
        if calls["all"] in failing:
            is_late = calls["all"] % 2
            failures[is_late] += 1
            if is_late:
                read(llama, readings)
            raise torch.OutOfMemoryError("full")
        return read(llama, readings)

    monkeypatch.setattr(Llama, "read", fail_at_times)
    student = make_student(0.1, tokens_per_batch=1000)
    assert texts(student(QUESTIONS * 3)) == expected
    assert sum(failures.values()) == len(failing)


@pytest.mark.parametrize("tokens_per_batch", [1, 100])
def test_search_does_not_depend_on_the_batch(tokens_per_batch):
    together = make_student(0.1)(QUESTIONS * 2)
    alone = make_student(0.1, tokens_per_batch=tokens_per_batch)(QUESTIONS)
    assert texts(together) == texts(alone) * 2


def test_search_finds_the_same_at_any_bound():
    """So that a bound can be chosen by what was found at the lowest."""
    lowest = [a for row in make_student(0.06)(QUESTIONS) for a in row]
    for bound in (0.15, 0.3):
        for low, high in zip(
            lowest, [a for row in make_student(bound)(QUESTIONS) for a in row]
        ):
            kept = {m.text: m.probability for m in low.mentions}
            kept = {text: p for text, p in kept.items() if p >= bound}
            assert kept == {m.text: m.probability for m in high.mentions}


def test_search_names_more_at_a_lower_bound():
    n_named = 10_000
    rows = None
    for bound in (0.05, 0.15, 0.4, 0.8):
        before, rows = rows, make_student(bound)(QUESTIONS)
        answers = [answer for row in rows for answer in row]
        assert all(m.probability >= bound for a in answers for m in a.mentions)
        if before:
            for more, less in zip([a for row in before for a in row], answers):
                assert {m.text for m in less.mentions} <= {
                    m.text for m in more.mentions
                }
        n, n_named = n_named, sum(len(a.mentions) for a in answers)
        assert n_named < n
    assert n_named


def test_search_answers_are_lists_in_the_order_of_the_passage():
    rows = make_student(0.05)(QUESTIONS)
    for (passage, _), row in zip(QUESTIONS, rows):
        for answer in row:
            named = [mention.text for mention in answer.mentions]
            assert json.loads(answer.text) == named and len(set(named)) == len(named)
            if not answer.certified:
                places = [passage.index(text) for text in named]
                assert places == sorted(places)
            assert all(0 < m.probability <= 1 for m in answer.mentions)


def test_search_certified_answers_equal_the_reference():
    student = make_student(0.15)
    reference = ReferenceStudent(student)
    questions = QUESTIONS[-5:]
    pairs = [
        (answer, plain)
        for row, slow in zip(student(questions), reference(questions))
        for answer, plain in zip(row, slow)
    ]
    assert any(answer.certified for answer, _ in pairs)
    for answer, plain in pairs:
        assert not answer.certified or answer.text == plain.text


def test_search_that_is_cut_is_told():
    with pytest.warns(UserWarning, match="U103"):
        rows = make_student(0.05, max_new_tokens=2)(QUESTIONS)
    assert sum(a.truncated for row in rows for a in row) > 5
    whole = make_student(0.05)(QUESTIONS)
    assert not any(a.truncated for row in whole for a in row)


def test_search_is_off_without_constraint_and_at_zero():
    unset = LocalStudent(
        find_checkpoint("mini"), dtype="float32", calibration=Calibration()
    )
    assert make_student(0.0)(QUESTIONS) == unset(QUESTIONS)
    free = make_student(0.2, constrained=False)(QUESTIONS[-3:])
    reference = ReferenceStudent(make_student(0.0, constrained=False))
    assert texts(free) == texts(reference(QUESTIONS[-3:]))

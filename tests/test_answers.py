"""Reading answers: every kind of text, and never an exception."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spacy_uniner.answers import read_answer, read_official


@pytest.mark.parametrize(
    "text,items,unreadable,truncated",
    [
        ('["Ada", "Ada Byron"]', ["Ada", "Ada Byron"], 0, 0),
        ("[]", [], 0, 0),
        (' \n["a"]', ["a"], 0, 0),
        ('["a]b", "c"]', ["a]b", "c"], 0, 0),
        ('["\\u00e9", "\\"q\\""]', ["é", '"q"'], 0, 0),
        ("['Ada', \"O'Neil\"]", ["Ada", "O'Neil"], 0, 0),
        ("['it's', 'b']", ["it's", "b"], 0, 0),
        ('["a" "b"]', ["a", "b"], 0, 0),
        ('["Alice", "Bo', ["Alice"], 0, 1),  # the unfinished one is not a mention
        ('["a"', ["a"], 0, 1),
        ('["a", 3, null]', ["a"], 2, 0),
        ('[["a"], {"b": "c"}, "d"]', ["d"], 2, 0),
        ('["", "  ", "a"]', ["a"], 2, 0),
        ('["\\ud83d"]', [], 1, 0),
        ('["C:\\dir"]', ["C:\\dir"], 0, 0),
        ("no list", [], 1, 0),
        ("", [], 1, 0),
        ('["a"]["b"]', ["a"], 0, 0),
        ('["two\nlines"]', ["two\nlines"], 0, 0),
    ],
)
def test_answers_read(text, items, unreadable, truncated):
    reading = read_answer(text)
    assert [item.text for item in reading.items] == items
    assert (reading.unreadable, reading.truncated) == (unreadable, truncated)


@given(st.one_of(st.text(), st.text("[]{}\"',\\ ab\n", max_size=60)))
def test_answers_never_raise(text):
    for item in read_answer(text).items:
        assert item.text.strip() and 0 <= item.start < item.end <= len(text)
    read_official(text)


@given(
    st.lists(
        st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip)
    )
)
def test_answers_read_what_json_wrote(mentions):
    import json

    text = json.dumps(mentions)
    if len(text) < 8000:
        assert [item.text for item in read_answer(text).items] == mentions


@pytest.mark.parametrize(
    "text", ["[" * 100000, '"' * 40000, "['" * 20000, '["a",' * 20000]
)
def test_answers_read_bombs_quickly(text):
    start = time.perf_counter()
    read_answer(text)
    read_official(text)
    assert time.perf_counter() - start < 2


@pytest.mark.parametrize(
    "text,expected",
    [
        ('["a", "b"]', ["a", "b"]),
        ('["a]b"]', []),  # the official expression stops at the first bracket
        (' ["a"]', []),
        ('["a"', []),
        ("['a']", []),
        ("[1]", []),
        ("[]", []),
    ],
)
def test_answers_official_reading_has_the_official_faults(text, expected):
    assert read_official(text) == expected

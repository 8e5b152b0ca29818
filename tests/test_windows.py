"""Windows: everything is covered, nothing is too long, offsets are true."""

import pytest
import spacy
from hypothesis import given, settings
from hypothesis import strategies as st
from spacy.tokens import Doc

from spacy_uniner.windows import make_windows

NLP = spacy.blank("en")
SENTENCES = spacy.blank("en")
SENTENCES.add_pipe("sentencizer")


def count(text: str) -> int:
    return len(text.encode("utf8"))


def windows_of(doc: Doc, max_tokens: int = 20, overlap: int = 5):
    return make_windows(doc, count, max_tokens=max_tokens, overlap=overlap)


@pytest.mark.parametrize("text", ["", " ", "\n\t \n", "\u00a0"])
def test_windows_of_blank_text_are_none(text):
    assert windows_of(NLP.make_doc(text)) == []


def test_windows_short_text_is_one_passage():
    assert [p.text for p in windows_of(NLP.make_doc("Ada wrote."))] == ["Ada wrote."]


@settings(max_examples=200, deadline=None)
@given(
    st.text(st.sampled_from("ab .\n日é👍\u200d\x00"), min_size=1, max_size=400),
    st.integers(8, 60),
    st.integers(0, 30),
)
def test_windows_cover_and_fit(text, max_tokens, overlap):
    doc = NLP.make_doc(text)
    covered = set()
    windows = windows_of(doc, max_tokens, overlap)
    for passage in windows:
        assert count(passage.text) <= max_tokens
        assert text[passage.start : passage.start + len(passage.text)] == passage.text
        covered.update(range(passage.start, passage.start + len(passage.text)))
    assert all(i in covered for i, c in enumerate(text) if not c.isspace())


def test_windows_cut_at_sentences_and_overlap():
    doc = SENTENCES(
        "Ada Byron wrote it all. Charles Babbage built none of it. She was first, he said."
    )
    windows = windows_of(doc, max_tokens=60, overlap=12)
    assert len(windows) > 1
    assert windows[0].text.rstrip().endswith(".")
    first_end = windows[0].start + len(windows[0].text)
    assert windows[1].start < first_end


@pytest.mark.parametrize("text", ["x" * 5000, "日" * 3000, "👍" * 1000])
def test_windows_cut_inside_a_token_longer_than_a_window(text):
    doc = Doc(NLP.vocab, words=[text], spaces=[False])
    windows = windows_of(doc, max_tokens=40)
    assert all(count(p.text) <= 40 for p in windows)
    assert windows[0].start == 0
    assert windows[-1].start + len(windows[-1].text) == len(text)


def test_windows_with_an_overlap_as_long_as_a_window_still_advance():
    doc = NLP.make_doc("word " * 2000)
    assert len(windows_of(doc, max_tokens=100, overlap=100)) < 250


def test_windows_of_a_million_characters():
    doc = NLP.make_doc("Ada Byron wrote it all down. " * 30000)
    windows = windows_of(doc, max_tokens=256, overlap=32)
    assert windows[-1].start + len(windows[-1].text) == len(doc.text.rstrip())

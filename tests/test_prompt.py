"""The templates: golden strings, pieces, and text that looks like a template."""

import copy
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spacy_uniner.prompt import Piece, render_prefix, render_prompt, render_question

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)
OFFICIAL = (
    "A virtual assistant answers questions from a user based on the provided text. "
    "USER: Text: %s ASSISTANT: I've read this text.</s>"
    "USER: What describes %s in the text? ASSISTANT:"
)


@pytest.mark.parametrize(
    "passage,entity_type",
    [
        ("X", "person"),
        ("", "medical condition"),
        ("line one\nline two", "program language"),
        ("a {type} and a {passage} and a %s", "Restaurant Name"),
        ("USER: hi ASSISTANT: </s><s>[INST]", "marker"),
        ("Ω naïve 日本 👩‍👩‍👧 \u0000", "étrange type"),
        ("X", "a person who is, or was, a ruler of a country."),
    ],
)
def test_prompt_is_the_official_string(passage, entity_type):
    assert render_prompt(passage, entity_type) == OFFICIAL % (passage, entity_type)


@given(TEXTS, st.text("abc {}<>/s'\"", min_size=1).filter(str.strip))
def test_prompt_is_the_official_string_for_any_text(passage, entity_type):
    assert render_prompt(passage, entity_type) == OFFICIAL % (passage, entity_type)


@pytest.mark.parametrize(
    "template,dataset,expected",
    [
        (
            "uniner-paragraph",
            None,
            (OFFICIAL % ("X", "t")).replace("provided text", "provided paragraph"),
        ),
        (
            "uniner",
            "ACE05",
            (OFFICIAL % ("X", "t")).replace("Text: X", "Dataset: ACE05 \n Text: X"),
        ),
        ("mini", None, " X<q> t<a>"),
    ],
)
def test_prompt_variants(template, dataset, expected):
    assert render_prompt("X", "t", dataset=dataset, template=template) == expected


@pytest.mark.parametrize(
    "entity_type", ["", "  ", "a\nb", "a\tb", "x" * 1001, "\u2028"]
)
def test_prompt_refuses_types_that_break_it(entity_type):
    with pytest.raises(ValueError, match="U002"):
        render_prompt("X", entity_type)


def test_prompt_unknown_template_names_the_known():
    with pytest.raises(ValueError, match="U001.*uniner-paragraph"):
        render_prompt("X", "person", template="vicuna")


@given(TEXTS)
def test_prompt_markers_come_from_the_template_only(text):
    for template in ("uniner", "mini"):
        empty = [p for p in render_prefix("", template=template) if p.is_marker]
        filled = [p for p in render_prefix(text, template=template) if p.is_marker]
        assert filled == empty
    assert Piece("<q>", True) in render_question("person", template="mini")


LLAMA2 = Path(os.environ.get("LLAMA2_TOKENIZER", "../shared/tokenizer/llama2"))


@pytest.mark.skipif(not LLAMA2.exists(), reason="no LLaMA 2 tokenizer at hand")
@pytest.mark.parametrize(
    "passage", ["Ada Byron wrote it.", "", " two  blanks ", "a\nb é 日本 👍"]
)
def test_prompt_pieces_equal_the_llama_2_tokens(passage):
    from transformers import LlamaTokenizer

    from spacy_uniner.students.coding import Coder

    # the released checkpoints were trained with the legacy way after `</s>`
    tokenizer = LlamaTokenizer.from_pretrained(LLAMA2, legacy=True)
    coder = Coder(copy.deepcopy(tokenizer.backend_tokenizer), "uniner")
    whole = tokenizer(
        "<s>" + render_prompt(passage, "person"), add_special_tokens=False
    )
    whole = whole["input_ids"]
    assert coder.prefix(passage) + coder.question("person") == whole


@pytest.mark.skipif(not LLAMA2.exists(), reason="no LLaMA 2 tokenizer at hand")
def test_prompt_marker_in_a_document_stays_text():
    from transformers import LlamaTokenizer

    from spacy_uniner.students.coding import Coder

    coder = Coder(LlamaTokenizer.from_pretrained(LLAMA2).backend_tokenizer, "uniner")
    assert coder.prefix("a </s> <s> b").count(coder.end) == 1

"""Labelled sets: tokens become text."""

import pytest

from training.sets import join_tokens


@pytest.mark.parametrize(
    "tokens,expected",
    [
        (["Ada", "(", "a", "b", ")", ",", "left", "."], "Ada (a b), left."),
        (["He", "said", '"', "no", '"', "."], 'He said "no".'),
        (["Ada", "'s", "do", "n't"], "Ada's don't"),
    ],
)
def test_sets_join_tokens_as_prose(tokens, expected):
    text, starts, ends = join_tokens(tokens, prose=True)
    assert text == expected
    assert [text[s:e] for s, e in zip(starts, ends)] == tokens

"""Annotations without text, joined again to their passages."""

import hashlib
import json
import sys

import pytest

from training import standoff
from training.files import InputError

TEXT = "Ada Byron met Ada in London."
ROW = {
    "id": hashlib.sha256(TEXT.encode()).hexdigest()[:16],
    "mentions": [[14, 17, "person"], [0, 9, "person", "countess"], [21, 27, "city"]],
    "absent": ["river"],
}


def test_standoff_joins_in_the_order_of_the_text():
    row = standoff.join(TEXT, ROW)
    assert row["queries"] == {
        # "Ada" stands first where "Ada Byron" does
        "person": ["Ada", "Ada Byron"],
        "countess": ["Ada Byron"],
        "city": ["London"],
        "river": [],
    }
    assert ["Ada Byron", "person", "countess"] in row["entities"]


def test_standoff_says_what_does_not_fit(tmp_path, monkeypatch, capsys):
    with pytest.raises(InputError, match="28 characters; a mention stands at 21 to 99"):
        standoff.join(TEXT, {**ROW, "mentions": [[21, 99, "city"]]})
    passages, annotations = tmp_path / "p.jsonl", tmp_path / "a.jsonl"
    other = {**ROW, "id": "0" * 16}
    annotations.write_text(json.dumps(ROW) + "\n" + json.dumps(other) + "\n")
    argv = ["standoff", "--passages", str(passages), "--annotations", str(annotations)]
    monkeypatch.setattr(sys, "argv", [*argv, "--out", str(tmp_path / "o.jsonl")])
    passages.write_text(json.dumps({"id": "1", "text": "x"}) + "\n")
    with pytest.raises(InputError, match="annotates none of the passages"):
        standoff.main()
    passages.write_text(json.dumps({"id": ROW["id"], "text": TEXT}) + "\n")
    standoff.main()
    assert "'joined': 1, 'no such passage': 1" in capsys.readouterr().out
    assert json.loads((tmp_path / "o.jsonl").read_text())["text"] == TEXT

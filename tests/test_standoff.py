"""Annotations without text, joined again to their passages."""

import hashlib
import json
import sys
from pathlib import Path

import pytest

from training import standoff
from training.files import InputError

ROOT = Path(__file__).parent.parent
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


def test_standoff_asset_is_in_form():
    lines = (ROOT / "assets" / "read_open.jsonl").read_text(encoding="utf8")
    rows = [json.loads(line) for line in lines.splitlines()]
    assert len({row["id"] for row in rows}) == len(rows) > 9000
    for row in rows:
        assert len(row["id"]) == 16 and row["mentions"]
        present = {kind for mention in row["mentions"] for kind in mention[2:]}
        assert not present & set(row["absent"])
        for start, end, *kinds in row["mentions"]:
            assert 0 <= start < end and kinds and all(kinds)

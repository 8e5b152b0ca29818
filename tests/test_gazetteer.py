"""The weak teacher: names found, doubtful ones decided by their company."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from training.files import InputError
from training.gazetteer import Names, Votes, drop_common, find_names, read_names

ROOT = Path(__file__).parent.parent


def write_rows(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_gazetteer_finds_the_longest_name():
    names = Names({"New York": ["city"], "York": ["town"], "guitar": ["instrument"]})
    assert list(find_names("In New York with guitars", names)) == [
        ("New York", "New York"),
        ("guitars", "guitar"),
    ]


def test_gazetteer_parts_clear_names_from_doubtful_ones(tmp_path):
    rows = [("Paris", "city"), ("Mercury", "planet"), ("Mercury", "metal")]
    rows += [("Mercury", "god"), ("violin", "string_instrument"), ("thing", "entity")]
    rows += [("string instrument", "instrument")]
    lists = write_rows(
        tmp_path / "names.jsonl", [{"name": n, "type": t} for n, t in rows]
    )
    names = read_names([lists])
    assert names.clear["violin"] == ["string instrument", "instrument"]
    assert names.doubtful == {"Mercury": ["god", "metal", "planet"]}
    with pytest.raises(InputError, match="no names"):
        read_names([write_rows(tmp_path / "none.jsonl", [])])


def test_gazetteer_drops_what_is_common():
    names = Names({"may": ["shrub"], "Reading": ["town"], "oboe": ["instrument"]})
    texts = ["it may be reading"] * 50 + ["Reading an oboe"]
    assert set(drop_common(names, texts).clear) == {"oboe"}


def test_gazetteer_company_decides():
    names = Names({}, {"Mercury": ["metal", "planet"]})
    votes = Votes(names)
    for _ in range(50):
        votes.count({"planet", "star"})
        votes.count({"metal", "acid"})
        for _ in range(4):
            votes.count({"song"})
    assert votes.decide("Mercury", {"star"}) == "planet"
    assert votes.decide("Mercury", {"acid"}) == "metal"
    assert votes.decide("Mercury", {"song"}) == ""
    assert votes.decide("Mercury", set()) == ""


def test_gazetteer_script(tmp_path):
    lists = write_rows(tmp_path / "l.jsonl", [{"name": "Ada Byron", "type": "Person"}])
    texts = ["Ada Byron wrote.", "Nothing here."] * 3
    rows = [{"id": str(i), "text": text} for i, text in enumerate(texts)]
    passages = write_rows(tmp_path / "p.jsonl", rows)
    command = [sys.executable, "-m", "training.gazetteer", "--lists", str(lists)]
    command += ["--passages", str(passages), "--out", str(tmp_path / "a.jsonl")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    answers = [json.loads(x) for x in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert [row["entities"] for row in answers[:2]] == [[["Ada Byron", "person"]], []]
    passages.write_text('{"id": "1", "text": "Nobody."}\n')
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and "None of the names" in done.stderr
    assert len((tmp_path / "a.jsonl").read_text().splitlines()) == len(rows)


def test_gazetteer_never_writes_over_another_teacher(tmp_path):
    lists = write_rows(tmp_path / "l.jsonl", [{"name": "Ada", "type": "person"}])
    passages = write_rows(tmp_path / "p.jsonl", [{"id": "1", "text": "Ada."}])
    paid = {"id": "1", "text": "Ada.", "entities": [], "teacher": {"model": "large"}}
    answers = write_rows(tmp_path / "a.jsonl", [paid])
    command = [sys.executable, "-m", "training.gazetteer", "--lists", str(lists)]
    command += ["--passages", str(passages), "--out", str(answers)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and "large" in done.stderr
    assert json.loads(answers.read_text()) == paid


def test_gazetteer_two_types_are_told_only_if_one_is_a_kind_of_the_other(tmp_path):
    rows = [("Jordan", "person"), ("Jordan", "country"), ("poodle", "dog")]
    rows += [("dog", "animal"), ("Rex", "dog"), ("Rex", "animal")]
    rows += [("Washington", "person"), ("Washington", "state")]
    lists = write_rows(
        tmp_path / "names.jsonl", [{"name": n, "type": t} for n, t in rows]
    )
    names = read_names([lists])
    assert names.clear["Rex"] == ["dog", "animal"]
    assert set(names.doubtful) == {"Jordan", "Washington"}


def test_gazetteer_keeps_a_name_that_occurs_once():
    names = Names({"Paris": ["city"]})
    assert drop_common(names, ["Paris is far."] + ["nothing"] * 400).clear

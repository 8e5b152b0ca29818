"""The corpus: reading, cutting, sampling, decontamination, and what goes wrong."""

import gzip
import json
import os
import resource
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import spacy
from hypothesis import given, settings
from hypothesis import strategies as st
from spacy.tokens import DocBin

from training.corpus import is_foreign, main
from training.files import InputError, alone
from training.passages.contamination import Contamination
from training.passages.cutting import Cutter, load_tokenizer
from training.passages.documents import Faults, list_files, read_documents
from training.passages.sampling import NearDuplicates, Passage, Sample, rank_text
from training.passages.sources import share_quota

ROOT = Path(__file__).parent.parent
SHIPPED = ROOT / "spacy_uniner" / "mini"
TOPICS = ["rivers", "engines", "novels", "cells", "markets", "stars", "bridges"]
PLACES = ["Oslo", "Lima", "Delhi", "Quito", "Cairo", "Turin", "Perth", "Kyoto"]
LEAK = "The committee of the old harbour town met on Friday to vote upon new rules."
SHORT_LEAK = "Play something by Miles Davis now"


def sentence(number: int) -> str:
    topic, place = TOPICS[number % 7], PLACES[number // 7 % 8]
    return f"In {place} the {number}th lecture was about {topic} and their history."


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer(SHIPPED)


@pytest.fixture(scope="module")
def cutters(tokenizer):
    return {n: Cutter(tokenizer, max_tokens=n) for n in (8, 12, 40)}


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Run the script and give what it wrote."""

    def run(*args, out=tmp_path / "out" / "passages.jsonl"):
        command = ["corpus", *map(str, args), "--out", str(out)]
        monkeypatch.setattr(sys, "argv", command)
        main()
        rows = [json.loads(line) for line in out.read_text("utf8").splitlines()]
        return rows, json.loads(out.with_suffix(".report.json").read_text("utf8"))

    return run


@pytest.fixture
def notes(tmp_path):
    """A file of 300 documents, one a line."""
    path = tmp_path / "notes.txt"
    path.write_text("\n".join(map(sentence, range(300))), "utf8")
    return path


def texts_of(path: Path, faults=None, **settings):
    found = read_documents(path, path.name, faults or Faults(), **settings)
    return [document.text.strip() for document in found]


# ---- reading


@pytest.mark.parametrize(
    "content,expected",
    [
        ("one\ntwo\n\n", ["one", "two"]),  # no blank line between: a line is one
        ("one\nmore\n\n\ntwo", ["one\nmore", "two"]),  # wrapped
        ("one\r\nmore\r\n \r\ntwo\r\n", ["one\r\nmore", "two"]),
        ("a " * 99 + "\n\n" + "b " * 99 + "\n" + "c " * 99, ["a", "b", "c"]),
        ("\ufeffone\ntwo", ["one", "two"]),
        ("", []),
        (" \n\n", []),
    ],
)
def test_documents_of_plain_text(tmp_path, content, expected):
    path = tmp_path / "x.txt"
    path.write_bytes(content.encode("utf8"))
    found = texts_of(path)
    assert [t if "\n" in t else t.split(" ")[0] for t in found] == expected


def test_documents_say_where_they_stand(tmp_path):
    path = tmp_path / "x.txt"
    path.write_text("one\n\ntwo\nmore\n")
    found = list(read_documents(path, "x.txt", Faults()))
    assert [document.source for document in found] == ["x.txt#1", "x.txt#2"]


def test_documents_very_long_ones_come_in_pieces(tmp_path):
    path = tmp_path / "x.txt"
    text = "word " * 700_000
    path.write_text(text + "\nnext")
    *pieces, last = read_documents(path, "x.txt", Faults())
    assert len(pieces) > 2 and {p.source for p in pieces} == {"x.txt#1"}
    assert all(text[p.start :].startswith(p.text.rstrip("\n")) for p in pieces)
    assert "".join(p.text for p in pieces) == text + "\n"
    assert last.source == "x.txt#2" and last.start == 0


def test_documents_of_every_format(tmp_path):
    texts = ["One of them.", "Another — with a dash."]
    rows = "".join(json.dumps({"text": text}) + "\n" for text in texts)
    (tmp_path / "a.txt").write_text("\n".join(texts), "utf8")
    (tmp_path / "b.jsonl").write_text(rows, "utf8")
    (tmp_path / "c.txt.gz").write_bytes(gzip.compress("\n".join(texts).encode("utf8")))
    (tmp_path / "d.jsonl.gz").write_bytes(gzip.compress(rows.encode("utf8")))
    nlp = spacy.blank("en")
    DocBin(docs=map(nlp, texts)).to_disk(tmp_path / "e.spacy")
    (tmp_path / "f.pdf").write_bytes(b"%PDF")
    (tmp_path / ".hidden.txt").write_text("no")
    faults = Faults()
    files = list_files(tmp_path, faults)
    assert [file.name for file in files] == sorted(os.listdir(tmp_path))[1:6]
    assert faults.other == 2
    assert all(texts_of(file, faults) == texts for file in files)
    assert not faults.files and not faults.rows


@pytest.mark.parametrize(
    "name,content,read,fault",
    [
        ("a.txt", b"one\ncaf\xe9\ntwo", ["one"], "not UTF-8 at byte 7"),
        ("b.txt", b"\xef\xbb\xbfone\ncaf\xe9", ["one"], "not UTF-8 at byte 10"),
        ("c.txt", b"one\ntwo \xe2\x82", ["one"], "not UTF-8 at byte 8"),
        ("d.txt.gz", b"no gzip", [], "Not a gzipped file (b'no')"),
        ("e.spacy", b"no docs", [], "no DocBin of spaCy: "),
        ("f.spacy", b"", [], "no DocBin of spaCy: "),
        ("g.jsonl.gz", b"\x1f\x8b", [], "Compressed file ended before "),
    ],
)
def test_documents_of_faulty_files(tmp_path, name, content, read, fault):
    (tmp_path / name).write_bytes(content)
    faults = Faults()
    assert texts_of(tmp_path / name, faults) == read
    assert faults.files[name].startswith(fault)


@pytest.mark.parametrize("name", ["x.txt.gz", "x.jsonl.gz"])
def test_documents_of_a_gzip_that_ends_in_the_middle(tmp_path, name):
    lines = [sentence(n) for n in range(20_000)]
    if "json" in name:
        lines = [json.dumps({"text": line}) for line in lines]
    data = gzip.compress("\n".join(lines).encode("utf8"))
    (tmp_path / name).write_bytes(data[: len(data) // 2])
    faults = Faults()
    found = texts_of(tmp_path / name, faults)
    assert 5_000 < len(found) < 15_000
    assert found == [sentence(n) for n in range(len(found))]
    assert "ended before" in faults.files[name]


def test_documents_of_faulty_rows_are_counted(tmp_path):
    rows = [b'{"text": "good"}', b'{"text": "torn', b"[1]", b'{"body": "x"}']
    rows += [
        b'{"text": 3}',
        b'{"text": "\\u0000"}',
        b'{"text": "\\ud83d"}',
        b"\xff\xfe",
    ]
    rows += [b'{"text": ""}', b'{"text": "\\ud83d\\ude00"}']
    (tmp_path / "x.jsonl").write_bytes(b"\n".join(rows))
    faults = Faults()
    assert texts_of(tmp_path / "x.jsonl", faults) == ["good", "\U0001f600"]
    assert faults.rows == {
        "not JSON": 1,
        "not UTF-8": 1,
        "no object with text": 2,
        "text is no text": 1,
        "binary (a NUL character)": 1,
        "an unpaired surrogate": 1,
    }
    assert texts_of(tmp_path / "x.jsonl", field="body") == ["x"]


def test_documents_with_nul_characters_are_left_out(tmp_path):
    (tmp_path / "x.txt").write_bytes(b"one\n\x00\x01binary\ntwo\n")
    faults = Faults()
    assert texts_of(tmp_path / "x.txt", faults) == ["one", "two"]
    assert faults.rows == {"binary (a NUL character)": 1}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_documents_of_a_file_that_may_not_be_read(tmp_path):
    path = tmp_path / "x.txt"
    path.write_text("secret")
    path.chmod(0)
    faults = Faults()
    assert texts_of(path, faults) == []
    assert faults.files == {"x.txt": "Permission denied"}


# ---- cutting

WORDS = st.text(st.sampled_from("abcxyzABC.!?,'\"-é字😀\u0301\u200d"), min_size=1)
BLANKS = st.sampled_from([" ", "  ", "\n", "\t", " \r\n ", "\u00a0", "\u3000"])
PROSE = st.lists(st.one_of(WORDS, BLANKS, st.just("The end. "), st.just("x" * 90)))


def check_cut(text, stretches, tokenizer, max_tokens):
    """Nothing lost, nothing twice, in order, nothing too long."""
    covered = 0
    for start, end in stretches:
        assert not text[covered:start].strip()
        piece = text[start:end]
        assert piece == piece.strip() != ""
        assert len(tokenizer.encode(piece, add_special_tokens=False)) <= max_tokens
        covered = end
    assert not text[covered:].strip()


@settings(max_examples=100, derandomize=True, deadline=None)
@given(
    texts=st.lists(PROSE.map("".join), max_size=3), size=st.sampled_from([8, 12, 40])
)
def test_cutting_covers_every_character_once_and_respects_the_limit(
    cutters, tokenizer, texts, size
):
    for text, stretches in zip(texts, cutters[size].cut(texts)):
        check_cut(text, stretches, tokenizer, size)


@pytest.mark.parametrize(
    "text,expected",
    [
        ("", []),
        (" \n", []),
        (" Short. ", ["Short."]),
        # as many sentences as fit, and not one more
        (
            "Ada Byron wrote notes. They were good. Babbage built engines in London.",
            [
                "Ada Byron wrote notes. They were good.",
                "Babbage built engines in London.",
            ],
        ),
        # no end of a sentence at the abbreviation
        (
            "Soon after the war Mr. Hall left the town of York alone.",
            ["Soon after the war Mr. Hall left the town of", "York alone."],
        ),
    ],
)
def test_cutting_at_sentences(cutters, text, expected):
    (stretches,) = cutters[12].cut([text])
    assert [text[start:end] for start, end in stretches] == expected


def test_cutting_long_documents_at_the_sentences_of_spacy(cutters, tokenizer):
    lines = (ROOT / "tests" / "data" / "passages.jsonl").read_text("utf8").splitlines()
    text = " ".join(json.loads(line)["text"] for line in lines)
    nlp = spacy.blank("en")
    nlp.add_pipe("sentencizer")
    starts = {sent.start_char for sent in nlp(text).sents}
    (stretches,) = Cutter(tokenizer, max_tokens=200).cut([text])
    check_cut(text, stretches, tokenizer, 200)
    assert len(stretches) > 5 and all(start in starts for start, _ in stretches)


def test_cutting_does_not_learn_words(cutters):
    cutter = cutters[40]
    before = len(cutter.nlp.vocab.strings)
    cutter.cut([" ".join(f"neverseen{i}." for i in range(500))])
    assert len(cutter.nlp.vocab.strings) == before


# ---- sampling


def test_sampling_is_uniform_and_does_not_depend_on_the_order():
    texts = [sentence(n) for n in range(200)]
    drawn = Counter()
    for seed in range(400):
        picks = []
        for order in (texts, texts[::-1] + texts):
            sample = Sample(16)
            for text in order:
                rank = rank_text(text, seed)
                if rank not in sample and sample.admits(rank):
                    sample.add(Passage(rank, text, "", 0))
            picks.append([passage.text for passage in sample])
        assert picks[0] == picks[1] and len(picks[0]) == 20
        drawn.update(picks[0])
    # 8,000 draws of 200 texts: 40 each; chi-square with 199 degrees of freedom
    chi_square = sum((drawn[text] - 40) ** 2 / 40 for text in texts)
    assert 130 < chi_square < 280


def test_sampling_ranks_what_is_said():
    assert rank_text("Ada  Byron\n", 0) == rank_text("ADA BYRON", 0)
    assert rank_text("Ada Byron", 0) != rank_text("Ada Byron", 1)


def test_sampling_knows_near_duplicates():
    text = " ".join(sentence(n) for n in range(8))
    near = NearDuplicates()
    assert near.add(text)
    assert not near.add(text.replace("7th", "70th"))
    assert near.add(" ".join(sentence(n) for n in range(4, 12)))  # half of it is new
    assert near.add("...") and near.add("...")  # no words, nothing to compare
    assert near.add("Two words") and not near.add("two words!")


@pytest.mark.parametrize(
    "quota,own,expected",
    [
        (10, {}, {"a": 3, "b": 3, "c": 4}),
        (10, {"b": 8}, {"a": 1, "b": 8, "c": 1}),
        (3, {"a": 5, "b": 0, "c": 9}, {"a": 5, "b": 0, "c": 9}),
    ],
)
def test_quota_is_shared(quota, own, expected):
    assert share_quota(["a", "b", "c"], quota, own) == expected


@pytest.mark.parametrize(
    "quota,own,message",
    [
        (2, {}, "leaves 2 for 3 sources"),
        (9, {"a": 9}, "leaves 0 for 2 sources: b, c"),
        (9, {"x": 9}, "no source 'x'. The sources are a, b, c"),
    ],
)
def test_quota_that_can_not_be(quota, own, message):
    with pytest.raises(InputError, match=message):
        share_quota(["a", "b", "c"], quota, own)


# ---- decontamination


@pytest.fixture
def tests(tmp_path):
    """A folder of test sets: one that figures are reported on, and another."""
    folder = tmp_path / "sets"
    for name, flag, text in (("kept_out", True, LEAK), ("other", False, sentence(5))):
        (folder / name).mkdir(parents=True)
        meta = {"zero_shot_test": flag, "label_names": {}}
        (folder / name / "META.json").write_text(json.dumps(meta))
        rows = [{"tokens": t.split(), "spans": []} for t in (text, SHORT_LEAK)]
        content = "".join(json.dumps(row) + "\n" for row in rows).encode("utf8")
        (folder / name / "test.jsonl.gz").write_bytes(gzip.compress(content))
    return folder


@pytest.mark.parametrize(
    "text,expected",
    [
        (f"Before it. {LEAK} After it.", True),
        ("It is known that " + LEAK.lower().rstrip(".") + ", as they do", True),
        (LEAK.replace("harbour", "market"), False),  # no 13 words in a row
        ("He spoke. play something by Miles Davis now! She did not.", True),
        ("We play something by Miles Davis now and then.", False),  # no sentence
        ("Do not. Play something.", False),
        ("", False),
    ],
)
def test_contamination(tests, text, expected):
    assert Contamination.from_sets(tests).touches(text) is expected


def test_contamination_of_named_sets_and_both_ways_of_writing(tests):
    found = Contamination.from_sets(tests, ["other"], splits=("dev", "test"))
    assert found.touches(sentence(5)) and not found.touches(LEAK)
    row = {"tokens": "They do n't ask why we wo n't".split(), "spans": []}
    path = tests / "other" / "dev.jsonl.gz"
    path.write_bytes(gzip.compress(json.dumps(row).encode("utf8")))
    found = Contamination.from_sets(tests, ["other"], splits=("dev", "test"))
    assert found.touches("They don't ask why we won't.")
    assert found.touches("They do n't ask why we wo n't")


def test_contamination_without_sets(tests, tmp_path):
    (tmp_path / "empty").mkdir()
    for folder, names, message in (
        (tmp_path / "nowhere", None, "There is no folder"),
        (tmp_path / "empty", None, "No set in"),
        (tests, ["kept_in"], "There is no test set"),
    ):
        with pytest.raises(InputError, match=message):
            Contamination.from_sets(folder, names)
    with pytest.raises(InputError, match="has no dev split"):
        Contamination.from_sets(tests, ["other"], splits=("dev",))
    (tests / "other" / "test.jsonl.gz").write_bytes(gzip.compress(b"{}" * 50)[:20])
    with pytest.raises(InputError, match="can't be read"):
        Contamination.from_sets(tests, ["other"])


@pytest.mark.parametrize(
    "text,expected",
    [
        (sentence(1), False),
        ("Die Stadt liegt am Ufer des Flusses, und niemand kennt ihren Namen.", True),
        ("Les enfants jouent dans le jardin pendant que leur mère travaille.", True),
        ("¿Qué? 1815–1852", False),  # too few letters to tell
    ],
)
def test_language(text, expected):
    assert is_foreign(text) is expected


# ---- the script


def test_corpus_end_to_end(run, notes, tests, tmp_path):
    folder = tmp_path / "more" / "deep"
    folder.mkdir(parents=True)
    foreign = "Die Stadt liegt am Ufer des Flusses, und niemand kennt ihren Namen."
    texts = [sentence(1).upper(), foreign, LEAK, "Too short.", sentence(1000)]
    texts += [" ".join(map(sentence, range(400, 440))), sentence(1000)]
    rows = "".join(json.dumps({"text": text}) + "\n" for text in texts)
    (folder / "x.jsonl").write_text(rows + "torn\n")
    (folder / "latin.txt").write_bytes(b"caf\xe9")
    (folder / "y.pdf").write_text("")
    rows, report = run(notes, tmp_path / "more", "--tests", tests, "--max-tokens", 100)
    counts = report["more"]
    assert report["notes.txt"]["kept"] + counts["kept"] == len(rows)
    assert counts["faults"] == {"more/deep/latin.txt": "not UTF-8 at byte 3"}
    assert counts["unusable"] == {"not JSON": 1} and counts["other_files"] == 1
    expected = {"duplicates", "wrong_language", "contaminated", "too_short"}
    assert all(counts[outcome] >= 1 for outcome in expected)
    for source in report.values():
        outcomes = list(source.values())[6:14]
        assert sum(outcomes) == source["passages"] > 0
    documents = {f"more/deep/x.jsonl#{i}": text for i, text in enumerate(texts, 1)}
    lines = enumerate(notes.read_text().splitlines(), 1)
    documents.update({f"notes.txt#{i}": line for i, line in lines})
    for row in rows:
        assert list(row) == ["id", "text", "source", "offset"] and len(row["id"]) == 16
        assert documents[row["source"]][row["offset"] :].startswith(row["text"])
    assert len({row["id"] for row in rows}) == len(rows)
    assert LEAK not in {row["text"] for row in rows}


def test_corpus_is_the_same_again(run, notes, tmp_path):
    command = (notes, "--quota", 50)
    for name in ("a", "b"):
        rows, report = run(*command, out=tmp_path / name / "p.jsonl")
    for name in ("p.jsonl", "p.report.json"):
        assert (tmp_path / "a" / name).read_bytes() == (
            tmp_path / "b" / name
        ).read_bytes()
    assert len(rows) == 50 and report["notes.txt"]["not_drawn"] > 200
    other, _ = run(*command, "--seed", 1)
    assert {row["text"] for row in other} != {row["text"] for row in rows}


def test_corpus_does_not_depend_on_the_order_of_files(run, tmp_path):
    drawn = []
    for name, step in (("one", 1), ("two", -1)):
        (tmp_path / name).mkdir()
        for number, start in enumerate(range(0, 300, 60)[::step]):
            lines = "\n".join(map(sentence, range(start, start + 60)))
            (tmp_path / name / f"{number}.txt").write_text(lines)
        rows, _ = run(tmp_path / name, "--quota", 40)
        drawn.append([row["text"] for row in rows])
    assert drawn[0] == drawn[1] and len(drawn[0]) == 40


@pytest.mark.parametrize(
    "args,message",
    [
        (["nowhere.txt"], "There is no file or folder nowhere.txt"),
        (["{notes}", "--max-tokens", "7"], "room for 8 tokens or more, got 7"),
        (["{notes}", "--tokenizer", "{tmp}"], "There is no .*tokenizer.json"),
        (["{notes}", "--quota", "0"], "leaves 0 for 1 source"),
        (["{notes}", "--source-quota", "x=3"], "no source 'x'"),
        (["{notes}", "--tests", "{tmp}/x"], "There is no folder"),
        (["{notes}", "{notes}"], "given twice"),
        (["{tmp}"], "lies in the input"),
        (["{tmp}/data.csv"], "of no format that can be read"),
        (["{tmp}/empty"], "Nothing to sample: 0 files, 0 documents"),
        (["{tmp}/bad.txt"], "1 files, 0 documents. .*bad.txt: not UTF-8 at byte 0"),
        (["{notes}", "--min-chars", "900"], "left of 300 passages .300 too_short."),
        (["{notes}", "--source-quota", "notes.txt=0"], "300 not_drawn"),
    ],
)
def test_corpus_says_what_is_wrong(run, notes, tmp_path, args, message):
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.txt").write_bytes(b"\xff\xfe")
    (tmp_path / "data.csv").write_text("x")
    with pytest.raises(InputError, match=message):
        run(*[arg.format(notes=notes, tmp=tmp_path) for arg in args])


def test_corpus_writes_json_lines_only(run, notes, tmp_path):
    with pytest.raises(InputError, match="written as .jsonl, got --out"):
        run(notes, out=tmp_path / "passages.jsonl.gz")


def test_corpus_of_files_with_names_that_are_not_utf8(run, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9.txt")).write_text(sentence(1))
    Path(os.fsdecode(os.fsencode(folder) + b"/bad\xe9.txt")).write_bytes(b"\xff")
    rows, report = run(folder)
    assert [row["source"] for row in rows] == ["in/caf\ufffd.txt#1"]
    assert list(report["in"]["faults"]) == ["in/bad\ufffd.txt"]


@pytest.mark.parametrize("content", ["{", "{}", "[]"])
def test_corpus_with_a_broken_tokenizer(run, notes, tmp_path, content):
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(InputError, match="tokenizer.json is no"):
        run(notes, "--tokenizer", tmp_path)


def test_corpus_runs_alone(run, notes, tmp_path):
    out = tmp_path / "out" / "passages.jsonl"
    with alone(out), pytest.raises(InputError, match="Another run is writing"):
        run(notes, out=out)


def test_corpus_on_a_full_disk_keeps_the_old_output(notes, tmp_path):
    out = tmp_path / "out" / "passages.jsonl"
    out.parent.mkdir()
    out.write_text("old\n")
    command = [sys.executable, "-m", "training.corpus", str(notes), "--out", str(out)]
    full = subprocess.run(
        command,
        cwd=ROOT,
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096)),
    )
    assert full.returncode == 1 and "File too large" in full.stderr
    assert "Traceback" not in full.stderr
    assert out.read_text() == "old\n"
    assert not list(out.parent.glob("*.part"))


def test_corpus_that_drops_everything_fails(tmp_path):
    (tmp_path / "x.txt").write_text("Too short.\nThis too.\n")
    command = [sys.executable, "-m", "training.corpus", str(tmp_path / "x.txt")]
    command += ["--out", str(tmp_path / "out" / "p.jsonl")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and not (tmp_path / "out" / "p.jsonl").exists()
    assert "error: Nothing is left of 2 passages (2 too_short)" in done.stderr

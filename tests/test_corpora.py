"""Corpora: any input, any stop, and every document comes out once."""

import gzip
import json
import os
import random
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
import tracemalloc
from collections import Counter
from pathlib import Path

import pytest
import spacy
from spacy.tokens import DocBin
from typer.testing import CliRunner

from spacy_uniner.cli import app
from spacy_uniner.corpora import Recipe, annotate_corpus, run_on_ray
from spacy_uniner.corpora import folder as folder_module
from spacy_uniner.corpora import records as records_module
from spacy_uniner.corpora.on_ray import plan_workers
from spacy_uniner.corpora.recipe import import_code
from spacy_uniner.corpora.records import find_sources, read_records
from spacy_uniner.corpora.shards import cut_shards
from spacy_uniner.corpora.working import Worker

CODE = Path(__file__).parent / "corpora_code.py"
N = 25  # documents


def read_rows(path):
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def read_output(folder):
    """All documents of a folder of JSON lines, in the order of shards."""
    files = sorted(folder.glob("shard-*.jsonl"))
    return [row for file in files for row in read_rows(file)]


def snapshot(folder):
    """What a finished run leaves, but for what it was made with."""
    names = sorted(p.name for p in folder.iterdir() if p.name != ".lock")
    journal = {row.get("shard"): row for row in read_rows(folder / "shards.jsonl")}
    others = {n: (folder / n).read_bytes() for n in names if n != "shards.jsonl"}
    # by time, not by number
    others["errors.jsonl"] = b"".join(sorted(others["errors.jsonl"].splitlines(True)))
    return others, journal


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """What tests share."""
    return tmp_path_factory.mktemp("corpora")


@pytest.fixture(scope="module")
def corpus(place):
    """A file of documents, two of which can't be read."""
    rows = [{"text": f"Ada met number {i}.", "id": i} for i in range(N)]
    lines = [json.dumps(row) for row in rows]
    lines[7], lines[16] = '{"text": "\\ud83d"}', "not JSON"
    path = place / "corpus.jsonl"
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def recipe(place):
    return save_recipe(place / "pipeline")


def save_recipe(path, **config):
    """A pipeline without weights that finds Ada."""
    code = Recipe(pipeline=path, code=CODE)
    import_code(CODE)
    nlp = spacy.blank("en")
    ruler = nlp.add_pipe("entity_ruler")
    ruler.add_patterns([{"label": "person", "pattern": "Ada"}])
    if config:
        nlp.add_pipe("trial", config=config)
    nlp.to_disk(path)
    return code


# ---- reading


def test_records_of_every_input_come_in_order(tmp_path):
    (tmp_path / "in" / "deep").mkdir(parents=True)
    (tmp_path / "in" / "a.txt").write_bytes(b"\xef\xbb\xbfone\r\n\r\n  two \nthree")
    row = b'{"text": "four", "x": 1}\n'
    (tmp_path / "in" / "deep" / "b.jsonl.gz").write_bytes(gzip.compress(row))
    (tmp_path / "in" / ".hidden.txt").write_text("no")
    (tmp_path / "in" / "notes.md").write_text("no")
    (tmp_path / "in" / "out").mkdir()
    (tmp_path / "in" / "out" / "shard-000000.jsonl").write_bytes(row)
    nlp = spacy.blank("en")
    docs = [nlp("five"), nlp("six")]
    docs[0].ents = [docs[0].char_span(0, 4, "number")]
    DocBin(docs=docs, store_user_data=True).to_disk(tmp_path / "c.spacy")
    (tmp_path / "d.txt.gz").write_bytes(gzip.compress(b"seven\n"))
    inputs = [tmp_path / n for n in ("in", "c.spacy", "d.txt.gz", "c.spacy")]
    output = tmp_path / "in" / "out"
    shards = list(cut_shards(read_records(find_sources(inputs, output)), 100))
    (tmp_path / "empty").mkdir()
    spacy.blank("en").to_disk(tmp_path / "empty")
    worker = Worker(Recipe(pipeline=tmp_path / "empty"), "jsonl")
    result = worker.annotate(shards[0])
    rows = [json.loads(line) for line in result.content.splitlines()]
    texts = ["one", "  two ", "three", "four", "five", "six", "seven"]
    assert [row["text"] for row in rows] == texts
    assert [row["number"] for row in rows] == list(range(7))
    assert rows[3]["meta"] == {"x": 1} and "meta" not in rows[0]
    assert rows[4]["spans"] == [[0, 4, "number"]]
    lines = [(Path(r.file).name, r.line) for r in shards[0].records]
    assert lines[2:4] == [("a.txt", 4), ("b.jsonl.gz", 1)]
    sizes = sum(source.size for source in find_sources(inputs, output))
    assert shards[0].records[-1].position == sizes


@pytest.mark.parametrize("name", ["nothing.jsonl", "notes.md", "folder"])
def test_records_nothing_to_read_is_an_error(tmp_path, name):
    (tmp_path / "notes.md").write_text("no")
    (tmp_path / "folder").mkdir()
    with pytest.raises(ValueError, match="U110"):
        find_sources([tmp_path / name], tmp_path / "out")


@pytest.mark.parametrize(
    "line,reason",
    [
        (b"nope", "not JSON"),
        (b'{"txt": 1}', 'string under "text"'),
        (b'["text"]', 'string under "text"'),
        (b'{"text": null}', 'string under "text"'),
        (b'{"text": " \\n"}', "empty"),
        (b'{"text": "\\ud83d"}', "U003"),
        (b'{"text": "a", "x": "\\ud83d"}', "other keys"),
        (b'{"text": "a", "x": NaN}', "not JSON: NaN"),
        (b'{"text": "a", "x": 1e999}', "other keys"),
        (b'{"text": "a", "x": ' + b"1" * 5000 + b"}", "not JSON"),
        (b'{"text": "a", "x": ' + b"[" * 100_000, "RecursionError"),
        (b'{"text": "\xff"}', "not UTF-8"),
        (json.dumps({"text": "a " * 600_000}).encode(), "E088"),
    ],
)
def test_corpora_bad_documents_go_aside(tmp_path, recipe, line, reason):
    path = tmp_path / "in.jsonl"
    path.write_bytes(b'{"text": "Ada"}\n' + line + b'\n{"text": "Ada again"}\n')
    summary = annotate_corpus([path], tmp_path / "out", recipe)
    assert (summary.documents, summary.written, summary.errors) == (3, 2, 1)
    assert [row["number"] for row in read_output(tmp_path / "out")] == [0, 2]
    (row,) = read_rows(tmp_path / "out" / "errors.jsonl")
    assert reason in row.pop("reason")
    assert row == {"shard": 0, "number": 1, "file": str(path), "line": 2}


def test_corpora_keys_that_a_docbin_cant_pack_go_aside(tmp_path, recipe):
    path = tmp_path / "in.jsonl"
    rows = [{"text": "a", "x": 2**70}, {"text": "b", "x": [1, None]}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert annotate_corpus([path], tmp_path / "1", recipe).errors == 0
    assert annotate_corpus([path], tmp_path / "2", recipe, format="spacy").errors == 1
    bin = DocBin().from_disk(tmp_path / "2" / "shard-000000.spacy")
    (doc,) = bin.get_docs(spacy.blank("en").vocab)
    assert (doc.text, doc.user_data["number"]) == ("b", 1)


def test_corpora_a_damaged_file_costs_its_rest_only(tmp_path, recipe):
    lines = b"".join(
        b"document %d %s\n" % (i, os.urandom(40).hex().encode()) for i in range(3000)
    )
    torn = gzip.compress(lines)
    (tmp_path / "a.txt.gz").write_bytes(torn[: len(torn) // 2])
    (tmp_path / "b.txt.gz").write_bytes(b"no gzip at all")
    (tmp_path / "c.spacy").write_bytes(b"no DocBin")
    (tmp_path / "d.txt").write_text("Ada\n")
    inputs = [tmp_path / n for n in ("a.txt.gz", "b.txt.gz", "c.spacy", "d.txt")]
    summary = annotate_corpus(inputs, tmp_path / "out", recipe)
    assert summary.errors == 3 and summary.written > 1000
    rows = read_rows(tmp_path / "out" / "errors.jsonl")
    assert all("damaged" in row["reason"] or "DocBin" in row["reason"] for row in rows)
    assert read_output(tmp_path / "out")[-1]["text"] == "Ada"


def test_records_too_long_a_line_is_skipped_unread(tmp_path, monkeypatch):
    monkeypatch.setattr(records_module, "MAX_LINE", 100)
    path = tmp_path / "a.txt"
    path.write_text("one\n" + "x" * 1000 + "\ntwo\n" + "y" * 101)
    records = list(read_records(find_sources([path], tmp_path / "out")))
    assert [(r.line, r.kind) for r in records] == [
        (1, "text"),
        (2, "fault"),
        (3, "text"),
        (4, "fault"),
    ]


@pytest.mark.parametrize(
    "size,max_bytes,expected",
    [(4, 999, [4, 4, 2]), (9, 3, [3, 3, 3, 1]), (10, 999, [10])],
)
def test_shards_end_by_documents_or_bytes(tmp_path, size, max_bytes, expected):
    path = tmp_path / "a.txt"
    path.write_text("x" * 0 + "\n".join("abcdefghij"))
    records = [
        r._replace(content=b"x")
        for r in read_records(find_sources([path], tmp_path / "o"))
    ]
    shards = list(cut_shards(records, size, max_bytes=max_bytes))
    assert [len(shard.records) for shard in shards] == expected
    left = cut_shards(records, size, max_bytes=max_bytes, done={0})
    assert list(left) == [(0, []), *shards[1:]]


def test_shards_of_a_large_input_take_level_memory(tmp_path):
    path = tmp_path / "large.txt.gz"
    with gzip.open(path, "wb", compresslevel=1) as out:
        for i in range(60_000):
            out.write(b"%d " % i + b"word " * 80 + b"\n")
    tracemalloc.start()
    shards = cut_shards(read_records(find_sources([path], tmp_path / "o")), 200)
    assert sum(len(shard.records) for shard in shards) == 60_000
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2 << 20  # of 25 MB


def test_worker_forgets_words_with_their_shard(tmp_path, recipe):
    path = tmp_path / "a.txt"
    path.write_text("".join(f"word{i} name{i}\n" for i in range(300)))
    worker = Worker(recipe, "jsonl")
    sizes = []
    for shard in cut_shards(read_records(find_sources([path], tmp_path / "o")), 100):
        worker.annotate(shard)
        sizes.append(len(worker._nlp.vocab.strings))
    assert sizes[0] == sizes[-1]


# ---- annotating


def test_corpora_output_is_what_the_pipeline_says(tmp_path, make_nlp):
    nlp = make_nlp({"person": [("Ada", 0.9)], "city": ["Atlantis"]})
    nlp.to_disk(tmp_path / "nlp")
    path = tmp_path / "in.txt"
    path.write_text("Ada wrote.\nNobody did.\nAda Ada\n")
    recipe = Recipe(pipeline=tmp_path / "nlp")
    summary = annotate_corpus([path], tmp_path / "out", recipe, shard_size=2)
    assert read_output(tmp_path / "out")[0] == {
        "number": 0,
        "text": "Ada wrote.",
        "spans": [[0, 3, "person"]],
        "scores": [0.9],
    }
    assert (summary.shards, summary.entities, summary.written) == (2, 3, 3)
    assert summary.ledger["not_in_text"] == 4 and summary.ledger["answers"] == 6
    again = annotate_corpus([path], tmp_path / "out", recipe, shard_size=2)
    assert again.reused == 2
    assert again._replace(seconds=0, reused=0) == summary._replace(seconds=0)


@pytest.mark.parametrize("format", ["jsonl", "spacy", "parquet"])
def test_corpora_every_format_holds_the_same(tmp_path, corpus, recipe, format):
    if format == "parquet":
        pytest.importorskip("pyarrow")
    out = tmp_path / "out"
    annotate_corpus([corpus], out, recipe, format=format, shard_size=10)
    files = sorted(out.glob(f"shard-*.{format}"))
    assert len(files) == 3
    found = []
    for file in files:
        if format == "jsonl":
            found += [
                (r["number"], r["text"], r["spans"], r["meta"]) for r in read_rows(file)
            ]
        elif format == "spacy":
            for doc in DocBin().from_disk(file).get_docs(spacy.blank("en").vocab):
                spans = [[e.start_char, e.end_char, e.label_] for e in doc.ents]
                data = doc.user_data
                found.append((data["number"], doc.text, spans, data["meta"]))
        else:
            from pyarrow import parquet

            for row in parquet.read_table(file).to_pylist():
                spans = [[s["start"], s["end"], s["label"]] for s in row["spans"]]
                found.append(
                    (row["number"], row["text"], spans, json.loads(row["meta"]))
                )
    numbers = [i for i in range(N) if i not in (7, 16)]
    assert found == [
        (i, f"Ada met number {i}.", [[0, 3, "person"]], {"id": i}) for i in numbers
    ]


@pytest.mark.parametrize("format", ["jsonl", "spacy"])
@pytest.mark.parametrize("in_batches", [0, 1])
def test_corpora_a_document_that_fails_costs_no_other(tmp_path, in_batches, format):
    recipe = save_recipe(tmp_path / "p", in_batches=in_batches)
    path = tmp_path / "in.txt"
    path.write_text("Ada 0\nboom 1\nAda 2\nboom 3\nAda 4\n")
    out = tmp_path / "out"
    summary = annotate_corpus([path], out, recipe, format=format)
    assert (summary.written, summary.errors, summary.entities) == (3, 2, 3)
    faults = read_rows(out / "errors.jsonl")
    assert [fault["number"] for fault in faults] == [1, 3]
    assert "no way to read 'boom 1'" in faults[0]["reason"]
    if format == "jsonl":
        assert [row["number"] for row in read_output(out)] == [0, 2, 4]
    else:
        docs = (
            DocBin()
            .from_disk(out / "shard-000000.spacy")
            .get_docs(spacy.blank("en").vocab)
        )
        assert [doc.user_data["number"] for doc in docs] == [0, 2, 4]


def test_corpora_a_pipeline_that_fails_stops_the_run(tmp_path, corpus):
    """A server that goes down makes no document wrong."""
    switch = tmp_path / "down"
    recipe = save_recipe(tmp_path / "p", switch=str(switch))
    out = tmp_path / "out"

    def run_until_down(shards, tick):
        worker = Worker(recipe, "jsonl")
        for shard in shards:
            if shard.number == 2:
                switch.touch()
            yield worker.annotate(shard)

    with pytest.raises(RuntimeError, match="U114.*the server is down"):
        annotate_corpus([corpus], out, recipe, shard_size=5, runner=run_until_down)
    with pytest.raises(RuntimeError, match="U114"):
        annotate_corpus([corpus], out, recipe, shard_size=5)
    switch.unlink()
    summary = annotate_corpus([corpus], out, recipe, shard_size=5)
    assert (summary.reused, summary.written, summary.errors) == (2, N - 2, 2)


def test_corpora_a_component_that_swaps_documents_is_refused(tmp_path, corpus):
    @spacy.Language.component("swapping")
    def swap(doc):
        return spacy.tokens.Doc(doc.vocab, words=["other"])

    nlp = spacy.blank("en")
    nlp.add_pipe("swapping")
    nlp.to_disk(tmp_path / "p")
    with pytest.raises(RuntimeError, match="U119"):
        annotate_corpus([corpus], tmp_path / "out", Recipe(pipeline=tmp_path / "p"))


# ---- going on


@pytest.fixture(scope="module")
def clean(place, corpus, recipe):
    """What a run leaves that nothing stopped."""
    annotate_corpus([corpus], place / "clean", recipe, shard_size=4)
    return snapshot(place / "clean")


@pytest.mark.parametrize(
    "name,call",
    [*(("fsync", n) for n in range(12)), *(("replace", n) for n in range(5))],
)
def test_corpora_full_disk_is_told_and_costs_nothing(
    tmp_path, corpus, recipe, clean, monkeypatch, name, call
):
    out = tmp_path / "out"
    calls = Counter()
    real = {"fsync": os.fsync, "replace": Path.replace}[name]

    def fail(*args):
        calls[name] += 1
        if calls[name] > call:
            raise OSError(28, "No space left on device")
        return real(*args)

    with monkeypatch.context() as patched:
        patched.setattr({"fsync": os, "replace": Path}[name], name, fail)
        try:
            annotate_corpus([corpus], out, recipe, shard_size=4)
        except OSError as error:
            assert "U113" in str(error) and "No space left" in str(error)
        else:
            raise AssertionError("no error")
    summary = annotate_corpus([corpus], out, recipe, shard_size=4)
    assert (summary.documents, summary.written, summary.errors) == (N, N - 2, 2)
    assert snapshot(out) == clean


def test_corpora_a_disk_that_is_full_in_earnest(tmp_path, corpus, recipe):
    out = tmp_path / "out"
    process = start(corpus, out, recipe, 10, preexec_fn=limit_files)
    _, errors = process.communicate()
    assert process.returncode == 1 and "U113" in errors and "Traceback" not in errors
    assert not read_output(out) and not list(out.glob(".*.part"))
    summary = annotate_corpus([corpus], out, recipe, shard_size=10)
    assert summary.written == N - 2


def limit_files():
    resource.setrlimit(resource.RLIMIT_FSIZE, (600, 600))


@pytest.mark.parametrize("damage", ["gone", "changed", "journal", "torn", "garbage"])
def test_corpora_damage_is_mended(tmp_path, corpus, recipe, clean, damage):
    out = tmp_path / "out"
    annotate_corpus([corpus], out, recipe, shard_size=4)
    shard, journal = out / "shard-000001.jsonl", out / "shards.jsonl"
    if damage == "gone":
        shard.unlink()
    elif damage == "changed":
        shard.write_bytes(shard.read_bytes()[:-1])
    elif damage == "journal":
        journal.unlink()
    elif damage == "torn":
        os.truncate(journal, journal.stat().st_size - 30)
    else:
        text = journal.read_text().replace('"ledger"', '"lodger"', 2)
        journal.write_text("[]\n" + text + '{"shard": 3')
        (out / ".shard-000009.jsonl.part").write_text("half")
        (out / "errors.jsonl").unlink()
    summary = annotate_corpus([corpus], out, recipe, shard_size=4)
    assert (summary.documents, summary.written, summary.errors) == (N, N - 2, 2)
    assert summary.damaged == (
        ["shard-000001.jsonl"] if damage in ("gone", "changed") else []
    )
    assert snapshot(out) == clean


def test_corpora_a_finished_run_reads_no_input(tmp_path, corpus, recipe, monkeypatch):
    annotate_corpus([corpus], tmp_path / "out", recipe)
    monkeypatch.setattr("spacy_uniner.corpora.annotating.read_records", None)
    assert annotate_corpus([corpus], tmp_path / "out", recipe).reused == 1


@pytest.mark.parametrize(
    "change,told",
    [
        ("input", "inputs.*`bytes` of 'corpus.jsonl'"),
        ("time", "inputs.*`modified_ns` of 'corpus.jsonl'"),
        ("more", r"inputs: 1 file\(s\) there, 2 now"),
        ("other", "inputs.*`file` 'corpus.jsonl' there, 'other.jsonl' now"),
        ("format", "settings: `format` 'jsonl' there, 'spacy' now"),
        ("shard_size", "settings: `shard_size` 4 there, 5 now"),
        ("pipeline", "settings: `pipeline`"),
        ("recipe", "settings: .*`labels`"),
    ],
)
def test_corpora_another_run_is_refused_with_the_difference(
    tmp_path, corpus, change, told
):
    recipe = save_recipe(tmp_path / "pipeline")
    corpus = Path(shutil.copy2(corpus, tmp_path))
    out = tmp_path / "out"
    inputs, settings = [corpus], {"shard_size": 4}
    annotate_corpus(inputs, out, recipe, **settings)
    before = snapshot(out)
    if change == "input":
        corpus.write_text(corpus.read_text() + "one more\n")
    elif change == "time":
        os.utime(corpus, (1, 1))
    elif change in ("more", "other"):
        other = corpus.with_name("other.jsonl")
        other.write_bytes(corpus.read_bytes())
        inputs = [corpus, other] if change == "more" else [other]
        state = corpus.stat()
        os.utime(other, ns=(state.st_mtime_ns, state.st_mtime_ns))
    elif change == "pipeline":
        config = tmp_path / "pipeline" / "config.cfg"
        config.write_text(config.read_text() + "\n")
    elif change == "recipe":
        recipe = Recipe(labels=("person",))
    else:
        settings[change] = {"format": "spacy", "shard_size": 5}[change]
    with pytest.raises(ValueError, match=f"U111.*{told}"):
        annotate_corpus(inputs, out, recipe, **settings)
    assert snapshot(out) == before


def test_corpora_settings_may_change_while_nothing_is_done(tmp_path, corpus, recipe):
    switch = tmp_path / "down"
    switch.touch()
    failing = save_recipe(tmp_path / "p", switch=str(switch))
    with pytest.raises(RuntimeError, match="U114"):
        annotate_corpus([corpus], tmp_path / "out", failing)
    (tmp_path / "out" / "shard-000000.spacy").write_bytes(b"of a kill before its line")
    summary = annotate_corpus([corpus], tmp_path / "out", recipe, shard_size=9)
    assert (summary.shards, summary.written) == (3, N - 2)
    assert len(list((tmp_path / "out").glob("shard-*"))) == 3
    (tmp_path / "out" / "shards.jsonl").unlink()  # work is not thrown away lightly
    with pytest.raises(ValueError, match="U111"):
        annotate_corpus([corpus], tmp_path / "out", recipe, shard_size=5)
    assert len(list((tmp_path / "out").glob("shard-*"))) == 3


def test_corpora_a_moved_run_goes_on(tmp_path, corpus, recipe):
    corpus = Path(shutil.copy2(corpus, tmp_path))
    annotate_corpus([corpus], tmp_path / "out", recipe)
    (tmp_path / "new").mkdir()
    moved = corpus.rename(tmp_path / "new" / corpus.name)
    out = (tmp_path / "out").rename(tmp_path / "new" / "out")
    assert annotate_corpus([moved], out, recipe).reused == 1


@pytest.mark.parametrize("name,text", [("notes.txt", "mine"), ("manifest.json", "{")])
def test_corpora_a_folder_of_something_else_is_left_alone(
    tmp_path, corpus, recipe, name, text
):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_text(text)
    with pytest.raises(ValueError, match="U117"):
        annotate_corpus([corpus], tmp_path / "out", recipe)
    assert (tmp_path / "out" / name).read_text() == text


@pytest.mark.parametrize(
    "settings,code", [({"shard_size": 0}, "U039"), ({"format": "csv"}, "U014")]
)
def test_corpora_settings_are_checked_first(tmp_path, corpus, recipe, settings, code):
    with pytest.raises(ValueError, match=code):
        annotate_corpus([corpus], tmp_path / "out", recipe, **settings)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("package,use", [("pyarrow", "parquet"), ("ray", "ray")])
def test_corpora_missing_packages_are_told(
    tmp_path, corpus, recipe, monkeypatch, package, use
):
    for name in [n for n in sys.modules if n.split(".")[0] == package] + [package]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=f"U038.*{package}"):
        if use == "ray":
            run_on_ray(recipe, "jsonl")
        else:
            annotate_corpus([corpus], tmp_path / "out", recipe, format=use)


# ---- processes


def command(corpus, out, recipe, shard_size, *more):
    args = ["annotate-corpus", corpus, "--output", out, "--shard-size", shard_size]
    args += ["--pipeline", recipe.pipeline, "--code", recipe.code, *more]
    return [sys.executable, "-m", "spacy_uniner", *map(str, args)]


def start(corpus, out, recipe, shard_size, *more, **settings):
    return subprocess.Popen(
        command(corpus, out, recipe, shard_size, *more),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        **settings,
    )


def count_lines(path):
    return path.read_bytes().count(b"\n") if path.exists() else 0


def wait_for(process, path, lines, seconds=60):
    """Wait until a log has that many lines."""
    end = time.monotonic() + seconds
    while count_lines(path) < lines and process.poll() is None:
        assert time.monotonic() < end
        time.sleep(0.002)


def test_corpora_two_runs_at_once_and_ctrl_c(tmp_path, corpus):
    log = tmp_path / "log"
    recipe = save_recipe(tmp_path / "p", log=str(log), seconds=0.15)
    out = tmp_path / "out"
    process = start(corpus, out, recipe, 4)
    wait_for(process, log, 12)
    with pytest.raises(ValueError, match="U112"):
        annotate_corpus([corpus], out, recipe, shard_size=4)
    os.kill(process.pid, signal.SIGINT)
    _, errors = process.communicate()
    assert process.returncode == 130 and "Traceback" not in errors
    summary = annotate_corpus([corpus], out, recipe, shard_size=4)
    assert summary.reused >= 2 and summary.written == N - 2
    texts = [line.split(" ", 1)[1] for line in log.read_text().splitlines()]
    again = Counter(t for t in texts if "Lovelace" not in t)
    assert sum(again.values()) - len(again) <= 4


def kill_until_done(folder, n_documents, n_kills, shard_size, rng, *more, workers=1):
    """Run, kill, run again; then let it end.

    folder (Path): Where to work.
    n_documents (int): Documents of the corpus; every 50th can't be read.
    n_kills (int): Kills of the whole group of processes, spread over the run.
    shard_size (int): Documents of a shard.
    rng (random.Random): Where chance comes from.
    RETURNS (Dict[str, int]): What was counted.
    """
    path, out, log = folder / "in.jsonl", folder / "out", folder / "log"
    rows = [{"text": f"Ada {i}"} if i % 50 else {"txt": i} for i in range(n_documents)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = save_recipe(folder / "p", log=str(log), seconds=0.003)
    counts = Counter(kills=n_kills)
    known = set()
    points = sorted(rng.sample(range(n_documents * 9 // 10), n_kills))
    for point in points:
        before = read_log(log)
        process = start(path, out, recipe, shard_size, *more)
        new = max(point - len(set(before)), 0)
        if rng.random() < 0.1:  # somewhere in its start
            time.sleep(rng.random() * 3)
        else:
            wait_for(process, log, count_lines(log) + new + rng.randrange(1, 30))
        time.sleep(rng.random() * 0.02)
        counts["at work"] += process.poll() is None
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        time.sleep(1.0 if workers > 1 else 0.0)  # for workers to see it
        done = {row["number"] for row in read_output(out)}
        counts["lost"] += len(known - done)
        known = done
        after = read_log(log)
        repeated = len(after) - len(before) - len(set(after) - set(before))
        counts["most_repeated"] = max(counts["most_repeated"], repeated)
    process = start(path, out, recipe, shard_size, *more)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    numbers = [row["number"] for row in read_output(out)]
    aside = [row["number"] for row in read_rows(out / "errors.jsonl")]
    texts = read_log(log)
    counts.update(
        written=len(numbers),
        twice=len(numbers) - len(set(numbers)),
        aside=len(aside),
        twice_aside=len(aside) - len(set(aside)),
        missing=n_documents - len({*numbers, *aside}),
        shards_repeated=(len(texts) - len(set(texts))) / shard_size,
    )
    return counts


def read_log(log):
    """Documents of the corpus that components have read, repeats included."""
    lines = log.read_text().splitlines() if log.exists() else []
    texts = [line.split(" ", 1)[1] for line in lines]
    return [text for text in texts if "Lovelace" not in text]


def check_kills(counts, workers):
    print(dict(counts))
    assert counts["at work"] >= 0.8 * counts["kills"]
    for name in ("lost", "twice", "twice_aside", "missing"):
        assert not counts[name], name
    # at most one shard per worker is done again, for each kill
    assert counts["shards_repeated"] <= counts["kills"] * workers


def test_corpora_kills_lose_nothing(tmp_path):
    counts = kill_until_done(tmp_path, 500, 5, 20, random.Random(0))
    check_kills(counts, 1)


@pytest.mark.slow
@pytest.mark.parametrize("over_ray", [False, True])
def test_corpora_fifty_kills_lose_nothing(tmp_path, over_ray):
    n_kills = int(os.environ.get("KILLS", "50"))
    more = ["--ray", "--workers", "2"] if over_ray else []
    if over_ray:
        pytest.importorskip("ray")
    counts = kill_until_done(
        tmp_path, 2000, n_kills, 20, random.Random(1), *more, workers=1 + over_ray
    )
    check_kills(counts, 1 + over_ray)


# ---- the command


def test_corpora_command_tells_what_it_did(tmp_path, corpus, recipe):
    args = command(corpus, tmp_path / "out", recipe, 4)[3:]
    result = CliRunner().invoke(app, args)
    assert result.exit_code == 0, result.output
    assert f"{N - 2} of {N} document(s), {N - 2} entities, 7 shard(s)" in result.output
    assert "2 document(s) set aside" in result.output and "\r" not in result.output
    assert "0 before" in result.output
    assert "7 before" in CliRunner().invoke(app, args).output


def test_corpora_command_takes_labels(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("Ada Lovelace met Charles Babbage in London.\n")
    args = ["annotate-corpus", str(path), "-o", str(tmp_path / "out")]
    result = CliRunner().invoke(app, [*args, "--labels", "person, city"])
    assert result.exit_code == 0, result.output
    assert "certified" in result.output
    assert {label for *_, label in read_output(tmp_path / "out")[0]["spans"]} <= {
        "person",
        "city",
    }
    assert (
        "mini "
        in read_rows_of_json(tmp_path / "out" / "manifest.json")["settings"]["model"]
    )


def read_rows_of_json(path):
    return json.loads(path.read_text())


@pytest.mark.parametrize(
    "more,code",
    [
        (["--format", "csv"], "U014"),
        (["--shard-size", "0"], "U039"),
        (["--labels", "person"], "U118"),
        (["--workers", "2"], "U118"),
        (["--ray", "--workers", "0"], "U039"),
        (["/no/such/file.jsonl"], "U110"),
        (["--code", "/no/such/file.py"], "U060"),
        (["--pipeline", "/no/such/pipeline"], "E052"),
    ],
)
def test_corpora_command_errors(tmp_path, corpus, recipe, more, code):
    if "--ray" in more:
        pytest.importorskip("ray")
    args = command(corpus, tmp_path / "out", recipe, 4, *more)[3:]
    result = CliRunner().invoke(app, args)
    assert code in str(result.exception)
    assert not (tmp_path / "out").exists()


def test_corpora_command_needs_labels_or_a_pipeline(corpus, tmp_path):
    result = CliRunner().invoke(
        app, ["annotate-corpus", str(corpus), "-o", str(tmp_path / "o")]
    )
    assert "U010" in str(result.exception)


def test_corpora_progress_shows_documents_and_rest(tmp_path, corpus, recipe, capsys):
    annotate_corpus([corpus], tmp_path / "1", recipe, show_progress=True)
    assert f"{N}/{N}" in capsys.readouterr().err.split("\r")[-1]
    annotate_corpus([corpus], tmp_path / "2", recipe)
    assert capsys.readouterr().err == ""


# ---- Ray


@pytest.mark.parametrize(
    "found,workers,gpus,device,expected",
    [
        ({"CPU": 8.0}, None, None, "auto", (8, 0.0)),
        ({"CPU": 8.0}, 2, None, "auto", (2, 0.0)),
        ({"CPU": 8.0, "GPU": 2.0}, None, None, "auto", (2, 1.0)),
        ({"CPU": 8.0, "GPU": 2.0}, None, 0.5, "auto", (4, 0.5)),
        ({"CPU": 8.0, "GPU": 2.0}, None, None, "cpu", (8, 0.0)),
        ({"CPU": 8.0, "GPU": 2.0}, 3, None, "auto", None),
        ({"CPU": 8.0}, 1, 1.0, "auto", None),
        ({"CPU": 2.0}, 3, None, "auto", None),
        ({}, None, None, "auto", None),
    ],
)
def test_ray_workers_fit_the_cluster(found, workers, gpus, device, expected):
    if expected is None:
        with pytest.raises(ValueError, match="U116"):
            plan_workers(found, workers, gpus, device)
    else:
        assert plan_workers(found, workers, gpus, device) == expected


@pytest.mark.parametrize("address", ["127.0.0.1:{}", "ray://127.0.0.1:{}", "nonsense"])
def test_ray_wrong_address_is_told_at_once(tmp_path, corpus, recipe, address):
    pytest.importorskip("ray")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = address.format(closed.getsockname()[1])
    runner = run_on_ray(recipe, "jsonl", address=address)
    started = time.monotonic()
    with pytest.raises(ValueError, match="U118.*address"):
        annotate_corpus([corpus], tmp_path / "out", recipe, runner=runner)
    assert time.monotonic() - started < 20


@pytest.fixture(scope="module")
def cluster():
    """Ray on this machine, with two processors."""
    ray = pytest.importorskip("ray")
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield ray
    ray.shutdown()


@pytest.mark.slow
def test_ray_gives_the_same(tmp_path, corpus, recipe, clean, cluster):
    out = tmp_path / "out"
    runner = run_on_ray(recipe, "jsonl", workers=2)
    summary = annotate_corpus([corpus], out, recipe, shard_size=4, runner=runner)
    assert (summary.written, summary.errors, summary.shards) == (N - 2, 2, 7)
    assert snapshot(out) == clean


@pytest.mark.slow
def test_ray_a_killed_worker_costs_its_shard(tmp_path, corpus, cluster):
    log = tmp_path / "log"
    recipe = save_recipe(tmp_path / "p", log=str(log), seconds=0.02)
    inner = run_on_ray(recipe, "jsonl", workers=2)
    killed = []

    def run(shards, tick):
        for result in inner(shards, tick):
            pids = {int(line.split()[0]) for line in log.read_text().splitlines()}
            alive = [pid for pid in pids if Path(f"/proc/{pid}").exists()]
            if len(killed) < 3 and result.number % 2 and alive:
                os.kill(alive[0], signal.SIGKILL)
                killed.append(alive[0])
            yield result

    summary = annotate_corpus(
        [corpus], tmp_path / "out", recipe, shard_size=3, runner=run
    )
    assert killed and summary.written == N - 2 and summary.errors == 2
    texts = read_log(log)
    assert len(texts) - len(set(texts)) <= 3 * len(killed)


@pytest.mark.slow
def test_ray_errors_of_workers_are_told(tmp_path, cluster):
    recipe = save_recipe(tmp_path / "p", seconds=0.0, log=str(tmp_path / "log"))
    path = tmp_path / "in.txt"
    path.write_text("Ada\nlet it die\n")
    runner = run_on_ray(recipe, "jsonl", workers=1)
    with pytest.raises(RuntimeError, match=r"U115.*Shard 1 \(documents 1 to 1\)"):
        annotate_corpus([path], tmp_path / "1", recipe, shard_size=1, runner=runner)
    assert [row["text"] for row in read_output(tmp_path / "1")] == ["Ada"]
    switch = tmp_path / "down"
    switch.touch()
    recipe = save_recipe(tmp_path / "q", switch=str(switch))
    runner = run_on_ray(recipe, "jsonl", workers=1)
    with pytest.raises(RuntimeError, match="U114.*server is down") as caught:
        annotate_corpus([path], tmp_path / "2", recipe, runner=runner)
    assert "Traceback" not in str(caught.value)
    with pytest.raises(ValueError, match="U116"):
        runner = run_on_ray(recipe, "jsonl", workers=3)
        annotate_corpus([path], tmp_path / "3", recipe, runner=runner)


def test_folder_names_what_it_writes():
    names = (folder_module.MANIFEST, folder_module.JOURNAL, folder_module.ERRORS)
    assert names == ("manifest.json", "shards.jsonl", "errors.jsonl")

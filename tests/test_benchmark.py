"""The benchmark: sets as data, files fetched and checked, any nlp, honest counts."""

import hashlib
import io
import json
import sys
import tarfile
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Dict, List

import numpy as np
import pytest
import spacy
import srsly
from hypothesis import given
from hypothesis import strategies as st
from nervaluate import Evaluator
from spacy.tokens import DocBin
from typer.testing import CliRunner

from spacy_uniner.benchmark import fetching, official_scores, registry
from spacy_uniner.benchmark.__main__ import app
from spacy_uniner.benchmark.examples import Example, draw, read_split
from spacy_uniner.benchmark.report import ZERO_SHOT, averages, draw_plots
from spacy_uniner.benchmark.running import (
    find,
    load_system,
    predict,
    read_predictions,
)
from spacy_uniner.benchmark.score import (
    Prediction,
    count,
    interval,
    normalize,
    read_answer,
    score_set,
)

SET = """
[set]
dataset = "toys"
domain = "general"
licence = "MIT"

[table6]
test = 3
types = 2

[source]
repository = "somebody/toys"
commit = "abc"

[source.files]
test = "data/test.conll"

[source.sha256]
test = "{digest}"

[read]
reader = "spacy-uniner.conll.v1"
left_out = ["MISC"]

[labels]
PER = "person"
LOC = "location"
MISC = "miscellaneous"
"""
TEST = """Ada B-PER
lives O
in O
Paris B-LOC

Rome B-LOC
is O
Italian B-MISC

Nothing O
here O
"""


@pytest.fixture
def toys(tmp_path, monkeypatch) -> Path:
    """A set of three passages in a mirror, known like those of the package."""
    path = tmp_path / "mirror" / "somebody" / "toys" / "abc" / "data" / "test.conll"
    path.parent.mkdir(parents=True)
    path.write_text(TEST, encoding="utf8")
    described = tmp_path / "described"
    described.mkdir()
    digest = hashlib.sha256(TEST.encode()).hexdigest()
    (described / "toys.cfg").write_text(SET.format(digest=digest), encoding="utf8")
    monkeypatch.setattr(registry, "SETS", described)
    monkeypatch.setenv(fetching.MIRROR, str(tmp_path / "mirror"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


@pytest.fixture
def patterns(tmp_path) -> Path:
    """A pipeline that knows one person and one place, saved."""
    nlp = spacy.blank("en")
    rules = [{"label": "PER", "pattern": "Ada"}, {"label": "LOC", "pattern": "Rome"}]
    rules += [{"label": "LOC", "pattern": "here"}, {"label": "WHO", "pattern": "is"}]
    nlp.add_pipe("entity_ruler").add_patterns(rules)
    nlp.to_disk(tmp_path / "patterns")
    return tmp_path / "patterns"


# ---- the paper's script


@pytest.mark.parametrize(
    "answer,expected",
    [
        ('["The Beatles", "a  C++"]', {"beatles", "c"}),
        ('["Paris", "paris."]', {"paris"}),  # equal after normalizing: once
        ('["x]b", "c"]', set()),  # the first bracket ends the list
        ('["x"] and more', {"x"}),
        (' ["x"]', set()),  # nothing may stand before it
        ('["x",\n"b"]', set()),  # a line break inside
        ('["x"\n]', set()),
        ("['x']", set()),
        ('["x", "b', set()),
        ('["x", 1]', set()),  # one number, and all is lost
        ('["x", null]', set()),
        ('[["x", "B"]]', set()),  # the first bracket again
        ('["!"]', {""}),  # nothing left, and yet it counts
        ("[]", set()),
        ("", set()),
        ("no list", set()),
        ("[NaN]", set()),
        ("[{}]", set()),
    ],
)
def test_official_answers_are_read_with_all_faults(answer, expected):
    assert read_answer(answer) == expected


@pytest.mark.parametrize(
    "told,gold,expected",
    [
        (['["x b"]'], ['["x b"]'], (1, 1, 1)),
        (['["x", "y"]', "[]"], ['["x"]', '["z"]'], (1 / 2, 1 / 2, 1 / 2)),
        (["broken"], ['["x"]'], (0, 0, 0)),
        (["[]"], ["[]"], (0, 0, 0)),
        (['["x"]'], ['["x]"]'], (0, 0, 0)),  # the gold list is voided too
        ([], [], (0, 0, 0)),
    ],
)
def test_official_scores(told, gold, expected):
    scores = official_scores(told, gold)
    assert [scores[key] for key in ("precision", "recall", "f1")] == pytest.approx(
        expected, abs=1e-9
    )


def test_official_scores_want_an_answer_to_each_question():
    with pytest.raises(ValueError, match="U079.*1 predictions and 2"):
        official_scores(["[]"], ["[]", "[]"])


@given(st.text() | st.lists(st.text()).map(json.dumps))
def test_official_answers_any_string(text):
    found = read_answer(text)
    head, bracket, _ = text.partition("]")
    if not text.startswith("[") or not bracket or "\n" in head:
        assert found == set()
    else:
        try:
            items = json.loads(head + "]")
        except ValueError:
            items = []
        strings = all(isinstance(item, str) for item in items)
        assert found == ({normalize(item) for item in items} if strings else set())


@given(
    st.lists(st.lists(st.sampled_from(["x", "y z", "The x", "u]", "-"]), max_size=4))
)
def test_official_scores_are_bounded_and_perfect_on_themselves(lists):
    answers = [json.dumps(items) for items in lists]
    scores = official_scores(answers, answers)
    assert all(0 <= score <= 1 for score in scores.values())
    if any(map(read_answer, answers)):
        assert scores["f1"] == pytest.approx(1, abs=1e-6)


# ---- counts

TEXT = "Ada met Ada Byron in Paris."
ADA, ADA_BYRON, BYRON, PARIS = (0, 3), (8, 17), (12, 17), (21, 26)


@pytest.mark.parametrize(
    "found,gold,official,spans,partial",
    [
        ([ADA], [ADA], (1, 1, 1), (1, 1, 1), (1, 1, 1)),
        ([(8, 11)], [ADA], (1, 1, 1), (0, 1, 1), (1, 1, 1)),  # right words, wrong place
        ([BYRON], [ADA_BYRON], (0, 1, 1), (0, 1, 1), (0.5, 1, 1)),
        ([ADA, BYRON], [ADA_BYRON], (0, 2, 1), (0, 2, 1), (0.5, 2, 1)),  # taken once
        ([PARIS], [ADA], (0, 1, 1), (0, 1, 1), (0, 1, 1)),
        ([], [ADA, (8, 11)], (0, 0, 1), (0, 0, 2), (0, 0, 1)),  # one string, two places
        ([], [], (0, 0, 0), (0, 0, 0), (0, 0, 0)),
    ],
)
def test_counts(found, gold, official, spans, partial):
    named = [[(start, end, "x") for start, end in each] for each in (gold, found)]
    counts = count(Prediction(TEXT, *named), ["x", "y"])
    assert counts[:, 0].tolist() == [list(official), list(spans), list(partial)]
    assert not counts[:, 1].any()


@pytest.mark.parametrize("seed", range(5))
def test_counts_by_place_equal_those_of_nervaluate(seed):
    generator = np.random.default_rng(seed)

    def spans() -> List[tuple]:
        starts = 3 * generator.choice(10, size=6, replace=False)  # none overlap
        kinds = generator.choice(["x", "y"], size=6)
        ends = starts + generator.integers(1, 3, size=6)
        return sorted((int(s), int(e), str(k)) for s, e, k in zip(starts, ends, kinds))

    pairs = [(spans(), spans()) for _ in range(20)]
    pairs += [(gold, gold) for gold, _ in pairs[:5]]
    predictions = [Prediction("w" * 40, gold, found) for gold, found in pairs]
    ours = score_set(predictions, ["x", "y"])["spans"]
    listed = [
        [
            [{"label": k, "start": s, "end": e} for s, e, k in each]
            for each in (pair[which] for pair in pairs)
        ]
        for which in (0, 1)
    ]
    theirs = Evaluator(*listed, tags=["x", "y"], loader="dict").evaluate()
    strict = theirs["overall"]["strict"]
    figures = [ours[key] / 100 for key in ("precision", "recall", "f1")]
    assert figures == pytest.approx(
        [strict.precision, strict.recall, strict.f1], abs=1e-4
    )


def test_interval_holds_the_figure_and_narrows():
    few = np.array([[1, 1, 1], [0, 1, 1]] * 5)
    low, high = interval(few)
    assert low < 50 < high
    lower, higher = interval(np.tile(few, (20, 1)))
    assert higher - lower < (high - low) / 3
    assert interval(few) == (low, high)


def test_scores_tell_seen_types_from_unseen():
    predictions = [Prediction("u v", [(0, 1, "X"), (2, 3, "y")], [(0, 1, "X")])]
    scores = score_set(predictions, ["X", "y"], seen={"x"})
    assert (scores["seen"]["f1"], scores["unseen"]["f1"]) == (100, 0)
    assert scores["by_type"]["y"] == {
        "precision": 0, "recall": 0, "f1": 0, "mentions": 1,
    }  # fmt: skip


def test_scores_of_a_set_that_tells_strings_have_no_places():
    predictions = [Prediction("u v", [], [(0, 1, "x")], {"x": ["u"], "y": []})]
    scores = score_set(predictions, ["x", "y"])
    assert scores["official"]["f1"] == 100
    assert "spans" not in scores


def test_averages_count_each_set_once_and_tell_how_many():
    def scored(name: str, f1: float) -> Dict:
        about = {"dataset": name, "domain": "general", "learned": name == "b"}
        return {**about, "official": {"f1": f1}}

    sets = {ZERO_SHOT[0]: scored("a", 10), "other": scored("b", 20)}
    sets["further"] = scored("", 90)
    found = averages(sets)
    assert found["zero_shot"] == {"f1": 10, "sets": 1}
    assert found["table6"] == {"f1": 15, "sets": 2}
    assert found["learned"] == {"f1": 20, "sets": 1}
    assert found["unseen"] == {"f1": 10, "sets": 1}
    assert found["domains"] == {"general": {"f1": 15, "sets": 2}}


# ---- sets and their files


def test_registry_all_rows_of_table_6_are_described():
    rows = [each for each in registry.load_sets().values() if each.dataset]
    assert len(rows) == 49
    assert len({each.dataset for each in rows}) == 43
    assert len({each.domain for each in rows}) == 9
    assert {each.name for each in rows if each.zero_shot} == set(ZERO_SHOT)


def test_registry_others_add_sets(toys, tmp_path, monkeypatch):
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "mine.cfg").write_text(SET.format(digest=""), encoding="utf8")
    monkeypatch.setattr(registry.added, "get_all", lambda: {"them": lambda: theirs})
    assert set(registry.load_sets()) == {"mine", "toys"}


@pytest.mark.parametrize("missing", ["[source]", "[labels]", 'domain = "general"'])
def test_registry_a_file_that_describes_no_set_is_named(tmp_path, missing):
    path = tmp_path / "bad.cfg"
    path.write_text(
        SET.format(digest="").replace(missing, "[x]" if "[" in missing else "")
    )
    with pytest.raises(ValueError, match=r"U071.*bad\.cfg"):
        registry.load_set(path)


def test_examples_have_named_types_and_offsets(toys):
    examples = read_split(
        registry.load_sets()["toys"], "test", fetching.default_roots()
    )
    assert [e.text for e in examples] == [
        "Ada lives in Paris",
        "Rome is Italian",
        "Nothing here",
    ]
    assert examples[0].spans == [(0, 3, "person"), (13, 18, "location")]
    assert examples[1].spans == [(0, 4, "location")]  # MISC is nothing to ask for


@pytest.mark.parametrize(
    "text,error",
    [
        (TEST + "\nHal B-ROBOT\n", "U074.*'ROBOT'.*PER, LOC, MISC"),
        ("", "U076.*test part of 'toys'"),
    ],
)
def test_examples_bad_files(toys, text, error):
    path = toys / "mirror" / "somebody" / "toys" / "abc" / "data" / "test.conll"
    path.write_text(text, encoding="utf8")
    (toys / "described" / "toys.cfg").write_text(SET.format(digest=""))
    with pytest.raises(ValueError, match=error):
        read_split(registry.load_sets()["toys"], "test", fetching.default_roots())


def test_files_that_differ_are_refused(toys):
    path = toys / "mirror" / "somebody" / "toys" / "abc" / "data" / "test.conll"
    path.write_text(TEST + "\n")
    with pytest.raises(ValueError, match="U072.*test files of 'toys'"):
        fetching.find_files(
            registry.load_sets()["toys"], "test", fetching.default_roots()
        )


def test_files_that_are_missing_say_how_to_get_them(toys):
    each = registry.load_sets()["toys"]
    with pytest.raises(FileNotFoundError, match="U075.*fetch toys"):
        fetching.find_files(each, "test", [toys / "nowhere"])
    with pytest.raises(FileNotFoundError, match="no dev part, but test"):
        fetching.find_files(each, "dev", fetching.default_roots())


@pytest.fixture
def host(tmp_path, monkeypatch):
    """A host on loopback that gives what lies in a folder, also parts of it."""
    served = tmp_path / "served"
    served.mkdir()

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=str(served))

        def log_message(self, *_):
            pass

        def do_GET(self):
            wanted = self.headers.get("Range")
            path = served / self.path.lstrip("/")
            if not wanted or not path.exists():
                return super().do_GET()
            at = int(wanted.removeprefix("bytes=").removesuffix("-"))
            body = path.read_bytes()[at:]
            self.send_response(206 if body else 416)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(fetching, "RAW", address + "/{path}")
    monkeypatch.setattr(fetching, "ARCHIVE", address + "/all.tar.gz")
    yield served
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("n_before", [0, 10, len(TEST) + 5])
def test_fetch_goes_on_where_it_stopped(toys, host, n_before):
    (host / "data").mkdir()
    (host / "data" / "test.conll").write_text(TEST)
    root = toys / "cache"
    path = root / "somebody" / "toys" / "abc" / "data" / "test.conll"
    if n_before:
        path.parent.mkdir(parents=True)
        path.with_name("test.conll.part").write_text((TEST + "other")[:n_before])
    each = registry.load_sets()["toys"]
    try:
        fetching.fetch(each, root)
    except fetching.requests.RequestException:  # what was there is longer than the file
        assert n_before > len(TEST)
        fetching.fetch(each, root)
    assert path.read_text() == TEST
    assert [p.name for p in path.parent.iterdir()] == ["test.conll"]


def test_fetch_refuses_another_file(toys, host):
    (host / "data").mkdir()
    (host / "data" / "test.conll").write_text("Eve B-PER\n")
    with pytest.raises(ValueError, match="U072"):
        fetching.fetch(registry.load_sets()["toys"], toys / "cache")


def test_fetch_tells_what_does_not_come(toys, host, monkeypatch):
    result = CliRunner().invoke(app, ["fetch", "toys"])
    assert result.exit_code == 1
    assert "404" in result.output and "Try again" in result.output
    monkeypatch.setattr(fetching, "RAW", "http://127.0.0.1:9/{path}")
    assert CliRunner().invoke(app, ["fetch"]).exit_code == 1


def pack(path: Path, members: Dict[str, str]) -> None:
    with tarfile.open(path, "w:gz") as packed:
        for name, text in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(text)
            packed.addfile(info, io.BytesIO(text.encode()))


def test_fetch_unpacks_what_fits_a_pattern(toys, host):
    described = SET.format(digest="").replace("data/test.conll", "data/*.conll")
    (toys / "described" / "toys.cfg").write_text(described)
    members = {"toys-abc/data/a.conll": TEST, "toys-abc/data/b.conll": TEST}
    pack(host / "all.tar.gz", {**members, "toys-abc/README": "no"})
    each, root = registry.load_sets()["toys"], toys / "fetched"
    fetching.fetch(each, root)
    assert len(read_split(each, "test", [root])) == 6
    assert not list(root.rglob("README"))
    assert not list(root.rglob("*.gz"))


def test_fetch_an_archive_that_leaves_its_folder_is_not_unpacked(tmp_path):
    pack(tmp_path / "all.tar.gz", {"x/data/../../../evil.conll": "evil"})
    with pytest.raises(ValueError, match=r"U078.*evil\.conll"):
        fetching.unpack(tmp_path / "all.tar.gz", tmp_path / "in", ["*.conll"])
    assert not list(tmp_path.rglob("evil.conll"))


# ---- runs


def test_draw_takes_no_more_pairs_than_wanted_and_always_the_same():
    examples = [Example(i, str(i), []) for i in range(100)]
    drawn = draw(examples, n_types=5, pairs=50, seed=0)
    assert len(drawn) == 10
    assert drawn == sorted(drawn) == draw(examples, n_types=5, pairs=50, seed=0)
    assert drawn != draw(examples, n_types=5, pairs=50, seed=1)
    assert draw(examples, n_types=5, pairs=500, seed=0) == examples


def test_run_score_report_with_any_nlp(toys, patterns):
    folder = toys / "run"
    runner = CliRunner()
    for command in (
        ["run", str(folder), "--system", str(patterns), "--learned", "toys"],
        ["score", str(folder)],
        ["report", str(folder)],
    ):
        result = runner.invoke(app, command, catch_exceptions=False)
        assert result.exit_code == 0, result.output
    found = srsly.read_json(folder / "scores.json")["sets"]["toys"]
    # "here" is no place; WHO is no label of the set
    assert found["official"]["precision"] == pytest.approx(66.67)
    assert found["official"]["recall"] == pytest.approx(66.67)
    assert found["spans"]["f1"] == found["official"]["f1"]
    assert "| toys | general | yes | 2 | 3 |" in (folder / "report.md").read_text()
    page = (folder / "report.html").read_text()
    assert page.count("<mark") == 4  # Ada twice, Paris missed, "here" invented
    assert (folder / "sets.svg").exists() and (folder / "domains.svg").exists()


def test_report_without_matplotlib_says_what_to_install(toys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"U038.*spacy-uniner\[benchmark\]"):
        draw_plots({}, toys)


def test_run_goes_on_where_it_stopped(toys, patterns):
    each = registry.load_sets()["toys"]
    examples = read_split(each, "test", fetching.default_roots())
    system = load_system(str(patterns), each, {})
    whole, path = toys / "whole.jsonl", toys / "toys.jsonl"
    predict(system, examples, whole)
    lines = whole.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + lines[1][:20])  # killed while it wrote
    assert predict(system, examples, path)["passages"] == 2
    assert path.read_bytes() == whole.read_bytes()


def test_run_predictions_of_another_set_are_refused(toys, patterns):
    each = registry.load_sets()["toys"]
    examples = read_split(each, "test", fetching.default_roots())
    system = load_system(str(patterns), each, {})
    path = toys / "toys.jsonl"
    predict(system, examples, path)
    with pytest.raises(ValueError, match="U077.*3 passages, 2 in the set"):
        predict(system, examples[:2], path)
    with pytest.raises(ValueError, match="U077.*another text"):
        predict(system, examples[1:], path)
    path.write_text("{}\n")
    with pytest.raises(ValueError, match="U073.*line 1"):
        list(read_predictions(path))


def test_run_a_config_is_told_types_and_dataset(toys, tmp_path):
    path = tmp_path / "canned.cfg"
    path.write_text(
        """
[benchmark]
types = []
dataset = ""
spans_key = "uniner"

[nlp]
lang = "en"
pipeline = ["uniner"]

[components]

[components.uniner]
factory = "uniner"
labels = ${benchmark.types}

[components.uniner.student]
@misc = "test.CannedStudent.v1"
answers = {"person": ["Ada"], "location": ["Rome", "Paris"]}
"""
    )
    each = registry.load_sets()["toys"]
    examples = read_split(each, "test", fetching.default_roots())
    system = load_system(str(path), each, {"components.uniner.threshold": 0.5})
    assert system.nlp.get_pipe("uniner").labels == ("person", "location")
    predict(system, examples, toys / "toys.jsonl")
    found = [row.found for row in read_predictions(toys / "toys.jsonl")]
    assert found == [e.spans for e in examples]


def test_run_a_group_of_spans_that_is_not_there_is_no_empty_answer(toys, patterns):
    each = registry.load_sets()["toys"]
    examples = read_split(each, "test", fetching.default_roots())
    with pytest.raises(ValueError, match="U080.*'sc'"):
        list(find(load_system(str(patterns), each, {}, "sc"), examples))


def test_run_the_shipped_student(toys):
    each = registry.load_sets()["toys"]
    examples = read_split(each, "test", fetching.default_roots())
    found = list(find(load_system("uniner", each, {}), examples))
    assert all(0 < span[3] <= 1 for row in found for span in row)
    sure = {"components.uniner.threshold": 1.0}
    assert not any(find(load_system("uniner", each, sure), examples))


def test_run_tells_what_is_missing_and_refuses_other_settings(toys, patterns):
    other = SET.format(digest="").replace("somebody/toys", "somebody/gone")
    (toys / "described" / "gone.cfg").write_text(other)
    folder, runner = str(toys / "run"), CliRunner()
    command = ["run", folder, "--system", str(patterns)]
    assert runner.invoke(app, command).exit_code == 0
    assert runner.invoke(app, ["score", folder]).exit_code == 0
    assert runner.invoke(app, ["report", folder]).exit_code == 0
    scores = srsly.read_json(toys / "run" / "scores.json")
    assert list(scores["missing"]) == ["gone"]
    assert scores["averages"]["table6"]["sets"] == 1
    assert "fetch gone" in (toys / "run" / "report.md").read_text()
    result = runner.invoke(app, [*command, "--seed", "1"])
    assert "U083" in str(result.exception)


def test_export_gives_documents_to_train_on(toys):
    out = toys / "docs"
    result = CliRunner().invoke(app, ["export", "toys", str(out)])
    assert "test: 3 passages, 0 nested" in result.output
    docs = list(
        DocBin().from_disk(out / "test.spacy").get_docs(spacy.blank("en").vocab)
    )
    assert [(ent.text, ent.label_) for ent in docs[0].ents] == [
        ("Ada", "person"),
        ("Paris", "location"),
    ]
    assert [path.name for path in out.iterdir()] == ["test.spacy"]


def test_list_shows_all_sets(toys):
    result = CliRunner().invoke(app, ["list"])
    assert "1 sets of the paper in 1 rows; 1 rows at hand" in " ".join(
        result.output.split()
    )


@pytest.mark.parametrize(
    "command,error",
    [
        (["run", "out", "--only", "nothing"], "U070.*'nothing'.*toys"),
        (["run", "out", "--split", "tests"], "U014.*split"),
        (["run", "out", "--set", "x"], "U014.*--set"),
        (["fetch", "nothing"], "U070"),
    ],
)
def test_command_line_bad_input(toys, monkeypatch, command, error):
    monkeypatch.chdir(toys)
    result = CliRunner().invoke(app, command)
    with pytest.raises(ValueError, match=error):
        raise result.exception

"""The component: what a user sees, with canned answers."""

import pickle
import subprocess
import sys

import pytest
import spacy
from hypothesis import given, settings
from hypothesis import strategies as st
from spacy.tokens import Doc, DocBin
from spacy.training import Example

from spacy_uniner.component import USER_DATA_KEY, UniNER, read_labels
from spacy_uniner.types import Answer

TEXT = "Ada Byron of London met Charles Babbage."
ANSWERS = {
    "person": [["Ada Byron", 0.9], ["Charles Babbage", 0.8]],
    "city": [["London", 0.7]],
}


def ents(doc):
    return [(e.text, e.label_) for e in doc.ents]


def test_component_sets_ents_spans_and_scores(make_nlp):
    doc = make_nlp(ANSWERS)(TEXT)
    assert ents(doc) == [
        ("Ada Byron", "person"),
        ("London", "city"),
        ("Charles Babbage", "person"),
    ]
    group = doc.spans["uniner"]
    assert [s.text for s in group] == ["Ada Byron", "London", "Charles Babbage"]
    assert list(group.attrs["scores"]) == [0.9, 0.7, 0.8]
    assert doc._.uniner["uniner"]["aligned"] == 3


def test_component_conflicts_go_to_the_better_and_stay_in_spans(make_nlp):
    doc = make_nlp({"person": [["Paris Hilton", 0.9]], "city": [["Paris", 0.6]]})(
        "Paris Hilton left."
    )
    assert ents(doc) == [("Paris Hilton", "person")]
    assert {s.text for s in doc.spans["uniner"]} == {"Paris", "Paris Hilton"}
    assert doc._.uniner["uniner"]["conflict"] == 1


@pytest.mark.parametrize(
    "labels,asked,expected",
    [
        (["person"], ["person"], [("Ada", "person")]),
        ({"PER": "person"}, ["person"], [("Ada", "PER")]),
        (
            {"PER": ["person", "human"]},
            ["person", "human"],
            [("Ada", "PER"), ("Eve", "PER")],
        ),
        (
            {"PER": "a being that thinks, and says so"},
            ["a being that thinks, and says so"],
            [],
        ),
    ],
)
def test_component_labels_and_phrases(make_nlp, labels, asked, expected):
    nlp = make_nlp({"person": ["Ada"], "human": ["Ada", "Eve"]}, labels=labels)
    assert ents(nlp("Ada and Eve.")) == expected
    assert nlp.get_pipe("uniner").student.asked == [("Ada and Eve.", asked)]


def test_component_phrases_of_a_label_merge_by_probability(make_nlp):
    nlp = make_nlp(
        {"person": [["Ada", 0.2]], "human": [["Ada", 0.6]]},
        labels={"PER": ["person", "human"]},
    )
    doc = nlp("Ada.")
    assert list(doc.spans["uniner"].attrs["scores"]) == [0.6]
    assert doc._.uniner["uniner"]["merged"] == 1


@pytest.mark.parametrize(
    "threshold,expected", [(0.75, 2), ({"person": 0.85}, 2), (1.0, 0)]
)
def test_component_threshold(make_nlp, threshold, expected):
    assert len(make_nlp(ANSWERS, threshold=threshold)(TEXT).ents) == expected


@pytest.mark.parametrize("overwrite,expected", [(False, "RULE"), (True, "person")])
@pytest.mark.parametrize("before", [True, False])
def test_component_with_an_entity_ruler(make_nlp, overwrite, expected, before):
    nlp = make_nlp({"person": ["Ada Byron"]}, overwrite=overwrite)
    place = {"before": "uniner"} if before else {"after": "uniner"}
    ruler = nlp.add_pipe("entity_ruler", config={"overwrite_ents": False}, **place)
    ruler.add_patterns(
        [{"label": "RULE", "pattern": "Ada"}, {"label": "RULE", "pattern": "London"}]
    )
    found = ents(nlp(TEXT))
    assert found[0][1] == (expected if before else "person")
    assert ("London", "RULE") in found  # what is not in the way stays


def test_component_pipe_equals_call_and_keeps_order(make_nlp):
    nlp = make_nlp(ANSWERS, batch_size=3)
    texts = [TEXT, "", "Nobody here.", TEXT[:9], "   "] * 3
    assert [ents(d) for d in nlp.pipe(texts)] == [ents(nlp(t)) for t in texts]
    assert nlp.get_pipe("uniner").student.asked  # blank texts were not asked about
    assert all(p.strip() for p, _ in nlp.get_pipe("uniner").student.asked)


def test_component_labels_for_one_document(make_nlp):
    nlp = make_nlp(ANSWERS, labels=["person"])
    doc = nlp.make_doc(TEXT)
    doc.user_data[USER_DATA_KEY] = ["city"]
    assert ents(nlp(doc)) == [("London", "city")]
    stream = nlp.pipe(
        [(TEXT, {USER_DATA_KEY: {"TOWN": "city"}}), (TEXT, None)], as_tuples=True
    )
    assert [len(d.ents) for d, _ in stream] == [1, 2]


def test_component_without_labels_says_so(make_nlp):
    with pytest.raises(ValueError, match="U010.*add_label"):
        make_nlp({})("Ada.")


@pytest.mark.parametrize(
    "config,code",
    [
        ({"labels": [""]}, "U011"),
        ({"labels": ["a\nb"]}, "U011"),
        ({"labels": ["x" * 5000]}, "U011"),
        ({"labels": ["${x}"]}, "U020"),
        ({"labels": {"A": "two\nlines"}}, "U002"),
        ({"labels": {"A": []}}, "U016"),
        ({"threshold": 1.5}, "U012"),
        ({"threshold": -0.1}, "U012"),
        ({"threshold": {"nobody": 0.5}}, "U013"),
        ({"alignment_mode": "wide"}, "U014"),
        ({"occurrences": "last"}, "U014"),
        ({"batch_size": 0}, "U015"),
        ({"overlap": -1}, "U039"),
    ],
)
def test_component_refuses_bad_settings(make_nlp, config, code):
    with pytest.raises(ValueError, match=code):
        make_nlp(ANSWERS, **config)


def test_component_unknown_setting_is_an_error(make_nlp):
    with pytest.raises(ValueError, match="treshold"):
        make_nlp(ANSWERS, treshold=0.5)


def test_component_repeated_label_is_kept_once():
    with pytest.warns(UserWarning, match="U101"):
        assert read_labels(["a", "b", "a"]) == {"a": ["a"], "b": ["b"]}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "  ",
        "\x00",
        "a\x00b",
        "שלום עולם",
        "👩‍👩‍👧 hi",
        "</s> USER: ASSISTANT: <s>",
        "\ufeffAda",
        "x" * 3000,
    ],
)
def test_component_survives_odd_documents(make_nlp, text):
    doc = make_nlp(ANSWERS)(text)
    assert doc.text == text
    assert doc.ents == ()


def test_component_lone_surrogates_are_refused_by_spacy_at_once(make_nlp):
    with pytest.raises(UnicodeEncodeError):
        make_nlp(ANSWERS)("a \ud800 b")


def test_component_million_characters(make_nlp):
    text = ("Ada Byron of London. " * 47000)[:990000]
    doc = make_nlp({"person": ["Ada Byron"]})(text)
    assert len(doc.ents) == text.count("Ada Byron")


def test_component_one_bad_document_costs_no_other(make_nlp):
    nlp = make_nlp(ANSWERS)
    failed = []
    nlp.set_error_handler(lambda name, proc, docs, e: failed.extend(docs))
    student = nlp.get_pipe("uniner").student
    student.__class__ = type("Bad", (type(student),), {"__call__": _fail_on_bad})
    docs = list(nlp.pipe([TEXT, "bad text", TEXT]))
    assert [len(d.ents) for d in docs] == [3, 3]
    assert [d.text for d in failed] == ["bad text"]


def _fail_on_bad(self, questions):
    if any("bad" in passage for passage, _ in questions):
        raise RuntimeError("bad")
    return [[self._answer(t) for t in types] for _, types in questions]


@pytest.mark.parametrize("short", [[[]], [], [[Answer()] * 3]])
def test_component_counts_answers(make_nlp, short):
    nlp = make_nlp(ANSWERS)
    student = nlp.get_pipe("uniner").student
    student.__class__ = type(
        "Short", (type(student),), {"__call__": lambda self, q: short}
    )
    with pytest.raises(ValueError, match="U019"):
        nlp(TEXT)


def test_component_long_document_keeps_offsets(make_nlp):
    text = "Nobody was there at all. " * 30 + TEXT
    doc = make_nlp(ANSWERS)(text)
    assert ents(doc) == ents(make_nlp(ANSWERS)(TEXT))
    assert doc.text[doc.ents[0].start_char : doc.ents[0].end_char] == "Ada Byron"


LABELS = st.text(
    st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), min_size=1, max_size=20
)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        LABELS.filter(lambda s: s.strip() and "${" not in s),
        min_size=1,
        unique=True,
    )
)
def test_component_labels_survive_disk(tmp_path_factory, labels):
    nlp = spacy.blank("en")
    student = {"@misc": "test.CannedStudent.v1", "answers": {}}
    nlp.add_pipe("uniner", config={"labels": labels, "student": student})
    path = tmp_path_factory.mktemp("nlp")
    nlp.to_disk(path)
    assert list(spacy.load(path).get_pipe("uniner").labels) == labels
    again = spacy.blank("en")
    again.add_pipe("uniner", config={"labels": labels, "student": student})
    again.from_bytes(nlp.to_bytes())
    assert list(again.get_pipe("uniner").labels) == labels


def test_component_added_labels_survive_and_config_wins(make_nlp, tmp_path):
    nlp = make_nlp(ANSWERS, labels=["person"])
    assert nlp.get_pipe("uniner").add_label("TOWN", ["city", "town"]) == 1
    assert nlp.get_pipe("uniner").add_label("TOWN") == 0
    nlp.get_pipe("uniner").add_label("TOWN", "city")
    nlp.to_disk(tmp_path)
    assert spacy.load(tmp_path).get_pipe("uniner").types == {
        "person": ["person"],
        "TOWN": ["city"],
    }
    other = spacy.load(tmp_path, config={"components.uniner.labels": ["x"]})
    assert other.get_pipe("uniner").labels == ("x",)


@pytest.mark.parametrize(
    "labels",
    [
        {"ORG:GOV": "government"},
        {"A=B": "x", "#tag": ["y", "z"]},
        {"[x]": "x", "; c": "d"},
        {" a": "x"},
        {"$A": "x$y"},
        ["$CITY", "$$"],
    ],
)
def test_component_labels_that_a_config_file_would_change_survive(
    make_nlp, tmp_path, labels
):
    nlp = make_nlp(ANSWERS, labels=labels)
    types = nlp.get_pipe("uniner").types
    for round_trip in ("one", "two", "three"):
        nlp.to_disk(tmp_path / round_trip)
        nlp = spacy.load(tmp_path / round_trip)
        assert nlp.get_pipe("uniner").types == types


def test_component_threshold_given_when_loading_wins(make_nlp, tmp_path):
    nlp = make_nlp(ANSWERS, threshold=0.1)
    nlp.get_pipe("uniner").threshold = 0.2
    nlp.to_disk(tmp_path)
    assert spacy.load(tmp_path).get_pipe("uniner").threshold == 0.2
    other = spacy.load(tmp_path, config={"components.uniner.threshold": 0.9})
    assert other.get_pipe("uniner").threshold == 0.9


def test_component_asks_no_more_documents_at_once_than_its_batch_size(make_nlp):
    nlp = make_nlp(ANSWERS, batch_size=3)
    sizes = []
    component = nlp.get_pipe("uniner")
    predict = component.predict
    component.predict = lambda docs: sizes.append(len(docs)) or predict(docs)
    assert len(list(nlp.pipe([TEXT] * 10))) == 10
    assert sizes == [3, 3, 3, 1]


def test_component_failure_while_writing_counts_nothing_twice(make_nlp):
    nlp = make_nlp(ANSWERS)
    failed = []
    nlp.set_error_handler(lambda name, proc, docs, e: failed.extend(docs))
    bad = nlp.make_doc(TEXT)
    bad.user_data[USER_DATA_KEY] = {"\ud800": "person"}
    docs = list(nlp.pipe([nlp.make_doc(TEXT), bad, nlp.make_doc(TEXT)]))
    assert failed == [bad]
    assert [d._.uniner["uniner"]["aligned"] for d in docs] == [3, 3]
    assert nlp.get_pipe("uniner").ledger["aligned"] == 6


def test_component_no_labels_for_one_document_asks_nothing(make_nlp):
    nlp = make_nlp(ANSWERS)
    doc = nlp.make_doc(TEXT)
    doc.user_data[USER_DATA_KEY] = []
    assert nlp(doc).ents == ()


@pytest.mark.parametrize("text", ['{"labels": 3}', '{"lab', "[]"])
def test_component_damaged_labels_file(make_nlp, tmp_path, text):
    make_nlp(ANSWERS).to_disk(tmp_path)
    (tmp_path / "uniner" / "labels.json").write_text(text)
    with pytest.raises(ValueError, match="U018"):
        spacy.load(tmp_path)


def test_component_two_instances(make_nlp):
    nlp = make_nlp(ANSWERS, labels=["person"])
    student = {"@misc": "test.CannedStudent.v1", "answers": ANSWERS}
    config = {"labels": ["city"], "student": student, "spans_key": "places"}
    nlp.add_pipe("uniner", name="places", config=config)
    doc = nlp(TEXT)
    assert len(doc.ents) == 3 and len(doc.spans["places"]) == 1
    assert set(doc._.uniner) == {"uniner", "places"}


def test_component_initialize_takes_labels_from_examples(make_nlp):
    nlp = make_nlp(ANSWERS, labels=[])
    reference = nlp.make_doc(TEXT)
    reference.ents = [reference.char_span(0, 9, label="person")]
    example = Example(nlp.make_doc(TEXT), reference)
    nlp.initialize(lambda: [example])
    assert nlp.get_pipe("uniner").labels == ("person",)
    assert nlp.get_pipe("uniner").label_data == ["person"]


def test_component_evaluates(make_nlp):
    nlp = make_nlp(ANSWERS)
    reference = nlp(TEXT)
    scores = nlp.evaluate([Example(nlp.make_doc(TEXT), reference)])
    assert scores["ents_f"] == 1.0
    assert set(scores["ents_per_type"]) == {"person", "city"}


def test_component_docs_serialize(make_nlp):
    nlp = make_nlp(ANSWERS)
    doc = nlp(TEXT)
    stored = DocBin(docs=[doc], store_user_data=True).to_bytes()
    [again] = DocBin().from_bytes(stored).get_docs(nlp.vocab)
    assert again._.uniner == doc._.uniner
    assert list(again.spans["uniner"].attrs["scores"]) == [0.9, 0.7, 0.8]
    assert ents(Doc(nlp.vocab).from_bytes(doc.to_bytes())) == ents(doc)


def test_component_pickles_and_analyzes(make_nlp):
    nlp = make_nlp(ANSWERS)
    assert ents(pickle.loads(pickle.dumps(nlp))(TEXT)) == ents(nlp(TEXT))
    assert "doc.ents" in nlp.analyze_pipes()["summary"]["uniner"]["assigns"]
    assert isinstance(nlp.get_pipe("uniner"), UniNER)


def test_component_in_several_processes(make_nlp):
    docs = list(make_nlp(ANSWERS).pipe([TEXT] * 6, n_process=2, batch_size=2))
    assert [len(d.ents) for d in docs] == [3] * 6


def test_component_import_is_light():
    """Other people's pipelines must not pay for this plugin being installed."""
    code = (
        "import sys, spacy; before = set(sys.modules); import spacy_uniner, spacy_uniner.component;"
        "nlp = spacy.blank('en'); nlp.add_pipe('sentencizer'); nlp.add_pipe('uniner', config={'labels': ['a']});"
        "heavy = {'transformers', 'openai', 'accelerate', 'ray', 'safetensors', 'huggingface_hub'};"
        "assert not heavy & (set(sys.modules) - before), heavy & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

"""spaCy's own commands on a saved pipeline, each in a process of its own."""

import json
import subprocess
import sys

import pytest
import spacy
from spacy.tokens import DocBin

LABELS = {"PER": "person", "$CITY$": ["city", "town"], 'odd "label" é': "thing"}
TEXT = "Ada Lovelace met Charles Babbage in London."


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A pipeline with the shipped student on disk, and a file of gold documents."""
    folder = tmp_path_factory.mktemp("saved")
    nlp = spacy.blank("en")
    nlp.add_pipe("uniner", config={"labels": LABELS})
    nlp.to_disk(folder / "nlp")
    gold = nlp.make_doc(TEXT)
    gold.ents = [gold.char_span(0, 12, label="PER")]
    DocBin(docs=[gold] * 20).to_disk(folder / "gold.spacy")
    return folder


def spacy_command(*arguments):
    command = [sys.executable, "-m", "spacy", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=True)


def test_spacy_load_in_a_fresh_process(saved):
    code = (
        f"import json, spacy; nlp = spacy.load({str(saved / 'nlp')!r});"
        f"doc = nlp({TEXT!r});"
        "print(json.dumps([nlp.get_pipe('uniner').types, [s.text for s in doc.spans['uniner']]]))"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    types, spans = json.loads(out.stdout)
    here = spacy.load(saved / "nlp")(TEXT)
    assert types == {k: [v] if isinstance(v, str) else v for k, v in LABELS.items()}
    assert spans == [span.text for span in here.spans["uniner"]]


def test_spacy_evaluate(saved):
    out = saved / "scores.json"
    spacy_command("evaluate", saved / "nlp", saved / "gold.spacy", "--output", out)
    assert "ents_f" in json.loads(out.read_text())


def test_spacy_benchmark_speed(saved):
    settings = ["--batches", "30", "--batch-size", "2", "--warmup", "1"]
    result = spacy_command(
        "benchmark", "speed", saved / "nlp", saved / "gold.spacy", *settings
    )
    assert "Mean" in result.stdout


def test_spacy_package(saved):
    target = saved / "packages"
    target.mkdir()
    spacy_command("package", saved / "nlp", target, "--build", "none", "--name", "x")
    meta = json.loads(next(target.rglob("meta.json")).read_text())
    assert any(need.startswith("spacy-uniner") for need in meta["requirements"])


def test_spacy_apply(saved):
    (saved / "in.jsonl").write_text(json.dumps({"text": TEXT}) + "\n")
    spacy_command("apply", saved / "nlp", saved / "in.jsonl", saved / "out.spacy")
    vocab = spacy.blank("en").vocab
    [doc] = DocBin().from_disk(saved / "out.spacy").get_docs(vocab)
    assert doc.text == TEXT

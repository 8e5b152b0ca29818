"""The command line: every input, every output, every exit code."""

import json
import subprocess
import sys

import pytest
import spacy
from spacy.tokens import DocBin
from typer.testing import CliRunner

from spacy_uniner.cli import app
from spacy_uniner.prompt import render_prompt

TEXT = "Ada Lovelace met Charles Babbage in London in 1843."
LABELS = ["--labels", "person, city, year"]


def run(*arguments, **settings):
    return CliRunner().invoke(app, list(arguments), **settings)


def test_cli_annotates_text_as_json_lines_in_a_pipe():
    result = run("annotate", TEXT, *LABELS)
    assert result.exit_code == 0, result.output
    row = json.loads(result.stdout.splitlines()[0])
    assert row["text"] == TEXT
    assert len(row["scores"]) == len(row["spans"])
    assert all(TEXT[start:end].strip() for start, end, _ in row["spans"])


def test_cli_reads_every_input(tmp_path):
    (tmp_path / "a.txt").write_text(TEXT)
    rows = [json.dumps({"text": "one"}), "", json.dumps({"text": "two"})]
    (tmp_path / "b.jsonl").write_text("\n".join(rows))
    nlp = spacy.blank("en")
    DocBin(docs=[nlp("three")]).to_disk(tmp_path / "c.spacy")
    files = [str(tmp_path / name) for name in ("a.txt", "b.jsonl", "c.spacy")]
    result = run("annotate", *files, "plain text", "-", *LABELS, input="from stdin")
    texts = [
        json.loads(line)["text"]
        for line in result.stdout.splitlines()
        if line[0] == "{"
    ]
    assert texts == [TEXT, "one", "two", "three", "plain text", "from stdin"]


@pytest.mark.parametrize("ending", [".jsonl", ".spacy", ".html"])
def test_cli_writes_every_output(tmp_path, ending):
    output = tmp_path / f"out{ending}"
    result = run("annotate", TEXT, "Nobody.", *LABELS, "--output", str(output))
    assert result.exit_code == 0, result.output
    assert "2 document(s)" in result.output
    assert [file.name for file in tmp_path.iterdir()] == [output.name]
    if ending == ".jsonl":
        assert len(output.read_text().splitlines()) == 2
    elif ending == ".spacy":
        docs = list(DocBin().from_disk(output).get_docs(spacy.blank("en").vocab))
        assert docs[0].text == TEXT and "uniner" in docs[0].spans
    else:
        assert "Lovelace" in output.read_text()


@pytest.mark.parametrize(
    "arguments,code",
    [
        (["annotate", "/no/such/file.txt", *LABELS], "U060"),
        (["annotate", TEXT, "--labels", ","], "U010"),
        (["annotate", TEXT, "--labels", "a", "--threshold", "2"], "U012"),
        (["annotate", TEXT, "--labels", "a", "--output", "x.csv"], "U061"),
        (["annotate", TEXT, "--labels", "a", "--output", "/no/such/x.html"], "U063"),
        (["annotate", TEXT, "--labels", "a", "--model", "nothing"], "U030"),
        (["prompt", "X", "person", "--template", "vicuna"], "U001"),
        (["info", "--model", "no/such"], "U030"),
        (["annotate", TEXT], "labels"),
        (["nonsense"], "nonsense"),
    ],
)
def test_cli_errors_are_one_line_and_an_exit_code(arguments, code):
    command = [sys.executable, "-m", "spacy_uniner", *arguments]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode in (1, 2)
    assert code in result.stderr
    assert "Traceback" not in result.stderr


def test_cli_table_shows_any_text_as_it_is(capsys):
    from spacy_uniner.cli import _print_tables

    nlp = spacy.blank("en")
    doc = nlp.make_doc("see [/etc/hosts] and \x1b[31m now")
    doc.ents = [doc.char_span(4, 16, label="[red]"), doc[-2:-1]]
    doc.spans["uniner"] = []
    _print_tables([doc])
    shown = capsys.readouterr().out
    assert "[/etc/hosts]" in shown and "[red]" in shown and "\x1b" not in shown


def test_cli_bad_row_names_line_and_file(tmp_path):
    (tmp_path / "b.jsonl").write_text('{"text": "ok"}\n{"txt": 1}\n')
    result = run("annotate", str(tmp_path / "b.jsonl"), *LABELS)
    assert "U062" in str(result.exception) and "Line 2" in str(result.exception)


def test_cli_prompt_prints_the_exact_prompt():
    assert run("prompt", "X", "person").stdout == render_prompt("X", "person")


def test_cli_info_tells_and_verifies():
    result = run("info", "--verify")
    assert result.exit_code == 0, result.output
    for word in (
        "weights",
        "parameters",
        "template",
        "mini",
        "licence",
        "cc-by-sa-4.0",
        "verbatim",
    ):
        assert word in result.stdout


def test_cli_info_tells_about_a_saved_pipeline(tmp_path):
    nlp = spacy.blank("en")
    nlp.add_pipe("uniner", config={"labels": {"PER": ["person", "human"]}})
    nlp.to_disk(tmp_path)
    result = run("info", "--pipeline", str(tmp_path))
    assert result.exit_code == 0, result.output
    assert "PER: person, human" in result.stdout and "mini" in result.stdout


def test_cli_info_tells_about_students_of_every_kind(tmp_path):
    server = {"@misc": "spacy-uniner.ServerStudent.v1", "model": "uniner-7b"}
    server |= {"url": "http://localhost:8000/v1", "key_env": "MY_KEY"}
    cached = {"@misc": "spacy-uniner.CachedStudent.v1", "path": "kept.sqlite"}
    nlp = spacy.blank("en")
    config = {"labels": ["person"], "student": {**cached, "student": server}}
    nlp.add_pipe("uniner", config=config)
    nlp.add_pipe("sentencizer")
    nlp.to_disk(tmp_path)
    result = run("info", "--pipeline", str(tmp_path))
    assert result.exit_code == 0, result.output
    for word in ("uniner-7b", "localhost:8000", "$MY_KEY", "kept.sqlite", "list"):
        assert word in result.stdout


def test_cli_copies_a_student_for_servers(tmp_path):
    result = run("copy-for-server", str(tmp_path / "mini"))
    assert result.exit_code == 0, result.output
    assert (tmp_path / "mini" / "tokenizer.json").is_file()
    result = run("copy-for-server", str(tmp_path / "mini"))
    assert isinstance(result.exception, FileExistsError)

"""The README's commands and the workflow say what is there."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import spacy
import srsly
from faults import Server, completion

from benchmarks.readme import put, sets_table
from benchmarks.report import plot, to_markdown

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf8")
PROJECT = srsly.read_yaml(ROOT / "project.yml")
SCRIPTS = [line for command in PROJECT["commands"] for line in command["script"]]


@pytest.mark.parametrize("name", ["first-command", "test-command"])
def test_readme_promises_two_commands_that_set_themselves_up(name):
    block = re.search(rf"<!-- {name} -->\n```bash\n(.+)\n```", README)
    assert block and block[1].startswith("python3 -m venv")
    for path in re.findall(r"(?:assets|constraints)[\w./]*", block[1]):
        assert (ROOT / path).exists()


def test_readme_first_example_runs():
    code = re.search(r"```python\n(import spacy.+?)```", README, re.DOTALL)[1]
    scope = {}
    exec(code, scope)
    assert scope["doc"].spans["uniner"] is not None


def test_readme_settings_are_those_of_the_component():
    settings = README.split("### Settings")[1].split("###")[0]
    named = re.findall(r"^\| `(\w+)` \| `", settings, re.MULTILINE)
    defaults = spacy.blank("en").get_factory_meta("uniner").default_config
    assert set(named) == set(defaults) - {"student", "scorer"}


@pytest.mark.parametrize("line", SCRIPTS)
def test_project_scripts_exist(line):
    module = re.match(r"python -m ([\w.]+|\$\{vars\.teacher\})", line)[1]
    module = PROJECT["vars"]["teacher"].split()[0] if "$" in module else module
    path = ROOT / module.replace(".", "/")
    assert path.with_suffix(".py").exists() or (path / "__main__.py").exists()


def test_project_writes_inside_itself_and_keeps_no_secret():
    names = {command["name"] for command in PROJECT["commands"]}
    for workflow in PROJECT["workflows"].values():
        assert set(workflow) <= names
    for command in PROJECT["commands"]:
        for path in [*command.get("deps", []), *command.get("outputs", [])]:
            assert ".." not in path and not path.startswith("/")
    assert "env" not in PROJECT


def test_project_docs_in_readme_are_those_of_project_yml(tmp_path):
    from weasel.cli.document import project_document

    shutil.copy(ROOT / "README.md", tmp_path)
    project_document(ROOT, tmp_path / "README.md")
    assert (tmp_path / "README.md").read_text(encoding="utf8") == README


@pytest.mark.parametrize("workflow", sorted(PROJECT["workflows"]))
def test_project_workflows_run_dry(workflow):
    from weasel.cli.run import project_run

    project_run(ROOT, workflow, dry=True)


def test_project_assets_are_what_the_sums_say():
    command = [sys.executable, "-m", "training.verify", "assets/SHA256SUMS"]
    subprocess.run(command, check=True, cwd=ROOT)
    listed = (ROOT / "assets" / "SHA256SUMS").read_text().split()[1::2]
    assert {asset["dest"] for asset in PROJECT["assets"]} <= {
        f"assets/{n}" for n in listed
    }


def name_capitals(handler, content, number):
    """A teacher that takes every word with a capital for a name."""
    passage = json.loads(content)["messages"][-1]["content"].split("Passage: ")[-1]
    words = dict.fromkeys(re.findall(r"[A-Z]\w+", passage))
    handler.send(completion(json.dumps([[word, "name"] for word in words])))


def test_project_distills_with_an_endpoint_and_keeps_its_key_nowhere(tmp_path):
    key = "sk-sentinel-0123456789abcdef"
    for name in ("project.yml", "assets", "training/configs"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        (tmp_path / name).parent.mkdir(exist_ok=True)
        copy(ROOT / name, tmp_path / name)
    # scripts are found where they are, files where the project is
    variables = {**os.environ, "PYTHONPATH": str(ROOT), "TEACHER_KEY": key}
    with Server(name_capitals) as server:
        teacher = f"training.teacher --endpoint {server.url} --model large"
        command = [sys.executable, "-m", "spacy", "project", "run", "distill", "."]
        command += ["--vars.teacher", f"{teacher} --key-env TEACHER_KEY"]
        command += ["--vars.quota", "30", "--vars.corpus_options", " --seed 1"]
        done = subprocess.run(
            command, cwd=tmp_path, env=variables, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert server.n_requests == 30
        sent = {name.lower(): value for name, value in server.headers[0].items()}
        assert sent["authorization"] == f"Bearer {key}"
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"project.lock", "conversations.jsonl"} <= {path.name for path in written}
    assert not any(key.encode() in path.read_bytes() for path in written)
    assert key not in done.stdout + done.stderr


FIGURES = ROOT / "benchmarks" / "results" / "inference.json"


def test_readme_speed_tables_are_what_the_benchmark_wrote(tmp_path):
    results = json.loads(FIGURES.read_text(encoding="utf8"))
    shown = re.search(r"<!-- inference -->\n(.*)<!-- /inference -->", README, re.DOTALL)
    assert shown[1].strip() == to_markdown(results).strip()


def test_readme_table_of_sets_is_what_the_benchmark_wrote():
    scores, evaluation = (
        json.loads((FIGURES.parent / name).read_text(encoding="utf8"))
        for name in ("benchmark/scores.json", "mini-evaluation.json")
    )
    assert put(README, "sets", sets_table(scores, evaluation)) == README
    with pytest.raises(ValueError, match="no <!-- sets -->"):
        put("# Nothing", "sets", "x")


def test_benchmark_plot_is_drawn_from_the_figures(tmp_path):
    pytest.importorskip("matplotlib")
    plot(json.loads(FIGURES.read_text(encoding="utf8")), tmp_path / "speed.png")
    assert (tmp_path / "speed.png").stat().st_size > 10_000

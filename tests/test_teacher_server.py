"""The teacher against a real server: `transformers serve` on the shipped student."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# the shipped student has no chat template; any will do
TEMPLATE = "{% for m in messages %}{{ m['content'] }}\n{% endfor %}"


@pytest.fixture
def served(tmp_path):
    """URL of a server, and the name of its model."""
    for module in ("fastapi", "uvicorn"):
        pytest.importorskip(module, reason="needs transformers[serving]")
    folder = tmp_path / "mini"
    shutil.copytree(ROOT / "spacy_uniner" / "mini", folder)
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    from benchmarks.serving import served as serve

    with serve(folder) as url:
        yield url, str(folder)


@pytest.mark.slow
def test_real_server_answers(served, tmp_path):
    url, model = served
    with (ROOT / "tests" / "data" / "passages.jsonl").open(encoding="utf8") as lines:
        texts = [json.loads(line)["text"] for line, _ in zip(lines, range(5))]
    rows = ({"id": str(i), "text": text} for i, text in enumerate(texts))
    passages, out = tmp_path / "passages.jsonl", tmp_path / "answers.jsonl"
    passages.write_text("".join(json.dumps(row) + "\n" for row in rows))
    teach = [sys.executable, "-m", "training.teacher", "--passages", str(passages)]
    teach += ["--out", str(out), "--endpoint", url, "--model", model]
    teach += ["--max-tokens", "48", "--concurrency", "2", "--deadline", "120"]
    done = subprocess.run(teach, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line) for line in out.read_bytes().splitlines()]
    assert {row["text"] for row in answers} == set(texts)
    for row in answers:
        assert isinstance(row["raw"], str) and row["raw"]
        assert row["status"] in ("ok", "truncated", "unreadable")
        assert row["teacher"]["usage"]["output_tokens"] > 0

"""Kill the teacher's script at random: no answer is lost, none stands twice, and no more
is asked again than was on its way."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from faults import Server, counting

ROOT = Path(__file__).parent.parent
CONCURRENCY = 8


def read_whole_keys(path):
    """Keys of the lines that are whole: what a kill must not take back."""
    if not path.exists():
        return set()
    *lines, _ = path.read_bytes().split(b"\n")
    return {json.loads(line)["key"] for line in lines}


def start(folder, url):
    args = ["--passages", "passages.jsonl", "--out", "answers.jsonl", "--model", "t"]
    args += ["--endpoint", url, "--concurrency", str(CONCURRENCY)]
    return subprocess.Popen(
        [sys.executable, "-m", "training.teacher", *args],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def kill_until_done(folder, n_passages, n_kills, rng):
    """Run, kill, run again; then let it end.

    folder (Path): Where to work.
    n_passages (int): Passages to ask about.
    n_kills (int): Kills, spread over the run and its starts.
    rng (random.Random): Where chance comes from.
    RETURNS (dict): What was counted.
    """
    rows = ({"id": i, "text": f"p{i} Ada, London."} for i in range(n_passages))
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "passages.jsonl").write_text(text)
    out = folder / "answers.jsonl"
    lost, most_repeated, n_torn, n_early = 0, 0, 0, 0
    known: set = set()
    points = sorted(rng.sample(range(1, n_passages - 2 * CONCURRENCY), n_kills))
    with Server(counting(0.02)) as server:
        for point in points:
            before = server.answered.total()
            process = start(folder, server.url)
            if len(server.answered) >= point:  # somewhere in its start
                end = time.monotonic() + rng.random()
                while time.monotonic() < end and server.answered.total() == before:
                    time.sleep(0.001)
            while len(server.answered) < point and process.poll() is None:
                time.sleep(0.001)
            time.sleep(rng.random() * 0.02)
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            assert process.returncode == -signal.SIGKILL
            time.sleep(0.05)  # for what is being answered
            keys = read_whole_keys(out)
            if out.exists():
                n_torn += not (out.read_bytes() or b"\n").endswith(b"\n")
            lost += len(known - keys)
            asked = server.answered.total() - before
            n_early += asked == 0
            most_repeated = max(most_repeated, asked - len(keys - known))
            known = keys
        process = start(folder, server.url)
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    final = [json.loads(line)["key"] for line in out.read_bytes().splitlines()]
    return {
        "kills": n_kills,
        "before_first_answer": n_early,
        "rows": len(final),
        "twice": len(final) - len(set(final)),
        "lost": lost + len(known - set(final)),
        "unanswered": n_passages - len(server.answered),
        "torn": n_torn,
        "repeated": server.answered.total() - n_passages,
        "most_repeated": most_repeated,
    }


def check(counts, n_passages):
    assert counts["rows"] == n_passages
    assert counts["twice"] == counts["lost"] == counts["unanswered"] == 0
    assert counts["most_repeated"] <= CONCURRENCY


def test_kills_lose_nothing(tmp_path):
    counts = kill_until_done(tmp_path, 300, 5, random.Random(0))
    check(counts, 300)


@pytest.mark.slow
def test_hundred_kills_lose_nothing(tmp_path):
    counts = kill_until_done(tmp_path, 1000, 100, random.Random(1))
    print(counts)
    check(counts, 1000)

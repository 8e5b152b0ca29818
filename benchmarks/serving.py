"""Ask the shipped student in this process and behind `transformers serve` on this machine.

Equality: 200 (passage, type) prompts, fp32, greedy, both without any constraint (this
server takes none). Throughput: prompts per second at several concurrencies, against
this process, in turn, round after round; medians are compared.

    python -m benchmarks.serving --data ../shared/data --out benchmarks/results/serving.json
"""

import argparse
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Dict, Iterator, List, Sequence

from spacy_uniner.students.local import make_local_student
from spacy_uniner.students.server import make_server_student
from spacy_uniner.students.serving.folder import write_copy
from spacy_uniner.types import Question, Student
from training.evaluate import describe_run
from training.files import write_json

from .passages import own_questions

START = 120.0  # seconds for the server to come up
N_TOKENS = 64  # of an answer, at most


@contextmanager
def served(folder: Path, options: Sequence[str] = ()) -> Iterator[str]:
    """Serve a checkpoint on this machine's processor.

    folder (Path): The checkpoint, which is the name of the model, too.
    options (Sequence[str]): More options of `transformers serve`.
    YIELDS (str): The address of its API.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve"]
    command += [str(folder), "--device", "cpu", "--port", str(port), *options]
    with tempfile.TemporaryDirectory() as hub:
        env = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": hub}
        quiet = subprocess.DEVNULL
        process = subprocess.Popen(command, env=env, stdout=quiet, stderr=quiet)
        try:
            _wait(f"http://127.0.0.1:{port}/health", process)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            process.terminate()
            process.wait()


def _wait(url: str, process: subprocess.Popen) -> None:
    """RAISES (RuntimeError): If the server does not come up."""
    end = time.monotonic() + START
    while time.monotonic() < end and process.poll() is None:
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except OSError:
            time.sleep(0.5)
    raise RuntimeError(
        "`transformers serve` did not come up; it needs `pip install transformers[serving]`"
    )


def take(asked: Sequence[Question], n: int) -> List[Question]:
    """RETURNS (List[Question]): The first of them, so that `n` prompts are asked."""
    out: List[Question] = []
    for passage, types in asked:
        out.append((passage, list(types)[:n]))
        n -= len(out[-1][1])
        if not n:
            break
    return out


def equality(here: Student, there: Student, asked: List[Question]) -> Dict[str, Any]:
    """RETURNS (Dict[str, Any]): How many prompts get the same answer, text for text."""
    pairs = [
        (a.text, b.text)
        for row, other in zip(here(asked), there(asked))
        for a, b in zip(row, other)
    ]
    return {
        "prompts": len(pairs),
        "equal": sum(a == b for a, b in pairs),
        "not empty": sum(a.strip() != "[]" for a, _ in pairs),
    }


def throughput(
    students: Dict[str, Student], asked: List[Question], rounds: int
) -> Dict[str, Any]:
    """RETURNS (Dict[str, Any]): Of each student, the median of prompts per second and
    all rounds."""
    n = sum(len(types) for _, types in asked)
    rates: Dict[str, List[float]] = {name: [] for name in students}
    for number in range(rounds + 1):
        for name, student in students.items():
            start = time.perf_counter()
            student(asked)
            if number:  # the first warms up
                rates[name].append(round(n / (time.perf_counter() - start), 2))
    return {
        name: {"prompts_per_second": statistics.median(found), "rounds": found}
        for name, found in rates.items()
    }


def measure(url: str, model: str, asked: List[Question], args: Any) -> Dict[str, Any]:
    """Compare a server with this process.

    url (str): The address of its API.
    model (str): Name of the shipped student there.
    asked (List[Question]): What may be asked.
    args (Any): Settings of `main`.
    RETURNS (Dict[str, Any]): Figures.
    """

    def at(concurrency: int) -> Student:
        return make_server_student(
            url=url,
            model=model,
            template="mini",
            concurrency=concurrency,
            max_new_tokens=N_TOKENS,
        )

    free = make_local_student(
        dtype="float32", constrained=False, max_new_tokens=N_TOKENS
    )
    students: Dict[str, Student] = {
        "in process, as it comes": make_local_student(),
        "in process, unconstrained": free,
    }
    students |= {f"served, {n} at a time": at(n) for n in args.concurrency}
    return {
        "equality": equality(free, at(8), take(asked, args.prompts)),
        "throughput": throughput(students, take(asked, args.timed), args.rounds),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--prompts", type=int, default=200)
    parser.add_argument("--timed", type=int, default=60, help="prompts a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--concurrency", type=int, nargs="*", default=[1, 8, 32])
    parser.add_argument(
        "--serve", nargs="*", default=[], help="more options of the server, without --"
    )
    args = parser.parse_args()
    warnings.filterwarnings("ignore", r"\[U10[39]\]")  # this server takes no grammars
    asked = own_questions(args.data, args.prompts)
    results: Dict[str, Any] = {**describe_run("benchmarks.serving")}
    results["load_before"] = os.getloadavg()[0]
    options = ["--dtype", "float32", *(f"--{option}" for option in args.serve)]
    with tempfile.TemporaryDirectory() as tmp:
        folder = write_copy("mini", Path(tmp) / "mini")
        with served(folder, options) as url:
            results |= measure(url, str(folder), asked, args)
    results["load_after"] = os.getloadavg()[0]
    write_json(args.out, results)
    print(results)


if __name__ == "__main__":
    main()

"""Sample a corpus of about 100 MB, and watch the speed and memory of the process.

Half of the text is short documents, one a line; half is long ones, of 40 paragraphs.

python -m benchmarks.corpus --data ../shared/data --out benchmarks/results/corpus.json
"""

import argparse
import gzip
import itertools
import json
import random
import re
import resource
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Dict, Iterator, List

from training.evaluate import describe_run

SENTENCE = re.compile(r"(?<=[.!?]) ")
LONG = 40  # paragraphs of a long document
PART = 10 * 10**6  # bytes of a file that is made


def paragraphs(data: Path) -> Iterator[str]:
    """YIELDS (str): Paragraphs without end; after the first round their sentences
    are shuffled, so that passages differ."""
    for seed in itertools.count():
        rng = random.Random(seed)
        for path in sorted(data.glob("text/*.txt.gz")):
            with gzip.open(path, "rt", encoding="utf8") as stream:
                rows = [row for row in map(str.strip, stream) if row]
            rng.shuffle(rows)
            for row in rows:
                sentences = SENTENCE.split(row)
                if seed:
                    rng.shuffle(sentences)
                yield " ".join(sentences)


def write_text(data: Path, folder: Path, megabytes: int) -> int:
    """Write plain text, every second file of long documents.

    data (Path): Folder with text/.
    folder (Path): Where files are made.
    megabytes (int): How much.
    RETURNS (int): Bytes written.
    """
    rows = paragraphs(data)
    written = 0
    for number in itertools.count():
        if written >= megabytes * 10**6:
            return written
        path = folder / f"{number:04}.txt"
        with path.open("w", encoding="utf8") as out:
            while out.tell() < min(PART, megabytes * 10**6 - written):
                size = LONG if number % 2 else 1
                out.write(" ".join(itertools.islice(rows, size)) + "\n")
        written += path.stat().st_size


def watch(process: subprocess.Popen) -> List[float]:
    """Sample the memory of a process until it ends.

    process (subprocess.Popen): The process.
    RETURNS (List[float]): Resident memory in MiB, every half second (Linux).
    """
    resident = []
    statm = Path(f"/proc/{process.pid}/statm")
    while process.poll() is None:
        resident.append(int(statm.read_text().split()[1]) * 4096 / 2**20)
        time.sleep(0.5)
    return resident[:-1]  # the last may be of a process that is ending


def run(folder: Path, arguments: List[str]) -> Dict[str, object]:
    """Run the script on a folder.

    folder (Path): Where text/ is, and the output comes.
    arguments (List[str]): More of its arguments.
    RETURNS (Dict[str, object]): Seconds, memory and counts.
    """
    out = folder / "out" / "passages.jsonl"
    command = [sys.executable, "-m", "training.corpus", str(folder / "text")]
    start = time.perf_counter()
    process = subprocess.Popen([*command, "--out", str(out), *arguments])
    resident = watch(process)
    seconds = time.perf_counter() - start
    if process.returncode:
        sys.exit(f"error: training.corpus ended with {process.returncode}.")
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    report = json.loads(out.with_suffix(".report.json").read_text(encoding="utf8"))
    steps = [resident[len(resident) * i // 10] for i in range(1, 10)] + [resident[-1]]
    return {
        "seconds": round(seconds, 1),
        "processor_seconds": round(used.ru_utime + used.ru_stime, 1),
        "resident_mib": [round(step, 1) for step in steps],
        "peak_mib": round(used.ru_maxrss / 1024, 1),
        "counts": report["text"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with text/")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--megabytes", type=int, default=100)
    parser.add_argument("--quota", type=int, default=50_000)
    args = parser.parse_args()
    with TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "text").mkdir()
        size = write_text(args.data, folder / "text", args.megabytes)
        arguments = ["--quota", str(args.quota), "--tests", str(args.data / "ner")]
        found = run(folder, arguments)
    seconds, passages = found["seconds"], found["counts"]["passages"]
    results = {
        **describe_run("benchmarks.corpus"),
        "megabytes": round(size / 10**6, 1),
        "megabytes_per_second": round(size / 10**6 / seconds, 2),
        "passages_per_second": round(passages / seconds, 1),
        **found,
    }
    args.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf8")
    print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()

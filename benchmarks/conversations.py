"""Make conversations of about 100 MB of answers, and watch speed and memory.

The answers are those of an annotated set, over and over, each copy with another
number after its text.

python -m benchmarks.conversations --data ../shared/data --out benchmarks/results/conversations.json
"""

import argparse
import itertools
import json
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from training.evaluate import describe_run
from training.files import read_rows

from .corpus import watch

ANNOTATED = "ner/llm_teacher_open/train.jsonl.gz"


def write_answers(data: Path, path: Path, megabytes: int) -> int:
    """Write answers.

    data (Path): Folder of sets.
    path (Path): JSON lines.
    megabytes (int): How much.
    RETURNS (int): Bytes written.
    """
    rows = list(read_rows(data / ANNOTATED))
    with path.open("wb") as out:
        for number, row in enumerate(itertools.cycle(rows)):
            if out.tell() >= megabytes * 10**6:
                return out.tell()
            text = f"{row['text']} ({number})"
            answer = {"id": str(number), "text": text, "entities": row["entities"]}
            line = json.dumps({**answer, "status": "ok"}, ensure_ascii=False)
            out.write(line.encode("utf8") + b"\n")
    return 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with ner/")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--megabytes", type=int, default=100)
    parser.add_argument("--strategy", default="frequency")
    args = parser.parse_args()
    with TemporaryDirectory() as name:
        folder = Path(name)
        size = write_answers(args.data, folder / "answers.jsonl", args.megabytes)
        command = [sys.executable, "-m", "training.conversations"]
        command += ["--config", "training/configs/distill.cfg"]
        command += ["--answers", str(folder / "answers.jsonl")]
        command += ["--out", str(folder / "out.jsonl"), "--dev", str(folder / "dev")]
        command += [
            "--set",
            f"conversations.sampling.strategy={json.dumps(args.strategy)}",
        ]
        start = time.perf_counter()
        process = subprocess.Popen(command)
        resident = watch(process)
        seconds = time.perf_counter() - start
        if process.returncode:
            sys.exit(f"error: training.conversations ended with {process.returncode}.")
        report = json.loads((folder / "out.report.json").read_text(encoding="utf8"))
    steps = [resident[len(resident) * i // 10] for i in range(1, 10)] + [resident[-1]]
    results = {
        **describe_run("benchmarks.conversations"),
        "megabytes": round(size / 10**6, 1),
        "seconds": round(seconds, 1),
        "megabytes_per_second": round(size / 10**6 / seconds, 2),
        "passages_per_second": round(report["teacher"]["rows"] / seconds, 1),
        "resident_mib": [round(step, 1) for step in steps],
        "counts": report["teacher"],
    }
    args.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf8")
    print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()

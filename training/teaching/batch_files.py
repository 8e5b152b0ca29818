"""The files of the Batch API: requests, answers, and what was submitted.

The state stands beside the answers, without texts and without the key. Asks nobody.
"""

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, Iterable, Iterator, List, Tuple

from ..files import InputError
from .prompts import Asking, Question
from .replies import Fault, Reply, read_refusal, read_reply

ENDPOINT = "/v1/chat/completions"


@dataclass(frozen=True)
class FileLimits:
    """What a request file may hold."""

    requests: int = 50_000
    n_bytes: int = 200_000_000


LIMITS = FileLimits()


def state_path(out: Path) -> Path:
    """RETURNS (Path): The state file beside an answers file."""
    return out.with_suffix(".batch.json")


def read_state(out: Path) -> List[dict]:
    """Read what was submitted.

    out (Path): The answers file.
    RETURNS (List[dict]): Batches: input_file_id, batch_id (None until it is known),
        status, is_collected, requests (key -> id of the passage).
    """
    path = state_path(out)
    if not path.is_file():
        return []
    try:
        return list(json.loads(path.read_text(encoding="utf8"))["batches"])
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{path} is no list of batches; move it away.") from None


def check_none_is_pending(out: Path) -> None:
    """Keep a direct run from asking what a batch is about to answer.

    out (Path): The answers file.
    RAISES (InputError): If a batch is not collected.
    """
    pending = [b for b in read_state(out) if not b["is_collected"]]
    if pending:
        raise InputError(
            f"{len(pending)} batches are not collected. Run with --batch collect first, "
            f"or delete {state_path(out)} to give them up."
        )


def write_requests(
    questions: Iterable[Question], asking: Asking, folder: Path, limits: FileLimits
) -> Iterator[Tuple[Path, Dict[str, str]]]:
    """Write request files, each as large as may be; they are deleted after use.

    questions (Iterable[Question]): What to ask.
    asking (Asking): How.
    folder (Path): Where there is room.
    limits (FileLimits): What a file may hold.
    YIELDS (Tuple[Path, Dict[str, str]]): A file, and its keys -> passage IDs.
    """
    lines = ((q, _make_line(q, asking)) for q in questions)
    held = next(lines, None)
    while held is not None:
        requests: Dict[str, str] = {}
        with tempfile.NamedTemporaryFile(dir=folder, suffix=".jsonl") as out:
            while held is not None and len(requests) < limits.requests:
                question, line = held
                if requests and out.tell() + len(line) > limits.n_bytes:
                    break
                out.write(line)
                requests[question.key] = question.id
                held = next(lines, None)
            out.flush()
            yield Path(out.name), requests


def _make_line(question: Question, asking: Asking) -> bytes:
    body = asking.body(question.text)
    row = {"custom_id": question.key, "method": "POST", "url": ENDPOINT, "body": body}
    return json.dumps(row, ensure_ascii=False).encode("utf8") + b"\n"


def read_line(line: dict, key: str) -> Reply:
    """Read a line of an output or error file.

    line (dict): The line.
    key (str): Our key, to keep it out of what is told.
    RETURNS (Reply): The answer.
    RAISES (Fault, StopRun): If there is none.
    """
    response = line.get("response")
    if isinstance(response, dict) and isinstance(response.get("body"), dict):
        content, status = json.dumps(response["body"]), response.get("status_code")
        if status == 200:
            return read_reply(content, key)
        return read_refusal(int(status or 0), {}, content, key)
    error = line.get("error")
    code = error.get("code") if isinstance(error, dict) else None
    raise Fault(str(code or "no response"))

"""Batch API of OpenAI: the same questions, answered within a day.

Each step may be killed and run again: nothing is submitted twice, and collecting
twice adds nothing. The files are made and read in `batch_files`.
"""

import json
import tempfile
from collections import Counter
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, AsyncIterator, Dict, Iterable, List

from ..files import InputError, read_rows, write_json
from .batch_files import (
    ENDPOINT,
    LIMITS,
    FileLimits,
    read_line,
    read_state,
    state_path,
    write_requests,
)
from .ledger import Ledger
from .prompts import Asking, Question
from .replies import Fault, StopRun
from .service import Service, client_errors, make_client, read_client_error

TIMEOUT = 600.0  # seconds without a byte
FINAL = {"completed", "failed", "expired", "cancelled"}


class Batches:
    """The batches of an answers file. Use it with `async with`."""

    def __init__(self, service: Service, out: Path) -> None:
        """Read the state.

        service (Service): Whom to ask.
        out (Path): The answers file.
        """
        self._service = service
        self._out = out
        self._client = make_client(service, timeout=TIMEOUT)
        self.batches = read_state(out)

    async def __aenter__(self) -> "Batches":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()

    def _save(self) -> None:
        state = {"endpoint": self._service.url, "batches": self.batches}
        write_json(state_path(self._out), state)

    async def submit(
        self,
        questions: Iterable[Question],
        asking: Asking,
        limits: FileLimits = LIMITS,
    ) -> int:
        """Submit what no batch holds that is not collected yet.

        questions (Iterable[Question]): What has no answer.
        asking (Asking): How they are asked.
        limits (FileLimits): What a request file may hold.
        RETURNS (int): How many requests were submitted.
        """
        await self._find_lost()
        pending = {
            k for b in self.batches if not b["is_collected"] for k in b["requests"]
        }
        fresh = [q for q in questions if q.key not in pending]
        for path, requests in write_requests(fresh, asking, self._out.parent, limits):
            async with self._told("the upload"):
                with path.open("rb") as lines:
                    file = await self._client.files.with_raw_response.create(
                        file=("requests.jsonl", lines), purpose="batch"
                    )
                file_id = _read_object(file)["id"]
            batch = {"input_file_id": file_id, "batch_id": None, "status": "uploaded"}
            self.batches.append({**batch, "is_collected": False, "requests": requests})
            self._save()
            await self._create(self.batches[-1])
        return len(fresh)

    async def _create(self, batch: dict) -> None:
        async with self._told("making a batch"):
            made = await self._client.batches.with_raw_response.create(
                input_file_id=batch["input_file_id"],
                endpoint=ENDPOINT,
                completion_window="24h",
            )
            batch["batch_id"] = _read_object(made)["id"]
            batch["status"] = _read_object(made)["status"]
        self._save()

    async def _find_lost(self) -> None:
        """Find batches that were made just before we were killed, or make them."""
        lost = [b for b in self.batches if b["batch_id"] is None]
        if not lost:
            return
        async with self._told("listing batches"):
            made = await self._client.batches.with_raw_response.list(limit=100)
            known = {b["input_file_id"]: b for b in _read_object(made)["data"]}
        for batch in lost:
            found = known.get(batch["input_file_id"])
            if found is None:
                await self._create(batch)
            else:
                batch["batch_id"], batch["status"] = found["id"], found["status"]
                self._save()

    async def poll(self) -> List[str]:
        """Ask how the batches are.

        RETURNS (List[str]): A line for each that is not collected.
        """
        lines = []
        for batch in self.batches:
            if not batch["is_collected"]:
                found = await self._look_up(batch)
                counts = found.get("request_counts") or {}
                done = f"{counts.get('completed', 0)} of {len(batch['requests'])} done"
                failed = f"{counts.get('failed', 0)} failed"
                name = batch["batch_id"] or "not made yet, submit again"
                lines.append(f"{name}: {batch['status']}, {done}, {failed}")
        self._save()
        return lines

    async def _look_up(self, batch: dict) -> dict:
        if batch["batch_id"] is None:
            return {}
        async with self._told("looking a batch up"):
            found = await self._client.batches.with_raw_response.retrieve(
                batch["batch_id"]
            )
            batch["status"] = _read_object(found)["status"]
            return _read_object(found)

    async def collect(self, questions: Iterable[Question], ledger: Ledger) -> Counter:
        """Add what has been answered; what has not can be submitted again.

        questions (Iterable[Question]): What was asked.
        ledger (Ledger): Where answers go.
        RETURNS (Counter): What went wrong, with how many requests.
        RAISES (InputError): If a batch asks for other passages; the rest is collected.
        """
        by_key = {q.key: q for q in questions}
        faults: Counter = Counter()
        waiting = [b for b in self.batches if not b["is_collected"]]
        others = [b for b in waiting if not b["requests"].keys() <= by_key.keys()]
        for batch in (b for b in waiting if b not in others):
            found = await self._look_up(batch)
            if batch["status"] not in FINAL:
                continue
            told: Counter = Counter()
            for name in ("output_file_id", "error_file_id"):
                if found.get(name):
                    await self._add_file(found[name], by_key, ledger, told)
            silent = len(batch["requests"].keys() - ledger.keys) - told.total()
            told[f"batch {batch['status']}"] += max(0, silent)
            faults += told
            batch["is_collected"] = True
            self._save()
        if others:
            raise InputError(
                f"{others[0]['batch_id']} asks for other passages, or otherwise: give "
                "the --passages, --model, --prompt, --types and --max-tokens with "
                "which it was submitted."
            )
        return faults

    async def _add_file(
        self, file_id: str, by_key: Dict[str, Question], ledger: Ledger, faults: Counter
    ) -> None:
        with tempfile.TemporaryDirectory(dir=self._out.parent) as folder:
            path = Path(folder) / "answers.jsonl"
            async with self._told("the download"):
                content = self._client.files.with_streaming_response.content(file_id)
                async with content as response:
                    await response.stream_to_file(path)
            for line in read_rows(path, faults=faults):
                question = by_key.get(str(line.get("custom_id")))
                try:
                    if question is None:
                        raise Fault("not ours")
                    reply = read_line(line, self._service.key)
                except (Fault, StopRun) as fault:
                    faults[fault.kind if isinstance(fault, Fault) else str(fault)] += 1
                else:
                    ledger.add(question, reply)

    @asynccontextmanager
    async def _told(self, what: str) -> AsyncIterator[None]:
        """Turn what goes wrong into a line for the user."""
        try:
            yield
        except client_errors() as error:
            fault = Fault("it is refused")
            try:
                read_client_error(error, self._service.key)
            except Fault as told:
                fault = told
        except (AttributeError, KeyError, TypeError, json.JSONDecodeError):
            fault = Fault("the reply makes no sense")
        else:
            return
        raise InputError(f"{what.capitalize()} failed, {fault}. Run it again.")


def _read_object(response: Any) -> dict:
    """Read a response as an object; a page of HTML is none."""
    return dict(json.loads(response.http_response.text).items())

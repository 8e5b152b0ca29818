"""Ask a teacher about many passages, several at a time, until all is answered, money
ends, nothing works any more, or somebody stops us.

How one is asked is in `endpoint`, where answers go in `ledger`.
"""

import asyncio
import signal
from collections import Counter
from typing import Coroutine, Iterator, List

from tqdm import tqdm

from .endpoint import Endpoint
from .ledger import Ledger
from .pricing import Budget, OutOfBudget
from .prompts import Question
from .replies import Fault, StopRun

MAX_IN_A_ROW = 10  # passages that fail one after another, until the run stops


class Run:
    """Ask all questions, several at a time."""

    def __init__(self, ledger: Ledger, budget: Budget) -> None:
        """Prepare a run.

        ledger (Ledger): Where answers go.
        budget (Budget): Who pays.
        """
        self.ledger = ledger
        self.budget = budget
        self.faults: Counter = Counter()
        self.is_out_of_budget = False
        self._in_a_row = 0

    async def ask_all(self, questions: List[Question], endpoint: Endpoint) -> None:
        """Ask until everything is answered, the budget ends, or nothing works.

        questions (List[Question]): What to ask, in this order.
        endpoint (Endpoint): Whom.
        RAISES (StopRun): If no further call can succeed.
        """
        bar = tqdm(total=len(questions), unit="passage", disable=None)
        queue = iter(questions)
        n_tasks = min(endpoint.service.concurrency, len(questions))
        tasks = [
            asyncio.ensure_future(self._work(queue, endpoint, bar))
            for _ in range(n_tasks)
        ]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            bar.close()

    async def _work(
        self, queue: Iterator[Question], endpoint: Endpoint, bar: tqdm
    ) -> None:
        for question in queue:
            try:
                body = self.ledger.asking.body(question.text)
                reply = await endpoint.ask(body, self.budget)
            except Fault as fault:
                self._fail(fault)
            except OutOfBudget:
                self.is_out_of_budget = True
            else:
                self.ledger.add(question, reply)
                self._in_a_row = 0
            if self.is_out_of_budget:
                return
            bar.update()

    def _fail(self, fault: Fault) -> None:
        self.faults[fault.kind] += 1
        self._in_a_row += 1
        if self._in_a_row >= MAX_IN_A_ROW:
            raise StopRun(
                f"{self._in_a_row} passages in a row failed, the last with: {fault}."
            )


async def until_signal(work: Coroutine) -> int:
    """Do something until it is done, or SIGINT or SIGTERM ends it.

    work (Coroutine): What to do; it is cancelled.
    RETURNS (int): The signal, or 0.
    """
    loop, task = asyncio.get_running_loop(), asyncio.ensure_future(work)
    caught: List[int] = []

    def stop(number: int) -> None:
        caught.append(number)
        task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop, number)
    try:
        await task
    except asyncio.CancelledError:
        if not caught:
            raise
    return caught[0] if caught else 0

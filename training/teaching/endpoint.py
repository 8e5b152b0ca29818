"""Ask an OpenAI-compatible endpoint: one call, with all its retries inside a deadline.

All callers pass one gate, so that a busy server is left alone by all of them.
What an answer means is told apart in `replies`, what it costs settled in `pricing`.
"""

import asyncio
import random
import time
from typing import List, Optional

from .pricing import Bill, Budget
from .prompts import Body
from .replies import Fault, Reply, StopRun, read_reply
from .service import Service, client_errors, make_client, read_client_error

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 8.0  # seconds between attempts, doubling


class Gate:
    """Where all callers pass: in turn, evenly spaced, and not while the server rests."""

    def __init__(self, requests_per_minute: Optional[float] = None) -> None:
        """Open a gate.

        requests_per_minute (Optional[float]): How many may pass; None for any number.
        """
        self._step = 60.0 / requests_per_minute if requests_per_minute else 0.0
        self._opens = 0.0  # on the monotonic clock, in seconds
        self._turn = asyncio.Lock()

    async def enter(self, *, is_retry: bool = False) -> None:
        """Wait until a request may be sent.

        is_retry (bool): Whether a call is on its way; it goes before those that wait
            to begin, because its deadline runs.
        """
        if is_retry:
            await self._pass()
        else:
            async with self._turn:
                await self._pass()

    async def _pass(self) -> None:
        while (wait := self._opens - time.monotonic()) > 0:
            # not all at once when it opens again
            await asyncio.sleep(wait + random.random() * min(0.1, wait / 4))
        if self._step:
            self._opens = time.monotonic() + self._step

    def close_for(self, seconds: float) -> None:
        """Let nobody pass for a while."""
        self._opens = max(self._opens, time.monotonic() + seconds)


class Endpoint:
    """An endpoint to ask. Use it with `async with`."""

    def __init__(self, service: Service) -> None:
        """Prepare an endpoint; nothing is sent.

        service (Service): Where it is.
        """
        self.service = service
        self._gate = Gate(service.requests_per_minute)
        self._is_reached = False
        self._client = make_client(service, timeout=service.deadline + 1)

    async def __aenter__(self) -> "Endpoint":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()

    async def ask(self, body: Body, budget: Budget) -> Reply:
        """Ask once, and again while it may help and there is time.

        The deadline covers every attempt and every pause of this call, from when its
        first attempt may be sent. One attempt may use all of it: asking again what is
        still being answered costs twice.

        body (Body): The chat request.
        budget (Budget): Who pays; waits for calls on their way if money is short.
        RETURNS (Reply): The answer.
        RAISES (Fault): If there is none.
        RAISES (StopRun): If there can be none for any passage.
        RAISES (OutOfBudget): If asking could cross the budget.
        """
        async with budget.bill(body) as bill:
            await self._gate.enter()
            faults: List[Fault] = [Fault("no answer before the deadline")]
            call = self._attempts(body, bill, faults)
            try:
                return await asyncio.wait_for(call, self.service.deadline)
            except asyncio.TimeoutError:
                raise faults[-1] from None

    async def _attempts(self, body: Body, bill: Bill, faults: List[Fault]) -> Reply:
        for attempt in range(self.service.retries + 1):
            if attempt:
                await self._rest(attempt, faults[-1])
            bill.begin()
            try:
                reply = await self._send(body)
            except StopRun:
                bill.end(0, 0)
                raise
            except Fault as fault:
                faults.append(fault)
                if fault.is_free:
                    bill.end(0, 0)
                if not fault.is_passing:
                    break
            else:
                bill.end(reply.n_input, reply.n_output)
                return reply
        raise faults[-1]

    async def _rest(self, attempt: int, fault: Fault) -> None:
        """Back off: alone, or with everybody if the server is busy."""
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** (attempt - 1))
        pause *= 1 - random.random() / 4
        if fault.pause is None:
            await asyncio.sleep(pause)
        elif fault.pause == 0:
            self._gate.close_for(pause)
        await self._gate.enter(is_retry=True)

    async def _send(self, body: Body) -> Reply:
        create = self._client.chat.completions.with_raw_response.create
        try:
            response = await create(**body)
        except client_errors() as error:
            return self._read_error(error)
        self._is_reached = True
        return read_reply(response.http_response.text, self.service.key)

    def _read_error(self, error: Exception) -> Reply:
        try:
            reply = read_client_error(error, self.service.key)
        except Fault as fault:
            if fault.kind == "no connection" and not self._is_reached:
                raise StopRun(
                    f"Nobody answers at {self.service.url} ({fault}). Start the server, "
                    "or correct --endpoint."
                ) from None
            self._is_reached |= fault.kind != "no connection"
            if fault.pause:
                self._gate.close_for(fault.pause)
            raise fault from None
        self._is_reached = True
        return reply

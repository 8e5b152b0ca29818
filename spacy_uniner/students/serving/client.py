"""Send requests: many at a time, each with all its attempts inside one deadline.

Requests run on a thread of their own, so that they work inside a running event loop
too. Redirects are not followed. All callers pass one limit, and leave a busy server
alone together. What a response means is told apart in `replies`.

httpx2 it is, the client that huggingface_hub and openai bring along: cancelling a
coroutine ends a request wherever it hangs, which the timeouts per read of `requests`
do not, and no key of a `.netrc` file takes the place of ours.
"""

import asyncio
import os
import random
import threading
import time
import weakref
from typing import (
    TYPE_CHECKING,
    Any,
    Awaitable,
    Callable,
    Coroutine,
    Dict,
    List,
    Optional,
    TypeVar,
)

from ...errors import Errors
from .address import Address, redact
from .replies import Fault, read_json, refuse

if TYPE_CHECKING:
    import httpx2

T = TypeVar("T")
CONNECTING = 5.0  # seconds until a connection must stand
FIRST_PAUSE, LONGEST_PAUSE = 0.25, 8.0  # seconds between attempts, doubling
MAX_BYTES = 8_000_000  # of a response
LEAST_KEY = 8  # characters of what is surely a key


class Client:
    """Asks one server. Not to be shared by processes."""

    def __init__(
        self,
        address: Address,
        key: str,
        *,
        concurrency: int,
        timeout: float,
        retries: int,
    ) -> None:
        """Start the thread; nothing is sent.

        address (Address): Where to.
        key (str): Sent there and nowhere else; empty for none.
        concurrency (int): Requests at a time.
        timeout (float): Seconds for a request, from its first attempt to its end.
        retries (int): Attempts after the first.
        RAISES (ImportError): U038, if the HTTP client is not installed.
        """
        self.address, self.timeout, self.retries = address, timeout, retries
        self.concurrency = concurrency
        self.pid = os.getpid()
        self._key = key
        self._http = _make_http(address, key, concurrency=concurrency, timeout=timeout)
        self._limit = asyncio.Semaphore(concurrency)
        self._opens = 0.0  # when a busy server may be asked again, monotonic
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=_run, args=(self._loop,), daemon=True).start()
        end = weakref.finalize(self, _end, self._loop, self._http, self.pid)
        end.atexit = False

    def __repr__(self) -> str:
        return f"Client({self.address.url!r})"

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the thread of this client, and wait for it.

        work (Coroutine): What to run.
        RETURNS (Any): What it gives.
        """
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        finally:
            future.cancel()  # if the wait was interrupted

    async def ask(
        self,
        url: str,
        body: Optional[Dict[str, Any]] = None,
        *,
        check: Callable[[Dict[str, Any]], T],
        retries: Optional[int] = None,
        timeout: Optional[float] = None,
    ) -> T:
        """Ask, and again as long as it may help and there is time.

        url (str): Where to; of this server.
        body (Optional[Dict[str, Any]]): What to POST; None to GET.
        check (Callable): Reads the object that it sends, or raises a Fault.
        retries (Optional[int]): Attempts after the first; None for as many as usual.
        timeout (Optional[float]): Seconds, if less than usual.
        RETURNS (Any): What was read.
        RAISES (Fault): If it sends nothing that can be read.
        """
        n_attempts = 1 + (self.retries if retries is None else retries)
        async with self._limit:
            await self._wait()
            limit = min(self.timeout, timeout or self.timeout)
            faults = [Fault(f"no answer in {limit:g} seconds")]
            end = time.monotonic() + limit

            async def attempt() -> T:
                return check(await self._send(url, body))

            try:
                work = self._attempts(attempt, n_attempts, end, faults)
                return await asyncio.wait_for(work, limit)
            except asyncio.TimeoutError:
                raise faults[-1] from None

    async def _attempts(
        self,
        attempt: Callable[[], Awaitable[T]],
        n_attempts: int,
        end: float,
        faults: List[Fault],
    ) -> T:
        for number in range(n_attempts):
            if number:
                await self._rest(number, faults[-1])
            try:
                return await attempt()
            except Fault as fault:
                faults.append(fault)
                beyond = time.monotonic() + (fault.pause or 0.0) >= end
                if not fault.is_passing or beyond:
                    break
        raise faults[-1]

    async def _rest(self, attempt: int, fault: Fault) -> None:
        """Back off: alone, or with everybody if the server is busy."""
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** (attempt - 1))
        pause *= 1 - random.random() / 4
        if fault.pause is None:
            await asyncio.sleep(pause)
        else:
            self._opens = max(self._opens, time.monotonic() + (fault.pause or pause))
        await self._wait()

    async def _wait(self) -> None:
        while (left := self._opens - time.monotonic()) > 0:
            # not all at once when it opens again
            await asyncio.sleep(left + random.random() * min(0.1, left / 4))

    async def _send(self, url: str, body: Optional[Dict[str, Any]]) -> Dict[str, Any]:
        import httpx2

        method = "GET" if body is None else "POST"
        broken = (httpx2.HTTPError, httpx2.StreamError, httpx2.InvalidURL, OSError)
        try:
            async with self._http.stream(method, url, json=body) as response:
                content = await self._read(response)
        except broken as error:
            words = redact(str(error), self._key) or type(error).__name__
            raise Fault(f"the connection failed: {words}") from None
        if len(self._key) >= LEAST_KEY:  # shorter ones are words of documents
            content = content.replace(self._key.encode(), b"[key]")
        if response.status_code != 200:
            refuse(response.status_code, response.headers, content, self._key)
        return read_json(content, self._key)

    async def _read(self, response: "httpx2.Response") -> bytes:
        content = b""
        async for part in response.aiter_bytes():
            content += part
            if len(content) > MAX_BYTES:
                raise Fault(f"a reply of more than {MAX_BYTES} bytes", is_passing=False)
        return content


def _make_http(
    address: Address, key: str, *, concurrency: int, timeout: float
) -> "httpx2.AsyncClient":
    try:
        import httpx2
    except ImportError:
        message = Errors.U038.format(
            package="httpx2",
            purpose="a student on a server",
            install="'spacy-uniner[server]'",
        )
        raise ImportError(message) from None
    headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
    if key:
        headers["Authorization"] = f"Bearer {key}"
    limits = httpx2.Timeout(timeout, connect=min(CONNECTING, timeout), pool=None)
    return httpx2.AsyncClient(
        headers=headers,
        timeout=limits,
        limits=httpx2.Limits(max_connections=concurrency),
        follow_redirects=False,
        trust_env=not address.is_local,
    )


def _run(loop: asyncio.AbstractEventLoop) -> None:
    loop.run_forever()
    loop.close()


def _end(loop: asyncio.AbstractEventLoop, http: "httpx2.AsyncClient", pid: int) -> None:
    """Close connections and thread, when the client is gone."""

    async def close() -> None:
        await http.aclose()
        loop.stop()

    if os.getpid() == pid:  # threads do not live on in a fork
        asyncio.run_coroutine_threadsafe(close(), loop)

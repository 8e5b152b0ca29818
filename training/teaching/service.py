"""Where a teacher is served: the address, the key, and a client that sends no more.

The key comes from the environment, goes into one header, and is told to nobody.
Redirects are not followed. Asks nothing by itself.
"""

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Optional, Tuple, Type
from urllib.parse import SplitResult, urlsplit

from ..files import InputError
from .replies import Fault, Reply, read_refusal, redact

if TYPE_CHECKING:
    from openai import AsyncOpenAI

NO_KEY = "EMPTY"  # what servers without keys are given
CONNECTING = 5.0  # seconds until a connection must stand
# the rest says what machine this is, or comes from OPENAI_CUSTOM_HEADERS and may be
# a key for somebody else
OUR_HEADERS = set(
    "host accept accept-encoding connection content-length content-type "
    "transfer-encoding user-agent authorization x-stainless-raw-response".split()
)


def split_url(url: str) -> SplitResult:
    """Take an endpoint's address apart.

    url (str): The address.
    RETURNS (SplitResult): Its parts.
    RAISES (InputError): If it is none, or holds what must not be told.
    """
    try:
        parts = urlsplit(url)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname)
        is_address = is_address and parts.port != 0
    except ValueError:
        is_address = False
    if "@" in url or "?" in url or "#" in url:
        raise InputError(
            "The endpoint's address must be bare: no user, no password, no query. "
            "A key goes into an environment variable, named by --key-env."
        )
    if not is_address:
        raise InputError(f"{url!r} is no address: http(s)://host[:port]/v1.")
    return parts


def is_openai(url: str) -> bool:
    """RETURNS (bool): Whether this is OpenAI's own endpoint."""
    parts = split_url(url)
    return parts.scheme == "https" and parts.hostname == "api.openai.com"


def read_key(url: str, key_env: Optional[str]) -> str:
    """Find the key. It is only ever read from the environment.

    url (str): The endpoint. Only OpenAI's own gets a key that was not asked for.
    key_env (Optional[str]): Name of the variable that holds the key.
    RETURNS (str): The key, or "EMPTY".
    RAISES (InputError): If there is no key in the variable; its value is never told.
    """
    if key_env is None and not is_openai(url):
        return NO_KEY
    name = key_env or "OPENAI_API_KEY"
    key = os.environ.get(name, "").strip()
    if not key:
        raise InputError(f"The environment variable {name} holds no key.")
    if not all("!" <= char <= "~" for char in key):
        raise InputError(
            f"The key in {name} has blanks, line ends or letters that no key has."
        )
    return key


@dataclass(frozen=True)
class Service:
    """An endpoint, and how hard it may be asked."""

    url: str
    key: str = field(default=NO_KEY, repr=False)
    concurrency: int = 8  # calls at a time
    requests_per_minute: Optional[float] = None
    deadline: float = 60.0  # seconds from the first attempt of a call to its end
    retries: int = 4  # attempts after the first

    def __post_init__(self) -> None:
        split_url(self.url)
        if self.concurrency < 1 or self.retries < 0 or not 0 < self.deadline < 1e6:
            raise InputError(
                "--concurrency must be at least 1, --retries at least 0 and --deadline "
                f"above 0, got {self.concurrency}, {self.retries}, {self.deadline}."
            )
        if self.requests_per_minute is not None and not self.requests_per_minute > 0:
            raise InputError(
                f"--requests-per-minute must be above 0, got {self.requests_per_minute}."
            )


def make_client(service: Service, *, timeout: float) -> "AsyncOpenAI":
    """Make a client; nothing is sent. It never retries: that is for its callers.

    service (Service): Where to.
    timeout (float): Seconds without a byte until a request fails.
    RETURNS (AsyncOpenAI): The client. Close it.
    """
    import httpx2
    from openai import AsyncOpenAI, DefaultAsyncHttpxClient

    async def keep_to_ours(request: httpx2.Request) -> None:
        for name in set(request.headers) - OUR_HEADERS:
            del request.headers[name]
        request.headers["authorization"] = f"Bearer {service.key}"

    hooks: dict = {} if is_openai(service.url) else {"request": [keep_to_ours]}
    # what is meant for this machine goes through no proxy
    is_local = split_url(service.url).hostname in ("localhost", "127.0.0.1", "::1")
    limits = httpx2.Timeout(timeout, connect=min(CONNECTING, timeout))
    return AsyncOpenAI(
        api_key=service.key,
        base_url=service.url,
        max_retries=0,
        timeout=limits,
        http_client=DefaultAsyncHttpxClient(
            follow_redirects=False,
            timeout=limits,
            event_hooks=hooks,
            trust_env=not is_local,
        ),
    )


def client_errors() -> Tuple[Type[Exception], ...]:
    """RETURNS (Tuple[Type[Exception], ...]): All that a client raises for a request."""
    import httpx2
    import openai

    return openai.OpenAIError, httpx2.HTTPError, httpx2.InvalidURL


def name_failure(error: Exception) -> str:
    """Say in a few words why no response came.

    error (Exception): What a client raised.
    RETURNS (str): "no connection" if the request was surely not sent.
    """
    cause: Any = error.__cause__ or error
    names = {kind.__name__ for kind in type(cause).__mro__}
    if names & {"ConnectError", "ConnectTimeout"}:
        return "no connection"
    if "TimeoutException" in names:
        return "no answer in time"
    return "the connection broke"


def read_client_error(error: Exception, key: str) -> Reply:
    """Tell apart what a client raised.

    error (Exception): One of `client_errors`.
    key (str): Our key, to keep it out of what is told.
    RETURNS (Reply): If it is the passage's own fault.
    RAISES (Fault, StopRun): If it is not.
    """
    response = getattr(error, "response", None)
    if response is None:
        kind = name_failure(error)
        words = redact(str(error.__cause__ or error), key)
        raise Fault(kind, words, is_free=kind == "no connection") from None
    return read_refusal(response.status_code, response.headers, response.text, key)

"""Where a student is served: the address, the key, and how both are kept quiet.

The key comes from the environment and goes into one header. Sends nothing.
"""

import os
import re
from dataclasses import dataclass
from typing import Optional
from urllib.parse import urlsplit

from ...errors import Errors

LOCAL = ("localhost", "127.0.0.1", "::1")
MAX_WORDS = 200  # characters of a server's words that are told
KEY = re.compile(r"(?:sk|hf)[-_][^\s\"']{4,}|Bearer\s+[^\s\"']+", re.IGNORECASE)


@dataclass(frozen=True)
class Address:
    """An address that requests may go to.

    url (str): Such as http://localhost:8000/v1, without a slash at the end.
    """

    url: str

    def __post_init__(self) -> None:
        """RAISES (ValueError): U095, if it is no bare address."""
        object.__setattr__(self, "url", self.url.strip().rstrip("/"))
        try:
            parts = urlsplit(self.url)
            is_bare = not set("@?#\\") & set(self.url) and self.url.isprintable()
            is_http = parts.scheme in ("http", "https") and bool(parts.hostname)
            is_address = is_bare and is_http and parts.port != 0 and " " not in self.url
        except ValueError:
            is_address = False
        if not is_address:
            # what stands before an @ or after a ? may be a key
            shown = re.sub(r"//.*@", "//...@", self.url).split("?")[0]
            raise ValueError(Errors.U095.format(url=shown.split("#")[0]))

    @property
    def host(self) -> str:
        """RETURNS (str): Host and port."""
        return urlsplit(self.url).netloc.lower()

    @property
    def is_local(self) -> bool:
        """RETURNS (bool): Whether it is this machine, to which no proxy leads."""
        return urlsplit(self.url).hostname in LOCAL

    @property
    def root(self) -> str:
        """RETURNS (str): The address without the version, where servers keep what
        OpenAI does not have."""
        return re.sub(r"/v\d+$", "", self.url)


def read_key(name: Optional[str]) -> str:
    """Find a key.

    name (Optional[str]): The environment variable that holds it; None for no key. None
        is sent that was not asked for.
    RETURNS (str): The key; empty if there is none.
    RAISES (ValueError): U096, if the variable holds no key. Its value is never told.
    """
    if name is None:
        return ""
    key = os.environ.get(name, "").strip()
    if not key or not all("!" <= char <= "~" for char in key):
        reason = "has characters that no key has" if key else "is not set, or empty"
        raise ValueError(Errors.U096.format(name=name, reason=reason))
    return key


def redact(words: str, key: str) -> str:
    """Take keys out of a server's words, and all but the first of the words.

    words (str): What it said.
    key (str): Our key; empty if there is none.
    RETURNS (str): A line that may be told.
    """
    if key:
        words = words.replace(key, "[key]")
    return " ".join(KEY.sub("[key]", words).split())[:MAX_WORDS]

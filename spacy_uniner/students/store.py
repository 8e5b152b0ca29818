"""Bytes on disk under keys, checked when they are read, as many as there is room for.

Knows nothing of students, nor of what is wrong with files: that is in `database`.
"""

import hashlib
import sqlite3
import time
from pathlib import Path
from typing import Dict, List, Set

from .database import Database, pragma, transaction

TOUCH_SECONDS = 3600.0  # uses nearer than this to each other count as one
KEYS_PER_QUERY = 500  # sqlite allows 999 variables, in its oldest versions
SCHEMA = (
    "CREATE TABLE IF NOT EXISTS answers (id INTEGER PRIMARY KEY,"
    " key BLOB NOT NULL UNIQUE, used REAL NOT NULL, body BLOB NOT NULL, sum BLOB NOT NULL)",
    "CREATE INDEX IF NOT EXISTS answers_used ON answers (used)",
)
SAVE = (
    "INSERT INTO answers (key, used, body, sum) VALUES (?, ?, ?, ?) ON CONFLICT (key)"
    " DO UPDATE SET used = excluded.used, body = excluded.body, sum = excluded.sum"
)
EVICT = (
    "DELETE FROM answers WHERE id IN (SELECT id FROM answers ORDER BY used, id LIMIT ?)"
)


class Store:
    """Bytes under keys, in a file that threads and processes share."""

    def __init__(self, path: Path, *, max_bytes: int = 0) -> None:
        """Remember where; nothing is opened.

        path (Path): The file. Its folder is made when it is needed.
        max_bytes (int): Largest file, in bytes; 0 for no bound.
        """
        self.database = Database(path, table=b"answers_used", schema=SCHEMA)
        self.max_bytes = max_bytes
        self._stale: Set[bytes] = set()  # keys whose use is still to be noted

    def load(self, keys: List[bytes]) -> Dict[bytes, bytes]:
        """Look keys up.

        keys (List[bytes]): Keys.
        RETURNS (Dict[bytes, bytes]): What is there and whole; no more than that.
        RAISES (ValueError): U092, if the file is a database of something else.
        """
        if not keys:
            return {}
        return self.database.use(lambda file: self._load(file, keys), {})

    def save(self, rows: Dict[bytes, bytes]) -> None:
        """Keep rows, and note which others were used, in one transaction.

        rows (Dict[bytes, bytes]): Bytes by key. They replace what was there.
        RAISES (ValueError): U092, if the file is a database of something else.
        """
        stale, self._stale = self._stale, set()
        if rows or stale:
            self.database.use(
                lambda file: self._save(file, rows, stale), None, is_write=True
            )

    def _load(
        self, connection: sqlite3.Connection, keys: List[bytes]
    ) -> Dict[bytes, bytes]:
        found = {}
        asked = set(keys)
        before = time.time() - TOUCH_SECONDS
        for at in range(0, len(keys), KEYS_PER_QUERY):
            some = keys[at : at + KEYS_PER_QUERY]
            marks = ",".join("?" * len(some))
            query = f"SELECT key, used, body, sum FROM answers WHERE key IN ({marks})"
            for key, used, body, told in connection.execute(query, some):
                if key in asked and type(body) is bytes and told == _sum(key, body):
                    found[key] = body
                    if not isinstance(used, float) or used < before:
                        self._stale.add(key)
        return found

    def _save(
        self,
        connection: sqlite3.Connection,
        rows: Dict[bytes, bytes],
        stale: Set[bytes],
    ) -> None:
        now = time.time()
        used = [(now, key) for key in stale]
        new = [(key, now, body, _sum(key, body)) for key, body in rows.items()]
        with transaction(connection):
            connection.executemany("UPDATE answers SET used = ? WHERE key = ?", used)
            connection.executemany(SAVE, new)
            limit = self.max_bytes // pragma(connection, "page_size")
            if self.max_bytes:
                _evict(connection, limit)
        excess = pragma(connection, "page_count") - limit
        if self.max_bytes and excess > 0:
            # a script, because `execute` would stop after one page
            connection.executescript(f"PRAGMA incremental_vacuum({excess})")


def _evict(connection: sqlite3.Connection, limit: int) -> None:
    """Drop a tenth of the rows, those not used for longest, until the rest fits.

    connection (sqlite3.Connection): The connection, in a transaction.
    limit (int): Largest file, in pages. Those that become free are still in it.
    """
    while _count_pages(connection) > limit:
        n_rows = connection.execute("SELECT count(*) FROM answers").fetchone()[0]
        if not n_rows:
            return
        connection.execute(EVICT, (max(1, n_rows // 10),))


def _count_pages(connection: sqlite3.Connection) -> int:
    """RETURNS (int): Pages in use."""
    free = pragma(connection, "freelist_count")
    return pragma(connection, "page_count") - free


def _sum(key: bytes, body: bytes) -> bytes:
    return hashlib.blake2b(key + body, digest_size=8).digest()

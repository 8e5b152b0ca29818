"""One sqlite file that threads and processes share: opened late, and mended or left.

Whatever is wrong with the file or its disk costs what it would have saved, never
the caller's work: a warning, and on without it. Knows nothing of what is in it.
"""

import os
import sqlite3
import threading
import time
import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable, Iterator, List, Optional, Sequence, Tuple, TypeVar
from weakref import WeakSet

from ..errors import Errors, Warnings

BUSY_SECONDS = 30.0  # how long one writer waits for another
RETRY_SECONDS = 60.0  # how long a disk that refused is let alone
LOG_BYTES = 16 * 2**20  # what is left of the log beside the file, at most
MARK = 0x554E4552  # "UNER" in the head of the file: it is ours
# further signs of it: a table or column of ours is gone, or the head of the file is wrong
DAMAGE = ("no such ", "unsupported file format")

T = TypeVar("T")
File = Tuple[int, int]  # device and inode
_databases: "WeakSet[Database]" = WeakSet()
_inherited: List[Any] = []  # connections of a parent: a child may not even close them


class Database:
    """A sqlite file, in WAL mode. Each process has a connection of its own."""

    def __init__(self, path: Path, *, table: bytes, schema: Sequence[str]) -> None:
        """Remember where; nothing is opened.

        path (Path): The file. Its folder is made when it is needed.
        table (bytes): Name of a table or index that only a file of ours has.
        schema (Sequence[str]): Statements that make a new file's tables.
        """
        self.path = path
        self.table, self.schema = table, schema
        self._warned = False
        self.forget()

    def forget(self) -> None:
        """Be as new: nothing opened. Closes nothing."""
        self.lock = threading.RLock()
        self._connection: Optional[sqlite3.Connection] = None
        self._file: Optional[File] = None  # what is open, whatever its name is now
        self._resume_at = 0.0
        _databases.add(self)

    def close(self) -> None:
        """Let go of the file; the next use opens it again."""
        with self.lock:
            if self._connection is not None:
                self._connection.close()
            self._connection = self._file = None

    def __del__(self) -> None:
        # a connection is part of a cycle, and would stay open until that is collected
        if self._connection is not None:
            self._connection.close()

    def use(
        self,
        work: Callable[[sqlite3.Connection], T],
        otherwise: T,
        *,
        is_write: bool = False,
    ) -> T:
        """Work with the file, or without it.

        work (Callable): What to do with the connection.
        otherwise (T): What comes of it if the file can't be used.
        is_write (bool): Whether it needs a disk that takes something.
        RETURNS (T): What came of it.
        RAISES (ValueError): U092, if the file is a database of something else.
        """
        with self.lock:
            for _ in range(2):  # the second time with a new file
                if is_write or self._connection is None:
                    if time.monotonic() < self._resume_at:
                        break
                try:
                    return work(self._open())
                except (sqlite3.DatabaseError, OSError) as e:
                    if not self._set_aside(e):
                        self._rest(e)
                        break
        return otherwise

    def _rest(self, problem: Exception) -> None:
        """Let the disk alone for a while; warn the first time."""
        self._resume_at = time.monotonic() + RETRY_SECONDS
        if not self._warned:
            self._warned = True
            message = Warnings.U106.format(path=str(self.path), reason=problem)
            warnings.warn(message, stacklevel=6)

    def _open(self) -> sqlite3.Connection:
        """RETURNS (sqlite3.Connection): To the file that bears the name now: another
        process may have set the one we knew aside, or somebody deleted it."""
        if self._connection is not None and self._file == _identify(self.path):
            return self._connection
        self.close()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # the name must not pass to another file before the log is open too
        with _folder_lock(self.path.parent, is_shared=True):
            connection = sqlite3.connect(
                self.path,
                timeout=BUSY_SECONDS,
                isolation_level=None,
                check_same_thread=False,
            )
            self._file = _identify(self.path)
            try:
                self._prepare(connection)
            except BaseException:
                connection.close()
                raise
        self._connection = connection
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        """Set a connection up, and the file if it is new.

        connection (sqlite3.Connection): The connection.
        RAISES (ValueError): U092, if it is a database of something else.
        """
        connection.text_factory = bytes  # so that no damaged text stops a query
        until = time.monotonic() + BUSY_SECONDS
        while True:
            try:
                with transaction(connection, "BEGIN"):
                    mark = pragma(connection, "application_id")
                    names = connection.execute("SELECT name FROM sqlite_master")
                    tables = {name for (name,) in names}
                if mark != MARK and tables and self.table not in tables:
                    raise ValueError(Errors.U092.format(path=str(self.path)))
                if mark != MARK:
                    connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
                if pragma(connection, "journal_mode") != b"wal":
                    connection.execute("PRAGMA journal_mode = WAL").fetchall()
                connection.execute("PRAGMA synchronous = NORMAL")
                connection.execute(
                    f"PRAGMA journal_size_limit = {LOG_BYTES}"
                ).fetchall()
                if mark != MARK:
                    with transaction(connection):
                        for statement in self.schema:
                            connection.execute(statement)
                        connection.execute(f"PRAGMA application_id = {MARK}")
                return
            except sqlite3.OperationalError as e:
                # for the change to WAL sqlite does not wait, whatever its timeout
                if "locked" not in str(e) or time.monotonic() > until:
                    raise
                time.sleep(0.05)

    def _set_aside(self, problem: Exception) -> bool:
        """Give a damaged file another name. What is merely locked, full or forbidden
        is no damage.

        problem (Exception): What sqlite said.
        RETURNS (bool): Whether to begin anew.
        """
        # malformed, and not a database, are this class itself; others have their own
        is_known = str(problem).startswith(DAMAGE)
        if type(problem) is not sqlite3.DatabaseError and not is_known:
            return False
        damaged = self._file
        self.close()
        aside = f"{self.path}.damaged-{time.time_ns()}"
        try:
            with _folder_lock(self.path.parent):
                if damaged is None or damaged != _identify(self.path):
                    return True  # somebody else was faster
                # its logs first: a new file must not find them
                for end in ("-journal", "-wal", "-shm", ""):
                    if os.path.exists(f"{self.path}{end}"):
                        os.replace(f"{self.path}{end}", aside + end)
        except OSError:
            return False
        message = Warnings.U105.format(
            path=str(self.path), reason=problem, aside=Path(aside).name
        )
        warnings.warn(message, stacklevel=5)
        return True


@contextmanager
def transaction(
    connection: sqlite3.Connection, begin: str = "BEGIN IMMEDIATE"
) -> Iterator[None]:
    """All or nothing, whatever stops it."""
    connection.execute(begin)
    with connection:  # commits, or rolls back
        yield


@contextmanager
def _folder_lock(folder: Path, *, is_shared: bool = False) -> Iterator[None]:
    """Keep others from setting files of a folder aside meanwhile, or from opening them
    too. Where there is no such lock, an open file can't be renamed either."""
    try:
        import fcntl
    except ImportError:
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH if is_shared else fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def pragma(connection: sqlite3.Connection, name: str) -> Any:
    """RETURNS (Any): What a pragma tells."""
    return connection.execute(f"PRAGMA {name}").fetchone()[0]


def _identify(path: Path) -> Optional[File]:
    """RETURNS (Optional[File]): Which file bears a name; None if there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _leave_to_parent() -> None:
    """In a forked child: never touch what the parent has open, and take no lock that
    one of its threads may hold."""
    for database in list(_databases):
        _inherited.append(database._connection)
        database.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_parent)

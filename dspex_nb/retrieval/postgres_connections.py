"""Connections to PostgreSQL, kept for the next search, and its errors as ours, without the password."""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from dspex_nb.errors import DataError, RetrieverError
from dspex_nb.retrieval.postgres_awaited import AwaitedConnections
from dspex_nb.transport import redact

if TYPE_CHECKING:
    import psycopg

_KEPT = 8  # idle connections; more than that open at once are closed after use
_CONNECT_S = 10


class Connections:
    """Lends connections to one database; each borrower has its own, so searches run at once.

    Args:
        dsn: A URL or `key=value` text as libpq takes it; what it leaves out comes from `PGHOST`, `PGPASSWORD` and the like.
        timeout_s: Seconds that a statement may take.

    Raises:
        RetrieverError: The text is no connection string.
    """

    def __init__(self, dsn: str, timeout_s: float) -> None:
        import psycopg.conninfo

        try:
            self._options: dict[str, Any] = psycopg.conninfo.conninfo_to_dict(dsn)
        except psycopg.Error:  # its message may hold the text, and the text a password
            raise RetrieverError(
                "dsn= is not a connection string of PostgreSQL", hint='write e.g. dsn="postgresql://user@localhost:5432/mydb"'
            ) from None
        self._options.setdefault("connect_timeout", _CONNECT_S)
        self._timeout_s = timeout_s
        self._begin()

    def __getstate__(self) -> dict[str, Any]:
        """What crosses to another process holds no password: there, `PGPASSWORD` or a password file gives it."""
        return {
            "options": {name: value for name, value in self._options.items() if name != "password"},
            "timeout_s": self._timeout_s,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._options, self._timeout_s = state["options"], state["timeout_s"]
        self._begin()

    def _begin(self) -> None:
        self._idle: deque[psycopg.Connection[Any]] = deque()
        self.awaited = AwaitedConnections(self)
        weakref.finalize(self, _close, self._idle)

    @property
    def begin(self) -> tuple[dict[str, Any], str, list[str]]:
        """How a connection is opened, and the statement and values that limit its statements."""
        limit = "SELECT set_config('statement_timeout', %s, false)"
        return {**self._options, "autocommit": True}, limit, [str(max(1, int(self._timeout_s * 1000)))]

    @property
    def where(self) -> str:
        """Server and database, as far as the connection string says them."""
        said = self._options
        return f"{said.get('host', 'the default host')}:{said.get('port', 5432)}/{said.get('dbname', '')}".rstrip("/")

    @contextmanager
    def borrow(self) -> Iterator[psycopg.Connection[Any]]:
        """Lend a connection that commits each statement by itself.

        Raises:
            RetrieverError: No connection, a statement refused or too slow.
            DataError: A value that the database cannot hold.
        """
        import psycopg

        try:
            connection = self._take()
            try:
                yield connection
            finally:
                self._give_back(connection)
        except psycopg.Error as error:
            raise self.told(error) from None  # the original may hold the connection string

    def close(self) -> None:
        """Close the idle connections; the next use opens new ones."""
        _close(self._idle)
        self.awaited.close()

    def _take(self) -> psycopg.Connection[Any]:
        import psycopg

        while self._idle:
            connection = self._idle.popleft()
            try:
                connection.execute("SELECT 1")  # the server may have been restarted since
            except psycopg.Error:
                connection.close()
            else:
                return connection
        options, limit, values = self.begin
        connection = psycopg.connect(**options)
        connection.execute(limit, values)
        return connection

    def _give_back(self, connection: psycopg.Connection[Any]) -> None:
        clean = not connection.closed and connection.info.transaction_status.name == "IDLE"
        if clean and len(self._idle) < _KEPT:
            self._idle.append(connection)
        else:
            connection.close()

    def told(self, error: psycopg.Error) -> RetrieverError | DataError:
        """Return an error of the database as ours."""
        from psycopg import errors

        text = redact(str(error), [str(self._options.get("password") or "")])
        if isinstance(error, errors.QueryCanceled):
            return RetrieverError(
                f"PostgreSQL at {self.where} took longer than {self._timeout_s:g} s", hint="give it more time: timeout_s=120"
            )
        if isinstance(error, errors.InsufficientPrivilege):
            return RetrieverError(
                f"PostgreSQL at {self.where} refused: {text}", hint="ask for the right, or use another database or user"
            )
        if isinstance(error, errors.ProgramLimitExceeded | errors.DataError):
            return DataError(f"PostgreSQL cannot hold a passage: {text}", hint="split long texts; remove characters like NUL")
        if error.sqlstate is None or error.sqlstate.startswith(("08", "28", "3D", "53", "57")):
            return RetrieverError(f"no connection to PostgreSQL at {self.where}: {text}", hint=_hint(text))
        return RetrieverError(
            f"PostgreSQL at {self.where}: {text}", hint="look the message up, or report it with the version of PostgreSQL"
        )


def _hint(text: str) -> str:
    if "password" in text or "authentication" in text:
        return "check user and password; the password may also stand in the environment variable PGPASSWORD"
    if "does not exist" in text:
        return "check the name, or create it: createdb NAME"
    return "check that the server runs and that host and port are right"


def _close(idle: deque[psycopg.Connection[Any]]) -> None:
    while idle:
        idle.popleft().close()

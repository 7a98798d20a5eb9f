"""The client's connections.

Interim answers (1xx) are skipped, whatever their number: http.client takes each of them but 100
for the answer, and the answer that follows for that of the next call on the connection. A server
with several addresses is tried at the next one beside the first, and a connection that was idle is
used no longer than the server keeps it: a POST that meets its end must not be sent again.
"""

import http.client
import socket
import time
from typing import Any

import urllib3
from requests.adapters import HTTPAdapter
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError

from ..delivery.reach import Order, connect_first
from ..rules.answer_reader import MOST_INTERIM, TOO_MANY_INTERIM
from ..rules.keep_alive import Idle


class _Lines:
    """The answer's head as it is read: http.client takes its end in the middle for its end."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self.is_whole = True

    def readline(self, limit: int) -> bytes:
        line: bytes = self._file.readline(limit)
        self.is_whole = line.endswith(b"\n")
        return line

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


class _Response(http.client.HTTPResponse):
    def begin(self) -> None:
        self._read_head()
        for _ in range(MOST_INTERIM):
            if self.status == 101 or not 100 <= self.status < 200:
                return
            vars(self).update(headers=None, msg=None)  # or it would take itself for read
            self._read_head()
        raise http.client.HTTPException(TOO_MANY_INTERIM)

    def _read_head(self) -> None:
        lines = _Lines(self.fp)
        self.fp: Any = lines
        super().begin()
        if self.fp is lines:
            self.fp = lines._file
        if not lines.is_whole:
            self.close()
            raise http.client.RemoteDisconnected("the answer ended in its headers")


class _Connection(urllib3.connection.HTTPConnection):
    response_class = _Response
    _idle_since: float | None = None
    _idle = Idle()

    def _new_conn(self) -> socket.socket:
        self._idle = Idle()
        seconds = self.timeout if isinstance(self.timeout, int | float) else None
        try:
            found = socket.getaddrinfo(self._dns_host, self.port, type=socket.SOCK_STREAM)
            _, sock = connect_first(Order().sort(found), seconds)
        except socket.gaierror as error:
            raise NameResolutionError(self.host, self, error) from error
        except TimeoutError as error:
            raise ConnectTimeoutError(self, f"{self.host} did not answer in time") from error
        except OSError as error:
            raise NewConnectionError(self, f"no connection: {error}") from error
        sock.settimeout(seconds)
        for option in self.socket_options or ():
            sock.setsockopt(*option)
        return sock

    def getresponse(self) -> Any:
        response = super().getresponse()
        self._idle.heard(response.headers.get("Keep-Alive", ""))
        return response

    def rest(self) -> None:
        self._idle_since = time.monotonic()

    def end_if_idle(self) -> None:
        since, self._idle_since = self._idle_since, None
        if since is not None and time.monotonic() - since >= self._idle.seconds():
            self.close()


class _TLSConnection(_Connection, urllib3.connection.HTTPSConnection):
    pass


class _Pool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Connection

    def _get_conn(self, timeout: float | None = None) -> Any:
        connection: Any = super()._get_conn(timeout)
        connection.end_if_idle()
        return connection

    def _put_conn(self, conn: Any) -> None:
        if conn is not None:
            conn.rest()
        super()._put_conn(conn)


class _TLSPool(_Pool, urllib3.HTTPSConnectionPool):
    ConnectionCls = _TLSConnection


class Adapter(HTTPAdapter):
    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _Pool, "https": _TLSPool}

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(*args, **kwargs)
        manager.pool_classes_by_scheme = {"http": _Pool, "https": _TLSPool}
        return manager

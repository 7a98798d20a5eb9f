"""Interim answers (1xx) are skipped, whatever their number.

http.client takes each of them but 100 for the answer, and the answer that follows for that of
the next call on the connection.
"""

import http.client
from typing import Any

import urllib3
from requests.adapters import HTTPAdapter

from ..reading import MOST_INTERIM, TOO_MANY_INTERIM


class _Response(http.client.HTTPResponse):
    def begin(self) -> None:
        super().begin()
        for _ in range(MOST_INTERIM):
            if self.status == 101 or not 100 <= self.status < 200:
                return
            vars(self).update(headers=None, msg=None)  # or it would take itself for read
            super().begin()
        raise http.client.HTTPException(TOO_MANY_INTERIM)


class _Connection(urllib3.connection.HTTPConnection):
    response_class = _Response


class _TLSConnection(urllib3.connection.HTTPSConnection):
    response_class = _Response


class _Pool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Connection


class _TLSPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _TLSConnection


class Adapter(HTTPAdapter):
    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _Pool, "https": _TLSPool}

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(*args, **kwargs)
        manager.pool_classes_by_scheme = {"http": _Pool, "https": _TLSPool}
        return manager

"""A TCP proxy that can hold everything back, as a network does that drops every packet.

with Proxy(("127.0.0.1", 5432)) as proxy:
    ...  # connect to proxy.port
    proxy.hold()
"""

import socket
import threading
from contextlib import suppress

PIECE = 65_536


class Proxy:
    def __init__(self, server: tuple[str, int]) -> None:
        self._server = server
        self._passing = threading.Event()
        self._passing.set()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = self._listener.getsockname()[1]
        self._open: set[socket.socket] = set()
        self._threads = [threading.Thread(target=self._accept, daemon=True)]

    def hold(self) -> None:
        """Take connections and bytes, and pass nothing on."""
        self._passing.clear()

    def release(self) -> None:
        """What was held back goes on, late."""
        self._passing.set()

    def __enter__(self) -> "Proxy":
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._threads[0].join(5)
        for sock in list(self._open):
            _shut(sock)
        self.release()
        for thread in self._threads:
            thread.join(5)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            self._open.add(near)
            self._start(self._link, near)

    def _link(self, near: socket.socket) -> None:
        self._passing.wait()
        try:
            far = socket.create_connection(self._server)
        except OSError:
            self._close(near)
            return
        self._open.add(far)
        back = self._start(self._pump, far, near)
        self._pump(near, far)
        back.join()
        self._close(near)
        self._close(far)

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(PIECE):
                self._passing.wait()
                target.sendall(data)
        _shut(source)
        _shut(target)

    def _start(self, work, *args: socket.socket) -> threading.Thread:
        thread = threading.Thread(target=work, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()
        return thread

    def _close(self, sock: socket.socket) -> None:
        self._open.discard(sock)
        sock.close()


def _shut(sock: socket.socket) -> None:
    with suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)

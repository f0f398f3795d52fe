"""The HTTP server: loopback only, a bounded number of connections, and a request that does not arrive in time ends.

Werkzeug reads and writes HTTP. A connection carries one request. Nothing is logged: the paths hold the token.
"""

from __future__ import annotations

import ipaddress
import socket
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from werkzeug.serving import ThreadedWSGIServer, WSGIRequestHandler

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication, WSGIEnvironment

    from ptap.service.limits import Limits

LATE = "ptap.late"
"""Key in the environment of a request: an event that is set when the request did not arrive in time."""
_FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nRetry-After: 1\r\nContent-Type: text/plain\r\n"
    b"Content-Length: 26\r\n\r\ntoo many connections open\n"
)


class AddressError(Exception):
    """The address cannot be listened on; the text says why, and what to do."""


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens on `host`, a loopback address, and `port`, 0 for any that is free. Raises AddressError."""
    if host == "localhost":
        host = "127.0.0.1"
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        raise AddressError(f"{host!r} is no address: give 127.0.0.1 or ::1") from None
    if not address.is_loopback:
        raise AddressError(
            f"{host} can be reached from other machines, and what is served is for this user alone: give 127.0.0.1 or "
            "::1, and from elsewhere come by `ssh -L`"
        )
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=64)
    except OSError as error:
        raise AddressError(f"{host}, port {port}: {error.strerror}; give another --port, or none") from error


class LoopbackServer(ThreadedWSGIServer):
    """Serves `app` on `listening`, which it takes over."""

    def __init__(self, listening: socket.socket, app: WSGIApplication, limits: Limits) -> None:
        host, port = listening.getsockname()[:2]
        self.limits = limits
        self._free = threading.BoundedSemaphore(limits.connections)
        with listening:  # the server has its own descriptor of the socket
            super().__init__(host, port, app, _Handler, fd=listening.fileno())

    def process_request(self, request: Any, client_address: Any) -> None:
        """Begin a thread for a connection, or turn it away."""
        if not self._free.acquire(blocking=False):
            with suppress(OSError):
                request.settimeout(1)
                request.sendall(_FULL)
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._free.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve a connection to its end."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()


class _Handler(WSGIRequestHandler):
    server: LoopbackServer
    protocol_version = "HTTP/1.1"

    def setup(self) -> None:
        limits = self.server.limits
        super().setup()
        self.connection.settimeout(limits.stall_seconds)
        self._late = threading.Event()
        self._timer = threading.Timer(limits.arrival_seconds, self._give_up)
        self._timer.daemon = True
        self._timer.start()

    def finish(self) -> None:
        self._timer.cancel()
        with suppress(OSError):
            super().finish()

    def _give_up(self) -> None:
        """Read no more. What is waited for ends as if it had been closed; a request that is there is not touched."""
        self._late.set()
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RD)

    def make_environ(self) -> WSGIEnvironment:
        environ = super().make_environ()
        environ[LATE] = self._late
        return environ

    def version_string(self) -> str:
        return "ptap"

    def log(self, type: str, message: str, *args: Any) -> None:
        """Nothing."""

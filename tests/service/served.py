"""A server in this process for the tests, and a client that says exactly what it is told to."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ptap.capture_report import ReportOptions
from ptap.profile.firefox import breakpad_id
from ptap.service.application import PROFILER, Application
from ptap.service.limits import Limits
from ptap.service.loopback_server import LoopbackServer, listen
from ptap.service.served_files import served_files
from unwind.trace_builder import ArgumentFrames

TOKEN = "0123456789abcdef"
_PATIENCE = 500
"""Seconds: no test fails because the machine is slow."""


def limits(**changes: float) -> Limits:
    """Limits of which a test wants to see some."""
    patient = {"arrival_seconds": _PATIENCE, "answer_seconds": _PATIENCE, "report_seconds": _PATIENCE}
    return Limits(**{**patient, **changes})  # type: ignore[arg-type]


_DEFAULT_LIMITS = limits()


@dataclass(slots=True)
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(slots=True)
class Served:
    application: Application
    port: int

    def ask(self, method: str, path: str, body: bytes | None = None, *, token: str | None = TOKEN, **headers: str):
        """The answer; `path` stands behind the token, underscores in the names of headers for hyphens."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=_PATIENCE)
        whole = f"/{token}{path}" if token is not None else path
        connection.request(method, whole, body, {name.replace("_", "-"): text for name, text in headers.items()})
        response = connection.getresponse()
        answer = Answer(response.status, response.headers, response.read())
        connection.close()
        return answer

    def get(self, path: str, **headers: str) -> Answer:
        return self.ask("GET", path, **headers)

    def post(self, path: str, value: object, **headers: str) -> Answer:
        return self.ask("POST", path, json.dumps(value).encode(), **headers)

    def raw(self, data: bytes) -> socket.socket:
        """A connection on which `data` was sent, or as much of it as the server wanted."""
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=_PATIENCE)
        with suppress(ConnectionError):
            connection.sendall(data)
        return connection


@contextmanager
def serving(
    *paths: Path, limits: Limits = _DEFAULT_LIMITS, sysroot: str = "/", profiler: str = PROFILER
) -> Iterator[Served]:
    listening = listen("127.0.0.1", 0)
    port = listening.getsockname()[1]
    options = ReportOptions(sysroot=sysroot, arguments=ArgumentFrames.NONE)
    files = served_files(map(str, paths))
    application = Application(files, options, limits, TOKEN, f"http://127.0.0.1:{port}", profiler)
    server = LoopbackServer(listening, application, limits)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield Served(application, port)
    finally:
        server.shutdown()
        thread.join()


def module_of(path: Path) -> list[str]:
    """A program as requests name it."""
    from cfi_tables.elf_image import ElfImage

    build_id = ElfImage.open(path).build_id
    assert build_id is not None
    return [path.name, breakpad_id(build_id.hex())]

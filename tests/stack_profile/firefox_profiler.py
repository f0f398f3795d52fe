"""The Firefox Profiler's own command line: its upgraders, tables and call trees, on a profile of ours.

It is npm's @firefox-devtools/profiler-cli, one file of JavaScript, fetched once into the cache and run by node. Its
server is started here as a process of the test, and asked by its own client.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PACKAGE, VERSION = "@firefox-devtools/profiler-cli", "0.10.0"
_SHA512 = "f9fqdHh7B6ddQIYrwrEs4FE5D8BMOsXSorYF4NRFfwPaGikVBlhorBxHT7zrb6WMgJgKQYHC9kazkRjbItLx8Q=="
_SECONDS = 120
"""For a profile to be loaded, on however busy a machine."""
_SESSION = "test"


def fetched(npm: str) -> Path:
    """The program's main file."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ptap-tests" / "npm"
    folder = cache / f"firefox-profiler-cli-{VERSION}"
    program = folder / "package" / "dist" / "profiler-cli.js"
    if not program.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as fresh:
            subprocess.run(
                [npm, "pack", "--silent", f"{PACKAGE}@{VERSION}"], cwd=fresh, check=True, capture_output=True
            )
            (archive,) = Path(fresh).glob("*.tgz")
            digest = hashlib.sha512(archive.read_bytes()).digest()
            assert base64.b64encode(digest).decode() == _SHA512, (
                f"{PACKAGE} is not what was looked at when this was written"
            )
            unpacked = Path(fresh) / "unpacked"
            unpacked.mkdir()
            subprocess.run(["tar", "-xzf", str(archive), "-C", str(unpacked)], check=True)
            try:
                os.rename(unpacked, folder)
            except OSError:  # another test run was first
                assert program.exists()
    return program


@dataclass(frozen=True, slots=True)
class LoadedProfile:
    """A profile that the Firefox Profiler has loaded."""

    _command: tuple[str, ...]
    _environment: dict[str, str]

    def _ask(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self._command, *words, "--json", "--session", _SESSION],
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
        )

    def wait(self, server: subprocess.Popen[bytes]) -> None:
        """Until it is loaded. The client takes a server that does not listen yet for dead, and its files away."""
        end = time.monotonic() + _SECONDS
        sessions = Path(self._environment["PROFILER_CLI_SESSION_DIR"])
        while not ((sessions / f"{_SESSION}.json").exists() and _listens(sessions / f"{_SESSION}.sock")):
            assert server.poll() is None and time.monotonic() < end
            time.sleep(0.05)
        while (answer := self._ask("thread", "list")).returncode:
            assert "still loading" in answer.stderr and time.monotonic() < end, answer.stderr
            time.sleep(0.1)

    def threads(self) -> list[dict[str, Any]]:
        """All threads, as it lists them."""
        answer = self._ask("thread", "list")
        assert answer.returncode == 0, answer.stderr
        found: list[dict[str, Any]] = json.loads(answer.stdout)["threads"]
        return found

    def stacks(self, thread: dict[str, Any]) -> Counter[tuple[str, ...]]:
        """The weight of each stack of a thread, outermost call first."""
        words = ("thread", "samples-top-down", "--thread", thread["threadHandle"], "--include-idle")
        answer = self._ask(*words, "--max-lines", "1000000")
        assert answer.returncode == 0, answer.stderr
        weights: Counter[tuple[str, ...]] = Counter()
        pending: list[tuple[tuple[str, ...], dict[str, Any]]] = [((), json.loads(answer.stdout)["regularCallTree"])]
        while pending:
            path, node = pending.pop()
            weights[path] += node["selfSamples"]
            pending += [((*path, child["name"]), child) for child in node["children"]]
        return +weights


def _listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(str(path)) == 0


@contextmanager
def loaded(node: str, program: Path, profile: Path) -> Iterator[LoadedProfile]:
    """The profile in a file, loaded by a server that ends with the block."""
    sessions = tempfile.mkdtemp(prefix="fx")  # a socket's path has to be short
    environment = {**os.environ, "PROFILER_CLI_SESSION_DIR": sessions, "PROFILER_CLI_NO_SYMBOLICATE": "1"}
    command = (node, str(program))
    server = subprocess.Popen(
        [*command, "--daemon", str(profile), "--session", _SESSION],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        found = LoadedProfile(command, environment)
        found.wait(server)
        yield found
    finally:
        server.kill()
        server.wait()
        shutil.rmtree(sessions)

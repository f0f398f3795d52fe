"""debuginfod: debug files by build-id from servers, where the user has named some (DEBUGINFOD_URLS).

Owns the client's side of the protocol (debuginfod(8), "WEBAPI") and the environment variables of elfutils' client
(debuginfod_find_debuginfo(3)). Without DEBUGINFOD_URLS nobody is ever asked. Every failure is a reason, never an
exception; a server that cannot be reached is not asked again by this process.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from cfi_tables.debuginfod_cache import DebuginfodCache
from cfi_tables.elf_image import ElfError, ElfImage
from cfi_tables.progress import progress

Progress = Callable[[str, int, int | None], None]
"""Called with what is fetched, the bytes that have come, and those that will come in all (None: not known); at the end
with both equal.
"""

_VARIABLES = (
    "DEBUGINFOD_URLS", "DEBUGINFOD_CACHE_PATH", "DEBUGINFOD_TIMEOUT", "DEBUGINFOD_MAXTIME", "DEBUGINFOD_MAXSIZE",
    "DEBUGINFOD_RETRY_LIMIT", "DEBUGINFOD_PROGRESS", "DEBUGINFOD_HEADERS_FILE", "XDG_CACHE_HOME", "HOME",
)  # fmt: skip
_DEFAULT_TIMEOUT = 90
_DEFAULT_RETRIES = 2
_SLOWEST = 100 * 1024
_CHUNK = 1 << 18


@dataclass(frozen=True, slots=True)
class Fetched:
    """The outcome of one question."""

    path: str | None
    """The debug file, in the cache; None when there is none."""
    reason: str
    """Why there is none; "" when there is one."""


class _FetchError(Exception):
    """One server did not give the file; `absent`: it has none."""

    def __init__(self, text: str, absent: bool = False) -> None:
        super().__init__(text)
        self.absent = absent


@dataclass(frozen=True, slots=True)
class Limits:
    """What a download may take; 0 is no limit."""

    timeout: int = _DEFAULT_TIMEOUT
    """Seconds in which 100 KiB have to come."""
    seconds: int = 0
    """For a whole file."""
    size: int = 0
    """Bytes of a file."""
    retries: int = _DEFAULT_RETRIES
    """How often a server that fails is asked again."""


class Debuginfod:
    """The servers that the environment names, in its order, and the cache in front of them."""

    def __init__(
        self,
        urls: list[str],
        cache: DebuginfodCache,
        limits: Limits | None = None,
        headers: Mapping[str, str] | None = None,
        tell: Progress | None = None,
    ) -> None:
        self.urls = urls
        self.cache = cache
        self._limits = limits or Limits()
        self._headers = dict(headers or {})
        self._tell = tell
        self._unreachable: dict[str, str] = {}

    def debug_file(self, build_id: bytes, name: str) -> Fetched:
        """The debug file of the build; `name` is the program's, for the progress that is shown."""
        path = self.cache.find(build_id)
        if path is not None:
            return Fetched(str(path), "")
        if self.cache.is_known_miss(build_id):
            return Fetched(None, f"{' and '.join(self.urls)} had no debug file when asked a short while ago")
        reasons: list[str] = []
        absent = 0
        for url in self.urls:
            if url in self._unreachable:
                reasons.append(self._unreachable[url])
                continue
            try:
                with self.cache.new_file(build_id) as target:
                    self._fetch(url, build_id, name, target)
                return Fetched(str(self.cache.path(build_id)), "")
            except _FetchError as error:
                reasons.append(str(error))
                absent += error.absent
            except OSError as error:
                return Fetched(None, f"the debuginfod cache {self.cache.folder} cannot be written ({error.strerror})")
        if absent == len(self.urls):
            self.cache.note_miss(build_id)
        return Fetched(None, "; ".join(reasons))

    def _fetch(self, url: str, build_id: bytes, name: str, target: Path) -> None:
        """Fetch into `target`, and check that it is of the build. Raises _FetchError, OSError."""
        import urllib3

        place = _resource(url, build_id)
        for attempt in range(self._limits.retries + 1):
            try:
                self._download(place, name, target)
                break
            except urllib3.exceptions.NewConnectionError as error:
                self._unreachable[url] = f"{url} cannot be reached ({_short(error)})"
                raise _FetchError(self._unreachable[url]) from None
            except (urllib3.exceptions.TimeoutError, TimeoutError):
                self._unreachable[url] = f"{url} did not answer in {self._limits.timeout} s (DEBUGINFOD_TIMEOUT)"
                raise _FetchError(self._unreachable[url]) from None
            except urllib3.exceptions.HTTPError as error:
                if attempt == self._limits.retries:
                    raise _FetchError(f"{url} failed {attempt + 1} times ({_short(error)})") from None
        try:
            found = ElfImage.open(target).build_id
        except ElfError:
            raise _FetchError(f"{place} is no ELF file") from None
        if found != build_id:
            theirs = "none" if found is None else found.hex()
            raise _FetchError(f"{place} is of another build: its build-id is {theirs}, not {build_id.hex()}")

    def _download(self, place: str, name: str, target: Path) -> None:
        import urllib3

        limits = self._limits
        timeout = urllib3.Timeout(limits.timeout or None)
        response = _pool().request(
            "GET", place, headers=self._headers, timeout=timeout, retries=False, redirect=True, preload_content=False
        )
        try:
            if response.status == 404:
                raise _FetchError(f"{place.partition('/buildid/')[0]} has no debug file", absent=True)
            if response.status != 200:
                raise urllib3.exceptions.HTTPError(f"HTTP status {response.status}")
            size = response.headers.get("X-DEBUGINFOD-SIZE") or response.headers.get("Content-Length") or ""
            total = int(size) if size.isdigit() else None
            self._copy(response, place, name, target, total)
        finally:
            response.close()

    def _copy(self, response: Any, place: str, name: str, target: Path, total: int | None) -> None:
        limits = self._limits
        begin = last = time.monotonic()
        received = counted = 0
        what = f"debugging information of {Path(name).name}"
        with target.open("wb") as file, progress(what, total) as task:
            for part in response.stream(_CHUNK):
                file.write(part)
                received += len(part)
                task.done = received
                now = time.monotonic()
                if limits.size and max(received, total or 0) > limits.size:
                    raise _FetchError(f"{place} is larger than {limits.size} bytes (DEBUGINFOD_MAXSIZE)")
                if limits.seconds and now - begin > limits.seconds:
                    raise _FetchError(f"{place} took longer than {limits.seconds} s (DEBUGINFOD_MAXTIME)")
                if limits.timeout and now - last > limits.timeout:
                    if received - counted < _SLOWEST:
                        raise TimeoutError
                    last, counted = now, received
                if self._tell is not None:
                    self._tell(name, received, total)
        if self._tell is not None:
            self._tell(name, received, received)


def debuginfod_from_environment(environment: Mapping[str, str] | None = None) -> Debuginfod | None:
    """The client that the environment describes; None where DEBUGINFOD_URLS is not set or empty.

    One and the same while the environment does not change: it remembers which servers cannot be reached.
    """
    source = os.environ if environment is None else environment
    if not _urls(source):
        return None
    return _client(tuple(source.get(name) for name in _VARIABLES))


@lru_cache(maxsize=4)
def _client(values: tuple[str | None, ...]) -> Debuginfod:
    environment = {name: value for name, value in zip(_VARIABLES, values, strict=True) if value is not None}
    limits = Limits(
        timeout=_number(environment, "DEBUGINFOD_TIMEOUT", _DEFAULT_TIMEOUT),
        seconds=_number(environment, "DEBUGINFOD_MAXTIME", 0),
        size=_number(environment, "DEBUGINFOD_MAXSIZE", 0),
        retries=_number(environment, "DEBUGINFOD_RETRY_LIMIT", _DEFAULT_RETRIES),
    )
    headers = _headers(environment.get("DEBUGINFOD_HEADERS_FILE"))
    told = _show_progress if "DEBUGINFOD_PROGRESS" in environment else None
    return Debuginfod(_urls(environment), DebuginfodCache.from_environment(environment), limits, headers, told)


def _urls(environment: Mapping[str, str]) -> list[str]:
    """The servers; words that say how signatures are to be checked (`ima:…`) are none."""
    return [word for word in environment.get("DEBUGINFOD_URLS", "").split() if not word.startswith("ima:")]


def _number(environment: Mapping[str, str], name: str, default: int) -> int:
    text = environment.get(name, "")
    return int(text) if text.isdecimal() else default


def _headers(path: str | None) -> dict[str, str]:
    """`Name: value` lines of DEBUGINFOD_HEADERS_FILE, as servers behind a login want them."""
    found = {"User-Agent": "ptap"}
    if path is not None:
        try:
            lines = Path(path).read_text().splitlines()
        except (OSError, UnicodeDecodeError):
            lines = []
        found |= {name.strip(): value.strip() for name, colon, value in (x.partition(":") for x in lines) if colon}
    return found


def _resource(url: str, build_id: bytes) -> str:
    """Where a server has the debug file; a URL may name the `buildid` folder itself."""
    base = url.rstrip("/")
    base = base if base.endswith("/buildid") else f"{base}/buildid"
    return f"{base}/{build_id.hex()}/debuginfo"


@lru_cache(maxsize=1)
def _pool() -> Any:
    import urllib3

    return urllib3.PoolManager()


def _short(error: Exception) -> str:
    return str(error).rpartition(": ")[2] or type(error).__name__


def _show_progress(name: str, received: int, total: int | None) -> None:
    """One line on stderr, written over while it grows."""
    of = "" if total is None else f" of {total / 1e6:.1f}"
    end = "\n" if received == total else ""
    print(f"\rdebug information of {name}: {received / 1e6:.1f}{of} MB", end=end, file=sys.stderr, flush=True)

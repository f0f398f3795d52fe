"""Fixtures for all tests: the test programs, gdb as an oracle, and what happens when a tool is missing.

A missing tool skips a test with its reason on a user's machine. Where CI is set in the environment it fails
the test: there nothing may be skipped for want of a package.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

from oracles.gdb import GdbOracle
from programs import build as builder

RequireTool = Callable[[str, str], str]

_PACKAGES = {"gcc": "gcc", "g++": "g++", "clang": "clang", "clang++": "clang"}


def _require_tool(name: str, debian_package: str) -> str:
    """The path of the tool `name`; skips the test when there is none, or fails it where CI is set."""
    found = shutil.which(name)
    if found is not None:
        return found
    reason = f"{name} is not installed (Debian: apt install {debian_package})"
    if os.environ.get("CI"):
        pytest.fail(f"{reason}, and in CI nothing may be skipped for a missing tool", pytrace=False)
    pytest.skip(reason)


def pytest_configure() -> None:
    """Have the usual signal dispositions, and so have all that the tests start.

    A shell that runs the tests in the background ignores SIGINT, which ptap and the programs would keep to.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGQUIT, signal.SIGHUP, signal.SIGTERM):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, None]:
    """Where CI is set, a skipped test is a failed one, whatever the reason was."""
    outcome = yield
    report = outcome.get_result()
    if report.skipped and os.environ.get("CI"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} would be skipped, which CI does not allow: {report.longrepr}"


def _lock_of(item: pytest.Item) -> int | None:
    """How the tracers of a test get on with those of others that run at once: LOCK_SH, LOCK_EX, or None without one.

    A uprobe that perf sets is in a file, and so in every process that maps it. Whoever sets a breakpoint of their own
    at that place of the same file, as ptrace and gdb do in libc and in the test programs, misses hits.
    """
    folder = item.path.relative_to(Path(__file__).resolve().parent).parts[0]
    if folder in ("arguments", "backend_ptrace", "cores", "live_stack", "oracles", "shadow_stack"):
        return fcntl.LOCK_SH
    live = "ptap_run" in getattr(item, "fixturenames", ())
    if folder in ("backend_perf", "end_to_end") or live:
        parameters = getattr(item, "callspec", None)
        return fcntl.LOCK_SH if parameters and parameters.params.get("backend") == "ptrace" else fcntl.LOCK_EX
    return None


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, Any, None]:
    """Hold the lock of `_lock_of` from the first fixture to the last; other runs on the machine count too."""
    kind = _lock_of(item)
    if kind is None:
        yield
        return
    with open(Path(tempfile.gettempdir()) / f"ptap-tests-{os.getuid()}.lock", "w") as lock:
        fcntl.flock(lock, kind)
        yield


@dataclass(frozen=True, slots=True)
class Programs:
    """Builds the programs of tests/programs, each once a session."""

    directory: Path
    default_flags: tuple[str, ...] = builder.DEFAULT_FLAGS
    variants: tuple[builder.Variant, ...] = builder.VARIANTS

    def build(self, name: str, compiler: str = "gcc", flags: Sequence[str] = builder.DEFAULT_FLAGS) -> Path:
        """The path of the program `name` as `compiler` makes it with `flags`; see programs/build.py."""
        command = builder.compiler_for(name, compiler)
        _require_tool(command, _PACKAGES.get(command, command))
        if compiler.startswith("clang") and "-flto" in flags:
            _require_tool("ld.lld", "lld")
        return builder.build(name, compiler, flags, directory=self.directory)

    def build_variant(self, name: str, variant: builder.Variant) -> Path:
        """The program `name` in one of `variants`."""
        return self.build(name, variant.compiler, variant.flags)


@pytest.fixture(scope="session")
def require_tool() -> RequireTool:
    """`require_tool(name, debian_package)` gives a tool's path, or skips the test (fails it in CI)."""
    return _require_tool


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Programs:
    """The test programs; processes of one pytest-xdist run share what they build."""
    base = tmp_path_factory.getbasetemp()
    if os.environ.get("PYTEST_XDIST_WORKER"):
        base = base.parent
    directory = base / "programs"
    directory.mkdir(exist_ok=True)
    return Programs(directory)


@pytest.fixture(scope="session")
def gdb_oracle() -> GdbOracle:
    """gdb, to run programs under and compare with."""
    _require_tool("gdb", "gdb")
    return GdbOracle()


@pytest.fixture(params=builder.VARIANTS, ids=lambda variant: variant.name)
def variant(request: pytest.FixtureRequest) -> builder.Variant:
    """Each compiler and optimization and DWARF version in turn, for the argument and inline programs."""
    chosen: builder.Variant = request.param
    return chosen


@pytest.fixture(scope="module")
def browser(require_tool):
    """A headless Chromium, with what its pages have logged."""
    driver_path = require_tool("chromedriver", "chromium-driver")
    require_tool("chromium", "chromium")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1200,800"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(driver_path))
    yield driver
    driver.quit()

"""One boot of each kernel, in which all that the tests look at is done: a boot costs more than everything else."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
from kernel.bare_kernel import bare_kernel
from kernel.debug_kernel import RELEASE as DEBUG_RELEASE
from kernel.debug_kernel import debug_kernel
from kernel.guest import GuestRun, run_guest
from kernel.kernel_package import KernelPackage, debug_vmlinux, kernel_headers, kernel_package
from kernel.live_guest import RELEASE as LIVE_RELEASE
from kernel.live_guest import run_live
from kernel.load_boot import Loaded, boot_for_load
from kernel.probe_kinds import write_kinds
from kernel.probed_module import probed_module
from kernel.user_sessions import built_workload, narrow_workload, write_user_sessions
from programs.debian_archive import NotInArchive

from cfi_tables.image_file import open_image
from ptap.kernel_module.kernel_point import parse_kernel_point
from ptap.kernel_module.messages import RecordOptions
from ptap.kernel_module.module_files import ModuleFiles
from ptap.kernel_module.places import KernelPlace, KernelSymbols
from ptap.kernel_module.session import write_session
from relay_reader.module_capture import ModuleCapture

_HERE = Path(__file__).resolve().parent
_BOOTED = pytest.StashKey[list[str]]()

FUNCTIONS = {
    "vfs_read": "",
    "vfs_write": ".return",
    "wake_up_process": "",
    "raise_softirq": "",
    "hrtimer_interrupt": "",
    "handle_mm_fault": ".return",
    "do_wait": "",
    "pipe_poll": "",
    "c_start": "",
    "copy_page_range": "",
}
"""What is probed, entry or return: `c_start` is the name of several functions."""


PREDICATES = {
    "caller": 'caller("*_pread64")',
    "direct": 'not direct_caller("ksys_read") and comm() == "workload"',
    "depth": "kernel_depth() > 2 and kernel_depth() < 100",
    "task": 'comm() == "nobody" or pid() == 0x7fffffff',
    "undecided": 'user_caller("no_such_function") or caller("ksys_read", 2) and kernel_depth() >= 100',
}
"""By their sessions, which probe vfs_read."""

IN_MODULE = 'caller("innermost") and called_from("probed")'
"""Of a session that goes on while the module of these comes: the probe knows no functions of modules."""

_ROOM = 1 << 22
_ROOM_OF_SLOW_READERS = 1 << 25
"""Bytes of a ring: in the kernel that checks itself it holds all of a run, for its reader is slower than the hits."""


@dataclass(frozen=True)
class Booted:
    """A kernel with what was done in its one boot."""

    release: str
    package: KernelPackage
    vmlinux: Path
    system_map: Path | None
    places: list[KernelPlace]
    """Of the session `stacks`, by probe number."""
    module_size: int
    kinds: list[KernelPlace]
    """Of the session `kinds`, by probe number."""
    run: GuestRun

    @cached_property
    def seen(self) -> dict[str, Any]:
        """What guest_scenario.py has noted."""
        found: dict[str, Any] = json.loads((self.run.results / "results.json").read_text())
        return found

    def name_at(self, address: int) -> str:
        """The symbol that holds a link-time address, or the nearest one before that has its name alone; "" for none."""
        reached = self._symbols.reach(address)
        return reached[0] if reached is not None else ""

    @cached_property
    def _symbols(self) -> KernelSymbols:
        source = self.system_map
        return (
            KernelSymbols.of_system_map(str(source)) if source else KernelSymbols.of_vmlinux(open_image(self.vmlinux))
        )

    @cached_property
    def stacks(self) -> ModuleCapture:
        """The capture with the kernel's own traces."""
        return ModuleCapture(self.run.results / "stacks")


_KERNELS = os.environ.get("PTAP_TEST_KERNELS", "5.10 6.1 6.12 7.x").split()


@pytest.fixture(scope="session", params=_KERNELS)
def loaded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    """Each kernel, booted once for the load."""
    release = request.param
    try:
        package, headers, vmlinux, system_map = _files(release)
        folder = tmp_path_factory.mktemp(f"load-{release}")
        found = boot_for_load(package, headers, open_image(vmlinux), str(system_map) if system_map else None, folder)
    except NotInArchive as error:
        pytest.skip(str(error))
    told = f"booted: {found.package.build}, {len(found.damages)} damaged tables, {found.seen['cycles']['count']} loads"
    request.config.stash.setdefault(_BOOTED, []).append(told)
    return found


@pytest.fixture(scope="session", params=_KERNELS)
def booted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Booted:
    """Each kernel, booted once."""
    try:
        found = _boot(request.param, tmp_path_factory.mktemp(f"kernel-{request.param}"))
    except NotInArchive as error:
        pytest.skip(str(error))
    request.config.stash.setdefault(_BOOTED, []).append(f"booted: {found.package.build}, {len(found.places)} probes")
    return found


@pytest.fixture(scope="session")
def live(tmp_path_factory: pytest.TempPathFactory) -> GuestRun:
    """The guest in which ptap itself runs, once."""
    if LIVE_RELEASE not in _KERNELS:
        pytest.skip(f"kernel {LIVE_RELEASE} is not among PTAP_TEST_KERNELS")
    try:
        run = run_live(LIVE_RELEASE, tmp_path_factory.mktemp("live"))
    except NotInArchive as error:
        pytest.skip(str(error))
    messages = "".join(f"{path.name}: {path.read_text()}" for path in sorted(run.results.glob("*.err")))
    assert run.status == 0, f"{run.output}\n{messages}"
    return run


@pytest.fixture(scope="session")
def seen(live: GuestRun) -> dict[str, Any]:
    """What live_scenario.py has noted."""
    found: dict[str, Any] = json.loads((live.results / "results.json").read_text())
    return found


@pytest.fixture
def tell(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Takes a line for the end of the run: what a test has counted."""
    return request.config.stash.setdefault(_BOOTED, []).append


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Name each kernel that was booted, and what was counted in it."""
    for line in config.stash.get(_BOOTED, []):
        terminalreporter.write_line(line)


def _files(release: str) -> tuple[KernelPackage, Path, Path, Path | None]:
    """(the kernel, its headers, vmlinux, System.map) of a release."""
    if release == DEBUG_RELEASE:
        return (*debug_kernel(), None)
    # Of 5.10 the archive lists a build with DWARF and has it no more.
    vmlinux, system_map = bare_kernel(release) if release == "5.10" else (debug_vmlinux(release), None)
    return kernel_package(release), kernel_headers(release), vmlinux, system_map


def _boot(release: str, folder: Path) -> Booted:
    package, headers, vmlinux, system_map = _files(release)
    listed = str(system_map) if system_map else None
    image = open_image(vmlinux)
    sessions = folder / "sessions"
    room = _ROOM_OF_SLOW_READERS if release == DEBUG_RELEASE else _ROOM
    points = [parse_kernel_point(f'kernel.function("{name}"){how}') for name, how in FUNCTIONS.items()]
    places = write_session(headers, image, points, RecordOptions(room, oracle=True), sessions / "stacks", listed)
    reads = [parse_kernel_point('kernel.function("vfs_read")')]
    # Of the kernel alone: until a program is known its stack is copied, more than a slow guest's reader keeps up with.
    write_session(headers, image, reads, RecordOptions(room, user=False), sessions / "reads", listed)
    write_session(headers, image, reads, RecordOptions(ring_bytes=1 << 18), sessions / "small", listed)
    for name, when in PREDICATES.items():
        # Room for all of it: the stacks of a program that was not told are copied, and a busy reader lags behind.
        options = RecordOptions(max(room, 1 << 24))
        write_session(headers, image, reads, options, sessions / f"when {name}", listed, when=when)
    module = probed_module(headers, folder / "probed")
    kinds = write_kinds(headers, image, module, sessions / "kinds", listed, RecordOptions(room, oracle=True))
    sleeps = [parse_kernel_point('kernel.function("schedule_timeout_uninterruptible")')]
    named = ModuleFiles([module])
    in_module = sessions / "in-module"
    write_session(headers, image, sleeps, RecordOptions(room), in_module, listed, (), named, when=IN_MODULE)
    workload = folder / "workload"
    flags = ["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-O2", "-static"]
    subprocess.run(["gcc", *flags, "-o", str(workload), str(_HERE / "workload.c")], check=True)
    files = {"sessions": sessions, "workload": workload, "user_sessions": folder / "user_sessions"}
    files |= {"user_workload": built_workload(folder), "narrow_workload": narrow_workload(folder)}
    write_user_sessions(headers, image, listed, files["user_workload"], files["user_sessions"], room)
    ticks = [parse_kernel_point("timer.profile(97)")]
    write_session(headers, image, ticks, RecordOptions(room, user=False), sessions / "ticks", listed)
    narrow = [str(files["narrow_workload"])]
    write_session(headers, image, reads, RecordOptions(room), sessions / "narrow", listed, narrow)
    scenarios = ("guest_scenario", "guest_user", "kinds_scenario", "guest_machine")
    files |= {"probed.ko": module} | {f"{name}.py": _HERE / f"{name}.py" for name in scenarios}
    script = " && ".join(f"python3 {name}.py /results" for name in scenarios) + "\n"
    run = run_guest(package, files, script, folder)
    assert run.status == 0, f"{run.output}\n{run.kernel_log[-4000:]}"
    size = os.stat(sessions / "stacks" / "ptap_kernel.ko").st_size
    return Booted(release, package, vmlinux, system_map, places, size, kinds, run)

"""A Debian kernel with DWARF and one of its modules, as if they ran here with address randomization."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from kernel.kernel_package import debug_kernel_files, kernel_package
from loaded_kernel import LoadedKernel, LoadedModule
from programs.debian_archive import NotInArchive

TESTS = Path(__file__).resolve().parent.parent
RELEASE = "6.1"
SLIDE = 0x1A60_0000
MODULE_START = 0xFFFF_FFFF_C0A1_5000

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def debug_files() -> tuple[Path, Path]:
    """vmlinux and kvm.ko, both with DWARF."""
    pytest.importorskip("lz4.block", reason="Debian's kernels are compressed by lz4: pip install lz4")
    try:
        return debug_kernel_files(RELEASE)
    except NotInArchive as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def stripped_modules(debug_files: tuple[Path, Path]) -> list[Path]:
    """The modules of the same kernel as they are installed, without DWARF."""
    return kernel_package(RELEASE).modules


@pytest.fixture(scope="session")
def running(
    debug_files: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory, require_tool: Callable[[str, str], str]
) -> LoadedKernel:
    """The kernel, moved, with kvm loaded."""
    require_tool("readelf", "binutils")
    vmlinux, kvm = debug_files
    kernel = LoadedKernel(
        vmlinux, SLIDE, [LoadedModule("kvm", kvm, MODULE_START)], tmp_path_factory.mktemp("running_kernel")
    )
    kernel.write()
    return kernel


@pytest.fixture(scope="session")
def symbolize(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Runs `ptap symbolize`; the index of the kernel, once built, stays for the next test."""
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path_factory.mktemp("cache"))}
    environment.pop("DEBUGINFOD_URLS", None)

    def run(*arguments: str | Path, text: str = "", **extra: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "ptap", "symbolize", *map(str, arguments)]
        return subprocess.run(command, input=text, capture_output=True, text=True, env={**environment, **extra})

    return run

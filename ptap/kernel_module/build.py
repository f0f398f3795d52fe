"""Building the module for a kernel: fixed sources, the kernel's own build system, nothing generated.

What was built is kept, by the kernel's headers and the sources: a build serves every session with that kernel.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from cfi_tables.cache import tables_directory
from cfi_tables.progress import progress
from ptap_target.session_folder import MODULE

_SOURCES = Path(__file__).resolve().parents[2] / "runtime_c"
_STRIPPED = (
    "--strip-debug",
    # Not --discard-all: names of local functions are what others' stack traces and ours show.
    "--discard-locals",
    "--wildcard",
    "--strip-symbol=__pfx_*",
    "--strip-symbol=_kbl_addr_*",
    "--strip-symbol=__UNIQUE_ID_*",
    # For function tracers of other architectures; x86's compiler makes it where functions have room before them.
    "--remove-section=__patchable_function_entries",
    # Calls for the kernel to count where it is told to stuff the return stack before it runs empty (retbleed=stuff):
    # of those that are not counted it does that sooner, which is as safe. They are an eighth of the file.
    "--remove-section=.call_sites",
    "--remove-section=.comment",
)
_SHOWN_LINES = 15
_NO_MAKE = "a kernel module is built by make: apt install make"


class ModuleBuildError(Exception):
    """The module cannot be built; the text says what to do."""


def built_module(headers: Path) -> Path:
    """The module for the kernel whose headers these are, built when it was not built before.

    Raises ModuleBuildError.
    """
    if not (headers / "Makefile").exists() or not (headers / ".config").exists():
        raise ModuleBuildError(
            f"{headers}: no kernel headers that modules can be built with; install them (linux-headers-RELEASE) and "
            "name their folder, as /lib/modules/RELEASE/build"
        )
    kept = kept_module(headers)
    if kept is None:
        sources = _source_files()
        compiler = _compiler(headers)
        kept = _place(headers, sources, compiler)
        with (
            progress(f"building the kernel module with {headers.name}"),
            tempfile.TemporaryDirectory(prefix="ptap-module-") as folder,
        ):
            _build(headers, sources, compiler, Path(folder))
            kept.parent.mkdir(parents=True, exist_ok=True)
            # Two builds at once write the same; each lays down a whole file.
            partial = kept.with_name(f"{MODULE}.{os.getpid()}")
            shutil.copyfile(Path(folder, MODULE), partial)
            partial.rename(kept)
    return kept


def kept_module(headers: Path) -> Path | None:
    """The module that was built before for these headers, which needs no compiler; None when none was.

    Raises ModuleBuildError where there are no sources.
    """
    sources = _source_files()
    places = (_place(headers, sources, compiler) for compiler in _compilers(headers))
    return next((place for place in places if place.exists()), None)


def _place(headers: Path, sources: dict[str, Path], compiler: str) -> Path:
    return tables_directory().parent / "modules" / _key(headers, sources, compiler) / MODULE


def missing_tool(headers: Path) -> str | None:
    """What a build lacks on this machine, and what to do; None when it lacks nothing."""
    try:
        _compiler(headers)
    except ModuleBuildError as error:
        return str(error)
    return None if shutil.which("make") else _NO_MAKE


def _source_files() -> dict[str, Path]:
    """Path in the build's folder -> file."""
    found = {}
    for part, target in (("module", ""), ("core", "core/")):
        folder = _SOURCES / part
        for path in sorted(folder.rglob("*")):
            if path.is_file() and (path.suffix in (".c", ".h", ".S", ".sh") or path.name == "Kbuild"):
                found[target + str(path.relative_to(folder))] = path
    if not found:
        raise ModuleBuildError(
            f"the sources of the kernel module are not in {_SOURCES}; install ptap from its repository"
        )
    return found


def _key(headers: Path, sources: dict[str, Path], compiler: str) -> str:
    digest = hashlib.sha256(compiler.encode())
    for name in (".config", "Module.symvers", "include/generated/utsrelease.h", "include/generated/compile.h"):
        path = headers / name
        digest.update(path.read_bytes() if path.exists() else b"")
    for name, path in sources.items():
        digest.update(name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:32]


def _compiler(headers: Path) -> str:
    """gcc of the release that built the kernel where it is installed, else the usual one."""
    for name in _compilers(headers):
        if shutil.which(name) is not None:
            return name
    raise ModuleBuildError("a kernel module needs gcc: apt install gcc make")


def _compilers(headers: Path) -> list[str]:
    """Those that a module may be built with, the best first."""
    match = re.search(r'CONFIG_CC_VERSION_TEXT=".*?gcc-(\d+)', (headers / ".config").read_text())
    return ([f"gcc-{match[1]}"] if match else []) + ["gcc"]


def _build(headers: Path, sources: dict[str, Path], compiler: str, folder: Path) -> None:
    for name, path in sources.items():
        target = folder / name
        target.parent.mkdir(exist_ok=True)
        shutil.copyfile(path, target)
    # Types for BPF would need a program that few have.
    settings = [f"CC={compiler}", "CONFIG_DEBUG_INFO_BTF_MODULES="]
    if not _accepts(compiler, "-fmin-function-alignment=16"):
        settings.append("CONFIG_CC_HAS_MIN_FUNCTION_ALIGNMENT=")
    command = ["make", "-C", str(headers), f"M={folder}", f"-j{os.cpu_count() or 1}", *settings, "modules"]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        raise ModuleBuildError(_NO_MAKE) from None
    if done.returncode:
        last = "\n  ".join((done.stdout + done.stderr).splitlines()[-_SHOWN_LINES:])
        raise ModuleBuildError(f"the kernel module does not build with {headers}:\n  {last}")
    subprocess.run(["strip", *_STRIPPED, str(folder / MODULE)], check=True)


def _accepts(compiler: str, option: str) -> bool:
    command = [compiler, option, "-fsyntax-only", "-x", "c", os.devnull]
    return subprocess.run(command, capture_output=True).returncode == 0

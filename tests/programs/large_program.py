"""Large programs built with -O2 -g from the sources that Debian's archive has: sqlite3 and protobuf's protoc.

For tests of symbolization and for benchmarks of it. Each is built once and stays in a cache folder, named by the
version of its source and of the compiler: sqlite3 takes a minute of one processor, protoc some eight.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from programs.debian_archive import DebianArchive, NotInArchive

SUITES = ("bookworm", "bookworm-security")


def _flags(source: Path) -> list[str]:
    """Wherever it is built, the same compiler makes the same program, with the same build-id."""
    return ["-O2", "-g", "-Wl,--build-id=sha1", f"-ffile-prefix-map={source}=/usr/src"]


class NoLargeProgram(Exception):
    """A program cannot be had; the text says why."""


def cache_folder() -> Path:
    """Where built programs stay between runs."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ptap-tests" / "large-programs"


def sqlite3_program() -> Path:
    """The sqlite3 shell: C, nearly all of it one unit of 8 MB. Raises NoLargeProgram."""
    return _kept("sqlite3", ("gcc", "make", "tclsh"), _build_sqlite3)


def protoc_program() -> Path:
    """protobuf's compiler, with the library in it: C++ of many units. Raises NoLargeProgram."""
    return _kept("protobuf", ("g++",), _build_protoc)


def _kept(source: str, tools: Iterable[str], make: Callable[[Path, Path], Path]) -> Path:
    """The program that `make(folder of the source, working folder)` builds, or what it built once."""
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / f"{source}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # test workers share it
        kept = next(iter(sorted(folder.glob(f"{source}-*/program/*"))), None)
        if kept is not None:
            return kept
        for tool in tools:
            if shutil.which(tool) is None:
                raise NoLargeProgram(f"{tool} is not installed, so {source} cannot be built")
        work = folder / f"{source}.building"
        shutil.rmtree(work, ignore_errors=True)
        (work / "source").mkdir(parents=True)
        try:
            archive = DebianArchive(folder / f"{source}.apt", SUITES, sources=True).upstream_archive(source)
            version = re.sub(r"\.orig\.tar.*", "", archive.name.partition("_")[2])
            _run(["tar", "-x", "--strip-components=1", "-f", str(archive)], work / "source")
            archive.unlink()
            program = make(work / "source", work)
        except NotInArchive as error:
            raise NoLargeProgram(str(error)) from None
        place = folder / f"{source}-{version}" / "program"
        place.mkdir(parents=True)
        program.rename(place / program.name)
        shutil.rmtree(work)
        return place / program.name


def _run(command: list[str], folder: Path) -> None:
    """Run a step, below what people wait for. Raises NoLargeProgram."""
    done = subprocess.run(["nice", "-n", "10", *command], cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise NoLargeProgram(f"{' '.join(command)} fails: {done.stderr.strip()[-400:]}")


def _build_sqlite3(source: Path, work: Path) -> Path:
    _run([str(source / "configure"), "--disable-tcl"], work)
    _run(["make", "sqlite3.c", "shell.c"], work)
    _run(["gcc", *_flags(work), "-o", "sqlite3", "shell.c", "sqlite3.c", "-lpthread", "-lm"], work)
    return work / "sqlite3"


def _build_protoc(source: Path, work: Path) -> Path:
    # The lists of its CMake files, without CMake: nothing is configured but that there are threads.
    lists = (source / "cmake" / f"{name}.cmake" for name in ("libprotobuf-lite", "libprotobuf", "libprotoc"))
    text = "".join(each.read_text() for each in lists)
    names = sorted({*re.findall(r"/(src/google/[\w/.]+\.cc)\b", text), "src/google/protobuf/compiler/main.cc"})
    files = [name for name in names if (source / name).exists() and "mock_" not in name]
    if len(files) < 100:
        raise NoLargeProgram(f"the source of protobuf lists only {len(files)} files")
    flags = [*_flags(source), "-DHAVE_PTHREAD", "-Isrc", "-w"]

    def compile_one(item: tuple[int, str]) -> str:
        number, name = item
        _run(["g++", *flags, "-c", "-o", str(work / f"{number}.o"), name], source)
        return f"{number}.o"

    with ThreadPoolExecutor(2) as pool:
        objects = list(pool.map(compile_one, enumerate(files)))
    _run(["g++", *_flags(source), "-o", "protoc", *objects, "-lpthread"], work)
    return work / "protoc"

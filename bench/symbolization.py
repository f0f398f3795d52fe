"""Symbolization of uniform addresses against llvm-symbolizer, and the index against symbolic's SymCache and GSYM."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from bench.comparison import Bench, Comparison, Result, Unavailable
from bench.programs import PTAP, ROOT, output_of, tool
from cfi_tables.debug_file import find_debug_file
from cfi_tables.elf_image import ElfError, ElfImage
from unwind.symbolize.index_cache import index_path

_MANY = 1_000_000
_SOME = 10_000
_VMLINUX = "PTAP_BENCH_VMLINUX"
_SYMCACHE = (
    "import sys; from symbolic.debuginfo import Archive as A; next(A.open(sys.argv[1]).iter_objects()).make_symcache()"
)


def binaries(remarks: list[str]) -> dict[str, Path]:
    """Name -> file of those that can be had: the programs that the tests of symbolization use, and a vmlinux."""
    sys.path.insert(0, str(ROOT / "tests"))
    from programs.debian_archive import NotInArchive
    from programs.large_program import NoLargeProgram, cache_folder, protoc_program, sqlite3_program

    kernels = sorted((cache_folder().parent / "kernels").glob("*-debug/usr/lib/debug/boot/vmlinux-*"))
    kernels += sorted(Path("/usr/lib/debug/boot").glob("vmlinux-*"))
    kernel = os.environ.get(_VMLINUX) or next(iter(kernels), None)
    found: dict[str, Path] = {}
    for name, make in (("sqlite3", sqlite3_program), ("protoc", protoc_program)):
        try:
            found[name] = make()
        except (NoLargeProgram, NotInArchive) as error:
            remarks.append(f"{name} was left out: {error}.")
    found["python3.11"] = Path("/usr/bin/python3.11")
    if kernel is not None:
        found["vmlinux"] = Path(kernel)
    else:
        remarks.append(f"{_VMLINUX} may name a vmlinux with debugging information, which is measured too.")
    for name, path in list(found.items()):
        try:
            image = ElfImage.open(path)
            if image.has(".debug_info") or find_debug_file(image).image is not None:
                continue
            remarks.append(f"{name} was left out: the debug file of {path} is not installed.")
        except (OSError, ElfError) as error:
            remarks.append(f"{name} was left out: {error}.")
        del found[name]
    return found


def run(bench: Bench) -> Result:
    """Run it. Raises Unavailable without llvm-symbolizer or anything to symbolize."""
    symbolizer = tool("llvm-symbolizer-14", "llvm-14")
    comparisons: list[Comparison] = []
    remarks: list[str] = []
    chosen = binaries(remarks)
    if not chosen:
        raise Unavailable("no file with debugging information (Debian: apt install python3.11-dbg)")
    for path in sorted(chosen.values(), key=lambda each: each.stat().st_size, reverse=True):
        # Compiles the hot loops: for the largest one it pays, and the others find them.
        _from_nothing([*_batch(path), str(_MANY)])
    for name, path in chosen.items():
        comparisons += _compare(bench, name, path, symbolizer) + _compare_indices(bench, name, path, remarks)
    first, home = next(iter(chosen.values())), Path.home()
    shown = f"~/{first.relative_to(home)}" if first.is_relative_to(home) else str(first)
    return Result(
        "Symbolization",
        "Addresses uniform over all code, with inlined calls; columns in and out, hot loops compiled before.",
        comparisons,
        [
            f"python -m bench.symbolize_batch {shown} {_MANY}",
            f"python -m bench.symbolize_batch {shown} {_SOME} --addresses | {symbolizer} --inlines -e {shown}",
        ],
        remarks,
    )


def _batch(path: Path) -> tuple[str, ...]:
    return (sys.executable, "-m", "bench.symbolize_batch", str(path))


def _compare(bench: Bench, name: str, path: Path, symbolizer: str) -> list[Comparison]:
    batch = _batch(path)
    llvm = (symbolizer, "--inlines", "-e", str(path))
    lines = {count: output_of([*batch, str(count), "--addresses"]) for count in (_SOME // 10, _SOME, 2 * _SOME)}
    output_of([*batch, str(_SOME)])  # builds the index
    warm = bench.median(lambda: float(output_of([*batch, str(_MANY)]).split()[1]))
    theirs = {count: bench.median(lambda text=text: _run(llvm, text)[0]) for count, text in lines.items()}
    a_lookup = max(1e-9, (theirs[2 * _SOME] - theirs[_SOME // 10]) / (2 * _SOME - _SOME // 10))
    all_theirs = theirs[2 * _SOME] + (_MANY - 2 * _SOME) * a_lookup
    cold = bench.median(lambda: _from_nothing([*batch, str(_MANY), "--once"])[0])
    some = bench.median(lambda: _from_nothing([*batch, str(_SOME), "--once"])[0])
    memory = _from_nothing([*batch, str(_SOME), "--once"])[1], _run(llvm, lines[_SOME])[1]
    one = lines[_SOME].split("\n", 1)[0]
    single = bench.median(lambda: _run((*PTAP, "symbolize", "-e", str(path), one))[0])
    start = bench.median(lambda: _run((sys.executable, "-c", "import numpy"))[0])
    return [
        Comparison(f"{name}: a million, with its index", _MANY / warm, 1 / a_lookup, "addresses/s", True),
        Comparison(f"{name}: a million, from nothing", cold, all_theirs, "s", False, "llvm's is extrapolated"),
        Comparison(f"{name}: {_SOME:,}, from nothing", some, theirs[_SOME], "s", False),
        Comparison(f"{name}: peak memory of these", memory[0], memory[1], "MiB", False),
        Comparison(f"{name}: one, with its index", single, start, "s", False, "`python3 -c 'import numpy'`"),
    ]


def _compare_indices(bench: Bench, name: str, path: Path, remarks: list[str]) -> list[Comparison]:
    """The whole index of one file: how long it takes to build, and how large it is."""
    holder = find_debug_file(ElfImage.open(path)).path or str(path)
    build = (*PTAP, "symbolize", "--index", "-e", str(path), "0x0")
    found = []
    other = os.environ.get("PTAP_BENCH_SYMBOLIC", sys.executable)
    if importlib.util.find_spec("symbolic") is None and "PTAP_BENCH_SYMBOLIC" not in os.environ:
        remarks.append(f"{name}: symbolic is not installed (pip install -e .[bench]), so SymCache was not compared.")
    else:
        built = bench.median(lambda: _from_nothing(build)[0])
        cache = bench.median(lambda: _run((other, "-c", _SYMCACHE, holder))[0])
        what = f"{name}: index build against SymCache"
        found.append(Comparison(what, built, cache, "s", False, "symbolic's, in memory"))
    gsym = shutil.which("llvm-gsymutil-14")
    if gsym is None:
        remarks.append(f"{name}: llvm-gsymutil-14 is not installed (Debian: llvm-14), so GSYM was not compared.")
        return found
    target = bench.folder / f"{name}.gsym"
    converted = _run((gsym, "--convert", holder, "--out-file", str(target)))[0]
    output_of([*build])
    image = ElfImage.open(path)
    debug = None if image.has(".debug_info") else find_debug_file(image).image
    ours = index_path(image, debug).stat().st_size / 1e6
    what = f"{name}: index size against GSYM"
    found.append(Comparison(what, ours, target.stat().st_size / 1e6, "MB", False, f"which took {converted:.1f} s"))
    target.unlink()
    return found


_NO_BYTE_CODE = "PYTHONDONTWRITEBYTECODE"
# A process counts what the one that started it had, so a small one starts it.
_MEASURED = """
import os, sys
child = os.fork()
if not child:
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.execvp(sys.argv[1], sys.argv[1:])
status, usage = os.wait4(child, 0)[1:]
print(usage.ru_maxrss)
sys.exit(os.waitstatus_to_exitcode(status))
"""


def _run(command: Sequence[str], text: str = "", environment: dict[str, str] | None = None) -> tuple[float, float]:
    """Seconds and MiB (peak) that a command takes. Raises Unavailable when it fails."""
    with tempfile.TemporaryFile("w+") as feed:
        feed.write(text)
        feed.seek(0)
        # What is installed has its byte-code beside it; without that, every process compiles what it imports.
        settings = {key: value for key, value in (environment or os.environ).items() if key != _NO_BYTE_CODE}
        begin = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-S", "-c", _MEASURED, *command],
            stdin=feed, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=ROOT, env=settings, text=True,
        )  # fmt: skip
        seconds = time.perf_counter() - begin
    if done.returncode != 0:
        raise Unavailable(f"{command[0]} failed with status {done.returncode}")
    return seconds, int(done.stdout) / 1024


def _from_nothing(command: Sequence[str]) -> tuple[float, float]:
    """`_run` with an empty cache of indices; compiled code stays."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = Path(tempfile.mkdtemp())
    try:
        (folder / "ptap").mkdir()
        (folder / "ptap" / "compiled").symlink_to(home / "ptap" / "compiled")
        return _run(command, environment={**os.environ, "XDG_CACHE_HOME": str(folder)})
    finally:
        shutil.rmtree(folder)

"""Programs and libraries that the CFI tests read, and the reading of readelf's decoded rows."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from kernel.kernel_package import KERNELS, KernelPackage, debug_kernel_files, kernel_package
from programs.debian_archive import NotInArchive

PROGRAM = r"""
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <alloca.h>
static jmp_buf place;
__attribute__((noinline)) int many(int a, int b, int c, int d, int e, int f, int g)
{ char text[64]; snprintf(text, sizeof text, "%d %d %d %d %d %d %d", a, b, c, d, e, f, g); return (int)strlen(text); }
__attribute__((noinline)) int variable(int n)
{ char *p = alloca(n); memset(p, n, n); return many(p[0], n, p[n - 1], 1, 2, 3, 4) + many(n, n, n, n, 5, 6, 7); }
__attribute__((noinline)) int realigned(int n)
{ _Alignas(64) volatile char big[256]; big[n & 255] = n; return many(big[n & 255], n, 3, 4, 5, 6, (int)(long)&big); }
__attribute__((noinline)) int realigned_variable(int n)
{ _Alignas(64) volatile char big[64]; char *p = alloca(n); memset(p, 1, n); big[n & 63] = p[0];
  return many(big[n & 63], p[n - 1], 3, 4, 5, 6, 7) + variable(n); }
static void handler(int number) { longjmp(place, number); }
int main(int argc, char **argv)
{
    signal(SIGUSR1, handler);
    if (setjmp(place)) return 0;
    printf("%d\n", variable(argc + 20) + realigned(argc) + realigned_variable(argc + 9) + atoi(argv[0]));
    raise(SIGUSR1);
    return 1;
}
"""


@dataclass
class DecodedFde:
    """One FDE as readelf decodes it: rows of (address, CFA, register -> rule)."""

    start: int
    end: int
    rows: list[tuple[int, str, dict[str, str]]] = field(default_factory=list)


_ENTRY = re.compile(r"^[0-9a-f]+ [0-9a-f]+ [0-9a-f]+ (?:(CIE)|FDE cie=([0-9a-f]+) pc=([0-9a-f]+)\.\.([0-9a-f]+))")


def _decode(path: Path | str, section: str) -> list[DecodedFde]:
    # -wN: do not follow links to separate debug files
    done = subprocess.run(
        ["readelf", "-wNF", str(path)],
        capture_output=True,
        text=True,
        check=True,
        env={"LC_ALL": "C", "PATH": "/usr/bin"},
    )
    cies: dict[str, DecodedFde] = {}
    fdes: list[DecodedFde] = []
    current: DecodedFde | None = None
    inside = False
    columns: list[str] = []
    for line in done.stdout.splitlines():
        if line.startswith("Contents of the "):
            inside = section in line
            cies, current = {}, None
        elif not inside or not line.strip():
            continue
        elif (entry := _ENTRY.match(line)) is not None:
            if entry[1]:
                current = cies[line.split()[0]] = DecodedFde(0, 0)
            else:
                current = DecodedFde(int(entry[3], 16), int(entry[4], 16))
                fdes.append(current)
                # an FDE without instructions prints no row: the CIE's holds
                current.rows = [(current.start, cfa, rules) for _, cfa, rules in cies[entry[2]].rows]
                current.inherited = True  # type: ignore[attr-defined]
        elif line.lstrip().startswith("LOC"):
            columns = line.split()[2:]
            if current is not None and getattr(current, "inherited", False):
                current.rows = []
                current.inherited = False  # type: ignore[attr-defined]
        elif current is not None and re.match(r"^[0-9a-f]{16} ", line):
            words = re.sub(r"\br\d+ \((\w+)\)", r"\1", line).split()  # a register: `r1 (rdx)`
            current.rows.append((int(words[0], 16), words[1], dict(zip(columns, words[2:], strict=True))))
    return fdes


@pytest.fixture(scope="session")
def readelf_rows() -> Callable[[Path | str, str], list[DecodedFde]]:
    """The FDEs of a section as readelf decodes them."""
    if shutil.which("readelf") is None:
        pytest.skip("readelf is not installed: apt install binutils")
    return _decode


@pytest.fixture(scope="session")
def build_program(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """`build_program(compiler, *flags)` compiles the test program."""
    folder = tmp_path_factory.mktemp("programs")
    source = folder / "program.c"
    source.write_text(PROGRAM)

    def build(compiler: str, *flags: str) -> Path:
        if shutil.which(compiler) is None:
            pytest.skip(f"{compiler} is not installed: apt install {compiler}")
        name = "_".join([compiler, *flags]).replace("/", "_").replace(",", "_").replace("=", "_")
        target = folder / name
        if not target.exists():
            subprocess.run([compiler, *flags, "-o", str(target), str(source)], check=True, capture_output=True)
        return target

    return build


def _library(pattern: str) -> Path:
    folders = ["/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib64", "/usr/lib64", "/usr/bin"]
    for folder in (*folders, *sorted(Path("/usr/lib/gcc").glob("*/*"))):
        for path in sorted(Path(folder).glob(pattern)):
            return path.resolve()
    pytest.skip(f"{pattern} is not installed")


@pytest.fixture(scope="session")
def system_file() -> Callable[[str], Path]:
    """`system_file("libc.so.6")`: an installed library or program."""
    return _library


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Tables of the tests go to a place of their own (compiled code stays where it is kept: it takes long)."""
    monkeypatch.setattr("cfi_tables.cache.tables_directory", lambda: tmp_path / "tables")


_DEBUG_KERNEL = "6.1"


@pytest.fixture(scope="session", params=KERNELS)
def kernel(request: pytest.FixtureRequest) -> KernelPackage:
    """A Debian kernel of each layout of ORC, with its modules and objtool."""
    return _kernel(request.param)


@pytest.fixture(scope="session")
def one_kernel() -> KernelPackage:
    """The Debian kernel of which `debug_kernel` is the build with DWARF."""
    return _kernel(_DEBUG_KERNEL)


@pytest.fixture(scope="session")
def debug_kernel() -> tuple[Path, Path]:
    """A Debian kernel's vmlinux and a module with their symbols, .debug_frame and ORC."""
    try:
        return debug_kernel_files(_DEBUG_KERNEL)
    except NotInArchive as error:
        pytest.skip(str(error))


def _kernel(release: str) -> KernelPackage:
    pytest.importorskip("lz4.block", reason="Debian's kernels are compressed by lz4: pip install lz4")
    try:
        return kernel_package(release)
    except NotInArchive as error:
        pytest.skip(str(error))

"""Facts about an ELF file, read by binutils: where to stop a program, and what its instructions are.

All addresses are file virtual addresses, as in the symbol table. Nothing here uses the code under test.
"""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_SECONDS = 60.0


class FactsError(Exception):
    """A tool of binutils is missing, or could not read the file."""


@dataclass(frozen=True, slots=True)
class Symbol:
    """A defined symbol."""

    name: str
    address: int
    size: int
    """In bytes; 0 when the symbol table does not say."""
    kind: str
    """nm's letter: T and t are text, global and local."""


@dataclass(frozen=True, slots=True)
class Instruction:
    """One disassembled instruction."""

    address: int
    size: int
    mnemonic: str
    """Without prefixes such as `notrack` and `bnd`; e.g. `call`, `ret`, `pop`."""
    operands: str


def symbols(path: str | os.PathLike[str], *, dynamic: bool = False) -> list[Symbol]:
    """The file's defined symbols, by address; those of the dynamic symbol table when `dynamic`."""
    command = [
        "nm",
        "--defined-only",
        "--print-size",
        "--format=bsd",
        *(["-D"] if dynamic else []),
        os.fspath(path),
    ]
    found = []
    for line in _output(*command).splitlines():
        match = re.fullmatch(r"([0-9a-f]+)(?: ([0-9a-f]+))? (\S) (\S+?)(@.*)?", line)
        if match:
            address, size, kind, name, _version = match.groups()
            found.append(Symbol(name, int(address, 16), int(size or "0", 16), kind))
    return sorted(found, key=lambda symbol: (symbol.address, symbol.name))


def addresses(path: str | os.PathLike[str], name: str, *, dynamic: bool = False) -> list[int]:
    """Every address that a symbol called `name` has, rising: static functions of many files share a name."""
    return sorted({symbol.address for symbol in symbols(path, dynamic=dynamic) if symbol.name == name})


def address(path: str | os.PathLike[str], name: str, *, dynamic: bool = False) -> int:
    """The address of the one symbol called `name`; raises FactsError when there is none, or more than one."""
    found = addresses(path, name, dynamic=dynamic)
    if len(found) != 1:
        raise FactsError(f"{os.fspath(path)} has {len(found)} symbols called {name}")
    return found[0]


def instructions(path: str | os.PathLike[str], name: str) -> list[Instruction]:
    """The instructions of the function `name` (mangled for C++), in order of addresses."""
    start = address(path, name)
    size = max((one.size for one in symbols(path) if one.name == name), default=0)
    if size == 0:
        raise FactsError(f"{os.fspath(path)}: the symbol {name} has no size")
    return instructions_between(path, start, start + size)


def instructions_between(path: str | os.PathLike[str], start: int, end: int) -> list[Instruction]:
    """The instructions in `[start, end)`, which must begin at an instruction."""
    # --wide raw bytes tell the sizes; --insn-width keeps them on one line.
    text = _output(
        "objdump",
        "-d",
        "-w",
        "--insn-width=16",
        f"--start-address={start:#x}",
        f"--stop-address={end:#x}",
        os.fspath(path),
    )
    found = []
    for line in text.splitlines():
        match = re.match(r"\s*([0-9a-f]+):\t((?:[0-9a-f]{2} )+)\s*(?:\t(.*))?$", line)
        if match:
            place, raw, code = match.groups()
            mnemonic, operands = _split(code or "")
            found.append(Instruction(int(place, 16), len(raw.split()), mnemonic, operands))
    return found


def return_addresses(path: str | os.PathLike[str], name: str, callee: str | None = None) -> list[int]:
    """The addresses after each call in function `name`; only calls of `callee` (a symbol, or `callee@plt`) if
    given.
    """
    found = []
    for one in instructions(path, name):
        target = re.search(r"<([^+>]+)>", one.operands)
        named = target.group(1).partition("@")[0] if target else None
        if one.mnemonic.startswith("call") and (callee is None or named == callee):
            found.append(one.address + one.size)
    return found


def epilogue_addresses(path: str | os.PathLike[str], name: str) -> list[int]:
    """The addresses of each epilogue of function `name`: from the first instruction that restores, to its
    `ret`.

    Compilers mix other instructions in; the epilogue begins at the earliest pop, `leave` or release of stack
    space that is followed by neither a call nor a jump before the `ret`.
    """
    code = instructions(path, name)
    found = set()
    for index, one in enumerate(code):
        if not one.mnemonic.startswith("ret"):
            continue
        first = index
        for place in range(index - 1, -1, -1):
            if code[place].mnemonic.startswith(("call", "j", "ret")):
                break
            if _restores(code[place]):
                first = place
        found |= {code[place].address for place in range(first, index + 1)}
    return sorted(found)


def _restores(one: Instruction) -> bool:
    releases = one.mnemonic.startswith(("add", "sub", "lea", "mov")) and one.operands.endswith(",%rsp")
    return releases or one.mnemonic.startswith(("pop", "leave"))


def call_sites(path: str | os.PathLike[str]) -> list[int]:
    """The return address of every call instruction in the file's .text."""
    start, size = sections(path)[".text"]
    code = instructions_between(path, start, start + size)
    return [one.address + one.size for one in code if one.mnemonic.startswith("call")]


def sections(path: str | os.PathLike[str]) -> dict[str, tuple[int, int]]:
    """Each section's name → (virtual address, size), by readelf."""
    found = {}
    for line in _output("readelf", "-SW", os.fspath(path)).splitlines():
        match = re.match(r"\s*\[\s*\d+\]\s+(\S+)\s+\S+\s+([0-9a-f]+)\s+[0-9a-f]+\s+([0-9a-f]+)\s", line)
        if match:
            found[match.group(1)] = (int(match.group(2), 16), int(match.group(3), 16))
    return found


def plt_addresses(path: str | os.PathLike[str]) -> list[int]:
    """The address of each instruction in .plt and .plt.sec (empty where the linker made none)."""
    found = []
    for name in (".plt", ".plt.sec"):
        if name in sections(path):
            start, size = sections(path)[name]
            found += [one.address for one in instructions_between(path, start, start + size)]
    return found


def covered_by_eh_frame(path: str | os.PathLike[str]) -> list[tuple[int, int]]:
    """The `[start, end)` of each FDE in .eh_frame, by readelf."""
    text = _output("readelf", "--debug-dump=frames", "-W", os.fspath(path))
    found, inside = [], False
    for line in text.splitlines():
        if line.startswith("Contents of the"):
            inside = ".eh_frame" in line
        match = re.search(r" FDE .* pc=([0-9a-f]+)\.\.([0-9a-f]+)", line)
        if match and inside:
            found.append((int(match.group(1), 16), int(match.group(2), 16)))
    return found


def line_at(path: str | os.PathLike[str], place: int) -> tuple[str, int] | None:
    """(file's name, line) of the innermost code at an address, by addr2line; None when there is none."""
    file, _, line = _output("addr2line", f"{place:#x}", "-e", os.fspath(path)).split()[0].rpartition(":")
    return (Path(file).name, int(line)) if line.isdigit() and int(line) else None


def second_line_addresses(path: str | os.PathLike[str], name: str) -> list[int]:
    """Where the second line of each function called `name` begins: behind the prologue of unoptimized code."""
    text = _output("readelf", "--debug-dump=decodedline", os.fspath(path))
    rows = sorted({int(row, 16) for row in re.findall(r"^\S+\s+\d+\s+0x([0-9a-f]+)", text, re.MULTILINE)})
    return [min(row for row in rows if row > place) for place in addresses(path, name)]


def has_fixed_address(path: str | os.PathLike[str]) -> bool:
    """True for an executable at fixed addresses (ET_EXEC), False for a position-independent file."""
    return bool(re.search(r"Type:\s+EXEC\b", _output("readelf", "-hW", os.fspath(path))))


def vdso_image(directory: str | os.PathLike[str]) -> Path:
    """A copy of the vdso of this process as an ELF file in `directory`; all 64-bit processes of a kernel
    share it.
    """
    for line in Path("/proc/self/maps").read_text().splitlines():
        if line.endswith("[vdso]"):
            start, end = (int(text, 16) for text in line.split()[0].split("-"))
            with open("/proc/self/mem", "rb", buffering=0) as memory:
                memory.seek(start)
                image = memory.read(end - start)
            target = Path(directory) / "vdso.so"
            target.write_bytes(image)
            return target
    raise FactsError("this kernel gives its processes no vdso")


def libraries(path: str | os.PathLike[str]) -> dict[str, str]:
    """The shared libraries that the dynamic loader would map: name → resolved path, by ldd."""
    found = {}
    for line in _output("ldd", os.fspath(path)).splitlines():
        match = re.match(r"\s*(\S+) => (/\S+)", line)
        if match:
            found[match.group(1)] = os.path.realpath(match.group(2))
    return found


def _split(code: str) -> tuple[str, str]:
    words = code.split("#")[0].split()
    while words and words[0] in ("bnd", "notrack", "rep", "repz", "repnz", "lock", "data16", "cs"):
        words = words[1:]
    return (words[0], " ".join(words[1:])) if words else ("(bad)", "")


@cache
def _run_cached(command: tuple[str, ...], stamp: tuple[int, int]) -> str:
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
            env={**os.environ, "LC_ALL": "C"},
        )
    except FileNotFoundError as error:
        raise FactsError(f"{command[0]} is not installed; on Debian: apt install binutils") from error
    if done.returncode != 0:
        raise FactsError(f"{' '.join(command)}\n{done.stderr}")
    return done.stdout


def _output(*command: str) -> str:
    """What the command prints about the file that is its last word; asked once for each state of the file."""
    status = Path(command[-1]).stat()
    return _run_cached(command, (status.st_mtime_ns, status.st_ino))

"""The differences to other tools that are known, in difference_list.json, and how they are measured.

`python tests/symbolize/difference_list.py [NAME…]` writes the list anew; what is new in it is for a reader to judge.
For each program it holds the build-id, and for each tool and cause the number of addresses, of functions, a digest of
the addresses, and the functions (no more than TOLD of them by name).
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    _ROOT = Path(__file__).resolve().parents[2]
    sys.path[:0] = [str(_ROOT), str(_ROOT / "tests")]

from difference_cause import CAUSES, FileFacts, difference
from symbolization_tools import ToolFrame, addr2line_frames, llvm_frames

from cfi_tables.elf_image import SHF_EXECINSTR, ElfImage
from unwind.symbolize.module_symbols import ModuleSymbols
from unwind.symbolize.symbol_frame import SymbolFrame

LIST = Path(__file__).with_name("difference_list.json")
TOLD = 12
COUNT = 10_000
TOOLS: dict[str, tuple[Callable[[str, Path, Sequence[int]], list[list[ToolFrame]]], str, str]] = {
    "llvm-symbolizer-14": (llvm_frames, "llvm-symbolizer-14", "llvm-14"),
    "addr2line": (addr2line_frames, "addr2line", "binutils"),
}
"""Tool -> (how it is asked, its command, its Debian package)."""


def python_program() -> Path:
    """Debian's python3.11; its DWARF is that of its python3.11-dbg package."""
    return Path("/usr/bin/python3.11")


def kernel_program() -> Path:
    """A Debian kernel with DWARF, of which `.text` is 14 MB. Raises NotInArchive."""
    from kernel.kernel_package import debug_kernel_files

    return debug_kernel_files("6.1")[0]


def programs() -> dict[str, Callable[[], Path]]:
    """Name -> what gives the file, or raises NoLargeProgram or NotInArchive."""
    from programs.large_program import protoc_program, sqlite3_program

    return {
        "sqlite3": sqlite3_program,
        "protoc": protoc_program,
        "python3.11": python_program,
        "vmlinux": kernel_program,
    }


@dataclass(frozen=True, slots=True)
class Measured:
    """What differs at the addresses of one program."""

    addresses: list[int]
    frames: list[list[SymbolFrame]]
    """Ours, of each address."""
    causes: dict[str, dict[str, dict[str, Any]]]
    """Tool -> cause -> the line of the list."""
    unexplained: list[str]


def chosen_addresses(image: ElfImage) -> list[int]:
    """COUNT uniform addresses of code, and all of small sections such as .init and .plt."""
    import random

    chosen = random.Random(20)
    sections = [each for each in image.section_list if each.flags & SHF_EXECINSTR and each.size]
    total = sum(each.size for each in sections)
    found = []
    for each in sections:
        share = COUNT * each.size // total
        if each.size <= 64:
            found += range(each.address, each.address + each.size)
        else:
            found += [each.address + chosen.randrange(each.size) for _ in range(max(16, share))]
    return found


def measure(symbols: ModuleSymbols, path: Path, tools: dict[str, str]) -> Measured:
    """Ask everyone. `tools` has the path of each tool's command."""
    addresses = chosen_addresses(symbols.image)
    facts = FileFacts(path)
    frames = [symbols.frames_at(address) for address in addresses]
    answers = {name: TOOLS[name][0](tools[name], path, addresses) for name in TOOLS}
    unexplained: list[str] = []
    causes: dict[str, dict[str, dict[str, Any]]] = {}
    for name, theirs in answers.items():
        (others,) = (answers[each] for each in TOOLS if each != name)
        where: dict[str, list[tuple[int, str]]] = {}
        for address, ours, their, other in zip(addresses, frames, theirs, others, strict=True):
            found = difference(facts, address, ours, their, other, _first_files(symbols, address))
            if found is None:
                continue
            if found.unexplained is not None:
                unexplained.append(f"{name} {address:#x}: {found.unexplained}")
            function = next((each.function for each in (*ours[-1:], *their[-1:]) if each.function), "")
            for cause in found.causes:
                where.setdefault(cause, []).append((address, function))
        causes[name] = {cause: _line(places) for cause, places in sorted(where.items())}
    return Measured(addresses, frames, causes, unexplained)


def _first_files(symbols: ModuleSymbols, address: int) -> set[str | None]:
    """File 0 of the line number programs that tell of `address`, of those of DWARF 5."""
    units = symbols.debug_info.units_for_address(address) if symbols.debug_info is not None else []
    return {unit.info.file_path(unit, 0) for unit in units if unit.version >= 5}


def _line(places: list[tuple[int, str]]) -> dict[str, Any]:
    functions = sorted({function for _, function in places})
    digest = hashlib.sha256(repr(sorted(address for address, _ in places)).encode()).hexdigest()[:16]
    told = [*functions[:TOLD], *(["…"] if len(functions) > TOLD else [])]
    return {"addresses": len(places), "functions": len(functions), "digest": digest, "in": told}


def listed() -> dict[str, dict[str, Any]]:
    """Program -> {"build_id", tool -> cause -> line} of the list."""
    found: dict[str, dict[str, Any]] = json.loads(LIST.read_text())["programs"]
    return found


def main() -> None:
    """Write the list."""
    kept = listed() if LIST.exists() else {}
    tools = {name: shutil.which(command) or command for name, (_, command, _) in TOOLS.items()}
    for name in sys.argv[1:] or programs():
        symbols = ModuleSymbols.open(programs()[name]())
        measured = measure(symbols, Path(symbols.image.path), tools)
        build_id = symbols.image.build_id
        kept[name] = {"build_id": build_id.hex() if build_id else None, **measured.causes}
        print(f"{name}: {len(measured.unexplained)} without a cause", *measured.unexplained[:40], sep="\n  ")
    used = {cause for each in kept.values() for tool in TOOLS for cause in each[tool]}
    content = {"causes": {cause: CAUSES[cause] for cause in CAUSES if cause in used}, "programs": kept}
    LIST.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()

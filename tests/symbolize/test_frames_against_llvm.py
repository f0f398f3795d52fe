"""Functions, files, lines, columns and inline depth equal to llvm-symbolizer's, all over .text.

What may differ, and why (each is checked, not waved through):

* llvm-symbolizer names the outermost frame after the symbol table, so parts of functions have the names of
  their symbols (`main.cold`, `f.constprop.0`) and parameters where gcc gives no linkage name. The DWARF function,
  which gdb prints, is then a prefix of it.
* Where a function has several symbols it takes another alias than DWARF's name (`fprintf`, `__fprintf`).
* It does not qualify functions without a linkage name: `weigh` for `store::(anonymous namespace)::weigh`.
* It takes file names of code without line information from STT_FILE symbols (`crtstuff.c`), line 0.
* It joins the compilation directory in front of DWARF 5's directory 0, which is that same directory, when it is
  relative (`./csu/./csu/x.c`).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cfi_tables.debug_file import find_debug_file
from cfi_tables.elf_image import ElfImage
from unwind.symbolize.module_symbols import ModuleSymbols
from unwind.symbolize.symbol_frame import SymbolFrame

Build = Callable[..., Path]
Oracle = Callable[[Path, list[int]], list[list[dict[str, Any]]]]
Addresses = Callable[[Path, int], list[int]]

BUILDS = [
    (compiler, "-g", version, level)
    for compiler in ("gcc", "g++", "clang", "clang++")
    for version, level in (
        ("-gdwarf-4", "-O2"),
        ("-gdwarf-4", "-Os"),
        ("-gdwarf-5", "-O0"),
        ("-gdwarf-5", "-O2"),
        ("-gdwarf-5", "-O3"),
    )
] + [
    ("gcc", "-g", "-O2", "-flto"),
    ("g++", "-g", "-O2", "-flto"),
    ("g++", "-g", "-O2", "-flto", "-flto-partition=max"),
    ("clang++", "-g", "-O2", "-gdwarf-aranges"),
    ("g++", "-g", "-O2", "-fdebug-types-section", "-ffunction-sections", "-Wl,--gc-sections"),
    ("gcc", "-g", "-O2", "-gdwarf-2", "-gstrict-dwarf"),
    ("g++", "-g", "-O2", "-gdwarf-3", "-gstrict-dwarf"),
    ("clang++", "-g", "-O2", "-gdwarf-2"),
    ("clang++", "-g", "-O2", "-gdwarf-5", "-fdebug-types-section"),
    ("g++", "-g", "-O2", "-static"),
    ("g++", "-g", "-O2", "-no-pie", "-gz"),
]


def name_style(name: str) -> str:
    """Demanglers differ in the space of `> >` and how they show a clone's suffix."""
    while "> >" in name:
        name = name.replace("> >", ">>")
    return re.sub(r" \[(?:clone )?(\.[^\]]*)\]| \((\.[^)]*)\)", r" [\1\2]", name)


def explained(ours: list[SymbolFrame], theirs: list[dict[str, Any]]) -> str | None:
    """None when the frames are the same but for the differences above; else what is not."""
    if not ours:
        return None if [each["FunctionName"] for each in theirs] == [""] else "nothing found"
    if len(ours) != len(theirs):
        return f"depth {len(ours)} for {len(theirs)}"
    for index, (frame, other) in enumerate(zip(ours, theirs, strict=True)):
        outermost = index == len(ours) - 1
        name, wanted = name_style(frame.function or ""), name_style(other["FunctionName"])
        if name != wanted:
            unqualified = frame.linkage_name is None and name.endswith(f"::{wanted}")
            from_symbol = outermost and frame.die is not None and wanted.startswith(name)
            unnamed = wanted == "" and frame.die is None
            if not (unqualified or from_symbol or unnamed):
                return f"name {name} for {wanted}"
        if (frame.line or 0, frame.column or 0) != (other["Line"], other["Column"]):
            return f"line {frame.line}:{frame.column} for {other['Line']}:{other['Column']}"
        file = re.sub(r"^(\./[^/]+)/\1/", r"\1/", other["FileName"])
        if (frame.file or "") != file and not (frame.file is None and frame.line is None and other["Line"] == 0):
            return f"file {frame.file} for {file}"
    return None


def differences(path: Path, addresses: list[int], oracle: Oracle) -> list[str]:
    symbols = ModuleSymbols.open(path)
    found = []
    for address, theirs in zip(addresses, oracle(path, addresses), strict=True):
        ours = symbols.frames_at(address)
        theirs = with_alias(symbols, ours, theirs)
        why = explained(ours, theirs)
        if why is not None:
            found.append(f"{address:#x}: {why}")
    assert symbols.problems == []
    return found


@pytest.mark.parametrize("options", BUILDS, ids=" ".join)
def test_frames_are_llvm_symbolizers(
    options: tuple[str, ...], build: Build, llvm_frames: Oracle, text_addresses: Addresses
) -> None:
    path = build(*options)
    step = 4099 if "-static" in options else 3
    addresses = text_addresses(path, step)
    assert len(addresses) > 50
    assert differences(path, addresses, llvm_frames) == []
    symbols = ModuleSymbols.open(path)
    if options[0].endswith("++") and "-O0" not in options and "-static" not in options:
        assert max(len(symbols.frames_at(address)) for address in addresses) >= 3


LIBC = Path("/lib/x86_64-linux-gnu/libc.so.6")
PYTHON = Path("/usr/bin/python3.11")


@pytest.mark.parametrize(
    ("path", "package"), [(LIBC, "libc6-dbg"), (PYTHON, "python3.11-dbg")], ids=["libc", "python3.11"]
)
def test_debian_debug_files(path: Path, package: str, llvm_frames: Oracle, text_addresses: Addresses) -> None:
    if not path.exists() or find_debug_file(ElfImage.open(path)).image is None:
        pytest.skip(f"{package} is not installed")
    addresses = text_addresses(path, 7919)
    symbols = ModuleSymbols.open(path)
    assert symbols.missing is None
    depth = lines = compared = 0
    for address, theirs in zip(addresses, llvm_frames(path, addresses), strict=True):
        ours = symbols.frames_at(address)
        theirs = with_alias(symbols, ours, theirs)
        assert explained(ours, theirs) is None, (hex(address), ours, theirs)
        compared += 1
        depth = max(depth, len(ours))
        lines += bool(ours and ours[0].line)
    assert compared > 150 and depth >= 2 and lines > compared * 0.9


def with_alias(symbols: ModuleSymbols, ours: list[SymbolFrame], theirs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The oracle's frames with our name for the outermost where its name is a symbol of the same address.

    libc gives its functions many aliases, of which each tool takes another.
    """
    if not ours or not theirs or ours[-1].function is None:
        return theirs
    name = theirs[-1]["FunctionName"]
    if name == ours[-1].function:
        return theirs
    same = {each.address for each in symbols.symbol_names.all() if each.name == name}
    if ours[-1].function_start not in same:
        return theirs
    return [*theirs[:-1], {**theirs[-1], "FunctionName": ours[-1].function}]

"""Names of PLT stubs against objdump's, in each form that linkers write, and what is said of IFUNC symbols."""

from __future__ import annotations

import re
import struct
import subprocess
from pathlib import Path

import pytest
from oracles import elf_facts

from cfi_tables.elf_image import ElfImage
from unwind.symbolize.function_search import FunctionSearch
from unwind.symbolize.module_symbols import ModuleSymbols

LINKED = {
    "eager": (),
    "lazy": ("-Wl,-z,lazy",),
    "branch tracking": ("-Wl,-z,lazy", "-fcf-protection=full", "-Wl,-z,ibtplt"),
    "no-pie": ("-no-pie", "-fno-pie"),
}


def stubs_of_objdump(path: Path) -> dict[int, str]:
    """Stubs by address; objdump calls what an IFUNC's resolver fills `*ABS*+0x…@plt`, by the resolver's address."""
    sections = [f"--section={name}" for name in (".plt", ".plt.sec", ".plt.got", ".iplt")]
    text = subprocess.run(
        ["objdump", "-d", "--no-show-raw-insn", *sections, path], capture_output=True, text=True, check=True
    ).stdout
    labels = re.findall(r"^([0-9a-f]+) <(.*)@plt>:$", text, re.MULTILINE)
    return {int(address, 16): name.partition("@")[0] for address, name in labels}


def libc(program: Path) -> Path:
    return Path(elf_facts.libraries(program)["libc.so.6"])


@pytest.mark.parametrize("form", LINKED)
@pytest.mark.parametrize("name", ["orders", "shapes"])
def test_stubs_are_named_as_objdump_names_them(programs, require_tool, name, form):
    require_tool("objdump", "binutils")
    program = programs.build(name, "gcc", ("-O2", "-g", *LINKED[form]))
    expected = stubs_of_objdump(program)
    symbols = ModuleSymbols.open(program)
    for address, stub in expected.items():
        found = symbols.symbol_names.at(address)
        if stub.startswith("*ABS*+"):
            assert found is not None and found.name.removesuffix("@plt") in names_at(program, int(stub[6:], 16))
        else:
            assert found is not None and (found.name, found.address) == (f"{stub}@plt", address)
            (frame,) = symbols.frames_at(address + 1)
            assert frame.offset == 1 and (frame.function or "").endswith("@plt")
            assert not (frame.function or "").startswith("_Z"), "names of C++ stubs are demangled too"
    assert expected


def names_at(path: Path, address: int) -> set[str]:
    return {symbol.name for symbol in elf_facts.symbols(path) if symbol.address == address}


def test_the_selected_functions_of_libc_have_named_stubs(programs, require_tool):
    require_tool("objdump", "binutils")
    path = libc(programs.build("orders"))
    symbols = ModuleSymbols.open(path)
    selected = {at: int(name[6:], 16) for at, name in stubs_of_objdump(path).items() if name.startswith("*ABS*+")}
    dynamic = elf_facts.symbols(path, dynamic=True)
    for stub, resolver in selected.items():
        exported = {symbol.name for symbol in dynamic if symbol.address == resolver}
        found = symbols.symbol_names.at(stub)
        assert found is not None and found.name.endswith("@plt")
        assert not exported or found.name.removesuffix("@plt") in exported
    assert selected


def test_stubs_of_a_static_program_are_named_by_the_functions_they_select(programs):
    # objdump has no names for these: there are no dynamic relocations.
    program = programs.build("static")
    image = ElfImage.open(program)
    symbols = ModuleSymbols.open(image)
    selecting = {symbol.name for symbol in elf_facts.symbols(program) if symbol.kind == "i"}
    section = image.sections[".plt"]
    jumps = elf_facts.instructions_between(program, section.address, section.address + section.size)
    stubs = [one.address for one in jumps if one.mnemonic == "jmp"]
    found = [symbols.symbol_names.at(address) for address in stubs]
    assert found and all(symbol and symbol.name.removesuffix("@plt") in selecting for symbol in found)


def test_an_ifunc_is_told_from_a_function(programs):
    path = libc(programs.build("orders"))
    kinds = {symbol.name: symbol.kind for symbol in elf_facts.symbols(path, dynamic=True)}
    search = FunctionSearch(ModuleSymbols.open(path))
    for name in ("strlen", "memchr", "qsort", "malloc"):
        places = [place for place in search.functions(name) if not place.inlined]
        assert {place.selects for place in places} == {kinds[name] == "i"}, name


def test_damaged_relocations_cost_names_only(programs):
    program = programs.build("orders", "gcc", ("-O2", "-g", "-Wl,-z,lazy"))
    data = bytearray(program.read_bytes())
    image = ElfImage.open(program)
    section = image.sections[".rela.plt"]
    for at in range(section.offset, section.offset + section.size, 24):
        struct.pack_into("<Q", data, at + 8, 0xFFFF_FFFF << 32 | 7)
    symbols = ModuleSymbols.open(ElfImage.from_bytes(bytes(data), "damaged"))
    stubs = [address for address, name in stubs_of_objdump(program).items() if name != "__cxa_finalize"]
    assert stubs and [symbols.symbol_names.at(address) for address in stubs] == [None] * len(stubs)

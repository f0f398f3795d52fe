"""Addresses of a kernel that was moved, and of its module, against addr2line and llvm-symbolizer on their files."""

from __future__ import annotations

import json
import random
import re
import subprocess
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import pytest
from loaded_kernel import LoadedKernel, code_sections, section_symbols

pytestmark = pytest.mark.xdist_group("kernel_symbols")

RequireTool = Callable[[str, str], str]
Run = Callable[..., subprocess.CompletedProcess[str]]


def traces(text: str) -> list[list[str]]:
    """The lines of each address, innermost call first, without the names of modules."""
    found: list[list[str]] = []
    for line in text.replace(" [kvm] at ", " at ").splitlines():
        if line.startswith(" (inlined by) "):
            found[-1].append(line.removeprefix(" (inlined by) "))
        else:
            found.append([line])
    return found


def places(lines: list[str]) -> list[tuple[str, str]]:
    """(function, line) of each frame as it is printed."""
    return [(line.partition(" at ")[0], line.rpartition(":")[2]) for line in lines]


def text_symbols(path: Path) -> list[tuple[int, str]]:
    output = subprocess.run(["nm", path], capture_output=True, text=True, check=True).stdout
    rows = [line.split() for line in output.splitlines()]
    return [(int(address, 16), name) for address, kind, name in rows if kind in "tT"]


def of_the_kernel(kernel: LoadedKernel) -> list[str]:
    return ["--kernel", "--kallsyms", str(kernel.kallsyms)]


def place(name: str, line: int | None, aliases: dict[str, int]) -> tuple[int | str, int | None]:
    """A frame's function and line. llvm-symbolizer takes the outermost name from the symbol table: of several at
    one address another one, and that of the part (`.cold`, `.part.0`) in which the address lies.
    """
    return aliases.get(name, name.partition(".")[0]), line or None


def test_the_kernel_is_named_as_by_its_vmlinux(
    running: LoadedKernel, symbolize: Run, require_tool: RequireTool
) -> None:
    """A few hundred places, few enough that llvm-symbolizer reads them in seconds."""
    listed = text_symbols(running.vmlinux)
    aliases = {name: address for address, name in listed}
    sized = subprocess.run(["nm", "-S", running.vmlinux], capture_output=True, text=True, check=True).stdout
    rows = [line.split() for line in sized.splitlines()]
    functions = [(int(row[0], 16), int(row[1], 16)) for row in rows if len(row) == 4 and row[2] in "tT"]
    chosen = random.Random(7).sample(functions, 300)
    addresses = [address + step for address, size in chosen for step in (0, size // 2)]
    oracle = subprocess.run(
        [require_tool("llvm-symbolizer-14", "llvm-14"), "--inlines", "--output-style=JSON", "-e", running.vmlinux],
        input="".join(f"{address:#x}\n" for address in addresses), capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    theirs = [json.loads(line)["Symbol"] for line in oracle.splitlines()]
    moved = "\n".join(f"{address + running.slide:#x}" for address in addresses)
    done = symbolize(*of_the_kernel(running), "--vmlinux", running.vmlinux, "--format", "json", text=moved)
    assert done.returncode == 0
    ours = [json.loads(line)["frames"] for line in done.stdout.splitlines()]
    assert len(ours) == len(theirs) == len(addresses)
    compared = inlined = 0
    for address, mine, other in zip(addresses, ours, theirs, strict=True):
        assert {(frame["module"], frame["space"]) for frame in mine} == {("[kernel]", "kernel")}
        assert {frame["address"] for frame in mine} == {f"{address + running.slide:#x}"}
        assert mine[-1]["function"] is not None, hex(address)
        if other[0]["Line"] == 0 or other[0]["FileName"].endswith(".S"):
            continue  # assembly, or no line: which symbol counts there is another test's
        wanted = [place(each["FunctionName"], each["Line"], aliases) for each in other]
        found = [place(each["function"], each["line"], aliases) for each in mine]
        if "." in other[-1]["FunctionName"]:  # a part: after gcc's own mind, not always that of the function around it
            found[-1], wanted[-1] = ("", found[-1][1]), ("", wanted[-1][1])
        assert found == wanted, hex(address)
        assert [Path(each["file"]).name for each in mine] == [Path(each["FileName"]).name for each in other]
        compared += 1
        inlined += len(mine) > 1
    assert compared > 400 and inlined > 20


def test_a_module_is_named_by_each_of_its_sections(
    running: LoadedKernel, symbolize: Run, require_tool: RequireTool
) -> None:
    (module,) = running.modules
    addr2line = require_tool("addr2line", "binutils")
    rows = section_symbols(module.path)
    wanted: dict[int, list[str]] = {}
    for section in code_sections(module.path):
        if section.name.startswith(".altinst"):
            continue  # no functions: patches, of which addr2line takes the nearest function
        values = sorted({value for _, number, value in rows if number == section.number and value < section.size})
        values = random.Random(3).sample(values, min(len(values), 60))
        offsets = [value + step for value in values for step in (0, 4) if value + step < section.size]
        oracle = subprocess.run(
            [addr2line, "-fipC", "-j", section.name, "-e", module.path, *map(hex, offsets)],
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        shown = traces(re.sub(r" \(discriminator \d+\)", "", oracle))
        assert len(shown) == len(offsets)
        for offset, lines in zip(offsets, shown, strict=True):
            if "?" not in "".join(lines):
                wanted[module.sections[section.name] + offset] = lines
    touched = {
        name for name, start in module.sections.items() for address in wanted if address == start or start < address
    }
    assert {".text", ".text.unlikely", ".init.text"} <= touched and len(wanted) > 150
    done = symbolize(*of_the_kernel(running), "--module-dir", module.path.parent, text="\n".join(map(hex, wanted)))
    assert done.returncode == 0 and done.stderr == ""
    assert all(" [kvm] at " in line for line in done.stdout.splitlines())
    # Not the files: of what the macros of trace headers define, addr2line tells the unit's file with the header's line.
    assert [places(lines) for lines in traces(done.stdout)] == [places(lines) for lines in wanted.values()]


def test_sections_base_and_symbols_place_a_module_alike(running: LoadedKernel, symbolize: Run, tmp_path: Path) -> None:
    """What /sys/module, /proc/modules or kallsyms alone tells comes to the same."""
    (module,) = running.modules
    addresses = [module.start + at for at in range(0x40, 0x4000, 0x777)]
    addresses.append(module.sections[".text.unlikely"] + 5)
    words = [hex(address) for address in addresses]
    files = ["--module-dir", module.path.parent]
    reference = symbolize(*of_the_kernel(running), *files, *words)
    assert reference.stdout.count(":") >= len(words) and "kvm" in reference.stdout
    kernel_only = tmp_path / "kallsyms"
    lines = running.kallsyms.read_text().splitlines()
    kernel_only.write_text("\n".join(line for line in lines if "[kvm]" not in line) + "\n")
    for told in (
        ["--modules", running.module_list],
        ["--modules", running.module_list, "--sections", running.sections],
    ):
        done = symbolize("--kernel", "--kallsyms", kernel_only, *told, *files, *words)
        assert (done.stdout, done.stderr) == (reference.stdout, "")
    both = symbolize(*of_the_kernel(running), "--sections", running.sections, *files, *words)
    assert both.stdout == reference.stdout


def test_a_stripped_module_has_names_and_its_debug_file_lines(
    running: LoadedKernel, stripped_modules: list[Path], symbolize: Run, tmp_path: Path, require_tool: RequireTool
) -> None:
    """As installed, compressed as newer distributions have it; and with the debug file beside it."""
    (module,) = running.modules
    stripped = next(path for path in stripped_modules if path.name == "kvm.ko")
    (tmp_path / "modules").mkdir()
    packed = tmp_path / "modules" / "kvm.ko.xz"
    with open(packed, "wb") as output:
        subprocess.run(
            [require_tool("xz", "xz-utils"), "-1", "--check=crc32", "-c", stripped], stdout=output, check=True
        )
    name, _, value = next(each for each in section_symbols(module.path) if each[0] == "kvm_vcpu_ioctl")
    address = hex(module.start + value + 9)
    alone = symbolize(*of_the_kernel(running), "--module-dir", packed.parent, address)
    assert alone.stdout == f"{name}+0x9 [kvm] at ??:?\n"
    both = symbolize(
        *of_the_kernel(running), "--module-dir", packed.parent, "--module-dir", module.path.parent, address
    )
    assert re.fullmatch(rf"{name} \[kvm\] at \S+kvm_main.c:\d+\n", both.stdout)


def test_static_functions_of_one_name_are_told_apart(running: LoadedKernel, symbolize: Run) -> None:
    by_name = defaultdict(set)
    for address, name in text_symbols(running.vmlinux):
        by_name[name].add(address)
    # Attributes of devices: several drivers have one of the same name.
    double = next(
        sorted(places) for name, places in sorted(by_name.items()) if len(places) > 2 and name.endswith("_show")
    )
    assert len(double) > 2
    words = [f"{address + running.slide:#x}" for address in double]
    listed = symbolize(*of_the_kernel(running), *words).stdout.splitlines()
    assert len(set(listed)) == 1  # kallsyms alone cannot
    told = symbolize(*of_the_kernel(running), "--vmlinux", running.vmlinux, *words).stdout.splitlines()
    assert len(set(told)) == len(double) and not any("??" in line for line in told)


def test_kallsyms_alone_names_with_offsets(running: LoadedKernel, symbolize: Run) -> None:
    (module,) = running.modules
    kernel = next(address for address, name in text_symbols(running.vmlinux) if name == "vfs_read")
    inside = next(value for name, _, value in section_symbols(module.path) if name == "kvm_vcpu_ioctl")
    done = symbolize(*of_the_kernel(running), hex(kernel + running.slide + 0x21), hex(module.start + inside + 3))
    assert done.stdout == "vfs_read+0x21 at ??:?\nkvm_vcpu_ioctl+0x3 [kvm] at ??:?\n"
    assert done.returncode == 0


@pytest.mark.parametrize("outside", ["_etext", "below", "user", "behind the module"])
def test_what_is_no_code_has_no_name(running: LoadedKernel, symbolize: Run, outside: str) -> None:
    (module,) = running.modules
    etext = next(address for address, name in text_symbols(running.vmlinux) if name == "_etext") + running.slide
    address = {
        "_etext": etext + 8,
        "below": 0xFFFF_FFFF_8000_0000,
        "user": 0x40_1000,
        "behind the module": module.start + 0x200_0000,
    }[outside]
    for more in ([], ["--vmlinux", running.vmlinux]):
        done = symbolize(*of_the_kernel(running), *more, hex(address))
        assert done.stdout == "?? ??:0\n" and done.returncode == 0

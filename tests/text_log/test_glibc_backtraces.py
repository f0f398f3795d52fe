"""glibc's backtraces, and the same stacks as gdb and systemd-coredump print them, against addr2line."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from text_log_oracle import Oracle, Rewritten, Told, told

RequireTool = Callable[[str, str], str]
Symbolize = Callable[..., Rewritten]

KINDS = pytest.mark.parametrize("options", [("-pie",), ("-no-pie",), ("-pie", "-rdynamic")], ids=" ".join)
MANGLED = ("-x", "c++", "-pie", "-rdynamic")


def symbol_addresses(path: Path) -> dict[str, int]:
    rows = subprocess.run(["nm", path], capture_output=True, text=True, check=True).stdout.splitlines()
    return {row.split()[2]: int(row.split()[0], 16) for row in rows if len(row.split()) == 3}


def of_program(lines: list[str], path: Path) -> list[tuple[str, int]]:
    """(line, virtual address) of the program's frames in glibc's form."""
    symbols = symbol_addresses(path)
    found = []
    for line in lines:
        match = re.search(rf"{path}(?:\(([\w.]*)(?:\+(0x[0-9a-f]+|0))?\))? ?\[(0x[0-9a-f]+)\]$", line)
        if match is not None:
            offset = int(match[2], 16) if match[2] else int(match[3], 16)
            found.append((line, symbols[match[1]] + offset if match[1] else offset))
    return found


def expected(lines: list[str], path: Path, oracle: Oracle) -> list[tuple[str, str]]:
    """What addr2line says of each frame: of the call, but where a signal came before."""
    frames = []
    failing = symbol_addresses(path)["failing"]
    for _, address in of_program(lines, path):
        frames += oracle.frames(address if address == failing else address - 1)
    return [(name, line) for name, line in frames if line != "?"]


@KINDS
@pytest.mark.parametrize("section", ["fd", "lines"])
def test_glibc_frames_are_addr2lines(
    options: tuple[str, ...],
    section: str,
    teller: Callable[..., Told],
    oracle: Callable[[Path], Oracle],
    symbolize: Symbolize,
) -> None:
    program = teller(*options)
    log = program.sections[section]
    wanted = expected(log.splitlines(), program.path, oracle(program.path))
    names = [name for name, _ in wanted]
    assert {"show", "deeper", "visible", "hidden", "failing", "main"} <= set(names)
    done = symbolize(log=log)
    text = done.stdout.decode()
    own = "".join(line for line in text.splitlines(keepends=True) if str(program.path) in line)
    symbols = symbol_addresses(program.path)
    # A symbol that the line names itself is not told again.
    own = re.sub(r"\((\w+)(\+[0-9a-fx]+\) ?\[0x[0-9a-f]+\]) at ", r"(\1\2 in \1 at ", own)
    assert told(own) == wanted
    assert "failing" in symbols and own.count(" [inlined]") == names.count("deeper")
    # What was there is there, in its order, with what stood before it.
    rest = [re.sub(r"( in \S+)?( at \S+)?$", "", line) for line in text.splitlines() if "[inlined]" not in line]
    given = log.splitlines()
    assert len(rest) == len(given) and all(b.startswith(a) for a, b in zip(rest, given, strict=True))
    for line in text.splitlines():
        assert section != "lines" or line.startswith("2026-01-01 12:00:00 [error] ")


@KINDS
def test_addresses_of_a_process_are_found_by_its_mappings(
    options: tuple[str, ...], teller: Callable[..., Told], oracle: Callable[[Path], Oracle], symbolize: Symbolize
) -> None:
    """The stack of a signal handler as gdb prints it: before and behind the mappings, and without them."""
    program = teller(*options)
    base = int(program.sections["maps"].split("-", 1)[0], 16) if "-pie" in options else 0
    frames, maps = program.sections["gdb"], program.sections["maps"]
    start = {row.split()[-1]: row for row in maps.splitlines()}
    wanted = []
    inside = [row for row in maps.splitlines() if row.endswith(str(program.path))]
    low, high = int(inside[0].split("-")[0], 16), int(inside[-1].split("-")[1].split()[0], 16)
    for number, word in re.findall(r"#(\d+)  (0x[0-9a-f]+) ", frames):
        if low <= int(word, 16) < high:
            address = int(word, 16) - base
            wanted += oracle(program.path).frames(address - (number != "0"))
    wanted = [(name, line) for name, line in wanted if line != "?"]
    # gdb says where a signal came, which this program's own text does not: the frame that failed is not compared.
    wanted = [each for each in wanted if each[0] in ("show", "main")]
    assert start and [name for name, _ in wanted] == ["show", "main"]
    done = symbolize(log=maps + frames)
    assert [each for each in told(done.stdout.decode()) if each in wanted] == wanted
    assert done.stdout.decode().startswith(maps)
    without = symbolize(log=frames)
    assert without.stdout.decode() == frames and b"info proc mappings" in without.stderr


def test_a_log_in_a_file_tells_its_mappings_behind_the_frames(
    teller: Callable[..., Told], symbolize: Symbolize, tmp_path: Path
) -> None:
    program = teller("-pie")
    frames, maps = program.sections["gdb"], program.sections["maps"]
    before = symbolize(log=maps + frames).stdout.decode().removeprefix(maps)
    (tmp_path / "log").write_text(frames + maps)
    behind = symbolize(log=tmp_path / "log").stdout.decode()
    assert behind == before + maps and told(before)
    # The mappings of a second process: which one the frames are of is not known.
    moved = re.sub(
        r"^([0-9a-f]+)-([0-9a-f]+)", lambda m: f"{int(m[1], 16) + 1:x}-{int(m[2], 16) + 1:x}", maps, flags=re.M
    )
    (tmp_path / "two").write_text(frames + maps + moved)
    assert symbolize(log=tmp_path / "two").stdout.decode() == frames + maps + moved


@KINDS
def test_core_dumps_frames_are_addr2lines(
    options: tuple[str, ...], teller: Callable[..., Told], oracle: Callable[[Path], Oracle], symbolize: Symbolize
) -> None:
    program = teller(*options)
    log = program.sections["coredump"]
    first_page = 0x400000 if "-no-pie" in options else 0
    wanted = []
    for number, offset in re.findall(r"#(\d+) .* \+ 0x([0-9a-f]+)\)", log):
        wanted += oracle(program.path).frames(int(offset, 16) + first_page - (number != "0"))
    done = symbolize(log=log)
    text = re.sub(r" 0x([0-9a-f]+) (\S+) at ", r" 0x\1 in \2 at ", done.stdout.decode())
    wanted = [each for each in wanted if each[0] in ("show", "main")]
    assert [name for name, _ in wanted] == ["show", "main"]
    assert [each for each in told(text) if each[0] in ("show", "main")] == wanted


def test_a_file_of_another_build_is_refused(teller: Callable[..., Told], symbolize: Symbolize, tmp_path: Path) -> None:
    """A symbol that is elsewhere now, and one that is not there any more; a file that is not there at all."""
    program = teller("-pie", "-rdynamic")
    log = program.sections["fd"].replace(str(program.path), str(tmp_path / "teller"))
    gone = symbolize(log=log)
    assert str(tmp_path / "teller") + "(main+" in gone.stdout.decode()
    assert not told("".join(line for line in gone.stdout.decode().splitlines() if str(tmp_path) in line))
    assert b"there is no such file" in gone.stderr
    other = teller("-pie").path.parent / "other.c"
    other.write_text("int visible(int a) { return a; }\nint main(void) { return visible(3); }\n")
    subprocess.run(["gcc", "-g", "-O0", "-rdynamic", "-o", tmp_path / "teller", other], check=True)
    only_named = "".join(
        line for line in log.splitlines(keepends=True) if re.search(r"teller\((main|visible|failing)\+", line)
    )
    done = symbolize(log=only_named)
    assert only_named and done.stdout.decode() == only_named
    assert b"another build" in done.stderr and b"lacks symbols (failing)" in done.stderr


def test_mangled_names_are_told_readable(
    teller: Callable[..., Told], oracle: Callable[[Path], Oracle], symbolize: Symbolize, require_tool: RequireTool
) -> None:
    require_tool("g++", "g++")
    program = teller(*MANGLED)
    lines = [line for line in program.sections["fd"].splitlines(keepends=True) if "_Z7visiblei+" in line]
    assert len(lines) == 1
    ((_, address),) = of_program([lines[0].rstrip()], program.path)
    text = symbolize(log=lines[0]).stdout.decode()
    wanted = [line for _, line in oracle(program.path).frames(address - 1)]  # C++ names it tells after its own mind
    assert len(wanted) == 2 and [line for _, line in told(text)] == wanted
    assert text.splitlines()[-1].startswith(lines[0].rstrip() + " in visible(int) at ")


def test_a_file_is_found_by_its_build_id(symbolize: Symbolize, require_tool: RequireTool) -> None:
    """At a path that is not there any more: this process has it mapped."""
    (libc,) = {line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if "/libc.so.6" in line}
    readelf = require_tool("readelf", "binutils")
    notes = subprocess.run([readelf, "-n", libc], capture_output=True, text=True, check=True).stdout
    (build_id,) = re.findall(r"Build ID: ([0-9a-f]+)", notes)
    listed = subprocess.run([readelf, "-sW", "--dyn-syms", libc], capture_output=True, text=True, check=True).stdout
    (value,) = set(re.findall(r"^ *\d+: ([0-9a-f]+) +\d+ FUNC +GLOBAL +DEFAULT +\d+ qsort@@", listed, re.M))
    offset = int(value, 16) + 4
    log = f"    #1 {0x7F00_0000_0000 + offset:#x}  (/gone/libc.so.6+{offset:#x}) (BuildId: {build_id.upper()})\n"
    text = symbolize(log=log).stdout.decode()
    assert re.match(r"    #1 0x[0-9a-f]+ in (__GI_)?qsort(\+0x4)?( at \S+)? \(/gone/", text)
    # Without the build-id nothing tells that it is this one.
    log = log.partition(" (BuildId")[0] + "\n"
    assert symbolize(log=log).stdout.decode() == log

"""`ptap symbolize`: its text against addr2line's, its JSON against the text, and what it does with bad addresses."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cfi_tables.elf_image import ElfImage

Build = Callable[..., Path]

PTAP = (sys.executable, "-m", "ptap", "symbolize")


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}


def run(environment: dict[str, str], *arguments: str | Path, text: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run([*PTAP, *arguments], env=environment, input=text, capture_output=True, text=True)


def function_addresses(path: Path, step: int) -> list[str]:
    """Addresses in functions that have debugging information, as nm tells their places."""
    output = subprocess.run(["nm", "-S", path], capture_output=True, text=True, check=True).stdout
    found = []
    for name in ("main", "balance"):
        line = next(each.split() for each in output.splitlines() if each.endswith(f" {name}"))
        start, size = int(line[0], 16), int(line[1], 16)
        found += [f"{address:#x}" for address in range(start, start + size, step)]
    return found


def traces(text: str) -> list[list[str]]:
    """The lines of each address, innermost call first."""
    found: list[list[str]] = []
    for line in text.splitlines():
        if line.startswith(" (inlined by) "):
            found[-1].append(line.removeprefix(" (inlined by) "))
        else:
            found.append([line])
    return found


@pytest.mark.parametrize("options", [("gcc", "-g", "-O2"), ("gcc", "-g", "-O1", "-gdwarf-4")], ids=" ".join)
def test_text_is_addr2lines(
    options: tuple[str, ...], build: Build, environment: dict[str, str], require_tool: Callable[[str, str], str]
) -> None:
    path = build(*options)
    addresses = function_addresses(path, 1)
    oracle = subprocess.run(
        [require_tool("addr2line", "binutils"), "-fipC", "-e", path, *addresses],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    wanted = re.sub(r" \(discriminator \d+\)", "", oracle)
    assert "(inlined by)" in wanted
    done = run(environment, "-e", path, text="\n".join(addresses))
    assert done.returncode == 0
    assert traces(done.stdout) == traces(wanted)
    few = run(environment, "-e", path, *addresses[:3])
    assert traces(few.stdout) == traces(wanted)[:3]


def test_json_says_what_the_text_says(build: Build, environment: dict[str, str]) -> None:
    path = build("g++", "-g", "-O2", "-Wl,--build-id")
    text = ElfImage.open(path).sections[".text"]
    addresses = [hex(each) for each in range(text.address, text.address + text.size, 7)]
    lines = traces(run(environment, "-e", path, text="\n".join(addresses)).stdout)
    found = [
        json.loads(each) for each in run(environment, "-e", path, "--format", "json", *addresses).stdout.splitlines()
    ]
    assert len(found) == len(lines) == len(addresses)
    build_id = ElfImage.open(path).build_id
    for address, trace, shown in zip(addresses, found, lines, strict=True):
        frames = trace["frames"]
        assert {(each["address"], each["module"], each["build_id"]) for each in frames} == {
            (address, str(path), build_id.hex() if build_id else None)
        }
        if shown == ["?? ??:0"]:
            assert trace["stop"] == "no_such_code" and frames[0]["function"] is None
            continue
        assert shown == [
            f"{each['function'] or '??'} at {each['file'] or '??'}:{each['line'] or '?'}" for each in frames
        ]
        assert [each["inlined"] for each in frames] == [True] * (len(frames) - 1) + [False]
        assert trace["stop"] == "end_of_stack"


def test_bad_addresses_do_not_stop_the_others(build: Build, environment: dict[str, str]) -> None:
    path = build("gcc", "-g", "-O2")
    good = function_addresses(path, 1)[0]
    done = run(environment, "-e", path, text=f"{good}\nnonsense\n0xffffffffffffffffff\n\n0xfffffff0\n{good}")
    lines = traces(done.stdout)
    assert len(lines) == 6 and lines[0] == lines[-1]
    assert [each == ["?? ??:0"] for each in lines] == [False, True, True, True, True, False]
    assert "3 addresses: this is no hexadecimal address" in done.stderr
    assert "1 address: no part of the module is at this address" in done.stderr
    assert done.returncode == 0


def test_each_line_is_answered_when_it_comes(build: Build, environment: dict[str, str]) -> None:
    path = build("gcc", "-g", "-O2")
    with subprocess.Popen(
        [*PTAP, "-e", path], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        for address in function_addresses(path, 9):
            process.stdin.write(address + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
            while True:
                assert "ledger.c:" in line
                if line.split(" at ")[0].removeprefix(" (inlined by) ") in ("main", "balance"):
                    break
                line = process.stdout.readline()
        process.stdin.close()
        assert process.wait() == 0


def test_what_is_no_elf_file_is_refused(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no program")
    done = run(environment, "-e", tmp_path / "text", "0x10")
    assert done.returncode == 2 and "no ELF file" in done.stderr
    done = run(environment, "-e", tmp_path / "missing", "0x10")
    assert done.returncode == 2 and "Traceback" not in done.stderr


def test_the_index_is_kept_and_listed(build: Build, environment: dict[str, str]) -> None:
    path = build("gcc", "-g", "-O2", "-Wl,--build-id")
    assert run(environment, "-e", path, "--index", function_addresses(path, 1)[0]).returncode == 0
    listed = subprocess.run(
        [sys.executable, "-m", "ptap", "cache", "list"], env=environment, capture_output=True, text=True, check=True
    ).stdout
    build_id = ElfImage.open(path).build_id
    assert build_id is not None and build_id.hex() in listed and "symbols" in listed


def test_arguments_are_those_of_gdb_without_a_process(
    build: Build, environment: dict[str, str], tmp_path: Path, require_tool: Callable[[str, str], str]
) -> None:
    path = build("gcc", "-g", "-O2")
    addresses = function_addresses(path, 3)
    script = tmp_path / "parameters.py"
    script.write_text(
        f"import gdb, json\nfor at in {addresses}:\n"
        "    block = gdb.block_for_pc(int(at, 16))\n    frames = []\n"
        "    while block is not None and not block.is_static:\n"
        "        if block.function is not None:\n"
        "            frames.append([[s.name, str(s.type)] for s in block if s.is_argument])\n"
        "        block = block.superblock\n    print(json.dumps(frames))\n"
    )
    gdb = require_tool("gdb", "gdb")
    oracle = subprocess.run([gdb, "-nx", "-batch", "-x", script, path], capture_output=True, text=True, check=True)
    expected = [json.loads(line) for line in oracle.stdout.splitlines()]
    assert any(any(frame) for frames in expected for frame in frames)
    result = run(environment, "-e", path, "--arguments", "--format", "json", *addresses)
    for line, frames in zip(result.stdout.splitlines(), expected, strict=True):
        shown = json.loads(line)["frames"]
        told = [sorted([each["name"], each["type"]] for each in frame["arguments"]) for frame in shown]
        assert told == [sorted(frame) for frame in frames]
        assert all((each["value"] is None) != (each["why"] is None) for frame in shown for each in frame["arguments"])
    text = run(environment, "-e", path, "--arguments", *addresses).stdout
    for lines, frames in zip(traces(text), expected, strict=True):
        for line, frame in zip(lines, frames, strict=True):
            listed = line[line.index("(") : line.rindex(") at ")]
            assert all(f"{type_} {name}" in listed for name, type_ in frame)

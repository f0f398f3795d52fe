"""Maps of code made at run time: what each address is called when entries overlap, repeat and are damaged."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from unwind.symbolize.perf_map import PerfMap

RUST = """
pub mod queue {
    pub struct Slot<T>(pub T);
    impl<T: Copy> Slot<T> { #[inline(never)] pub fn take(&self) -> T { self.0 } }
}
#[no_mangle] pub fn keep() -> u32 { queue::Slot(7u32).take() }
"""


def last_covering(entries: list[tuple[int, int, str]], address: int) -> tuple[str, int] | None:
    found = [(name, address - start) for start, size, name in entries if start <= address < start + size]
    return found[-1] if found else None


def test_the_last_entry_counts_where_it_covers() -> None:
    chance = random.Random(11)
    for _ in range(60):
        entries = [
            (chance.randrange(0x1000, 0x1200), chance.choice((0, 1, chance.randrange(1, 0x60))), f"f{number}")
            for number in range(chance.randrange(1, 40))
        ]
        text = "".join(f"{start:x} {size:x} {name}\n" for start, size, name in entries)
        names = PerfMap(text.encode(), "map")
        for address in range(0xFF0, 0x1270):
            found = names.find(address)
            assert (found and (found.name, found.offset)) == last_covering(entries, address)


def test_names_are_all_that_follows() -> None:
    names = PerfMap(b"0x1000 20 LazyCompile:*a b /x y.js:3:1 \n1020 0X10 \xff\xfe\n1030 10\tt\t u\n", "map")
    assert [found.name for at in (0x1000, 0x1020, 0x1030) if (found := names.find(at))] == [
        "LazyCompile:*a b /x y.js:3:1", "\ufffd\ufffd", "t\t u",
    ]  # fmt: skip
    assert names.damaged == 0


@pytest.mark.parametrize(
    "line", [b"10", b"10 20", b"x 20 name", b"10 y name", b"-10 20 name", b"10 -20 name", b"1_0 20 name",
             b"ffffffffffffffff 20 name"]
)  # fmt: skip
def test_damaged_lines_are_counted(line: bytes) -> None:
    names = PerfMap(b"1000 10 good\n" + line + b"\n\n2000 10 fine\n", "map")
    assert names.damaged == 1 and len(names) == 2
    assert names.find(0x2008) is not None and names.find(0x10) is None


def test_a_line_that_is_being_written_waits() -> None:
    """Not known whether it is whole, and no damage."""
    names = PerfMap(b"1000 10 whole\n2000 10 ha", "map")
    assert names.find(0x2000) is None and names.damaged == 0


def test_the_command(tmp_path: Path, require_tool: Callable[[str, str], str]) -> None:
    """Rust's names of both forms are demangled as they come from rustc, C++ ones too."""
    source = tmp_path / "queue.rs"
    source.write_text(RUST)
    symbols = []
    for version in ("legacy", "v0"):
        target = tmp_path / f"{version}.o"
        subprocess.run(
            [require_tool("rustc", "rustc"), "--crate-type=lib", "--emit=obj", "-Csymbol-mangling-version=" + version,
             *(["-Zunstable-options"] if version == "legacy" else []), "-o", target, source],
            check=True, capture_output=True, env={"RUSTC_BOOTSTRAP": "1", "PATH": "/usr/local/bin:/usr/bin:/bin"},
        )  # fmt: skip
        listed = subprocess.run(["nm", target], capture_output=True, text=True, check=True).stdout.split()
        symbols.append(next(each for each in listed if "take" in each))
    assert symbols[0].startswith("_ZN") and symbols[1].startswith("_R")
    symbols.append("_ZN5store5Shelf5countEi")
    path = tmp_path / "perf-1.map"
    path.write_text("".join(f"{0x1000 + 16 * at:x} 10 {name}\n" for at, name in enumerate(symbols)) + "broken\n")
    command = [sys.executable, "-m", "ptap", "symbolize", "--perf-map", str(path)]
    done = subprocess.run([*command, "1004", "1010", "0x1020", "1030"], capture_output=True, text=True)
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert "queue::Slot<T>::take" in lines[0] and lines[0].endswith("+0x4 at ??:?")
    assert "Slot<u32>>::take" in lines[1] and "_R" not in lines[1]
    assert lines[2] == "store::Shelf::count(int)+0x0 at ??:?" and lines[3] == "?? ??:0"
    assert "1 line of another form" in done.stderr and "1 address: no function" in done.stderr
    told = subprocess.run([*command, "--format", "json", "1024"], capture_output=True, text=True, check=True).stdout
    (frame,) = json.loads(told)["frames"]
    assert (frame["function"], frame["offset"], frame["module"]) == ("store::Shelf::count(int)", 4, str(path))


def test_a_missing_map_is_an_error(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "ptap", "symbolize", "--perf-map", str(tmp_path / "none"), "10"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and str(tmp_path / "none") in done.stderr and "Traceback" not in done.stderr

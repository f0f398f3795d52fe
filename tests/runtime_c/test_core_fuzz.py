"""The C core under libFuzzer with the address and undefined-behaviour sanitizers: two minutes in CI, less elsewhere.

PTAP_FUZZ_SECONDS says how long; PTAP_FUZZ_CORPUS names a folder that keeps what was found, to go on from.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
from core_library import SOURCES, WARNINGS
from fuzz_corpus import write_corpus

from cfi_tables.elf_image import ElfImage
from cfi_tables.table import build_table

_SECONDS = int(os.environ.get("PTAP_FUZZ_SECONDS") or (120 if os.environ.get("CI") else 20))
_PROGRAMS = ("cfi_directives", "dynamic_frame", "alternate_signal_stack", "exception_throw")
# Per second, on the slowest machine that can be thought of: with fewer the core or the fuzzer hangs.
_LEAST_INPUTS = 50


def _build(clang: str, directory: Path) -> Path:
    target = directory / "fuzz_core"
    done = subprocess.run(
        [clang, *WARNINGS, "-O1", "-g", "-fsanitize=fuzzer,address,undefined", "-fno-sanitize-recover=all",
         "-o", str(target), str(Path(__file__).with_name("fuzz_core.c")), *map(str, SOURCES)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode and "libclang_rt" in done.stderr and not os.environ.get("CI"):
        pytest.skip("clang has no fuzzer library: apt install libclang-rt-14-dev")
    assert done.returncode == 0, done.stderr
    return target


def test_core_under_the_fuzzer(programs, require_tool, tmp_path):
    fuzzer = _build(require_tool("clang", "clang"), tmp_path)
    paths = [programs.build(name) for name in _PROGRAMS]
    seeds = tmp_path / "seeds"
    count = write_corpus(seeds, [build_table(ElfImage.open(path)) for path in paths], paths[:2], tmp_path)
    corpus = Path(os.environ.get("PTAP_FUZZ_CORPUS") or tmp_path / "corpus")
    corpus.mkdir(exist_ok=True)
    # No limit of resident memory: what getrusage() tells begins with the most that this process ever had. The core
    # itself allocates nothing.
    command = [
        str(fuzzer), f"-max_total_time={_SECONDS}", "-max_len=8192", "-timeout=20", "-rss_limit_mb=0", "-seed=1",
        "-print_final_stats=1", f"-artifact_prefix={tmp_path}/", str(corpus), str(seeds),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode != 0:
        crash = next(
            (each for kind in ("crash", "timeout", "oom", "leak") for each in tmp_path.glob(f"{kind}-*")), None
        )
        pytest.fail(
            f"{done.stderr[-6000:]}\nThe input: {crash}; to run it again: {fuzzer} {crash}\n"
            f"In hexadecimal: {crash.read_bytes().hex() if crash else ''}",
            pytrace=False,
        )
    counts = re.search(r"inputs (\d+) sound (\d+) frames (\d+) evaluated (\d+)", done.stderr)
    assert counts is not None, done.stderr[-2000:]
    inputs, sound, frames, evaluated = map(int, counts.groups())
    print(f"{inputs} inputs, {sound} sound tables, {frames} frames, {evaluated} expressions")
    assert inputs > _LEAST_INPUTS * _SECONDS
    # Mutations keep many tables sound, so what lies behind the check was run as well.
    assert sound > inputs // 50 and frames > sound // 10 and evaluated > inputs // 100
    assert count > 40

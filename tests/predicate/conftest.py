"""The evaluator in C, built with sanitizers, as a process that answers one case after the other."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

import pytest
from program_twin import Stack

_CORE = Path(__file__).resolve().parents[2] / "runtime_c" / "core"
_CASE = struct.Struct("<Q6I16s")
_FLAGS = ["-std=c11", "-Wall", "-Wextra", "-Werror", "-Wconversion", "-O1", "-g", "-fno-sanitize-recover=all"]


class CEvaluator:
    """Checks and runs programs. Fails the test when the process has died of what a sanitizer saw."""

    def __init__(self, program: Path, errors: Path) -> None:
        self._errors = errors
        self._process = subprocess.Popen(
            [program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors.open("wb")
        )

    def run(self, program: bytes, stack: Stack) -> tuple[int, int | None]:
        """(fault, verdict where there is none)."""
        assert self._process.stdin is not None and self._process.stdout is not None
        head = _CASE.pack(
            len(program), len(stack.frames), stack.kernel_count, stack.whole, stack.first, stack.pid, stack.tid,
            stack.comm,
        )  # fmt: skip
        frames = b"".join(struct.pack("<QQ", address, file) for address, file in stack.frames)
        try:
            self._process.stdin.write(head + program + frames)
            self._process.stdin.flush()
            answer = self._process.stdout.readline().split()
        except BrokenPipeError:
            answer = []
        assert answer, self._errors.read_text()
        return int(answer[0]), int(answer[1]) if len(answer) > 1 else None

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        assert self._process.wait() == 0, self._errors.read_text()


@pytest.fixture(scope="session", params=["gcc", "clang"])
def c_evaluator(request, require_tool, tmp_path_factory):
    compiler = require_tool(request.param, request.param)
    folder = tmp_path_factory.mktemp("predicate")
    target = folder / "predicate_run"
    sources = [Path(__file__).with_name("predicate_run.c"), *sorted(_CORE.glob("ptap_predicate*.c"))]
    assert len(sources) == 3
    command = [compiler, *_FLAGS, "-fsanitize=address,undefined", "-o", target, *sources]
    subprocess.run(list(map(str, command)), check=True)
    evaluator = CEvaluator(target, folder / "errors")
    yield evaluator
    evaluator.close()

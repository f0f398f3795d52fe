"""Core files of i386 and aarch64: stacks and values of every frame against gdb's, on a machine of another kind."""

from __future__ import annotations

from pathlib import Path

import pytest
from cores.added_notes import mapped_files, signature_mask, vector_registers, with_notes
from cores.conftest import CoreOf, crashed, ptap_report, traces_of
from cores.foreign_machine import SIGNATURE_MASK, SYSROOT, aarch64_program, emulated, i386_program
from cores.gdb_core import core_at, values_in
from cores.value_comparison import Comparison, compare

from cfi_tables.elf_image import ElfImage
from relay_reader.core_file import CoreFile
from relay_reader.core_note import MappedFile

_PASS_SIGNALS = [f"handle {name} nostop noprint pass" for name in ("SIGSEGV", "SIGUSR1")]
_HANDLED = ["deeper", "deeper", "deeper", "second", "first", "leaf", "middle", "main"]
"""The functions of signal_stack.c on its stack, by the source."""


def _nothing(trace, frame, variable) -> bool:
    return False


def _compared(found: CoreOf, gdb: str = "gdb", sysroot: str = "") -> tuple[list[dict], Comparison]:
    traces = traces_of(found.core, "--locals", "-e", found.program, "--sysroot", sysroot or "/")
    assert {trace["stop"] for trace in traces} == {"end_of_stack"}
    result = compare(traces, values_in(found.core, found.program, gdb, sysroot), _nothing)
    print(result)
    assert not result.different, "\n".join(result.different)
    return traces, result


def _variables(traces: list[dict], function: str) -> dict[str, str | None]:
    frame = next(frame for frame in traces[0]["frames"] if frame["function"] == function)
    return {each["name"]: each["value"] for each in frame["arguments"] + frame["locals"]}


@pytest.mark.parametrize("level", ["-O0", "-O2"])
def test_values_of_i386(require_tool, tmp_path, level):
    require_tool("gdb", "gdb")
    program = i386_program(require_tool, tmp_path, "machine_values.c", level)
    (tmp_path / "dump").mkdir()
    traces, result = _compared(CoreOf(crashed(program, tmp_path / "dump"), program))
    assert result.equal > 15 and not result.missed
    assert traces[0]["signal"] == "SIGILL"
    values = _variables(traces, "integers")
    assert values["six"] == "18000000000000000000" and values["five"] == "-5000000000"
    assert values["eight"].endswith("part = 0.10000000000000001}")
    assert _variables(traces, "reals")["three"] == "3.25"


def test_a_value_in_a_register_of_the_x87(require_tool, tmp_path):
    require_tool("gdb", "gdb")
    program = i386_program(require_tool, tmp_path, "machine_values.c", "-O1", "-mno-sse", "-fno-var-tracking")
    core = core_at(program, ["in a register"], [], tmp_path / "core")
    traces, result = _compared(CoreOf(core, program))
    product = 1.1
    for index in range(7):
        product *= 1.1 + index
    # The register has more digits than a double, of which the last ones may differ.
    assert float(_variables(traces, "in_register")["product"] or 0) == pytest.approx(product, rel=1e-14)
    assert result.equal > 3


def test_signal_frames_of_i386(require_tool, tmp_path):
    require_tool("gdb", "gdb")
    program = i386_program(require_tool, tmp_path, "signal_stack.c", "-O1", "-fno-omit-frame-pointer")
    core = core_at(program, [], _PASS_SIGNALS, tmp_path / "core")
    traces, _ = _compared(CoreOf(core, program))
    names = [frame["function"] for frame in traces[0]["frames"]]
    assert [name for name in names if name in _HANDLED] == _HANDLED
    assert names[names.index("second") + 1] == "__kernel_sigreturn"
    assert names[names.index("first") + 1] == "__kernel_rt_sigreturn"
    assert _variables(traces, "middle")["value"] == "41"


def test_threads_and_containers_of_i386(require_tool, tmp_path):
    require_tool("gdb", "gdb")
    program = i386_program(require_tool, tmp_path, "inventory.cpp", "-O2")
    core = core_at(program, [], ["break abort"], tmp_path / "core")
    traces, result = _compared(CoreOf(core, program))
    assert len(traces) == 4 and result.equal > 30
    # gdb leaves out a block without addresses; of its variable, which has no value, the name is that of another one.
    assert all(" total: " in each for each in result.missed)
    assert "std::map with 2 elements" in _variables(traces, "main")["names"]


def test_values_of_aarch64_without_a_word_of_its_files(require_tool, tmp_path):
    """QEMU names no files: the program's place, and its shared objects, are found as a debugger finds them."""
    require_tool("gdb-multiarch", "gdb-multiarch")
    program = aarch64_program(require_tool, tmp_path, "machine_values.c", "-O1", "-no-pie")
    found = emulated(require_tool, program, tmp_path / "dump")
    core = CoreFile(found.core)
    assert not core.mapped_files and core.signature_mask is None
    core.close()
    traces, result = _compared(found, "gdb-multiarch", str(SYSROOT))
    assert result.equal > 10
    assert {Path(frame["module"]).name for frame in traces[0]["frames"]} == {"machine_values", "libc.so.6"}
    assert _variables(traces, "integers")["six"] == "18000000000000000000"
    assert _variables(traces, "reals")["sum"] == "5.64999999999999991118215802998747677"
    untold = ptap_report(found.core, "--sysroot", SYSROOT, "-e", "/bin/true")
    assert untold.returncode == 0 and "/bin/true is not the program that was running" in untold.stderr


def _files_of(program: Path, core: Path) -> list[MappedFile]:
    """What a program linked to fixed addresses has mapped of its own file."""
    return [
        MappedFile(
            segment.address - segment.address % 4096,
            segment.address + segment.file_size + -(segment.address + segment.file_size) % 4096,
            segment.offset - segment.offset % 4096,
            str(program),
        )
        for segment in ElfImage.open(program).segments
        if segment.type == 1
    ]


def test_signed_return_addresses(require_tool, tmp_path):
    """Every return address of the program carries a signature; gdb is told of them as by the kernel."""
    require_tool("gdb-multiarch", "gdb-multiarch")
    program = aarch64_program(
        require_tool, tmp_path, "machine_values.c", "-O0", "-static", "-mbranch-protection=pac-ret+leaf"
    )
    found = emulated(require_tool, program, tmp_path / "dump")
    untold = traces_of(found.core, "--locals", "-e", program)
    core = CoreFile(found.core)
    stack = core.threads[0][0].registers[31]
    words = [int.from_bytes(core.read(stack + at, 8), "little") for at in range(0, 2048, 8)]
    core.close()
    assert any(word & SIGNATURE_MASK and 0x400000 < word & ~SIGNATURE_MASK < 0x500000 for word in words)
    notes = [signature_mask(SIGNATURE_MASK), mapped_files(_files_of(program, found.core))]
    told = CoreOf(with_notes(found.core, tmp_path / "told", notes), program)
    traces, result = _compared(told, "gdb-multiarch", str(SYSROOT))
    assert result.equal > 20
    assert untold == traces


def test_values_in_vector_registers(require_tool, tmp_path):
    require_tool("gdb-multiarch", "gdb-multiarch")
    program = aarch64_program(require_tool, tmp_path, "machine_values.c", "-O2", "-static")
    found = emulated(require_tool, program, tmp_path / "dump", "in a register")
    pattern = int.from_bytes(bytes(range(1, 17)), "little") & ~(0x40 << 56)
    registers = vector_registers([pattern + (index << 48) for index in range(32)])
    told = CoreOf(with_notes(found.core, tmp_path / "told", [registers]), program)
    traces, _ = _compared(told, "gdb-multiarch", str(SYSROOT))
    assert _variables(traces, "in_register")["product"] is not None
    (untold,) = traces_of(found.core, "--locals", "-e", program)
    (unknown,) = (each for each in untold["frames"][0]["locals"] if each["name"] == "product")
    assert unknown["value"] is None and "not captured" in unknown["why"]


@pytest.mark.parametrize("flags", [("-O2", "-static"), ("-O0", "-mbranch-protection=standard")], ids=" ".join)
def test_signal_frames_of_aarch64(require_tool, tmp_path, flags):
    """gdb 13 hangs on QEMU's frames of signals: what is on the stack, and with which values, the source tells."""
    program = aarch64_program(require_tool, tmp_path, "signal_stack.c", *flags)
    found = emulated(require_tool, program, tmp_path / "dump")
    (trace,) = traces_of(found.core, "--locals", "-e", program, "--sysroot", SYSROOT)
    assert trace["stop"] == "end_of_stack" and trace["signal"] == "SIGABRT"
    names = [frame["function"] for frame in trace["frames"]]
    assert [name for name in names if name in _HANDLED] == _HANDLED
    assert names[-1] == "_start" and names.index("first") + 2 == names.index("leaf")
    assert _variables([trace], "middle")["value"] == "41"
    assert _variables([trace], "first")["number"] == "11"
    if "-O0" in flags:
        assert _variables([trace], "leaf") == {"place": "0x0", "value": "42"}
        assert _variables([trace], "first")["seen"] == "211" and _variables([trace], "second")["seen"] == "110"


def test_threads_of_aarch64(require_tool, tmp_path):
    require_tool("gdb-multiarch", "gdb-multiarch")
    program = aarch64_program(require_tool, tmp_path, "inventory.cpp", "-O2", "-no-pie")
    found = emulated(require_tool, program, tmp_path / "dump")
    traces = traces_of(found.core, "--locals", "-e", program, "--sysroot", SYSROOT)
    by_gdb = values_in(found.core, program, "gdb-multiarch", str(SYSROOT))
    assert len(traces) == 4 and {trace["tid"] for trace in traces} == set(by_gdb)
    # QEMU does not stop the other threads for the core file: what it says of one that runs is of several moments.
    first = traces[0]["tid"]
    result = compare(traces[:1], {first: by_gdb[first]}, _nothing)
    assert not result.different, "\n".join(result.different)
    assert traces[0]["stop"] == "end_of_stack" and result.equal > 10
    assert "std::map with 2 elements" in _variables(traces, "main")["names"]

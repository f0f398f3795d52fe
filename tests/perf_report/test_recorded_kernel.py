"""Kernel frames of perf.data: a moved kernel, modules, code made at run time, and kernels that are not there."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from perf_report import perf_data_writer as writer
from perf_report.perf_data_writer import PerfDataFile
from perf_report.recordings import Reported, report

from cfi_tables.elf_image import ElfImage
from cfi_tables.layout import StopReason
from unwind.trace import TraceFrame

KERNEL = """volatile int n;
__attribute__((noinline)) void _text(void) { n++; }
__attribute__((noinline)) void work(void) { _text(); n++; }
__attribute__((noinline)) void outer(void) { work(); n++; }
"""
SLIDE = 0x1A000000
MODULE, MADE = 0xFFFFFFFFC0100000, 0xFFFFFFFFC0200000


@dataclass(frozen=True)
class Kernel:
    """A program at the addresses of a kernel, with the symbol that perf goes by."""

    path: Path
    build_id: bytes
    symbols: dict[str, int]


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory, require_tool: Callable[[str, str], str]) -> Kernel:
    folder = tmp_path_factory.mktemp("kernel")
    (folder / "kernel.c").write_text(KERNEL)
    flags = ["-g", "-O1", "-ffreestanding", "-nostdlib", "-static", "-no-pie", "-mcmodel=kernel", "-fno-pic"]
    linked = ["-Wl,-Ttext=0xffffffff81000000,--build-id=sha1,-e,_text"]
    path = folder / "vmlinux"
    subprocess.run([require_tool("gcc", "gcc"), *flags, *linked, folder / "kernel.c", "-o", path], check=True)
    listed = subprocess.run([require_tool("nm", "binutils"), path], check=True, capture_output=True, text=True).stdout
    symbols = {name: int(address, 16) for address, _, name in (line.split() for line in listed.splitlines())}
    build_id = ElfImage.open(str(path)).build_id
    assert build_id is not None
    return Kernel(path, build_id, symbols)


def recording(kernel: Kernel, build_id: bytes | None, text: int | None = None) -> PerfDataFile:
    """A sample in `work`, called from `outer`, in a module's code, and in code made at run time."""
    made = PerfDataFile([writer.Event([1], writer.BASE | writer.CALLCHAIN)])
    text = kernel.symbols["_text"] + SLIDE if text is None else text
    chain = (kernel.symbols["work"] + SLIDE + 1, kernel.symbols["outer"] + SLIDE + 6, MODULE + 8, MADE + 8)
    made.records = [
        writer.comm(5, 0, "job"),
        writer.mapping(-1, 0, text, 1 << 20, text, "[kernel.kallsyms]_text", writer.KERNEL),
        writer.mapping(-1, 0, MODULE, 4096, 0, "/lib/modules/6.1.0/extra/some-thing.ko.xz", writer.KERNEL),
        writer.ksymbol(1, MADE, 64, "bpf_prog_0123_entry"),
        writer.sample(5, 2, chain[0], writer.chain(writer.CONTEXT_KERNEL, *chain), writer.KERNEL),
        writer.ksymbol(3, MADE, 64, "bpf_prog_0123_entry", gone=True),
        writer.sample(5, 4, chain[0], writer.chain(writer.CONTEXT_KERNEL, *chain), writer.KERNEL),
    ]
    made.features = {4: writer.string("6.1.0-no-such"), 6: writer.string("x86_64")}
    if build_id is not None:
        made.features[2] = writer.build_id_entry("[kernel.kallsyms]", build_id)
    return made


def reported(made: PerfDataFile, folder: Path, **options: object) -> Reported:
    path = folder / "kernel.data"
    path.write_bytes(made.in_file())
    return report(path, **options)


def shown(frame: TraceFrame) -> tuple[str | None, str | None, int | None]:
    return frame.module, frame.function, frame.line


@pytest.mark.parametrize("told", [True, False], ids=["build-id", "no build-id"])
def test_a_kernel_that_was_moved_is_named_by_its_vmlinux(kernel: Kernel, tmp_path: Path, told: bool) -> None:
    found = reported(recording(kernel, kernel.build_id if told else None), tmp_path, vmlinux=str(kernel.path))
    first, second = found.traces
    assert [shown(frame) for frame in first.frames] == [
        ("[kernel]", "work", 3),
        ("[kernel]", "outer", 4),
        ("some_thing", None, None),
        ("[bpf]", "bpf_prog_0123_entry", None),
    ]
    assert first.frames[0].address == kernel.symbols["work"] + SLIDE + 1
    assert first.frames[0].build_id == kernel.build_id.hex()
    assert first.frames[3].offset == 8
    # It was gone by then.
    assert second.frames[3].function is None
    assert [shown(frame) for frame in second.frames[:3]] == [shown(frame) for frame in first.frames[:3]]


def test_a_vmlinux_under_the_sysroot_is_found_by_the_release(kernel: Kernel, tmp_path: Path) -> None:
    place = tmp_path / "root/boot/vmlinux-6.1.0-no-such"
    place.parent.mkdir(parents=True)
    place.write_bytes(kernel.path.read_bytes())
    found = reported(recording(kernel, kernel.build_id), tmp_path, sysroot=str(tmp_path / "root"))
    assert shown(found.traces[0].frames[0]) == ("[kernel]", "work", 3)


def test_another_kernels_vmlinux_names_nothing(kernel: Kernel, tmp_path: Path) -> None:
    found = reported(recording(kernel, b"\x55" * 20), tmp_path, vmlinux=str(kernel.path))
    assert [frame.function for frame in found.traces[0].frames] == [None, None, None, "bpf_prog_0123_entry"]
    assert any("another build" in line and "55" * 20 in line for line in found.lines)


def test_without_a_vmlinux_that_is_said(kernel: Kernel, tmp_path: Path) -> None:
    found = reported(recording(kernel, b"\x55" * 20), tmp_path)
    assert [shown(frame)[0] for frame in found.traces[0].frames] == ["[kernel]", "[kernel]", "some_thing", "[bpf]"]
    assert any("--vmlinux" in line and "55" * 20 in line and "6.1.0-no-such" in line for line in found.lines)


def test_the_stack_of_a_thread_of_the_kernel_is_whole(kernel: Kernel, tmp_path: Path) -> None:
    made = recording(kernel, kernel.build_id)
    assert {trace.stop for trace in reported(made, tmp_path, vmlinux=str(kernel.path)).traces} == {
        StopReason.END_OF_STACK
    }
    # A program's is not: its own part was not recorded.
    made.records.insert(1, writer.mapping(5, 0, 0x1000, 0x1000, 0, "/bin/no-such-program"))
    assert {trace.stop for trace in reported(made, tmp_path, vmlinux=str(kernel.path)).traces} == {
        StopReason.NO_REGISTERS
    }


def test_a_kernel_that_hides_its_addresses(kernel: Kernel, tmp_path: Path) -> None:
    found = reported(recording(kernel, kernel.build_id, text=0), tmp_path, vmlinux=str(kernel.path))
    assert [frame.function for frame in found.traces[0].frames[:2]] == [None, None]
    assert any("kptr_restrict" in line for line in found.lines)

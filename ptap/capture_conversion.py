"""Captures of other kinds into capture files: perf.data, and what the kernel module recorded.

Their events are those of the Capture model already; what this adds are the facts, and the vdso, which is in no file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from itertools import chain
from pathlib import Path

from cfi_tables.elf_image import ElfError
from relay_reader.capture import Event, MappingAdded
from relay_reader.capture_file.facts import MachineFacts, ProbeFacts, SourceEnd, SourceFacts
from relay_reader.capture_file.writer import CaptureWriter
from relay_reader.capture_kind import CaptureKind, kind_of_input
from relay_reader.module_capture import ModuleCapture
from relay_reader.perf_data import PerfData
from unwind.kernel.recorded_kernel import RecordedKernel
from unwind.recorded_images import RecordedImages

_KERNEL_FACTS = ("vmlinux", "build_id", "system_map", "modules")


class ConversionError(Exception):
    """The file is of no kind that can be converted; the text says what can be."""


def convert(path: str, output: str) -> list[str]:
    """Write what the capture at `path` holds to a capture file; what was not read, a line each.

    Raises ConversionError, PerfDataError, ModuleCaptureError, CaptureWriteError and OSError.
    """
    kind = kind_of_input(path)
    if kind is CaptureKind.PERF_DATA:
        return _convert_perf_data(path, output)
    if kind is CaptureKind.MODULE:
        return _convert_module_capture(path, output)
    raise ConversionError(f"{path}: a {kind.value}; perf.data and captures of the kernel module can be converted")


def _convert_perf_data(path: str, output: str) -> list[str]:
    perf = PerfData(path)
    kernel = RecordedKernel(None, "/", "")
    images = RecordedImages(None, "/", kernel.is_running)
    vdsos: dict[bytes, bytes] = {}

    def facts() -> SourceFacts:
        features = perf.features
        kernel.release = features.os_release
        return SourceFacts(
            machine=MachineFacts(
                host=features.hostname, release=features.os_release, machine=features.architecture, clock="perf"
            ),
            writer=f"perf {features.perf_version}".strip(),
            back_end="perf.data",
            command=features.command_line,
            probes=tuple(ProbeFacts(event.name or "sample") for event in perf.perf_events),
        )

    def with_vdso() -> Iterator[Event]:
        for event in perf.followed(perf.events()):
            if isinstance(event, MappingAdded):
                kernel.apply(event)
                if event.mapping.path == "[vdso]":
                    with suppress(ElfError, OSError):  # the report says that it is not there
                        image = images.open(event.mapping, event.pid)
                        build_id = event.mapping.build_id or image.build_id
                        if build_id is not None:
                            vdsos[build_id] = bytes(image.data)
                            event = replace(event, mapping=replace(event.mapping, build_id=build_id))
            yield event

    try:
        _write(output, with_vdso(), facts, vdsos, perf.shortcomings)
        return perf.shortcomings()
    finally:
        perf.close()


def _convert_module_capture(path: str, output: str) -> list[str]:
    capture = ModuleCapture(Path(path))
    description = capture.description
    facts = SourceFacts(
        back_end="module",
        probes=tuple(ProbeFacts(str(probe["name"])) for probe in description["probes"]),
        when=description.get("when"),
        kernel={name: description.get(name) for name in _KERNEL_FACTS},
    )
    try:
        _write(output, capture.events(), lambda: facts, capture.spaces.images, lambda: capture.problems)
        return capture.problems
    finally:
        capture.close()


def _write(
    output: str,
    events: Iterable[Event],
    facts: Callable[[], SourceFacts],
    vdsos: Mapping[bytes, bytes],
    problems: Callable[[], list[str]],
) -> None:
    """Write `events`; what `facts` and `vdsos` hold may grow while they come, `facts` up to the first event only."""
    rest = iter(events)
    first = list(next(([event] for event in rest), []))
    writer = CaptureWriter(output, [facts()])
    written: set[bytes] = set()
    try:
        for event in chain(first, rest):
            for build_id in [each for each in vdsos if each not in written]:
                written.add(build_id)
                writer.add_blob(f"image {build_id.hex()}", vdsos[build_id])
            writer.add(event)
        (counted,) = writer.ends
        writer.close([SourceEnd(counted.samples, counted.lost, problems())])
    finally:
        writer.abandon()

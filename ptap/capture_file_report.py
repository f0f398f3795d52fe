"""The report of a capture file: one report for each recording in it, of events that come in the order of their time."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace

from ptap.capture_report import EventReport, ReportOptions
from ptap.kernel_module.report import module_file
from ptap.predicate.parse import parse_predicate
from ptap.report.output import Report
from ptap_target.kernel_module import NAME
from relay_reader.capture import Event, MappingAdded, Sample
from relay_reader.capture import Mapping as MemoryMapping
from relay_reader.capture_file.facts import ProbeFacts, SourceFacts, this_machine
from relay_reader.capture_file.reader import CaptureFile
from relay_reader.record_layout import HitFlag
from unwind.address_space import AddressSpaces
from unwind.capture_file_images import REMEDY, CaptureFileImages
from unwind.dwarf.die import Die
from unwind.kept_jit_names import KeptJitNames, kept_map_name
from unwind.kernel.kept_kernel import KeptKernel
from unwind.kernel.recorded_kernel import RecordedKernel
from unwind.module import ModuleCatalog
from unwind.trace import Trace
from unwind.trace_builder import Hit, TraceBuilder

_MEMORY_REMEDY = "in the capture, which holds registers and the innermost part of the stack only"
_CUT_REMEDY = "record with a larger --user-stack"


class CaptureFileReport:
    """One capture file; with `follow` also what is still written to it. Raises CaptureFileError and OSError."""

    def __init__(self, path: str, options: ReportOptions, *, follow: bool = False) -> None:
        self._file = CaptureFile(path)
        self._options = options
        self._follow = follow
        self._reports: dict[int, _SourceReport] = {}

    def write(self, report: Report) -> None:
        """Write every trace. Raises OutputError, BrokenPipeError, CaptureFileError."""
        for source, event in self._file.events(follow=self._follow):
            if source not in self._reports:
                self._reports[source] = _SourceReport(self._file, source, self._options)
            self._reports[source].write(event, report)

    def closing_lines(self) -> list[str]:
        """What was missing, and the counts last."""
        lines = [f"{self._file.path}: {line}" for line in self._file.damage]
        more = sum(self._file.faults.values()) - len(self._file.damage)
        if more > 0:
            lines.append(f"{self._file.path}: and {more} more places that are damaged")
        if self._file.faults:
            skipped = f"{self._file.bytes_skipped} bytes with {self._file.events_lost} events"
            lines.append(f"{self._file.path}: {skipped} were not read")
        if self._file.ends is None:
            lines.append(f"{self._file.path}: the recording was not ended in order: hits at its end may be missing")
        several = len(self._file.sources) > 1
        for source, report in sorted(self._reports.items()):
            host = f"{report.facts.machine.host or 'recording'} ({source}): " if several else ""
            lines += [host + line for line in report.closing_lines()]
        return lines if self._reports else [*lines, "0 hits"]

    def close(self) -> None:
        """Nothing is left open: chunks are read one by one."""


class _SourceReport:
    """The traces of one recording."""

    def __init__(self, file: CaptureFile, source: int, options: ReportOptions) -> None:
        self._file = file
        self._source = source
        self.facts = file.sources.get(source, SourceFacts())
        self._options = options
        hosts = {(each.machine.host, each.machine.boot_id) for each in file.sources.values()}
        self._host = self.facts.machine.host if len(hosts) > 1 else None
        self._wall_offset = self.facts.machine.wall_offset_ns if len(hosts) > 1 else 0
        self._images: dict[bytes, bytes] = {}
        kernel = self.facts.kernel or {}
        modules = [module_file(each) for each in kernel.get("modules") or ()]
        if modules and modules[-1].name == NAME and not os.path.exists(modules[-1].path):
            # The one that has recorded: hardly a stack goes through it, and no other machine has its file.
            modules.pop()
        vmlinux = options.vmlinux or kernel.get("vmlinux")
        kernel_files = (str(vmlinux), *(each.path for each in modules)) if kernel else ()
        images = CaptureFileImages(self._images, self._kept, options.sysroot, options.program, kernel_files)
        self._builder = TraceBuilder(
            options.max_depth,
            options.argument_frames,
            locals_too=options.locals_too,
            catalog=ModuleCatalog(images.open, REMEDY),
            memory_remedy=_MEMORY_REMEDY,
            cut_remedy=_CUT_REMEDY,
            kernel_names=self._kernel_names(),
            made_code=KeptJitNames(options.sysroot if self._is_own_machine() else None, self._kept_map),
        )
        if kernel and vmlinux:
            build_id = kernel.get("build_id")
            self._builder.use_vmlinux(
                str(vmlinux), bytes.fromhex(build_id) if build_id else None, kernel.get("system_map"), modules
            )
        self._places = _RecordedPlaces(self.facts.probes, self._builder)
        at_probe = parse_predicate(self.facts.when) if self.facts.when else None
        self._report = EventReport(self._builder, options.when, at_probe, self._places.hits)

    def write(self, event: Event, report: Report) -> None:
        """Take one event; a sample's traces go to `report`."""
        if isinstance(event, MappingAdded) and event.mapping.path == "[vdso]" and event.mapping.build_id:
            self._images.setdefault(
                event.mapping.build_id,
                self._file.blobs.get((self._source, f"image {event.mapping.build_id.hex()}"), b""),
            )
        self._report.write((event,), _HostReport(report, self._host, self._wall_offset) if self._host else report)

    def _kept(self, build_id: bytes) -> bytes:
        """What the capture has kept of a file."""
        return self._blob(f"file {build_id.hex()}") or b""

    def _kept_map(self, pid: int) -> bytes | None:
        """The names that the capture has kept of the code that a process has made."""
        return self._blob(kept_map_name(pid))

    def _blob(self, name: str) -> bytes | None:
        """What the capture has kept, as far as it was read or lies behind the last event."""
        if (self._source, name) not in self._file.blobs and self._file.ends is None:
            self._file.read_blobs()
        return self._file.blobs.get((self._source, name))

    def _is_own_machine(self) -> bool:
        """Whether the files below the sysroot are those of the machine of the recording, as far as that is known."""
        machine = self.facts.machine
        is_running = bool(machine.boot_id) and machine.boot_id == this_machine().boot_id
        return is_running or self._options.sysroot.rstrip("/") != ""

    def _kernel_names(self) -> KeptKernel:
        """What names the kernel's addresses."""
        machine, options = self.facts.machine, self._options
        root = options.sysroot.rstrip("/")
        folders = ("/lib/modules", "/usr/lib/debug/lib/modules")
        return KeptKernel(
            lambda: {name: content for (source, name), content in self._file.blobs.items() if source == self._source},
            RecordedKernel(options.vmlinux, options.sysroot, machine.release),
            is_running=not root and bool(machine.boot_id) and machine.boot_id == this_machine().boot_id,
            build_id=bytes.fromhex(machine.kernel_build_id),
            vmlinux=options.vmlinux,
            module_folders=tuple(f"{root}{folder}/{machine.release}" for folder in folders),
        )

    def closing_lines(self) -> list[str]:
        account = self._report.account
        ends = self._file.ends
        told = ends[self._source].problems if ends is not None and self._source < len(ends) else []
        account.problems = [*(f"when it was recorded: {each}" for each in told), *self._report.module_problems()]
        return list(account.lines(True))


class _RecordedPlaces:
    """The hits of samples, by the places that the facts of a recording tell."""

    def __init__(self, probes: Sequence[ProbeFacts], builder: TraceBuilder) -> None:
        self._probes = probes
        self._builder = builder
        self._hits: dict[int, Hit] = {}

    def hits(self, sample: Sample) -> Sequence[Hit | None]:
        """A hit for each of the sample's places; (None,) for one that has none."""
        if not sample.places:
            return (None,)
        return [self._hit(place, sample) for place in sample.places]

    def _hit(self, place: int, sample: Sample) -> Hit:
        if place not in self._hits:
            self._hits[place] = self._hit_of(place, sample)
        hit = self._hits[place]
        if sample.user_stack is not None and sample.user_stack.flags & HitFlag.RETURN_PROBE:
            return replace(hit, is_return=True)
        return hit

    def _hit_of(self, place: int, sample: Sample) -> Hit:
        if place >= len(self._probes):
            return Hit(f"probe {place} (its name is in a damaged part of the file)")
        facts = self._probes[place]
        if facts.is_return:
            return Hit(facts.probe, returned=self._function(facts, sample), is_return=True)
        return Hit(facts.probe, die_offset=facts.die_offset, weight_unit=facts.weight_unit)

    def _function(self, facts: ProbeFacts, sample: Sample) -> Die | None:
        """The function that returned, where debug information describes it; its file is mapped in the process."""
        if facts.path is None or facts.address is None or facts.die_offset is None:
            return None
        mapping = _mapping_of(facts, self._builder.spaces, sample.pid)
        module = self._builder.catalog.module_for(mapping, sample.pid)
        if module is None or module.symbols is None:
            return None
        found = module.symbols.frames_at(facts.address)
        return found[-1].die if found else None


def _mapping_of(facts: ProbeFacts, spaces: AddressSpaces, pid: int) -> MemoryMapping:
    """A mapping of the file that a probe is in."""
    assert facts.path is not None
    build_id = bytes.fromhex(facts.build_id) if facts.build_id else None
    for mapping in spaces.of(pid):
        if mapping.path == facts.path or (build_id is not None and mapping.build_id == build_id):
            return mapping
    return MemoryMapping(0, 0, 0, facts.path, build_id)


class _HostReport:
    """Passes traces on with the name of the machine that they are of, and with times that all machines share."""

    def __init__(self, report: Report, host: str, wall_offset: int) -> None:
        self._report = report
        self._host = host
        self._wall_offset = wall_offset

    def write(self, trace: Trace) -> None:
        trace.host = self._host
        trace.time_ns += self._wall_offset
        self._report.write(trace)

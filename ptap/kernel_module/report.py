"""From a capture of the kernel module to traces: its events, the vmlinux of its session, and the account."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cfi_tables.layout import StopReason
from ptap.account import Account
from ptap.predicate.expression import Predicate
from ptap.predicate.parse import parse_predicate
from ptap.predicate.wanted import WantedTraces
from ptap.report.output import Report
from relay_reader.capture import RecordsLost, Sample
from relay_reader.module_capture import MAGIC, ModuleCapture
from relay_reader.record_layout import HitFlag, Slices
from unwind.capture_images import REMEDY, CaptureImages
from unwind.kernel.kernel_walk import KernelModuleFile
from unwind.module import ModuleCatalog
from unwind.trace_builder import ArgumentFrames, Hit, TraceBuilder

_MAXIMUM_DEPTH = 1024
_MEMORY_REMEDY = "in the capture: it was not in memory, or is more than a record holds (see --slices)"


def is_capture(path: str) -> bool:
    """Whether the file at `path` is a capture of the kernel module. Raises OSError."""
    with open(path, "rb") as file:
        return file.read(len(MAGIC)) == MAGIC


class CaptureReport:
    """The traces of one capture file. Raises ModuleCaptureError and OSError."""

    def __init__(
        self,
        path: str | Path,
        vmlinux: str | None,
        sysroot: str = "/",
        when: Predicate | None = None,
        *,
        arguments: bool = True,
    ) -> None:
        """`vmlinux` is the traced kernel's; None for the one that the session was built with.

        Files of processes that the session does not name are looked for under `sysroot`. `when` tells which traces to
        show, of those that the session's own predicate left. With `arguments` functions of programs show theirs, as
        far as what was recorded of the stacks tells.
        """
        self._capture = ModuleCapture(Path(path))
        self.account = Account()
        description = self._capture.description
        at_probe = description.get("when")
        self._wanted = WantedTraces(self.account, when, parse_predicate(at_probe) if at_probe else None)
        kernel = str(Path(vmlinux or description["vmlinux"]).absolute())
        files = {bytes.fromhex(build_id): entry["path"] for build_id, entry in description.get("files", {}).items()}
        modules = [module_file(module) for module in description.get("modules", ())]
        kernels = (kernel, *(module.path for module in modules))
        images = CaptureImages(files, self._capture.spaces.images, kernels, sysroot)
        catalog = ModuleCatalog(images.open, REMEDY)
        shown = _arguments_of(description.get("slices"), arguments)
        self._builder = TraceBuilder(_MAXIMUM_DEPTH, shown, catalog=catalog, memory_remedy=_MEMORY_REMEDY)
        build_id = description["build_id"]
        self._builder.use_vmlinux(
            kernel,
            bytes.fromhex(build_id) if build_id else None,
            description["system_map"],
            modules,
        )

    def write(self, report: Report) -> None:
        """Write every trace in time order."""
        probes = [probe["name"] for probe in self._capture.description["probes"]]
        for event in self._capture.events():
            if isinstance(event, RecordsLost):
                self.account.lost += event.count
            elif isinstance(event, Sample):
                self._write_sample(event, probes, report)
            else:
                self._builder.apply(event)
        self.account.problems += [module.problem for module in self._builder.catalog.opened() if module.problem]
        refused = sum(each.unwanted for each in self._capture.accounts)
        self.account.hits += refused
        if self.account.unwanted is not None:
            self.account.unwanted += refused
        for module in self._capture.description.get("modules", ()):
            if module["problem"]:
                self.account.problems.append(f"stacks end at module {module['name']}: {module['problem']}")
        missed = sum(each.missed for each in self._capture.accounts)
        if missed:
            self.account.problems.append(
                f"{missed} hits were left out by the kernel itself: they came while another probe was handled"
            )
        if not self._capture.accounts:
            self.account.problems.append("the capture ends before its run did: hits at its end are missing")

    def _write_sample(self, sample: Sample, probes: list[str], report: Report) -> None:
        self.account.hits += 1
        returned = bool(sample.user_stack and sample.user_stack.flags & HitFlag.RETURN_PROBE)
        hit = Hit(probes[sample.places[0]], is_return=returned)
        trace = self._builder.build(sample, hit)
        if not self._wanted.is_wanted(trace, sample, hit):
            return
        report.write(trace)
        self.account.traces += 1
        if trace.stop is not StopReason.END_OF_STACK:
            self.account.cut_short[trace.stop] += 1


def _arguments_of(slices: str | None, wanted: bool) -> ArgumentFrames:
    """Whose arguments are read: all frames' where the session has recorded frames for them."""
    if not wanted:
        return ArgumentFrames.NONE
    return ArgumentFrames.ALL if slices == Slices.FRAMES.name else ArgumentFrames.PROBED


def module_file(described: dict[str, Any]) -> KernelModuleFile:
    """A module of the session's description."""
    build_id = described["build_id"]
    sections = tuple((int(each["start"]), int(each["end"])) for each in described["sections"])
    return KernelModuleFile(
        described["name"], described["file"], bytes.fromhex(build_id) if build_id else None, sections
    )

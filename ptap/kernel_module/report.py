"""From a capture of the kernel module to traces: its events, the vmlinux of its session, and the account."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cfi_tables.progress import followed
from ptap.capture_report import EventReport
from ptap.predicate.expression import Predicate
from ptap.predicate.parse import parse_predicate
from ptap.report.output import Report
from relay_reader.capture import Sample
from relay_reader.module_capture import ModuleCapture
from relay_reader.record_layout import HitFlag, Slices
from unwind.capture_images import REMEDY, CaptureImages
from unwind.kernel.kernel_walk import KernelModuleFile
from unwind.module import ModuleCatalog
from unwind.trace_builder import ArgumentFrames, Hit, TraceBuilder

_MAXIMUM_DEPTH = 1024
_MEMORY_REMEDY = "in the capture: it was not in memory, or is more than a record holds (see --slices)"


class CaptureReport:
    """The traces of one capture file. Raises ModuleCaptureError and OSError."""

    def __init__(
        self,
        path: str | Path,
        vmlinux: str | None,
        sysroot: str = "/",
        when: Predicate | None = None,
        *,
        arguments: ArgumentFrames = ArgumentFrames.ALL,
    ) -> None:
        """`vmlinux` is the traced kernel's; None for the one that the session was built with.

        Files of processes that the session does not name are looked for under `sysroot`. `when` tells which traces to
        show, of those that the session's own predicate left. `arguments` are shown as far as what was recorded
        of the stacks tells.
        """
        self._capture = ModuleCapture(Path(path))
        description = self._capture.description
        self._probes = [probe["name"] for probe in description["probes"]]
        at_probe = description.get("when")
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
        predicate = parse_predicate(at_probe) if at_probe else None
        self._report = EventReport(self._builder, when, predicate, self._hits)
        self.account = self._report.account

    def write(self, report: Report) -> None:
        """Write every trace in time order. Raises OutputError, BrokenPipeError."""
        events = followed(
            self._capture.events(), "reading the capture", unit="samples", measure=lambda: self.account.hits
        )
        self._report.write(events, report)
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

    def closing_lines(self) -> list[str]:
        """What was missing, and the counts last."""
        return list(self.account.lines(True))

    def close(self) -> None:
        """Nothing is open: the file was read at the beginning."""

    def _hits(self, sample: Sample) -> tuple[Hit]:
        returned = bool(sample.user_stack and sample.user_stack.flags & HitFlag.RETURN_PROBE)
        return (Hit(self._probes[sample.places[0]], is_return=returned),)


def _arguments_of(slices: str | None, wanted: ArgumentFrames) -> ArgumentFrames:
    """Whose arguments are read: of all that are wanted only where the session has recorded frames for them."""
    if wanted is ArgumentFrames.ALL and slices != Slices.FRAMES.name:
        return ArgumentFrames.PROBED
    return wanted


def module_file(described: dict[str, Any]) -> KernelModuleFile:
    """A module of the session's description."""
    build_id = described["build_id"]
    sections = tuple((int(each["start"]), int(each["end"])) for each in described["sections"])
    return KernelModuleFile(
        described["name"], described["file"], bytes.fromhex(build_id) if build_id else None, sections
    )

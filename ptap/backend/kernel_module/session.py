"""A session of the kernel module for the kernel that runs here, in a folder that goes when the run ends."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cfi_tables.elf_image import ElfError, ElfImage
from ptap.backend.kernel_module.capture import KernelModuleCapture
from ptap.backend.kernel_module.running_kernel import find_kernel, headers_folder
from ptap.backend.live_capture import CaptureError, Postponement, Target
from ptap.kernel_module.kernel_point import KernelPoint
from ptap.kernel_module.messages import RecordOptions
from ptap.kernel_module.module_files import ModuleFiles
from ptap.kernel_module.places import KernelPlace
from ptap.kernel_module.report import module_file
from ptap.kernel_module.session import write_session
from ptap.kernel_module.user_place import UserPlace
from ptap.probe.point import ProbePoint
from ptap.probe.resolve import Resolver
from ptap_target.session_folder import SessionFolder
from unwind.kernel.kernel_files import KernelFiles
from unwind.trace_builder import TraceBuilder


@dataclass(frozen=True, slots=True)
class LiveSession:
    """What is ready to be captured."""

    places: list[KernelPlace | UserPlace]
    """By probe number."""
    folder: SessionFolder
    ring_bytes: int
    kept: tempfile.TemporaryDirectory[str]
    """Where its files are, as long as this lives."""

    def capture(
        self,
        target: Target,
        note: Callable[[str], None] = lambda _: None,
        postponement: Postponement | None = None,
    ) -> KernelModuleCapture:
        """A capture, not yet started; `note` gets what only those want to know who look closely."""
        return KernelModuleCapture(target, self.folder, self.ring_bytes, note, postponement)

    def prepare(self, builder: TraceBuilder) -> None:
        """Have `builder` walk and name the stacks that this session records."""
        description = self.folder.description
        build_id = description["build_id"]
        builder.use_vmlinux(
            description["vmlinux"],
            bytes.fromhex(build_id) if build_id else None,
            description["system_map"],
            [module_file(module) for module in description["modules"]],
        )


def make_session(
    points: Sequence[KernelPoint | ProbePoint],
    options: RecordOptions,
    target: Target,
    when: str | None = None,
    tell: Callable[[str], None] = lambda _: None,
    resolver: Resolver | None = None,
) -> LiveSession:
    """Build what `points` need to be traced in `target`, whose stacks are walked at the probe.

    `when` tells which stacks are recorded; `tell` gets what is to be said of it; `resolver` knows the target.
    Raises PredicateSyntaxError, ProgramError, CaptureError, ProbeNotFound, ModuleBuildError, ElfError and TableError.
    """
    headers = headers_folder()
    if headers is None:
        raise CaptureError("the headers of this kernel are not installed")
    kept = tempfile.TemporaryDirectory(prefix="ptap-session-")
    work = Path(kept.name)
    kernel = find_kernel(work)
    system_map = str(kernel.system_map) if kernel.system_map is not None else None
    modules = ModuleFiles((), KernelFiles.of_this_kernel().module_folders)
    programs = list(_programs(target))
    places = write_session(
        *(headers, kernel.vmlinux, points, options, work, system_map, programs, modules),
        when=when,
        tell=tell,
        resolver=resolver,
    )
    return LiveSession(places, SessionFolder.open(work), options.ring_bytes, kept)


def _programs(target: Target) -> Iterator[str]:
    """The files of the programs that are to be traced, where they are programs that can be read."""
    paths = [shutil.which(target.command[0])] if target.command else [f"/proc/{pid}/exe" for pid in target.pids]
    for path in paths:
        try:
            if path is not None:
                ElfImage.open(path)
                yield os.path.realpath(path)
        except (ElfError, OSError):
            continue  # a script: what runs it is told of when it is hit

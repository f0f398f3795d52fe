"""What a recording adds to the events of a live capture before they go into a capture file.

A file is read when the processes are gone, perhaps on another machine, so whatever only they could tell is asked for
now: the build-ids of mapped files, the vdso, and the stack of a thread that stands still for the capture.
"""

from __future__ import annotations

import os
from dataclasses import replace

from cfi_tables.elf_image import ElfError, ElfImage
from relay_reader.capture import Event, Mapping, MappingAdded, Sample, StackSlice
from relay_reader.capture_file.writer import LARGEST_BLOB, CaptureWriter
from unwind.kept_file import kept_part
from unwind.kernel.kept_kernel import RunningKernelLists
from unwind.vdso import read_vdso

_RSP = 7
_PIECE = 4096
"""Bytes of stack that are asked for at once: a read that meets the stack's end gives what lies before it."""


class Recorder:
    """Writes events to `writer`; of stacks that can still be read, up to `user_stack` bytes.

    With `portable` it keeps in the end of every file that was mapped what its stacks are walked with.
    """

    def __init__(self, writer: CaptureWriter, user_stack: int, *, portable: bool = False) -> None:
        self._portable = portable
        self._files: dict[bytes, list[str]] = {}
        """Build-id -> where such a file was seen."""
        self.problems: list[str] = []
        self._writer = writer
        self._user_stack = user_stack
        self._build_ids: dict[tuple[str, int, int, int], bytes | None] = {}
        """By path, device, inode and time of change."""
        self._images: set[bytes] = set()
        self._foreseen: dict[tuple[int, Mapping], Mapping] = {}
        """Mappings that were asked about before they are recorded, by process."""
        self._kernel = RunningKernelLists()

    def record(self, event: Event) -> None:
        """Write one event. Raises CaptureWriteError."""
        if isinstance(event, MappingAdded):
            known = self._foreseen.get((event.pid, event.mapping))
            event = replace(event, mapping=known or self._identified(event.mapping, event.pid))
        elif isinstance(event, Sample):
            if event.kernel_chain and self._kernel.need(event.kernel_chain):
                self._tell_kernel()
            if event.read_memory is not None:
                event = replace(event, slices=self._stack(event), read_memory=None, left_to_file=None)
        self._writer.add(event)

    def foresee(self, event: MappingAdded) -> None:
        """Ask now about a mapping that is recorded later, when the process may have ended. Raises CaptureWriteError."""
        self._foreseen[event.pid, event.mapping] = self._identified(event.mapping, event.pid)

    def finish(self) -> None:
        """Write what is still to be told of what was recorded. Raises CaptureWriteError."""
        self._tell_kernel()
        if self._portable:
            for build_id, places in self._files.items():
                self._keep(build_id, places)

    def _keep(self, build_id: bytes, places: list[str]) -> None:
        """Write what of a file is needed elsewhere; a problem says why not."""
        why = ""
        for place in places:
            try:
                image = ElfImage.open(place)
                content = kept_part(image) if image.build_id == build_id else None
                if content is not None and len(content) <= LARGEST_BLOB:
                    self._writer.add_blob(f"file {build_id.hex()}", content)
                    return
                same = image.build_id == build_id
                why = "it is too large, or of a rare kind" if same else "another file is there now"
            except (ElfError, OSError) as error:
                why = str(error)
        self.problems.append(f"{places[-1]}: not kept for other machines: {why}")

    def _tell_kernel(self) -> None:
        for name, content in self._kernel.take():
            self._writer.add_blob(name, content)

    def _stack(self, sample: Sample) -> list[StackSlice]:
        """The stack of a thread that stands still, from its pointer on."""
        assert sample.read_memory is not None
        begin = sample.registers[_RSP] if sample.known >> _RSP & 1 else 0
        if not begin:
            return sample.slices
        found = bytearray()
        while len(found) < self._user_stack:
            at = begin + len(found)
            wanted = min(_PIECE - at % _PIECE, self._user_stack - len(found))
            piece = sample.read_memory(at, wanted)
            found += piece
            if len(piece) < wanted:
                break
        return [StackSlice(begin, bytes(found), len(found) >= self._user_stack)] if found else []

    def _identified(self, mapping: Mapping, pid: int) -> Mapping:
        """The mapping with its file's build-id; the vdso, which is in no file, is written once."""
        if mapping.path == "[vdso]":
            return self._with_vdso(mapping, pid)
        if not mapping.path.startswith("/") or mapping.path.startswith("//"):
            return mapping
        path = mapping.path.removesuffix(" (deleted)")
        mapping = self._with_build_id(mapping, path, pid)
        if self._portable and mapping.build_id is not None and mapping.build_id not in self._files:
            self._files[mapping.build_id] = [f"/proc/{pid}/root{path}", path]
        return mapping

    def _with_build_id(self, mapping: Mapping, path: str, pid: int) -> Mapping:
        if mapping.build_id is not None:
            return mapping
        for place in (f"/proc/{pid}/root{path}", path):
            try:
                status = os.stat(place)
                key = (place if place == path else path, status.st_dev, status.st_ino, status.st_mtime_ns)
                if key not in self._build_ids:
                    self._build_ids[key] = ElfImage.open(place).build_id
                return replace(mapping, build_id=self._build_ids[key])
            except (ElfError, OSError):
                continue  # the process has ended, or what is mapped is no program
        return mapping

    def _with_vdso(self, mapping: Mapping, pid: int) -> Mapping:
        try:
            image = read_vdso(pid, mapping)
        except ElfError:
            return mapping  # the report says that it is not in the file
        build_id = mapping.build_id or image.build_id
        if build_id is None:
            return mapping
        if build_id not in self._images:
            self._images.add(build_id)
            self._writer.add_blob(f"image {build_id.hex()}", bytes(image.data))
        return replace(mapping, build_id=build_id)

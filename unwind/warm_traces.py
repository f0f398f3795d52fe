"""Traces of a few stacks from what the cache holds: tables and symbol indices, walked and looked up in plain Python.

Says what `TraceBuilder` says without arguments, and imports neither NumPy nor anything that reads DWARF: a stack of a
hundred frames is told before these would be imported. Whatever the cache does not have, or a stack that does not end
where it should, is `NotWarm`: then `TraceBuilder` is to be asked.
"""

from __future__ import annotations

from collections import Counter
from functools import cached_property
from typing import TYPE_CHECKING, Any

from cfi_tables.cache import cached_path, note_use
from cfi_tables.cached_table import cached_table
from cfi_tables.debug_file import DebugFile, find_debug_file, separate_debug_file
from cfi_tables.elf_image import EM_X86_64, ElfError
from cfi_tables.layout import StopReason
from relay_reader.capture import Mapping, Sample
from unwind.address_space import AddressSpace
from unwind.module import Module, ModuleCatalog, OpenImage
from unwind.pointed_mappings import PointedMappings
from unwind.stack_walker import StackWalker, WalkedFrame
from unwind.stop_text import stop_text
from unwind.symbolize.index_layout import FORMAT_VERSION
from unwind.symbolize.kept_frames import KeptFrames, NamedFrame
from unwind.symbolize.small_lookup import SmallLookup, SmallLookupError
from unwind.trace import Trace, TraceFrame

if TYPE_CHECKING:
    from cfi_tables.elf_image import ElfImage
    from unwind.symbolize.missing_debug import MissingDebug

_MANGLED = ("_Z", "_R", "__Z", "___Z", "_D")
_MOST_FRAMES = 1500
"""Different frames of one capture; more are for those who look up many at once."""


class NotWarm(Exception):
    """The cache does not hold what these stacks need."""


class WarmModule(Module):
    """A module whose table and symbol index are taken from the cache and never built."""

    def table_content(self) -> Any:
        """The bytes of the table. Raises NotWarm."""
        if self.image is None or self.image.machine != EM_X86_64:
            raise NotWarm
        debug = None if self.image.has(".eh_frame") else find_debug_file(self.image).image
        content = cached_table(self.image, debug)
        if content is None:
            raise NotWarm
        return content

    @cached_property
    def debug_file(self) -> DebugFile | None:
        """The outcome of the search for a separate debug file."""
        return None if self.image is None else separate_debug_file(self.image)

    @cached_property
    def _lookup(self) -> SmallLookup | None:
        """The symbol index, None where there is none. Raises NotWarm."""
        if self.image is None:
            raise NotWarm
        path = cached_path(self.image, self._debug_image, FORMAT_VERSION, "symbols")
        try:
            found = SmallLookup(path, self.image.machine, self.image.build_id or b"")
        except (OSError, SmallLookupError):
            return None
        if found.is_damaged:
            raise NotWarm  # what is damaged, the others tell
        note_use(path)
        return found

    @cached_property
    def _kept(self) -> KeptFrames:
        """What is kept without an index. Raises NotWarm."""
        found = KeptFrames.load(self.image, self._debug_image) if self.image is not None else None
        if found is None:
            raise NotWarm
        return found

    @property
    def _debug_image(self) -> ElfImage | None:
        return None if self.debug_file is None else self.debug_file.image

    @property
    def has_debug(self) -> bool:
        """Whether there is debugging information. Raises NotWarm."""
        return self._kept.has_debug if self._lookup is None else self._lookup.has_debug

    def frames_at(self, address: int) -> list[NamedFrame]:
        """The frames at `address`, innermost first. Raises NotWarm."""
        if self._lookup is None:
            kept = self._kept.frames(address)
            if kept is None:
                raise NotWarm
            return kept
        try:
            names = self._lookup.frames(address)
            offset = self._lookup.function_offset(address)
        except SmallLookupError:
            raise NotWarm from None
        return [
            NamedFrame(
                _readable(frame.name),
                None if frame.inlined or offset is None else offset,
                *(frame.file, frame.line, frame.column, frame.inlined),
            )
            for frame in names
        ]

    @property
    def missing(self) -> MissingDebug | None:
        """Why there are no lines, and the remedy; None when there is debugging information."""
        if self.image is None or self.has_debug:
            return None
        from unwind.symbolize.missing_debug import missing_debug

        return missing_debug(self.image, self.debug_file)


class WarmTraces:
    """Makes traces of the samples of one process, whose executable `mappings` are given."""

    def __init__(self, open_image: OpenImage, remedy: str, mappings: list[Mapping], max_depth: int) -> None:
        self._catalog = ModuleCatalog(open_image, remedy, kind=WarmModule)
        self._walker = StackWalker(self._catalog, max_depth)
        self._pointed = PointedMappings(mappings)
        self._space = AddressSpace()
        self._frames: dict[tuple[int, int], list[TraceFrame]] = {}
        self.frames_without_lines: Counter[WarmModule] = Counter()
        self.stacks_without_lines: Counter[WarmModule] = Counter()

    def build(self, sample: Sample, comm: str) -> Trace:
        """The trace of `sample`, all of whose memory is in slices and `read_memory`. Raises NotWarm."""
        for mapping in self._pointed.of(sample):
            if self._space.find(mapping.start) is None:
                self._space.add(mapping)
        try:
            stack = self._walker.walk(sample, self._space)
        except (IndexError, ElfError) as error:
            raise NotWarm from error
        if stack.stop not in (StopReason.END_OF_STACK, StopReason.TOO_DEEP):
            raise NotWarm  # a table may be missing, or the code is made at run time
        frames: list[TraceFrame] = []
        lacking: set[WarmModule] = set()
        for walked in stack.frames:
            frames += self._calls(walked, lacking)
        self.stacks_without_lines.update(lacking)
        return Trace(
            probe=None,
            time_ns=sample.time_ns,
            cpu=sample.cpu,
            pid=sample.pid,
            tid=sample.tid,
            comm=comm,
            weight=sample.weight,
            stop=stack.stop,
            frames=frames,
            stop_text=stop_text(stack),
        )

    def _calls(self, walked: WalkedFrame, lacking: set[WarmModule]) -> list[TraceFrame]:
        """The calls of one physical frame, innermost first; its module joins `lacking`, if so. Raises NotWarm."""
        module = walked.module
        if not isinstance(module, WarmModule) or walked.mapping is None:
            raise NotWarm
        key = (walked.pc, walked.lookup_address)
        found = self._frames.get(key)
        if found is None:
            if len(self._frames) >= _MOST_FRAMES:
                raise NotWarm
            found = self._frames[key] = self._looked_up(walked, module, walked.mapping.path)
        if not module.has_debug:
            self.frames_without_lines[module] += 1
            lacking.add(module)
        if found[0].signal != walked.signal:
            raise NotWarm
        return found

    def _looked_up(self, walked: WalkedFrame, module: WarmModule, path: str) -> list[TraceFrame]:
        address = walked.lookup_address
        build_id = module.build_id.hex() if module.build_id else None
        names = module.frames_at(address)
        if not names:
            return [TraceFrame("user", walked.pc, path, build_id, signal=walked.signal)]
        behind = walked.pc - walked.bias - address
        return [
            TraceFrame(
                space="user",
                address=walked.pc,
                module=path,
                build_id=build_id,
                function=frame.function,
                offset=None if frame.offset is None else frame.offset + behind,
                file=frame.file,
                line=frame.line,
                column=frame.column,
                inlined=frame.inlined,
                signal=walked.signal,
            )
            for frame in names
        ]


def _readable(name: str | None) -> str | None:
    if name is None or not name.startswith(_MANGLED):
        return name
    from unwind.symbolize.demangling import readable_name  # its library is there for those who need it

    return readable_name(name)

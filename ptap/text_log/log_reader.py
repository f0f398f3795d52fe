"""A log's lines → their frames, and what is known of each: a batch of lines at a time, each place looked up once."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from cfi_tables.elf_image import ElfError
from cfi_tables.table import TableError
from ptap.report.short_text import printable
from ptap.shortcomings import ask_for_remedies
from ptap.text_log.address_line import AddressLine
from ptap.text_log.core_dump_trace import CoreDumpTrace
from ptap.text_log.debugger_trace import DebuggerTrace
from ptap.text_log.file_source import FileSources
from ptap.text_log.glibc_trace import GlibcTrace
from ptap.text_log.kernel_source import KernelSource
from ptap.text_log.kernel_trace import KernelTrace, slide_in
from ptap.text_log.log_lines import LogLine
from ptap.text_log.logged_frame import FilePlace, KernelPlace, LogFormat, LoggedFrame, Place
from ptap.text_log.lookup import Answer, Lookup, Miss, answers_of
from ptap.text_log.memory_map import MemoryMap
from ptap.text_log.sanitizer_trace import SanitizerTrace
from unwind.symbolize.symbol_index import SymbolIndexError
from unwind.symbolize.symbolizer import Symbolizer

_WORTH_A_LOOK = re.compile(
    rb"0x[0-9a-fA-F]|\[<|\bCPU: |[Cc]all [Tt]race:|Kernel Offset: |Sanitizer: |==[0-9]+==|#[0-9]|[0-9a-f]{8}|build-id"
)
_TOLD = 50
_OTHER = "other reasons of this kind"
"""Of more reasons than one reads those that come later are counted together."""
_REMEMBERED = 1 << 16
"""Places whose answers are kept."""


@dataclass(slots=True)
class ReadLine:
    """A line and what it holds."""

    data: bytes
    """With its end, as it was."""
    text: str = ""
    """Without its end; bytes that are no UTF-8 as surrogates. Empty where the line has no frames."""
    frames: list[LoggedFrame] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    """One for each frame."""
    format: str | None = None
    """What the frames are written by."""


class LogReader:
    """Reads one log. `misses` counts by reason, with an example, the frames of which nothing is known."""

    def __init__(self, files: FileSources, kernel: KernelSource) -> None:
        self.misses: dict[str, tuple[int, str | None]] = {}
        self.without_lines: Counter[str] = Counter()
        self._found = 0
        self._files = files
        self._kernel = kernel
        self._without_debug: dict[str, Symbolizer] = {}
        self._answers: dict[Place, Answer] = {}
        self._after_signal = False
        self._set_formats(None, MemoryMap())

    def _set_formats(self, slide: int | None, mappings: MemoryMap) -> None:
        self.kernel_trace = KernelTrace(slide)
        self.sanitizer_trace = SanitizerTrace()
        self._formats: tuple[LogFormat, ...] = (
            self.kernel_trace,
            self.sanitizer_trace,
            GlibcTrace(),
            CoreDumpTrace(),
            DebuggerTrace(mappings),
            AddressLine(self.kernel_trace),
        )

    def look_ahead(self, lines: Iterator[bytes]) -> None:
        """Learn from the whole log what it tells behind the frames: a kernel's slide, a process's mappings.

        Where it tells of several kernels or processes, which one a frame is of is not known, and nothing is learned.
        """
        slides: set[int] = set()
        mappings = MemoryMap()
        for line in lines:
            if b"Kernel Offset: " in line:
                slide = slide_in(line.decode("utf-8", "surrogateescape"))
                slides |= {slide} if slide is not None else set()
            elif b" /" in line or b"\t/" in line:
                mappings.add(line.decode("utf-8", "surrogateescape"))
        one = next(iter(slides)) if len(slides) == 1 else None
        self._set_formats(one, mappings if mappings.processes == 1 else MemoryMap())

    def read(self, batch: Sequence[LogLine]) -> list[ReadLine]:
        """The lines of a batch with their frames."""
        lines = [self._frames_of(line) for line in batch]
        wanted = dict.fromkeys(frame.place for line in lines for frame in line.frames)
        if len(self._answers) > _REMEMBERED:
            self._answers.clear()
        self._look_up([place for place in wanted if place not in self._answers])
        for line in lines:
            line.answers = [self._answers[frame.place] for frame in line.frames]
            self._found += len(line.answers)
            for answer in line.answers:
                self._count(answer)
        return lines

    def closing_lines(self) -> list[str]:
        """Why frames are as they were, or have no lines, and what to do; for people."""
        if not self._found:
            return ["nothing in the log is known as a frame; of addresses alone say whose they are (-e, --kernel)"]
        found = [
            f"{count} frame{'s' if count > 1 else ''}: {why}" + (f" ({example})" if example is not None else "")
            for why, (count, example) in self.misses.items()
        ]
        lacking = {path: each.missing for path, each in self._without_debug.items() if path in self.without_lines}
        ask_for_remedies(lacking.values())
        for path, count in self.without_lines.items():
            missing = lacking.get(path)
            if missing is not None:
                have = "frames have" if count > 1 else "frame has"
                found.append(f"{path}: {count} {have} no lines: {missing.what}; {missing.remedy}")
        found += self._files.problems() + self._kernel.problems()
        # Paths and names are the log's, which may hold anything.
        return [printable(line.encode("utf-8", "backslashreplace").decode()) for line in found]

    def _frames_of(self, line: LogLine) -> ReadLine:
        if not line.whole or _WORTH_A_LOOK.search(line.data) is None:
            self._after_signal = False
            return ReadLine(line.data)
        text = line.data.rstrip(b"\r\n").decode("utf-8", "surrogateescape")
        frames: list[LoggedFrame] = []
        name = None
        for each in self._formats:
            if frames := each.frames(text):
                name = each.name
                break
        for frame in frames:
            if isinstance(frame.place, FilePlace) and frame.returned_to:
                if self._after_signal:
                    frame.place = replace(frame.place, exact=True)
                self._after_signal = self._files.is_signal_return(frame.place)
            else:
                self._after_signal = False
        return ReadLine(line.data, text, frames, format=name) if frames else ReadLine(line.data)

    def _look_up(self, places: Sequence[Place]) -> None:
        asked: dict[int, list[tuple[Place, Lookup]]] = {}
        for place in places:
            lookup = self._lookup(place)
            if isinstance(lookup, Miss):
                self._answers[place] = Answer(miss=lookup)
            else:
                asked.setdefault(id(lookup.source), []).append((place, lookup))
        for group in asked.values():
            source = group[0][1].source
            try:
                answers = answers_of(source, [lookup for _, lookup in group])
            except (ElfError, TableError, SymbolIndexError) as error:
                answers = [Answer(miss=Miss(str(error))) for _ in group]
            for (place, _), answer in zip(group, answers, strict=True):
                self._answers[place] = answer
            if isinstance(source, Symbolizer) and not source.has_debug_information:
                self._without_debug.setdefault(source.image.path, source)

    def _lookup(self, place: Place) -> Lookup | Miss:
        if isinstance(place, FilePlace):
            return self._files.lookup(place)
        if isinstance(place, KernelPlace):
            return self._kernel.lookup(place)
        return Miss(
            "the log has addresses of a process and not its mappings: put its /proc/PID/maps, or what gdb prints for "
            "`info proc mappings`, in front"
        )

    def _count(self, answer: Answer) -> None:
        if answer.miss is not None:
            why = answer.miss.why if answer.miss.why in self.misses or len(self.misses) < _TOLD else _OTHER
            count, example = self.misses.get(why, (0, answer.miss.example))
            self.misses[why] = count + 1, example
        elif answer.frames and answer.frames[-1].file is None and answer.frames[-1].module is not None:
            self.without_lines[answer.frames[-1].module] += 1

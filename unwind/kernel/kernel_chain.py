"""Call chains of the kernel that runs here → frames of a trace: by vmlinux with lines, else by kallsyms' names.

Each address is looked up once: the same few come again and again in a run.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

import numpy as np

from cfi_tables.elf_image import ElfError
from relay_reader.capture import KernelCodeNamed, MappingAdded
from unwind.kallsyms import Kallsyms
from unwind.kernel.kernel_error import KernelError
from unwind.kernel.kernel_symbolizer import KernelSources, KernelSymbolizer
from unwind.symbolize.function_name import readable_name
from unwind.trace import TraceFrame

_KERNEL = "[kernel]"


class KernelNames(Protocol):
    """What names the chains of one kernel."""

    def apply(self, event: MappingAdded | KernelCodeNamed) -> None:
        """Follow where the kernel's code lies, and how it is called."""

    def frames(self, chain: tuple[int, ...]) -> list[TraceFrame]:
        """The frames of a chain, innermost first: the interrupted pc, then return addresses. Inlined calls too."""

    def all_problems(self) -> list[str]:
        """What of names and lines was not to be had."""


class KernelChain:
    """Names chains of one kernel by `symbolizer`; of the running one without, opened at once."""

    def __init__(self, symbolizer: KernelSymbolizer | None = None) -> None:
        self.problems: list[str] = []
        """Why frames have no names, or no lines."""
        self._symbolizer = symbolizer
        self._found: dict[tuple[int, bool], list[TraceFrame]] = {}
        if symbolizer is not None:
            return
        try:
            self._symbolizer = KernelSymbolizer.open(KernelSources())
        except (KernelError, ElfError, OSError) as error:
            self._open_without_vmlinux(str(error))

    def _open_without_vmlinux(self, why: str) -> None:
        kallsyms = Kallsyms.of_this_kernel()
        self.problems.append(kallsyms.problem or why)
        if kallsyms.problem is None:
            self._symbolizer = KernelSymbolizer.of_names(kallsyms)

    def apply(self, event: MappingAdded | KernelCodeNamed) -> None:
        """Nothing is to be followed: the kernel itself says where its code lies."""

    def frames(self, chain: tuple[int, ...]) -> list[TraceFrame]:
        """The frames of a chain, innermost first: the interrupted pc, then return addresses. Inlined calls too."""
        asked = [(address, index == 0) for index, address in enumerate(chain)]
        new = [key for key in dict.fromkeys(asked) if key not in self._found]
        if new:
            self._look_up(new)
        return [_copy(frame) for key in asked for frame in self._found[key]]

    def _look_up(self, keys: list[tuple[int, bool]]) -> None:
        """Find the frames of (address, whether it is exact): the call before a return address is what is looked up."""
        if self._symbolizer is None:
            self._found.update({key: [TraceFrame("kernel", key[0], _KERNEL)] for key in keys})
            return
        behind = [0 if exact else 1 for _, exact in keys]
        addresses = np.array([address for address, _ in keys], dtype=np.uint64) - np.array(behind, dtype=np.uint64)
        found = self._symbolizer.frames(addresses)
        offsets = self._symbolizer.function_offsets(addresses).tolist()
        labels = self._symbolizer.labels(addresses)
        for number, key in enumerate(keys):
            low, high = found.offsets[number : number + 2].tolist()
            frames = []
            for row in range(low, high):
                name, file = found.name_table[found.names[row]], found.file_table[found.files[row]]
                inlined = bool(found.inlined[row])
                known = offsets[number] >= 0 and not inlined
                frames.append(
                    TraceFrame(
                        space="kernel",
                        address=key[0],
                        module=labels[number].name,
                        build_id=labels[number].build_id,
                        function=readable_name(name) if name else None,
                        offset=offsets[number] + behind[number] if known else None,
                        file=file or None,
                        line=int(found.lines[row]) or None,
                        column=int(found.columns[row]) or None,
                        inlined=inlined,
                    )
                )
            self._found[key] = frames or [TraceFrame("kernel", key[0], labels[number].name)]

    def all_problems(self) -> list[str]:
        """What of names and lines was not to be had."""
        return self.problems + (self._symbolizer.problems if self._symbolizer is not None else [])


def _copy(frame: TraceFrame) -> TraceFrame:
    """A trace's own frame: readers of traces may fill in more."""
    return replace(frame, arguments=[])

"""Walking the kernel's stack again from what a probe has recorded: vmlinux's table, moved by the slide, and modules'.

It is the same walk as in user space, in an address space in which only vmlinux and code of modules are mapped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from cfi_tables.elf_image import PT_LOAD
from cfi_tables.layout import StopReason
from relay_reader.capture import KernelSectionPlaced, KernelStack, Mapping, Sample
from relay_reader.record_layout import HIT_FLAG_CALLED
from relay_reader.return_trampoline import TRAMPOLINE_MAPPING
from unwind.address_space import AddressSpace
from unwind.module import ModuleCatalog
from unwind.stack_walker import StackWalker, WalkedFrame, WalkedStack
from unwind.told_chain import told_stack

_KERNEL_HALF = 1 << 63
_NO_PROCESS = 0
_PC = 16
"""DWARF number of x86-64's instruction pointer, as the record has it."""


@dataclass(frozen=True, slots=True)
class KernelModuleFile:
    """A module's file with the code sections that the capture speaks of."""

    name: str
    path: str
    build_id: bytes | None
    sections: tuple[tuple[int, int], ...]
    """(start, end) of each, in the file's link view."""


class KernelWalker:
    """Walks kernel stacks with the table of the vmlinux at `path`, which has to be of that build-id, and of `modules`.

    Problems of a file are the problems of its module in `catalog`.
    """

    def __init__(
        self,
        path: str,
        build_id: bytes | None,
        catalog: ModuleCatalog,
        max_depth: int,
        modules: Sequence[KernelModuleFile] = (),
    ) -> None:
        self._modules = modules
        self._placed: dict[tuple[int, int], int] = {}
        self._names = {module.path: module.name for module in modules}
        self._file = Mapping(0, 0, 0, path, build_id)
        self._catalog = catalog
        self._walker = StackWalker(catalog, max_depth)
        self._spaces: dict[tuple[int, int | None], AddressSpace] = {}
        """By the slide and the address of the trampoline that stacks are known to end at."""

    @cached_property
    def lacks_table(self) -> bool:
        """Whether vmlinux is not there, or no use: nothing is walked again."""
        module = self._catalog.module_for(self._file, _NO_PROCESS)
        return module is None or module.image is None or module.table is None

    def walk(self, sample: Sample, stack: KernelStack) -> WalkedStack:
        """The frames of `stack`, which was recorded with `sample`; it ends where the kernel was entered."""
        if stack.registers[_PC] < _KERNEL_HALF:
            # A timer has interrupted the user's code: of the kernel there is nothing.
            return WalkedStack([], StopReason.END_OF_STACK, stack.registers[_PC])
        # Only at the probe it was known that this is no address that anything was called from.
        trampoline = stack.stop_detail if stack.stop == StopReason.RETURN_TRAMPOLINE else None
        space = self._space(stack.slide, trampoline)
        if not stack.slices and sample.kernel_chain:
            return told_stack(sample.kernel_chain, stack.stop, stack.stop_detail, space, self._catalog, _NO_PROCESS)
        recorded = Sample(
            time_ns=sample.time_ns,
            cpu=sample.cpu,
            pid=_NO_PROCESS,
            tid=_NO_PROCESS,
            places=sample.places,
            registers=stack.registers,
            known=stack.known,
            slices=stack.slices,
            called=bool(stack.flags & HIT_FLAG_CALLED),
        )
        walked = self._walker.walk(recorded, space)
        if walked.stop is StopReason.NO_MAPPING and walked.frames and walked.detail < _KERNEL_HALF:
            walked.stop = StopReason.END_OF_STACK
        return walked

    def place(self, event: KernelSectionPlaced) -> None:
        """Follow where a section of a module is loaded."""
        if event.module < len(self._modules) and event.section < len(self._modules[event.module].sections):
            self._placed[event.module, event.section] = event.address
            self._spaces.clear()

    def module_name(self, frame: WalkedFrame) -> str | None:
        """The module that a frame's code belongs to; None for the kernel itself."""
        return self._names.get(frame.mapping.path) if frame.mapping is not None else None

    def _add_modules(self, space: AddressSpace) -> None:
        for (number, section), address in self._placed.items():
            if address:
                module = self._modules[number]
                start, end = module.sections[section]
                # A module's file has no segments, so that its bias is the start less this offset.
                space.add(Mapping(address, address + end - start, start, module.path, module.build_id))

    def _space(self, slide: int, trampoline: int | None) -> AddressSpace:
        """The code that the table is for, moved by `slide`, and that of modules: the mappings that the probe had."""
        key = slide, trampoline
        if key not in self._spaces:
            space = self._spaces[key] = AddressSpace()
            # The module is found by any mapping of the file, and says where its code is.
            module = self._catalog.module_for(self._file, _NO_PROCESS)
            if module is not None and module.image is not None and module.table is not None:
                first, end = module.table.text_range
                for segment in module.image.segments:
                    if segment.type == PT_LOAD and segment.address <= first < segment.address + segment.memory_size:
                        start = (first + slide) % (1 << 64)
                        offset = segment.offset + first - segment.address
                        space.add(replace(self._file, start=start, end=start + end - first, file_offset=offset))
            self._add_modules(space)
            if trampoline is not None:
                # Where a return address is looked up: before it.
                space.add(Mapping(trampoline - 1, trampoline, 0, TRAMPOLINE_MAPPING))
        return self._spaces[key]

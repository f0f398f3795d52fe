"""Walking the kernel's stack again from what a probe has recorded: vmlinux's table, moved by the slide.

It is the same walk as in user space, in an address space in which only vmlinux is mapped.
"""

from __future__ import annotations

from dataclasses import replace

from cfi_tables.elf_image import PT_LOAD
from cfi_tables.layout import StopReason
from relay_reader.capture import KernelStack, Mapping, Sample
from unwind.address_space import AddressSpace
from unwind.module import ModuleCatalog
from unwind.stack_walker import StackWalker, WalkedStack
from unwind.told_chain import told_stack

_KERNEL_HALF = 1 << 63
_NO_PROCESS = 0


class KernelWalker:
    """Walks kernel stacks with the table of the vmlinux at `path`, which has to be of that build-id.

    Problems of the file are the problems of its module in `catalog`.
    """

    def __init__(self, path: str, build_id: bytes | None, catalog: ModuleCatalog, max_depth: int) -> None:
        self._file = Mapping(0, 0, 0, path, build_id)
        self._catalog = catalog
        self._walker = StackWalker(catalog, max_depth)
        self._spaces: dict[int, AddressSpace] = {}

    def walk(self, sample: Sample, stack: KernelStack) -> WalkedStack:
        """The frames of `stack`, which was recorded with `sample`; it ends where the kernel was entered."""
        if not stack.slices and sample.kernel_chain:
            space = self._space(stack.slide)
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
        )
        walked = self._walker.walk(recorded, self._space(stack.slide))
        if walked.stop is StopReason.NO_MAPPING and walked.frames and walked.detail < _KERNEL_HALF:
            walked.stop = StopReason.END_OF_STACK
        return walked

    def _space(self, slide: int) -> AddressSpace:
        """The code that the table is for, moved by `slide`: the one mapping that the probe had, too."""
        if slide not in self._spaces:
            space = self._spaces[slide] = AddressSpace()
            # The module is found by any mapping of the file, and says where its code is.
            module = self._catalog.module_for(self._file, _NO_PROCESS)
            if module is not None and module.image is not None and module.table is not None:
                first, end = module.table.text_range
                for segment in module.image.segments:
                    if segment.type == PT_LOAD and segment.address <= first < segment.address + segment.memory_size:
                        start = (first + slide) % (1 << 64)
                        offset = segment.offset + first - segment.address
                        space.add(replace(self._file, start=start, end=start + end - first, file_offset=offset))
        return self._spaces[slide]

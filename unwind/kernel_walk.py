"""Walking the kernel's stack again from what a probe has recorded: vmlinux's table, moved by the slide.

It is the same walk as in user space, in an address space in which only vmlinux is mapped.
"""

from __future__ import annotations

from cfi_tables.elf_image import PF_X, PT_LOAD
from cfi_tables.layout import StopReason
from relay_reader.capture import KernelStack, Mapping, Sample
from unwind.address_space import AddressSpace
from unwind.module import ModuleCatalog
from unwind.stack_walker import StackWalker, WalkedStack

_KERNEL_HALF = 1 << 63
_NO_PROCESS = 0


class KernelWalker:
    """Walks kernel stacks with the table of the vmlinux at `path`. Problems of the file are the module's problems."""

    def __init__(self, path: str, catalog: ModuleCatalog, max_depth: int) -> None:
        self._path = path
        self._catalog = catalog
        self._walker = StackWalker(catalog, max_depth)
        self._spaces: dict[int, AddressSpace] = {}

    def walk(self, sample: Sample, stack: KernelStack) -> WalkedStack:
        """The frames of `stack`, which was recorded with `sample`; it ends where the kernel was entered."""
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
        """The kernel's code, moved by `slide`."""
        if slide not in self._spaces:
            # The module is found by any mapping of the file, and says where its code is.
            module = self._catalog.module_for(Mapping(0, 0, 0, self._path), _NO_PROCESS)
            space = self._spaces[slide] = AddressSpace()
            for segment in module.image.segments if module is not None and module.image is not None else []:
                if segment.type == PT_LOAD and segment.flags & PF_X:
                    start = (segment.address + slide) % (1 << 64)
                    space.add(Mapping(start, start + segment.memory_size, segment.offset, self._path))
        return self._spaces[slide]

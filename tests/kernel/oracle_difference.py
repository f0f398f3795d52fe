"""Why the kernel's own trace of a stack is another one than the walk's, checked from both sides."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from cfi_tables.elf_image import ElfImage
from cfi_tables.layout import StopReason
from relay_reader.capture import KernelStack
from relay_reader.record_layout import HitFlag

SAME = "the same"
TRAMPOLINE = "the kernel's own ends at the trampoline of a return probe"
"""Before 5.18 its unwinder does not know what the trampoline has replaced."""
RUN_TIME_CODE = "the walk ends at code made at run time"
"""Which the kernel makes for its function tracer, and which is in no table: the walk says where it ended."""
OPTIMIZED = "the kernel's own ends in the code that was made for an optimized probe"
THUNK = "the kernel's own ends in a retpoline thunk"
"""Of which its unwind data says that the stack ends there, or nothing."""

_CALL_SIZE = 5
_CALL = 0xE8
_OPTIMIZED = "optimized_callback"
_THUNK = "__x86_indirect_"
_TRAMPOLINES = ("kretprobe_trampoline", "__kretprobe_trampoline")


@dataclass(frozen=True)
class Comparison:
    """What the traces of one kernel are compared by."""

    image: ElfImage
    """vmlinux."""
    name_at: Callable[[int], str]
    """The symbol that holds a link-time address."""
    returning: frozenset[int]
    """Link-time addresses of the functions whose returns are probed."""

    def difference(self, stack: KernelStack, chain: tuple[int, ...]) -> str:
        """SAME, TRAMPOLINE, THUNK, OPTIMIZED or RUN_TIME_CODE. Fails where none explains how the two traces differ.

        `chain` is the walk's, without what the kernel's own trace has in front of it: that begins in the module.
        """
        own = stack.oracle
        if own[len(own) - len(chain) :] == chain:
            # Then no trampoline is left in either, and the walk has gone as far as the kernel.
            assert not any(self._is_trampoline(pc - stack.slide) for pc in own[-1:])
            return SAME
        if self._is_trampoline(own[-1] - stack.slide):
            self._check_trampoline(stack, chain)
            return TRAMPOLINE
        if self.name_at(own[-1] - stack.slide).startswith(_THUNK):
            # The thunk is not in the chain where it is what was interrupted.
            count = chain.index(own[-1]) + 1 if own[-1] in chain else 0
            assert own[len(own) - count :] == chain[:count] and len(chain) > count, (chain, own)
            return THUNK
        if chain[0] not in own and any(self.name_at(pc - stack.slide) == _OPTIMIZED for pc in own[-2:]):
            # The walk begins behind that code, with the registers that it has saved.
            assert stack.stop in (StopReason.END_OF_STACK, StopReason.NO_MAPPING)
            return OPTIMIZED
        assert stack.stop == StopReason.NO_MAPPING, (chain, own, StopReason(stack.stop))
        places = [at for at in range(len(own)) if own[at : at + len(chain)] == chain]
        assert [own[at + len(chain)] for at in places] == [stack.stop_detail], (chain, own)
        assert self.image.address_to_offset(stack.stop_detail - stack.slide) is None, hex(stack.stop_detail)
        return RUN_TIME_CODE

    def _check_trampoline(self, stack: KernelStack, chain: tuple[int, ...]) -> None:
        """The kernel's frames are the walk's first ones; the next one, instead of the trampoline, is right."""
        own = stack.oracle
        begin = len(own) - 1 if stack.flags & HitFlag.RETURN_PROBE else own.index(chain[0])
        count = len(own) - 1 - begin
        assert own[begin:-1] == chain[:count], (chain, own)
        # Behind it the walk has what it has not from the kernel: it begins where a probed function was called from.
        assert len(chain) > count, (chain, own)
        assert self._calls_returning(chain[count] - stack.slide), hex(chain[count] - stack.slide)

    def _is_trampoline(self, address: int) -> bool:
        return self.name_at(address) in _TRAMPOLINES

    def _calls_returning(self, address: int) -> bool:
        """Whether the instruction before a return address calls one of the functions whose returns are probed."""
        code = self.image.read(address - _CALL_SIZE, _CALL_SIZE)
        target = address + int.from_bytes(code[1:], "little", signed=True)
        return code[0] == _CALL and target in self.returning

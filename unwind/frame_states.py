"""From the frames of a walk to the states that DWARF expressions are evaluated in.

Each physical frame has one state, shared by the calls that are inlined into it. States know their caller's, since
the value that an argument had at entry may be told by the call site in the calling function (DWARF 5 §3.4).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from relay_reader.capture import EM_X86_64, MemoryReader
from unwind.architecture.frame_architecture import frame_architecture
from unwind.arguments.frame_state import FrameState
from unwind.dwarf.die import Die
from unwind.stack_walker import WalkedFrame
from unwind.symbolize.symbol_frame import SymbolFrame


class FrameStates:
    """The states of one stack, made when they are asked for.

    `names(index)` gives the symbol frames of frame `index`, `read` the thread's memory, `symbol` a name for a
    run-time address, `vector_registers` those of the innermost frame, `machine` the ELF machine number of the code.
    """

    def __init__(
        self,
        frames: list[WalkedFrame],
        names: Callable[[int], list[SymbolFrame]],
        read: MemoryReader,
        symbol: Callable[[int], str | None],
        vector_registers: Mapping[int, bytes],
        machine: int = EM_X86_64,
    ) -> None:
        self._architecture = frame_architecture(machine)
        self._frames = frames
        self._names = names
        self._read = read
        self._symbol = symbol
        self._vector_registers = vector_registers
        self._states: dict[int, FrameState] = {}

    def state(self, index: int) -> FrameState | None:
        """The state of frame `index`, None past the last one."""
        if index >= len(self._frames):
            return None
        if index not in self._states:
            frame = self._frames[index]
            self._states[index] = FrameState(
                registers=frame.registers,
                known=frame.known,
                carried=frame.carried,
                cfa=frame.cfa,
                pc=frame.lookup_address,
                bias=frame.bias,
                read=self._read,
                interrupted=frame.exact,
                caller=lambda: self.state(index + 1),
                function=lambda: self._function(index),
                # What a signal interrupted had other values than its handler has.
                vector_registers={} if any(each.signal for each in self._frames[:index]) else self._vector_registers,
                innermost=index == 0,
                in_prologue=lambda: self._in_prologue(index),
                symbol=self._symbol,
                definition=lambda name: self._definition(index, name),
                variable=lambda name: self._variable(index, name),
                architecture=self._architecture,
            )
        return self._states[index]

    def _function(self, index: int) -> Die | None:
        names = self._names(index)
        return names[-1].die if names else None

    def _in_prologue(self, index: int) -> bool:
        frame = self._frames[index]
        if not frame.exact or frame.module is None or frame.module.symbols is None:
            return False
        return frame.module.symbols.in_prologue(frame.lookup_address)

    def _definition(self, index: int, name: str) -> Die | None:
        module = self._frames[index].module
        if module is None or module.symbols is None:
            return None
        return module.symbols.definition(name)

    def _variable(self, index: int, name: str) -> int | None:
        frame = self._frames[index]
        if frame.module is None or frame.module.symbols is None:
            return None
        address = frame.module.symbols.symbol_names.object_named(name)
        return None if address is None else address + frame.bias

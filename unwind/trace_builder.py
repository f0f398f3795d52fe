"""From a sample to a trace: walk, names, arguments, and the reason for the end in words.

The one place where the address spaces, the walker, the symbols and the argument reader meet. Takes the events of
any source in the order of their capture; gives `unwind.trace.Trace`.
"""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from cfi_tables.layout import StopReason
from relay_reader.capture import (
    KERNEL_PID,
    Event,
    KernelCodeNamed,
    KernelSectionPlaced,
    KernelStack,
    MappingAdded,
    Sample,
)
from unwind.address_space import AddressSpace, AddressSpaces
from unwind.argument_frames import ArgumentFrames as ArgumentFrames
from unwind.arguments.argument_reader import arguments_of
from unwind.arguments.frame_state import FrameState
from unwind.arguments.local_reader import locals_of
from unwind.arguments.return_value import return_value
from unwind.captured_memory import CapturedMemory, ModuleMemory
from unwind.dwarf.die import Die
from unwind.frame_states import FrameStates
from unwind.jit_names import JitNames, MadeCodeNames
from unwind.kallsyms import Kallsyms
from unwind.kernel.indexed_names import IndexedNames
from unwind.kernel.kernel_chain import KernelChain, KernelNames
from unwind.kernel.kernel_walk import KernelModuleFile, KernelWalker
from unwind.late_mapping import executable_mapping
from unwind.module import Module, ModuleCatalog
from unwind.stack_walker import StackWalker, WalkedFrame, WalkedStack
from unwind.stop_text import LIVE_CUT_REMEDY, LIVE_MEMORY_REMEDY, chain_stop_text, stop_text
from unwind.symbolize.symbol_frame import SymbolFrame
from unwind.told_chain import chain_stack, told_stack
from unwind.trace import Trace, TraceFrame


@dataclass(frozen=True, slots=True)
class Hit:
    """What was hit, as far as a trace needs it."""

    probe: str
    die_offset: int | None = None
    """.debug_info offset of the probed function or inlined copy, where its first instruction was hit."""
    returned: Die | None = None
    """The function that returned, for a return probe with debug information."""
    is_return: bool = False
    """The probed function has returned: the innermost frame is its caller's, which was not probed."""
    weight_unit: str = ""
    """`ns` where weights are nanoseconds, empty where they are counts."""


class TraceBuilder:
    """Turns the events of one capture into traces. `max_depth` limits the frames of a stack.

    `locals_too`: those frames whose arguments are read show their local variables as well. `catalog` opens the files
    of processes that have ended; without it they are live, and asked for what the capture does not tell.
    `memory_remedy` is what to do where memory is missing, `cut_remedy` where the copy of a stack is too small.
    `kernel_names` names chains of a kernel; without it they are of the one that runs here. `names_made_code`: with a
    catalog, too, the processes are asked for the names of code that they have made; `made_code` has them otherwise.
    """

    def __init__(
        self,
        max_depth: int,
        argument_frames: ArgumentFrames = ArgumentFrames.PROBED,
        *,
        locals_too: bool = False,
        catalog: ModuleCatalog | None = None,
        memory_remedy: str = LIVE_MEMORY_REMEDY,
        cut_remedy: str = LIVE_CUT_REMEDY,
        kernel_names: KernelNames | None = None,
        names_made_code: bool = False,
        made_code: MadeCodeNames | None = None,
    ) -> None:
        self.spaces = AddressSpaces()
        self.catalog = catalog or ModuleCatalog()
        self.frames_without_lines: Counter[Module] = Counter()
        """Frames named without debug information, by module: what a user could mend."""
        self._walkers: dict[int, StackWalker] = {}
        """By the ELF machine number of the code: 32-bit processes run beside others."""
        self.stacks_without_lines: Counter[Module] = Counter()
        """Traces with such frames, by module."""
        self._lacking: set[Module] = set()
        """Modules of such frames in the trace that is being built."""
        self._argument_frames = argument_frames
        self._max_depth = max_depth
        self._kernel: KernelWalker | None = None
        self._system_map: Kallsyms | None = None
        self._live = catalog is None
        self._names_made_code = self._live or names_made_code or made_code is not None
        self.jit_names: MadeCodeNames = made_code or JitNames()
        self._locals_too = locals_too
        self._memory_remedy = memory_remedy
        self._cut_remedy = cut_remedy
        self._kernel_names = IndexedNames()
        self._chain = kernel_names
        self._memory: dict[int, ModuleMemory] = {}

    def apply(self, event: Event) -> None:
        """Follow a mapping, fork, exec, exit or name event, or code of the kernel that comes or goes."""
        if isinstance(event, KernelSectionPlaced):
            if self._kernel is not None:
                self._kernel.place(event)
            return
        if isinstance(event, KernelCodeNamed) or (isinstance(event, MappingAdded) and event.pid == KERNEL_PID):
            if self._chain is not None:
                self._chain.apply(event)
            return
        self.spaces.apply(event)

    def use_vmlinux(
        self,
        path: str,
        build_id: bytes | None,
        system_map: str | None = None,
        modules: Sequence[KernelModuleFile] = (),
    ) -> None:
        """Walk and name the kernel's stacks that were recorded by this vmlinux and the files of these modules.

        `system_map` names what vmlinux does not.
        """
        self._system_map = Kallsyms.open(system_map) if system_map else None
        self._kernel = KernelWalker(path, build_id, self.catalog, self._max_depth, modules)

    def build(self, sample: Sample, hit: Hit | None) -> Trace:
        """The trace of `sample`; `hit` is the probe it belongs to, None for a sampling event."""
        self._lacking.clear()
        trace = self._built(sample, hit)
        self.stacks_without_lines.update(self._lacking)
        return trace

    def _built(self, sample: Sample, hit: Hit | None) -> Trace:
        if sample.kernel_stack is not None and self._kernel is not None:
            if not sample.kernel_chain or not self._kernel.lacks_table:
                return self._kernel_trace(sample, self._kernel.walk(sample, sample.kernel_stack), hit)
            return self._told_kernel_trace(sample, sample.kernel_stack, hit)
        stack, frames, text, first = self._user_part(sample, hit)
        trace = self._trace(sample, hit, stack.stop, self._kernel_frames(sample) + frames, text)
        if sample.told_chain is not None and not sample.slices:
            trace.chain = sample.told_chain.source.value
        trace.returned = return_value(hit.returned, first) if hit and hit.returned and first else None
        trace.signal = _signal_name(sample.signal) if sample.signal else None
        return trace

    def _user_part(
        self, sample: Sample, hit: Hit | None
    ) -> tuple[WalkedStack, list[TraceFrame], str | None, FrameState | None]:
        """The user's stack and frames, why there are no more, and what is known of the innermost one."""
        stack = self._walk(sample)
        if _ends_at_entry_point(stack):
            stack.stop = StopReason.END_OF_STACK
        names = [self._names(frame, hit if index == 0 else None) for index, frame in enumerate(stack.frames)]
        modules = self._module_memory(sample.pid, sample.machine)
        states = FrameStates(
            stack.frames,
            lambda index: names[index],
            CapturedMemory(sample, modules).read,
            modules.symbol,
            _VectorRegisters(sample),
            sample.machine,
        )
        frames = self._user_frames(stack, names, states, hit)
        made_at_run_time = self._name_jit_frames(stack, frames, sample.pid)
        return stack, frames, self._stop_text(sample, stack, made_at_run_time), states.state(0)

    def _stop_text(self, sample: Sample, stack: WalkedStack, made_at_run_time: str | None) -> str | None:
        if sample.guest:
            return "a virtual machine's guest: of its stack and its files nothing is known here"
        if sample.told_chain is not None and not sample.slices:
            return chain_stop_text(sample.told_chain, stack.stop)
        return stop_text(stack, made_at_run_time, self._memory_remedy, self._cut_remedy)

    def _kernel_trace(self, sample: Sample, stack: WalkedStack, hit: Hit | None) -> Trace:
        """The trace of a sample whose kernel stack was recorded, and the user's where there is one."""
        frames = []
        assert self._kernel is not None
        for frame in stack.frames:
            module = self._kernel.module_name(frame)
            for trace_frame, _ in self._calls(frame, self._names_in_kernel(frame), in_kernel=True):
                trace_frame.space, trace_frame.module, trace_frame.signal = "kernel", module or "[kernel]", False
                if trace_frame.function is None and self._system_map is not None and module is None:
                    symbol = self._system_map.find(frame.lookup_address)
                    if symbol is not None:
                        trace_frame.function = symbol.name
                        trace_frame.offset = symbol.offset + frame.pc - frame.bias - frame.lookup_address
                frames.append(trace_frame)
        return self._with_user_part(sample, stack, frames, hit)

    def _told_kernel_trace(self, sample: Sample, told: KernelStack, hit: Hit | None) -> Trace:
        """The same with the addresses that were found at the probe, where the kernel's files are not to be had."""
        stack = WalkedStack([], StopReason(told.stop), told.stop_detail)
        if self._chain is not None:
            frames = self._kernel_frames(sample)
        else:  # nobody knows which kernel it was: that of this machine would give any names
            frames = [TraceFrame("kernel", address, "[kernel]") for address in sample.kernel_chain]
        return self._with_user_part(sample, stack, frames, hit)

    def _with_user_part(self, sample: Sample, stack: WalkedStack, frames: list[TraceFrame], hit: Hit | None) -> Trace:
        """The trace of a kernel stack with these frames, and of the user's where there is one."""
        if sample.user_stack is None:
            return self._trace(sample, hit, stack.stop, frames, stop_text(stack))
        # Of the user's frames none was probed.
        user, user_frames, user_text, _ = self._user_part(sample, replace(hit, is_return=True) if hit else None)
        whole = stack.stop is StopReason.END_OF_STACK
        text = user_text if whole else stop_text(stack)
        return self._trace(sample, hit, user.stop if whole else stack.stop, frames + user_frames, text)

    def _trace(
        self, sample: Sample, hit: Hit | None, stop: StopReason, frames: list[TraceFrame], text: str | None
    ) -> Trace:
        """What every trace tells of its sample, and why it stops."""
        return Trace(
            probe=hit.probe if hit else None,
            time_ns=sample.time_ns,
            cpu=sample.cpu,
            pid=sample.pid,
            tid=sample.tid,
            comm=self.spaces.comm(sample.pid, sample.tid),
            weight=sample.weight,
            weight_unit=hit.weight_unit if hit else "",
            stop=stop,
            frames=frames,
            stop_text=text,
        )

    def _walk(self, sample: Sample) -> WalkedStack:
        """The user stack, through memory too that was mapped since the source last told of mappings."""
        space = self.spaces.of(sample.pid)
        told = sample.user_stack
        if told is not None and not sample.slices:
            catalog = self.catalog.of_machine(sample.machine)
            return told_stack(told.chain, told.stop, told.stop_detail, space, catalog, sample.pid)
        if sample.told_chain is not None and not sample.slices:
            return chain_stack(sample.told_chain, AddressSpace() if sample.guest else space, self.catalog, sample.pid)
        if sample.kernel_chain and not sample.known and not sample.guest and not len(space):
            # A thread of the kernel itself, or an idle processor: no program, no user's part.
            return WalkedStack([], StopReason.END_OF_STACK, 0)
        walker = self._walkers.get(sample.machine)
        if walker is None:
            walker = StackWalker(self.catalog.of_machine(sample.machine), self._max_depth)
            self._walkers[sample.machine] = walker
        stack = walker.walk(sample, space)
        while self._live and stack.stop is StopReason.NO_MAPPING and sample.read_memory is not None:
            mapping = executable_mapping(sample.pid, stack.detail)
            if mapping is None or space.find(stack.detail) is not None:
                break
            space.add(mapping)
            stack = walker.walk(sample, space)
        return stack

    def _names(self, frame: WalkedFrame, hit: Hit | None) -> list[SymbolFrame]:
        """Symbol frames at `frame`, innermost first.

        At a probe on a function's first instruction, calls inlined at that very address have not begun: they are
        left out, as the probed function's own entry is what was hit.
        """
        if frame.module is None or frame.module.symbols is None:
            return []
        found = frame.module.symbols.frames_at(frame.lookup_address)
        if hit is not None and hit.die_offset is not None:
            for index, symbol in enumerate(found):
                if symbol.die is not None and symbol.die.offset == hit.die_offset:
                    return found[index:]
        return found

    def _names_in_kernel(self, frame: WalkedFrame) -> list[SymbolFrame]:
        image = frame.module.image if frame.module is not None else None
        if image is None:
            return []
        return self._kernel_names.frames_at(image, frame.lookup_address) or self._names(frame, None)

    def _user_frames(
        self, stack: WalkedStack, names: list[list[SymbolFrame]], states: FrameStates, hit: Hit | None
    ) -> list[TraceFrame]:
        """Every call, inlined ones too, with the arguments that were asked for."""
        frames: list[TraceFrame] = []
        for index, frame in enumerate(stack.frames):
            for trace_frame, symbol in self._calls(frame, names[index]):
                if self._locals_too:
                    trace_frame.locals = []
                if symbol is not None and symbol.die is not None and self._wants_arguments(len(frames), hit):
                    state = states.state(index)
                    if state is not None:
                        trace_frame.arguments = arguments_of(symbol.die, state)
                        if self._locals_too:
                            trace_frame.locals = locals_of(symbol.die, state)
                frames.append(trace_frame)
        return frames

    def _wants_arguments(self, number: int, hit: Hit | None) -> bool:
        """Whether user frame `number`'s arguments are read. The first one after a return is the caller, not probed."""
        if self._argument_frames is ArgumentFrames.PROBED:
            return number == 0 and not (hit is not None and hit.is_return)
        return self._argument_frames is ArgumentFrames.ALL

    def _calls(
        self, frame: WalkedFrame, names: list[SymbolFrame], *, in_kernel: bool = False
    ) -> list[tuple[TraceFrame, SymbolFrame | None]]:
        """The calls of one physical frame, innermost first, each with its symbol."""
        module = frame.module
        path = frame.mapping.path if frame.mapping is not None else None
        build_id = module.build_id.hex() if module is not None and module.build_id else None
        # Of those that an index tells there are no entries, but files.
        indexed = names and in_kernel and names[-1].file is not None
        if module is not None and not indexed and (not names or names[-1].die is None):
            self.frames_without_lines[module] += 1
            self._lacking.add(module)
        if not names:
            return [
                (TraceFrame("user", frame.pc, path, build_id, signal=frame.signal), None),
            ]
        result: list[tuple[TraceFrame, SymbolFrame | None]] = []
        for symbol in names:
            offset = None
            if not symbol.inlined and symbol.offset is not None:
                offset = symbol.offset + (frame.pc - frame.bias - frame.lookup_address)
            trace_frame = TraceFrame(
                space="user",
                address=frame.pc,
                module=path,
                build_id=build_id,
                function=symbol.function,
                offset=offset,
                file=symbol.file,
                line=symbol.line,
                column=symbol.column,
                inlined=symbol.inlined,
                signal=frame.signal,
            )
            result.append((trace_frame, symbol))
        return result

    def _name_jit_frames(self, stack: WalkedStack, frames: list[TraceFrame], pid: int) -> str | None:
        """Name the frames in code that the process made at run time; the name of the outermost one, if it has one.

        Such code lies in memory without a file, or with a file that is only memory (a memfd).
        """
        if not self._names_made_code:
            return None
        name = None
        made = {each.pc: each for each in stack.frames if each.module is None or each.module.image is None}
        for frame in frames:
            walked = made.get(frame.address) if frame.space == "user" and frame.function is None else None
            if walked is None:
                continue
            behind = 0 if walked.exact or walked.signal else 1
            found = self.jit_names.find(pid, frame.address - behind)
            if found is not None:
                frame.function, frame.offset, frame.module = found[0].name, found[0].offset + behind, found[1]
            if walked is stack.frames[-1]:
                name = frame.function
        return name

    def _kernel_frames(self, sample: Sample) -> list[TraceFrame]:
        if not sample.kernel_chain:
            return []
        if sample.guest:
            return [TraceFrame("kernel", address, "[guest.kernel]") for address in sample.kernel_chain]
        if self._chain is None:
            self._chain = KernelChain()
        return self._chain.frames(sample.kernel_chain)

    @property
    def kernel_problems(self) -> list[str]:
        """Why kernel frames have no names or no lines, once one was seen."""
        return self._chain.all_problems() if self._chain is not None else []

    def _module_memory(self, pid: int, machine: int) -> ModuleMemory:
        space = self.spaces.of(pid)
        memory = self._memory.get(pid)
        if memory is None or memory.space is not space or memory.version != space.version:
            memory = self._memory[pid] = ModuleMemory(space, self.catalog.of_machine(machine), pid)
        return memory


def _ends_at_entry_point(stack: WalkedStack) -> bool:
    """True when the last frame is the code that the kernel started the program with, and CFI does not say so.

    Nothing called that code. The C library marks its own (an undefined return address); the dynamic linker's _start
    and _dl_start_user lie in one gap of its CFI.
    """
    if stack.stop is not StopReason.NO_ROW or not stack.frames:
        return False
    frame = stack.frames[-1]
    return frame.module is not None and frame.module.is_entry_code(frame.lookup_address)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal, or damage
        return f"signal {number}"


class _VectorRegisters(Mapping[int, bytes]):
    """The vector registers of a sample by DWARF number, read from the source when first asked for."""

    def __init__(self, sample: Sample) -> None:
        self._sample = sample
        self._values: dict[int, bytes] | None = None

    def _read(self) -> dict[int, bytes]:
        if self._values is None:
            read = self._sample.read_vector_registers
            self._values = read() if read is not None else {}
        return self._values

    def __getitem__(self, register: int) -> bytes:
        return self._read()[register]

    def __iter__(self):  # type: ignore[no-untyped-def]
        return iter(self._read())

    def __len__(self) -> int:
        return len(self._read())

"""The Capture model: what every capture source yields and what the walk consumes.

A capture is a stream of events in time order: mappings come and go, processes fork, exec and exit, names change,
and samples carry registers and slices of raw stack. Live perf events, ptrace, and files all produce these same
events, so that nothing behind this door knows where a sample came from.

Times are CLOCK_MONOTONIC nanoseconds unless a source says otherwise. Addresses are unsigned.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import TypeAlias

# Number of registers in a sample: DWARF numbers 0-15 (rax rdx rcx rbx rsi rdi rbp rsp r8-r15) and 16, the
# return address column, which holds rip (System V ABI AMD64, figure 3.36).
X86_64_REGISTER_COUNT = 17
EM_X86_64 = 62
EM_386 = 3


@dataclass(frozen=True, slots=True)
class Mapping:
    """One executable mapping of a process: `[start, end)` maps `path` from byte `file_offset` on."""

    start: int
    end: int
    file_offset: int
    path: str
    """As the kernel names it: an absolute path, or `[vdso]`, `[uprobes]`, `//anon`, …"""
    build_id: bytes | None = None
    """When the source knows it (perf mmap2 records, a capture file)."""


KERNEL_PID = -1
"""The pid of what the kernel itself has mapped: its own code and that of its modules."""


@dataclass(frozen=True, slots=True)
class MappingAdded:
    """A process mapped executable memory; older mappings that it overlaps are gone where it overlaps.

    Of KERNEL_PID: `[kernel.kallsyms]_text` is the kernel's own code, its `file_offset` the run-time address of the
    symbol behind the bracket; `[NAME]` or a path is that of a module.
    """

    time_ns: int
    pid: int
    mapping: Mapping


@dataclass(frozen=True, slots=True)
class ProcessForked:
    """A new process (`pid` differs from `parent_pid`) or a new thread (they are equal)."""

    time_ns: int
    pid: int
    parent_pid: int
    tid: int
    parent_tid: int
    inherits: bool = True
    """A new process has its parent's mappings. False: it ran before the capture began, and its own are told."""


@dataclass(frozen=True, slots=True)
class ProcessExeced:
    """A process runs another program: every mapping it had is gone. Its new mappings follow."""

    time_ns: int
    pid: int
    comm: str


@dataclass(frozen=True, slots=True)
class ThreadNamed:
    """A thread's comm changed, or is told for the first time."""

    time_ns: int
    pid: int
    tid: int
    comm: str


@dataclass(frozen=True, slots=True)
class ThreadExited:
    """A thread ended; the process ended when `tid` equals `pid`."""

    time_ns: int
    pid: int
    tid: int


@dataclass(frozen=True, slots=True)
class RecordsLost:
    """The source dropped `count` records on `cpu` (-1: unknown) before `time_ns`."""

    time_ns: int
    cpu: int
    count: int


@dataclass(frozen=True, slots=True)
class KernelCodeNamed:
    """Code that the kernel has made or taken in at run time (a BPF program, a trampoline) has a name from now on."""

    time_ns: int
    address: int
    size: int
    name: str
    gone: bool = False
    """It is no longer there."""


class ChainSource(Enum):
    """What a chain of user addresses was found by."""

    FRAME_POINTERS = "fp"
    LAST_BRANCHES = "lbr"


@dataclass(frozen=True, slots=True)
class ToldChain:
    """A user stack of which the source tells only the addresses, as it found them itself.

    It is what it is: frame pointers miss functions that were built without them, the processor's branch records hold
    the innermost calls only.
    """

    source: ChainSource
    addresses: tuple[int, ...]
    """Innermost first: the interrupted pc, then return addresses (FRAME_POINTERS) or calls (LAST_BRANCHES)."""
    cut: bool = False
    """A limit of the source ended it."""

    @property
    def calls(self) -> bool:
        """The addresses behind the first one are those of calls, not those that they return to."""
        return self.source is ChainSource.LAST_BRANCHES


@dataclass(frozen=True, slots=True)
class StackSlice:
    """Raw memory `data` copied from `address` on."""

    address: int
    data: bytes
    cut: bool = False
    """True when the memory goes on but the capture's size limit ended the copy."""


MemoryReader: TypeAlias = Callable[[int, int], bytes]
"""`read(address, size)` gives up to `size` bytes of the sampled thread's memory, b"" where it cannot be read."""


@dataclass(frozen=True, slots=True)
class KernelStack:
    """The kernel's stack at a hit, as the kernel module has recorded it."""

    registers: tuple[int, ...]
    """X86_64_REGISTER_COUNT values in DWARF order; the pc was interrupted there, or is where a call returns to."""
    known: int
    """Bit r set: `registers[r]` is known."""
    slices: list[StackSlice]
    slide: int
    """Run-time address of the kernel's code less that in vmlinux."""
    stop: int
    """Why the walk at the probe ended (the table schema's StopReason)."""
    stop_detail: int
    flags: int
    """The record schema's HitFlag."""
    oracle: tuple[int, ...] = ()
    """What the kernel's own unwinder says, the module's own frames innermost; where a test asked for it."""


@dataclass(frozen=True, slots=True)
class KernelSectionPlaced:
    """Where code of a module of the kernel lies from now on."""

    time_ns: int
    module: int
    """Its number in the session's description."""
    section: int
    """Its number among the module's sections there."""
    address: int
    """0: it is gone."""


@dataclass(frozen=True, slots=True)
class UserStack:
    """How the walk of the user's stack went at a hit, as the kernel module has recorded it."""

    registers: tuple[int, ...]
    """X86_64_REGISTER_COUNT values in DWARF order, as user space was left."""
    known: int
    """Bit r set: `registers[r]` is known."""
    chain: tuple[int, ...]
    """The addresses that were found, innermost first."""
    stop: int
    """Why there are no more (the table schema's StopReason)."""
    stop_detail: int
    generation: int
    """Of the mappings that it went by; 0: it had none."""
    start_stack: int
    """Where the program's stack began: what tells the programs of one process from each other."""
    flags: int
    """The record schema's HitFlag."""


@dataclass(slots=True)
class Sample:
    """One hit of a probe, or one tick of a sampling event."""

    time_ns: int
    cpu: int
    pid: int
    tid: int
    places: tuple[int, ...]
    """Indices of the probe places that were hit (as given to the back end); empty for a sampling event."""
    registers: tuple[int, ...]
    """X86_64_REGISTER_COUNT values in DWARF order, 0 where unknown; () when there is no user context."""
    known: int
    """Bit r set: `registers[r]` is known."""
    slices: list[StackSlice] = field(default_factory=list)
    kernel_chain: tuple[int, ...] = ()
    """Kernel addresses, innermost first: the interrupted pc, then return addresses."""
    kernel_stack: KernelStack | None = None
    """What the kernel's chain can be walked again from."""
    user_stack: UserStack | None = None
    """What the kernel module says of the user's stack, which `registers` and `slices` are of."""
    told_chain: ToldChain | None = None
    """The user's stack where nothing was recorded that it could be walked from."""
    guest: bool = False
    """It is of a virtual machine's guest: the addresses are its, and nothing of the host's is mapped there."""
    weight: int = 1
    """Events that the sample stands for: a sampling event's period, where the source tells it."""
    read_memory: MemoryReader | None = None
    """Reads more of the stopped thread's memory; valid only until the next event is asked for. None for a source
    that copied all it could (perf, files)."""

    read_vector_registers: Callable[[], dict[int, bytes]] | None = None
    """xmm0-xmm15 by DWARF number (17-32), 16 bytes each; valid as long as `read_memory`. None: not captured."""

    left_to_file: Callable[[int], bool] | None = None
    """Whether memory at an address that `read_memory` does not have is as in the file that is mapped there, writable
    or not. None: only what cannot be written is."""

    called: bool = False
    """The pc is where a call returns to, not where the code was interrupted."""

    signal: int = 0
    """The number of the signal that ended the process in this thread, where a core file tells."""

    machine: int = EM_X86_64
    """The ELF machine number of the code that ran, whose registers these are."""

    signature_mask: int | None = None
    """The bits of a return address that its signature takes (aarch64's pointer authentication). None: not told."""


Event: TypeAlias = (
    MappingAdded
    | ProcessForked
    | ProcessExeced
    | ThreadNamed
    | ThreadExited
    | RecordsLost
    | KernelSectionPlaced
    | KernelCodeNamed
    | Sample
)

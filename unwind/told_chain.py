"""A stack of which only the addresses were recorded: frames without registers, for names and lines.

Whether an address was interrupted, or is one that a call returns to, is told by the frame before it: what a signal
frame returns to was interrupted, by the table's own word.
"""

from __future__ import annotations

from collections.abc import Sequence

from cfi_tables.layout import (
    CFA_KIND_END,
    REGISTER_KIND_UNDEFINED,
    RULE_FLAG_SIGNAL_FRAME,
    StopReason,
)
from cfi_tables.lookup import find_rule, register_list
from cfi_tables.scalars import read_i32
from relay_reader.capture import ToldChain
from unwind.address_space import AddressSpace
from unwind.architecture.frame_architecture import frame_architecture
from unwind.module import ModuleCatalog
from unwind.stack_walker import WalkedFrame, WalkedStack


def told_stack(
    chain: Sequence[int], stop: int, detail: int, space: AddressSpace, catalog: ModuleCatalog, pid: int
) -> WalkedStack:
    """The stack whose addresses are `chain`, innermost first, in a process with the mappings of `space`."""
    frames = []
    exact = True
    for pc in chain:
        frame, _ = _frame(pc, exact, space, catalog, pid)
        frames.append(frame)
        exact = frame.signal
    return WalkedStack(frames, StopReason(stop), detail, catalog.machine)


def chain_stack(chain: ToldChain, space: AddressSpace, catalog: ModuleCatalog, pid: int) -> WalkedStack:
    """The stack that a source tells which found the addresses by means of its own.

    It is whole when its outermost frame is one that nothing called, by the table's word or as the program's entry.
    Whatever ended it elsewhere is not known: TOO_DEEP where that was a limit, else NO_REGISTERS.
    """
    frames = []
    exact, outermost = True, False
    for pc in chain.addresses:
        frame, outermost = _frame(pc, exact or chain.calls, space, catalog, pid)
        frames.append(frame)
        exact = frame.signal
    if not outermost and frames and frames[-1].module is not None:
        outermost = frames[-1].module.is_entry_code(frames[-1].lookup_address)
    if outermost:
        return WalkedStack(frames, StopReason.END_OF_STACK, 0, catalog.machine)
    stop = StopReason.TOO_DEEP if chain.cut else StopReason.NO_REGISTERS
    return WalkedStack(frames, stop, 0, catalog.machine)


def _frame(pc: int, exact: bool, space: AddressSpace, catalog: ModuleCatalog, pid: int) -> tuple[WalkedFrame, bool]:
    """The frame at `pc`, and whether the table says that nothing called it."""
    mapping = space.find(pc if exact else pc - 1)
    module = catalog.module_for(mapping, pid) if mapping is not None else None
    bias = module.bias(mapping) if module is not None and mapping is not None else 0
    frame = WalkedFrame(pc, exact, False, None, mapping, module, bias, (), 0, 0)
    if module is None or module.table is None:
        return frame, False
    table = memoryview(module.table.data.data)
    rule = find_rule(table, 0, frame.lookup_address)
    if rule < 0:
        return frame, False
    entries = register_list(table, 0, rule)
    frame.signal = bool(table[entries + 1] & RULE_FLAG_SIGNAL_FRAME)
    rules = (read_i32(table, entries + 4 + 4 * index) for index in range(table[entries]))
    returns_by = frame_architecture(catalog.machine).cfi.return_column
    undefined = any(each & 63 == returns_by and (each >> 6) & 7 == REGISTER_KIND_UNDEFINED for each in rules)
    return frame, undefined or table[rule] == CFA_KIND_END

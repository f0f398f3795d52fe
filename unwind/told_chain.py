"""A stack of which only the addresses were recorded: frames without registers, for names and lines.

Whether an address was interrupted, or is one that a call returns to, is told by the frame before it: what a signal
frame returns to was interrupted, by the table's own word.
"""

from __future__ import annotations

from collections.abc import Sequence

from cfi_tables.layout import RULE_FLAG_SIGNAL_FRAME, StopReason
from cfi_tables.lookup import find_rule, register_list
from unwind.address_space import AddressSpace
from unwind.module import ModuleCatalog
from unwind.stack_walker import WalkedFrame, WalkedStack


def told_stack(
    chain: Sequence[int], stop: int, detail: int, space: AddressSpace, catalog: ModuleCatalog, pid: int
) -> WalkedStack:
    """The stack whose addresses are `chain`, innermost first, in a process with the mappings of `space`."""
    frames = []
    exact = True
    for pc in chain:
        mapping = space.find(pc if exact else pc - 1)
        module = catalog.module_for(mapping, pid) if mapping is not None else None
        bias = module.bias(mapping) if module is not None and mapping is not None else 0
        frame = WalkedFrame(pc, exact, False, None, mapping, module, bias, (), 0, 0)
        if module is not None and module.table is not None:
            table = memoryview(module.table.data.data)
            rule = find_rule(table, 0, frame.lookup_address)
            if rule >= 0:
                frame.signal = bool(table[register_list(table, 0, rule) + 1] & RULE_FLAG_SIGNAL_FRAME)
        frames.append(frame)
        exact = frame.signal
    return WalkedStack(frames, StopReason(stop), detail, catalog.machine)

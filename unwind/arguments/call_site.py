"""What a caller's debug information tells of the values it passed (DWARF 5 §3.4, and the GNU form of DWARF
4).

A DW_OP_entry_value in a callee is answered by the DW_TAG_call_site of the caller whose return address is the
one that the frame returns to. Tail calls make that wrong in two ways: the call may have been meant for another
function that jumped here, and this function may have jumped, possibly through others, back to itself. The second is
refused, as gdb refuses it. The first is followed where the jumps can have gone one way only; each function that
jumped has a state of its own, made of what its caller had.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache

from unwind.arguments.frame_state import FrameState
from unwind.arguments.unavailable import Reason, Unavailable
from unwind.dwarf.damage import DwarfError
from unwind.dwarf.die import Die
from unwind.dwarf.enumeration import At, Tag

_CALL_SITES = (Tag.CALL_SITE, Tag.GNU_CALL_SITE)
_PARAMETERS = (Tag.CALL_SITE_PARAMETER, Tag.GNU_CALL_SITE_PARAMETER)
_SCOPES = (Tag.INLINED_SUBROUTINE, Tag.LEXICAL_BLOCK)
_MOST_ENTRIES = 200_000
_MOST_TAIL_CALLS = 1_000
_JUMPED_HERE = "the call was for another function, which jumped here"

UNKNOWN = "value at function entry is not known: "
"""How the reasons of this kind begin."""

Address = Callable[[bytes, FrameState, Die], int]
"""Evaluates an expression in a state, for an entry's unit, to a run-time address. Raises Unavailable."""


@dataclass(frozen=True, slots=True)
class CallSite:
    """The call that a frame returns to, and the caller's frame, in which its expressions are evaluated."""

    die: Die
    caller: FrameState


def call_site_of(state: FrameState, address_of: Address) -> CallSite:
    """The call site that entered `state`'s function, certain to be for it. Raises Unavailable."""
    if state.entered_by is not None:
        return state.entered_by
    caller = state.caller()
    if caller is None:
        raise _unknown("the caller's frame is not known")
    return_pc = caller.return_pc
    caller_function = caller.function()
    if return_pc is None or caller_function is None:
        raise _unknown("the caller has no debug information")
    function = state.function()
    if function is None:
        raise _unknown("the function has no debug information")
    site = _site_before(caller_function, return_pc)
    if site is None:
        raise _unknown("the caller does not describe the call")
    start = _called_first(site, function, state, caller, address_of)
    _check_no_self_tail_call(function, state)
    if start is not None:
        return _through_jumps(CallSite(site, caller), start, function, state)
    _check_no_clone_jump(site, function)
    return CallSite(site, caller)


def _site_before(function: Die, return_pc: int) -> Die | None:
    """The call site of `function` that returns to an address."""
    try:
        return _sites_by_return_pc(function).get(return_pc)
    except DwarfError:  # of a damaged function, what lies before the damage
        return next((site for site in call_sites(function) if _return_pc(site) == return_pc), None)


@lru_cache(maxsize=256)
def _sites_by_return_pc(function: Die) -> dict[int, Die]:
    """All call sites of a function, of several that return to one address the first. Raises DwarfError."""
    found: dict[int, Die] = {}
    for site in call_sites(function):
        return_pc = _return_pc(site)
        if return_pc is not None:
            found.setdefault(return_pc, site)
    return found


@lru_cache(maxsize=256)
def _tail_calls(function: Die) -> tuple[Die, ...]:
    """The call sites of a function that jump."""
    return tuple(site for site in call_sites(function) if _is_tail_call(site))


def call_sites(function: Die) -> Iterator[Die]:
    """Call sites of a subprogram's own code, inlined calls included."""
    pending = [function.children()]
    seen = 0
    while pending:
        for child in pending[-1]:
            seen += 1
            if seen > _MOST_ENTRIES:
                return
            if child.tag in _CALL_SITES:
                yield child
            elif child.tag in _SCOPES:
                pending.append(child.children())
                break
        else:
            pending.pop()


def parameter_for_register(site: Die, register: int) -> Die | None:
    """The call site parameter that is passed in a register (DWARF number)."""
    return _parameter(site, lambda parameter: _register_of(parameter) == register)


def parameter_for_entry(site: Die, formal_parameter: Die) -> Die | None:
    """The call site parameter that is for a formal parameter of the callee."""

    def is_it(parameter: Die) -> bool:
        for attribute in (At.CALL_PARAMETER, At.ABSTRACT_ORIGIN):
            formal = parameter.reference(attribute)
            if formal is not None:
                return formal == formal_parameter
        return False

    return _parameter(site, is_it)


def passed_value(parameter: Die | None) -> bytes | None:
    """Expression of the value passed."""
    return _expression(parameter, At.CALL_VALUE, At.GNU_CALL_SITE_VALUE)


def passed_data_value(parameter: Die | None) -> bytes | None:
    """Expression of the value that the passed pointer or reference points to."""
    return _expression(parameter, At.CALL_DATA_VALUE, At.GNU_CALL_SITE_DATA_VALUE)


def _parameter(site: Die, is_it: Callable[[Die], bool]) -> Die | None:
    for child in site.children():
        if child.tag in _PARAMETERS and is_it(child):
            return child
    return None


def _register_of(parameter: Die) -> int | None:
    """The register when DW_AT_location is DW_OP_reg0-31 or DW_OP_regx below 128 alone."""
    where = parameter.get(At.LOCATION)
    if isinstance(where, bytes):
        if len(where) == 1 and 0x50 <= where[0] <= 0x6F:
            return where[0] - 0x50
        if len(where) == 2 and where[0] == 0x90 and where[1] < 0x80:
            return where[1]
    return None


def _expression(die: Die | None, *attributes: At) -> bytes | None:
    for attribute in attributes:
        value = die.get(attribute) if die is not None else None
        if isinstance(value, bytes):
            return value
    return None


def _return_pc(site: Die) -> int | None:
    # DWARF 5 names the return address; the GNU entry of DWARF 4 keeps it in DW_AT_low_pc.
    value = site.get(At.CALL_RETURN_PC if site.tag == Tag.CALL_SITE else At.LOW_PC)
    return value if isinstance(value, int) else None


def _unknown(text: str) -> Unavailable:
    return Unavailable(Reason.ENTRY_VALUE, UNKNOWN + text)


def _origin(site: Die) -> Die | None:
    return site.reference(At.CALL_ORIGIN) or site.reference(At.ABSTRACT_ORIGIN)


def _called_first(site: Die, function: Die, state: FrameState, caller: FrameState, address_of: Address) -> Die | None:
    """The function that the call was for, where that is another one than `function`, which then jumped."""
    origin = _origin(site)
    if origin is not None:
        if same_function(origin, function):
            return None
        start = _sole_definition(origin, state) if caller.bias == state.bias else None
        if start is None:
            raise _unknown(_JUMPED_HERE)
        return start
    target = _expression(site, At.CALL_TARGET, At.GNU_CALL_SITE_TARGET)
    if target is None:
        raise _unknown("the caller does not tell which function it called")
    try:
        address = address_of(target, caller, site)
    except Unavailable as why:
        raise _unknown(f"the target of the indirect call is not known ({why})") from None
    entry = _entry_pc(function)
    if entry is None or address != entry + state.bias:
        raise _unknown(_JUMPED_HERE)
    return None


def _entry_pc(function: Die) -> int | None:
    """Where a function is entered: at its first range's first byte, where nothing else is said (DWARF 5 §2.18)."""
    for attribute in (At.ENTRY_PC, At.LOW_PC):
        entry = function.get(attribute)
        if isinstance(entry, int):
            return entry
    return next((low for low, _ in function.ranges()), None)


def _through_jumps(entered: CallSite, start: Die, function: Die, state: FrameState) -> CallSite:
    """The tail call that entered `function`, when only one chain of them leads there from `start`."""
    chain = _only_chain(start, function, state)
    for site, owner in chain:
        entered = CallSite(site, _state_at_jump(owner, site, entered, state))
    return entered


def _only_chain(start: Die, function: Die, state: FrameState) -> list[tuple[Die, Die]]:
    """The tail calls from `start` to `function`, each with the function that makes it. Raises Unavailable."""
    found: list[list[tuple[Die, Die]]] = []
    pending: list[tuple[Die, list[tuple[Die, Die]]]] = [(start, [])]
    seen = {start}
    while pending:
        owner, path = pending.pop()
        for site in _tail_calls(owner):
            origin = _origin(site)
            if origin is None:
                raise _unknown("a function on the way makes an indirect tail call")
            if same_function(origin, function):
                _check_no_clone_jump(site, function)
                found.append([*path, (site, owner)])
                continue
            target = _sole_definition(origin, state)
            if target is None:
                continue
            if target in seen or len(seen) > _MOST_TAIL_CALLS:
                raise _unknown(_JUMPED_HERE + ", perhaps on several ways")
            seen.add(target)
            pending.append((target, [*path, (site, owner)]))
    if len(found) != 1:
        raise _unknown(_JUMPED_HERE + (", on one of several ways" if found else ""))
    return found[0]


def _state_at_jump(owner: Die, site: Die, entered: CallSite, state: FrameState) -> FrameState:
    """The state of `owner` as it jumped: its frame was gone, so callee-saved registers were its caller's again."""
    pc = _return_pc(site)
    if pc is None:
        raise _unknown("a tail call without an address")
    return FrameState(
        registers=entered.caller.registers,
        known=entered.caller.known & state.architecture.preserved_mask,
        cfa=state.cfa,
        pc=pc - 1,
        bias=state.bias,
        read=state.read,
        caller=lambda: entered.caller,
        function=lambda: owner,
        innermost=False,
        symbol=state.symbol,
        definition=state.definition,
        entered_by=entered,
        architecture=state.architecture,
    )


def _is_tail_call(site: Die) -> bool:
    return bool(site.get(At.CALL_TAIL_CALL) or site.get(At.GNU_TAIL_CALL))


def _check_no_self_tail_call(function: Die, state: FrameState) -> None:
    """Refuse when `function` can reach itself by tail calls (gdb's func_verify_no_selftailcall)."""
    pending, seen = [function], {function}
    while pending:
        for site in _tail_calls(pending.pop()):
            origin = _origin(site)
            if origin is None:
                raise _unknown("the function makes an indirect tail call, perhaps to itself")
            if same_function(origin, function):
                raise _unknown("the function can call itself by tail calls")
            target = _definition(origin, state)
            if target is not None and target not in seen:
                if len(seen) > _MOST_TAIL_CALLS:
                    raise _unknown("too many tail calls to follow")
                seen.add(target)
                pending.append(target)


def _check_no_clone_jump(site: Die, function: Die) -> None:
    """Refuse when the call may have entered another copy of the function, which jumped to this one.

    A call site names the abstract instance, which gcc's clones (.constprop, .isra, .part) share: it does not
    tell which of them was called. A copy that makes no tail call cannot be what lies between.
    """
    origin = _origin(site)
    if origin is None or origin == function:
        return
    if any(
        makes_tail_call for copy, makes_tail_call in _copies(function.reference(At.ABSTRACT_ORIGIN)) if copy != function
    ):
        raise _unknown("the call may have been for another copy of the function, which jumped here")


@lru_cache(maxsize=1024)
def _copies(abstract: Die | None) -> tuple[tuple[Die, bool], ...]:
    """The subprograms with machine code of one abstract instance, and whether each makes tail calls."""
    scope = abstract.parent() if abstract is not None else None
    if scope is None:
        return ()
    return tuple(
        (die, bool(_tail_calls(die)))
        for die in scope.children()
        if die.tag == Tag.SUBPROGRAM and die.reference(At.ABSTRACT_ORIGIN) == abstract
    )


def _sole_definition(origin: Die, state: FrameState) -> Die | None:
    """`_definition` where there is no other copy of it. Raises Unavailable."""
    copies = () if origin.ranges() else _copies(origin)
    if len(copies) > 1:
        raise _unknown("the call was for another function, of which there are several copies, and which jumped here")
    return copies[0][0] if copies else _definition(origin, state)


def _definition(origin: Die, state: FrameState) -> Die | None:
    """The subprogram with machine code that an entry stands for.

    None when this module's debug information has none, as for a function of another module: like gdb, such a
    function is taken not to tail-call back.
    """
    if origin.ranges():
        return origin
    name = _linkage_name(origin)
    return state.definition(name) if name is not None else None


def _linkage_name(die: Die) -> str | None:
    for attribute in (At.LINKAGE_NAME, At.MIPS_LINKAGE_NAME, At.NAME):
        name = die.inherited(attribute)
        if isinstance(name, str):
            return name
    return None


def _identities(die: Die) -> set[Die]:
    """An entry and the entries that it completes (abstract instance, declaration)."""
    found: set[Die] = set()
    pending = [die]
    while pending and len(found) < 32:
        entry = pending.pop()
        if entry in found:
            continue
        found.add(entry)
        for attribute in (At.ABSTRACT_ORIGIN, At.SPECIFICATION):
            other = entry.reference(attribute)
            if other is not None:
                pending.append(other)
    return found


def same_function(one: Die, other: Die) -> bool:
    """Whether two entries are for one function: they share an entry, or the name of an external function."""
    if _identities(one) & _identities(other):
        return True
    if not (one.inherited(At.EXTERNAL) and other.inherited(At.EXTERNAL)):
        return False
    name = _linkage_name(one)
    return name is not None and name == _linkage_name(other)

"""Names of functions as people read them: demangled linkage names, else names qualified by their scopes.

Data comes from entries and symbol tables; what needs no entry is in `demangling`.
"""

from __future__ import annotations

import re

from unwind.dwarf import constants as C
from unwind.dwarf.damage import DwarfError
from unwind.dwarf.entry import Entry
from unwind.dwarf.language import has_scopes
from unwind.symbolize.demangling import MANGLED as MANGLED
from unwind.symbolize.demangling import can_demangle as can_demangle
from unwind.symbolize.demangling import demangled as demangled
from unwind.symbolize.demangling import readable_name as readable_name

_SCOPES = frozenset(
    (
        C.DW_TAG_namespace,
        C.DW_TAG_class_type,
        C.DW_TAG_structure_type,
        C.DW_TAG_union_type,
        C.DW_TAG_interface_type,
        C.DW_TAG_module,
    )
)
_CLANG_LAMBDA = re.compile(r"\d(\$_\d+)")


def is_cold_part(symbol: str) -> bool:
    """Whether a symbol names the seldom run part of a function, which is no place where it is entered."""
    return ".cold" in symbol


def without_parameters(name: str) -> str:
    """A demangled name without its template arguments' return type and its parameter list.

    `int ns::f<int>(char const*) const` → `ns::f<int>`; a name without parameters stays as it is.
    """
    end = _matching_open(name, name.rfind(")"))
    if end <= 0:
        return name
    head = name[:end]
    if head.endswith("operator"):  # operator()(…): the first pair belongs to the name
        return name if name.endswith("operator()") else head + "()"
    depth = 0
    start = 0
    for index, letter in enumerate(head):
        if letter in "<([{" and not head.startswith("operator", max(0, index - 8)):
            depth += 1
        elif letter in ">)]}":
            depth -= 1
        elif letter == " " and depth == 0 and "operator" not in head[:index]:
            start = index + 1
    return head[start:]


def _matching_open(name: str, close: int) -> int:
    """Index of the parenthesis that opens what `close` closes, -1 without one."""
    if close < 0:
        return -1
    depth = 0
    for index in range(close, -1, -1):
        if name[index] == ")":
            depth += 1
        elif name[index] == "(":
            depth -= 1
            if depth == 0:
                return index
    return -1


def without_template_arguments(name: str) -> str:
    """A name without parameters, less its last template arguments: `f<int>` → `f`, `a::f::<T>` → `a::f`."""
    if not name.endswith(">") or "operator" in name:
        return name
    depth = 0
    for index in range(len(name) - 1, -1, -1):
        if name[index] == ">" and name[index - 1 : index] != "-":
            depth += 1
        elif name[index] == "<":
            depth -= 1
            if depth == 0:
                return name[:index].removesuffix("::") or name
    return name


def linkage_name(entry: Entry) -> str | None:
    """The linkage name of a function's entry or of those that complete it. Raises DwarfError."""
    for attribute in (C.DW_AT_linkage_name, C.DW_AT_MIPS_linkage_name):
        value = entry.inherited(attribute)
        if isinstance(value, str) and value:
            return value
    return None


def function_name(entry: Entry) -> tuple[str | None, str | None]:
    """(name for people, linkage name) of a subprogram or inlined subroutine. Raises DwarfError."""
    symbol = linkage_name(entry)
    readable = demangled(symbol) if symbol is not None else None
    # What the library cannot demangle, as clang's names of generic lambdas, the scopes tell.
    if symbol is not None and (readable != symbol or not symbol.startswith(MANGLED)):
        return readable, symbol
    name = entry.inherited(C.DW_AT_name)
    if not isinstance(name, str):
        return symbol, symbol
    return qualified_name(entry, name, symbol), symbol


def qualified_name(entry: Entry, name: str, symbol: str | None = None) -> str:
    """`name` with the namespaces, classes and function around the entry, or around the one that declares it.

    `symbol` is its linkage name, which may tell what an unnamed class is called.
    """
    if not has_scopes(entry.unit.language):
        return name
    declared = entry
    for each in entry.chain():
        declared = each
    scopes: list[str] = []
    try:
        owner = declared.parent()
        while owner is not None:
            if owner.tag == C.DW_TAG_subprogram:
                # A class of its own: a lambda, or a class declared in a function.
                scopes.append(function_name(owner)[0] or "(anonymous)")
                break
            if owner.tag in _SCOPES:
                scopes.append(scope_name(owner, declared, symbol))
            owner = owner.parent()
    except DwarfError:
        return name  # the scopes are damaged, the name is not
    return "::".join([*reversed(scopes), name])


def scope_name(owner: Entry, function: Entry, symbol: str | None) -> str:
    """What the namespace or class `owner`, in which `function` is declared, is called. Raises DwarfError.

    `symbol` is the linkage name of the function.
    """
    # clang tells the name of a class only in its type unit.
    complete = owner.reference(C.DW_AT_signature) or owner
    name = complete.inherited(C.DW_AT_name)
    return name if isinstance(name, str) else _unnamed_scope(owner, function, symbol)


def _unnamed_scope(owner: Entry, function: Entry, symbol: str | None) -> str:
    """What a scope without a name is called: `{lambda}` only where the debugging information says that it is one.

    gcc calls the object parameter of a lambda `__closure`; clang numbers lambdas and other unnamed classes, in the
    linkage names of their members, as `$_0`.
    """
    if owner.tag == C.DW_TAG_namespace:
        return "(anonymous namespace)"
    numbered = _CLANG_LAMBDA.search(symbol) if symbol else None
    if numbered:
        return numbered[1]
    parameter = next((child for child in function.children() if child.tag == C.DW_TAG_formal_parameter), None)
    return "{lambda}" if parameter is not None and parameter.inherited(C.DW_AT_name) == "__closure" else "(anonymous)"

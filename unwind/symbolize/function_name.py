"""Names of functions as people read them: demangled linkage names, else names qualified by their scopes.

Data comes from entries and symbol tables. Demangling (Itanium C++, Rust, D) is the pydemumble library's.
"""

from __future__ import annotations

from functools import lru_cache

from unwind.dwarf import constants as C
from unwind.dwarf.damage import DwarfError
from unwind.dwarf.entry import Entry

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
_MANGLED = ("_Z", "_R", "__Z", "___Z", "_D")


@lru_cache(maxsize=65536)
def demangled(name: str) -> str:
    """`name` demangled, or as it is when it is no mangled name."""
    if not name.startswith(_MANGLED):
        return name
    import pydemumble

    # A suffix that compilers add to clones (`.cold`, `.part.0`) is no part of the mangled name.
    stem, dot, suffix = name.partition(".")
    text = pydemumble.demangle(name)
    if text and text != name:
        return str(text)
    text = pydemumble.demangle(stem) if dot else ""
    return f"{text} [{dot}{suffix}]" if text and text != stem else name


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
    if symbol is not None:
        return demangled(symbol), symbol
    name = entry.inherited(C.DW_AT_name)
    if not isinstance(name, str):
        return None, None
    return qualified_name(entry, name), None


def qualified_name(entry: Entry, name: str) -> str:
    """`name` with the namespaces and classes around the entry, or around the one that declares it."""
    declared = entry
    for each in entry.chain():
        declared = each
    scopes: list[str] = []
    try:
        owner = declared.parent()
        while owner is not None:
            if owner.tag in _SCOPES:
                scope = owner.inherited(C.DW_AT_name)
                unnamed = "(anonymous namespace)" if owner.tag == C.DW_TAG_namespace else "(anonymous)"
                scopes.append(scope if isinstance(scope, str) else unnamed)
            owner = owner.parent()
    except DwarfError:
        return name  # the scopes are damaged, the name is not
    return "::".join([*reversed(scopes), name])

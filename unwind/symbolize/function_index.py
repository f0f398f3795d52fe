"""All functions of a module by name: the scans of its units put together as columns.

Data comes from FunctionTables; a name is compared once however many entries share its string. The result is
the rows that have code, found along abstract origins and specifications, across units.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from fnmatch import translate
from functools import cached_property
from typing import TYPE_CHECKING

from cfi_tables.distinct_values import distinct_values
from unwind.dwarf import constants as C
from unwind.dwarf import function_scan as F
from unwind.dwarf.damage import DwarfError
from unwind.symbolize.function_name import (
    demangled,
    function_name,
    without_parameters,
    without_template_arguments,
)
from unwind.symbolize.function_table import FunctionTable

if TYPE_CHECKING:
    import numpy as np

    from unwind.dwarf.debug_info import DebugInfo

_STRING_INDEX_FORMS = frozenset(
    (
        C.DW_FORM_strx,
        C.DW_FORM_strx1,
        C.DW_FORM_strx2,
        C.DW_FORM_strx3,
        C.DW_FORM_strx4,
        C.DW_FORM_GNU_str_index,
    )
)
_MAXIMUM_CHAIN = 8
_SHARED = 1 << 62
"""More than any offset in a section."""


def name_matcher(pattern: str) -> Callable[[str], bool]:
    """A test of a plain or mangled name against a shell wildcard.

    The name as it is, demangled, without its parameters, and without its last template arguments too.
    """
    whole = re.compile(translate(pattern)).match

    def matches(name: str) -> bool:
        # `f.lto_priv.0`, `f.constprop.1`, `f.isra.0`: the compiler's copies of `f`.
        if whole(name) or ("." in name and whole(name.partition(".")[0])):
            return True
        readable = demangled(name)
        bare = name if readable == name else without_parameters(readable)
        return bool(whole(readable) or whole(bare) or whole(without_template_arguments(bare)))

    return matches


def longest_piece(pattern: str) -> str:
    """The longest part of `pattern` that occurs in every name, plain or mangled, that `name_matcher` finds by it.

    A mangled name has the function's own name in it as it is, but neither scopes (`std` is `St`) nor parameters.
    "" when there is none.
    """
    own = re.split(r"[(<]", pattern, maxsplit=1)[0].rpartition("::")[2]
    if "operator" in own or "[" in own:  # mangled by what it does; any of some characters
        return ""
    return max(re.findall(r"\w+", own, re.ASCII), key=len, default="")


class FunctionIndex:
    """The rows of all units; `tables` in the order of .debug_info."""

    def __init__(self, info: DebugInfo, tables: list[FunctionTable]) -> None:
        self._info = info
        self.tables = tables

    @cached_property
    def _first(self) -> np.ndarray:
        """Index of each table's first row."""
        import numpy as np

        return np.cumsum([0, *(len(table.rows) for table in self.tables)])

    @cached_property
    def _rows(self) -> np.ndarray:
        import numpy as np

        if not self.tables:
            return np.zeros((0, F.WIDTH), dtype=np.int64)
        return np.concatenate([table.rows for table in self.tables])

    @cached_property
    def _functions(self) -> np.ndarray:
        """Which rows are functions or inlined calls."""
        tags = self._rows[:, F.TAG]
        found: np.ndarray = (tags == C.DW_TAG_subprogram) | (tags == C.DW_TAG_inlined_subroutine)
        return found

    def _string_keys(self, form_column: int, value_column: int) -> tuple[np.ndarray, np.ndarray]:
        """(rows with the attribute, key of each): the same key for the same string.

        Negative for strings in .debug_info, `_SHARED` more for those of the shared (dwz) file.
        """
        import numpy as np

        rows = np.flatnonzero((self._rows[:, form_column] != 0) & self._functions)
        forms = self._rows[rows, form_column]
        keys = self._rows[rows, value_column].copy()
        keys[forms == C.DW_FORM_string] = ~keys[forms == C.DW_FORM_string]
        for form in _STRING_INDEX_FORMS & set(distinct_values(forms).tolist()):
            for at in np.flatnonzero(forms == form).tolist():
                table = self.tables[int(np.searchsorted(self._first, rows[at], side="right")) - 1]
                try:
                    keys[at] = table.unit.strx(int(keys[at]))
                except DwarfError as error:
                    self._info.note_problem(error.problem)
                    keys[at] = len(self._info.sections.get(".debug_str"))
        line_strings = forms == C.DW_FORM_line_strp
        keys[(forms == C.DW_FORM_GNU_strp_alt) | (forms == C.DW_FORM_strp_sup)] += _SHARED
        return rows[~line_strings], keys[~line_strings]  # function names are not in .debug_line_str

    def _text(self, key: int) -> str:
        section, offset = (".debug_str", key) if key >= 0 else (".debug_info", ~key)
        info: DebugInfo | None = self._info
        if key >= _SHARED:
            info, offset = self._info.alternate, key - _SHARED
        try:
            return "" if info is None else info.sections.string(section, offset)
        except DwarfError as error:
            self._info.note_problem(error.problem)
            return ""

    @cached_property
    def _names(self) -> list[tuple[np.ndarray, np.ndarray, list[str]]]:
        """For plain and linkage names: rows, index of each row's name, and the distinct names."""
        import numpy as np

        found = []
        for form, value in ((F.NAME_FORM, F.NAME), (F.LINKAGE_FORM, F.LINKAGE)):
            rows, keys = self._string_keys(form, value)
            distinct, inverse = np.unique(keys, return_inverse=True)
            found.append((rows, inverse, [self._text(key) for key in distinct.tolist()]))
        return found

    def plain_names(self) -> list[str]:
        """Every DW_AT_name of a function."""
        return self._names[0][2]

    def matching(self, pattern: str) -> np.ndarray:
        """Which rows are of functions whose name matches, as a boolean column."""
        import numpy as np

        matches = name_matcher(pattern)
        matched = np.zeros(len(self._rows), dtype=bool)
        for rows, inverse, names in self._names:
            fits = np.array([bool(name) and matches(name) for name in names], dtype=bool)
            if len(rows):
                matched[rows[fits[inverse]]] = True
        self._match_unmangled(pattern, matched)
        self._match_shared(matches, matched)
        origins = self._rows[:, F.ORIGIN]
        local = (self._rows[:, F.ORIGIN_FORM] != 0) & ~self._is_shared & self._functions
        for _ in range(_MAXIMUM_CHAIN):
            new = local & ~matched & np.isin(origins, self._rows[matched, F.OFFSET])
            if not new.any():
                break
            matched |= new
        return matched

    @cached_property
    def _is_shared(self) -> np.ndarray:
        """Which rows are completed by an entry in the shared (dwz) file."""
        import numpy as np

        forms = (C.DW_FORM_GNU_ref_alt, C.DW_FORM_ref_sup4, C.DW_FORM_ref_sup8)
        return np.isin(self._rows[:, F.ORIGIN_FORM], forms)

    def _row_name(self, row: int) -> tuple[str | None, str | None]:
        import numpy as np

        at = int(np.searchsorted(self._first, row, side="right")) - 1
        try:
            return function_name(self.tables[at].entry(row - int(self._first[at])))
        except DwarfError as error:
            self._info.note_problem(error.problem)
            return None, None

    def _match_unmangled(self, pattern: str, matched: np.ndarray) -> None:
        """Scoped names of functions without linkage names (`ns::f` declared extern "C", other languages)."""
        if "::" not in pattern:
            return
        import numpy as np

        whole = re.compile(translate(pattern)).match
        last = re.compile(translate(pattern.rpartition("::")[2] or "*")).match
        names = self._names[0]
        fits = np.array([bool(last(name)) for name in names[2]], dtype=bool)
        for row in names[0][fits[names[1]]].tolist() if len(names[0]) else ():
            if self._rows[row, F.PARENT] >= 0 and not self._rows[row, F.LINKAGE_FORM]:
                name = self._row_name(row)[0]
                if name and whole(name):
                    matched[row] = True

    def _match_shared(self, matches: Callable[[str], bool], matched: np.ndarray) -> None:
        import numpy as np

        if self._info.alternate is None:
            return
        for row in np.flatnonzero(self._is_shared & self._functions).tolist():
            name, linkage = self._row_name(row)
            matched[row] |= any(matches(each) for each in (name, linkage) if each)

    def matching_code(self, pattern: str) -> list[tuple[FunctionTable, int]]:
        """(table, row in it) of each matching function or inlined copy that has code."""
        import numpy as np

        rows = self._rows
        has_code = (rows[:, F.LOW_FORM] != 0) | (rows[:, F.RANGES_FORM] != 0)
        chosen = np.flatnonzero(self.matching(pattern) & has_code)
        owners = np.searchsorted(self._first, chosen, side="right") - 1
        found = []
        for row, owner in zip(chosen.tolist(), owners.tolist(), strict=True):
            table = self.tables[owner]
            local = row - int(self._first[owner])
            if table.ranges(local):
                found.append((table, local))
        return found

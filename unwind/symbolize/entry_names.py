"""Names of all functions of a module at once: one number for each distinct name, by entry of a ModuleRows.

Says what `function_name.function_name` says of a single entry. Entries whose names are told
by a type unit, or take a look at more entries, are asked one by one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cfi_tables.distinct_values import distinct_values
from cfi_tables.hot_loop import hot_loop, run_hot
from unwind.dwarf import constants as C
from unwind.dwarf.damage import DwarfError
from unwind.dwarf.integer import read_string
from unwind.dwarf.language import has_scopes
from unwind.dwarf.line_header_scan import NO_STRING, SHARED_STRING
from unwind.symbolize import scan_columns as U
from unwind.symbolize.function_name import MANGLED, can_demangle, demangled, function_name, scope_name
from unwind.symbolize.name_table import NameTable

if TYPE_CHECKING:
    from unwind.dwarf.debug_info import DebugInfo
    from unwind.dwarf.entry import Entry
    from unwind.symbolize.module_scan import ModuleRows

_CHAIN = 16
_SLOW = -2

# What `follow_origins` finds: columns, one behind the other.
_NAME = 0
_LINKAGE = 1
_LAST = 2
"""The entry at the end of the chain, which is where the function is declared."""
_KEY = 3
"""-1, or for an entry that must be asked itself what tells apart those that need different answers."""
_WIDTH = 4


@hot_loop
def follow_origins(entries: Any, found: Any) -> None:
    """Write to `found` (see above) the names of each entry, its own or those of entries that complete it."""
    count = len(entries) // U.ENTRY_WIDTH
    for index in range(count):
        at = index
        name = NO_STRING
        linkage = NO_STRING
        key = -1
        for _ in range(_CHAIN):
            base = at * U.ENTRY_WIDTH
            if name == NO_STRING:
                name = 0 + entries[base + U.NAME]
            if linkage == NO_STRING:
                linkage = 0 + entries[base + U.LINKAGE]
            origin = 0 + entries[base + U.ORIGIN]
            if name <= SHARED_STRING or linkage <= SHARED_STRING or origin < -1:
                key = index
                # Copies of a function in the shared file all have the name that it has there.
                if origin < -1 and origin > U.ORIGIN_ELSEWHERE and name == NO_STRING and linkage == NO_STRING:
                    key = count - origin
                break
            if origin == -1:
                break
            if entries[base + U.ORIGIN_ENTRY] >= 0:
                at = 0 + entries[base + U.ORIGIN_ENTRY]
                continue
            low = 0
            high = count
            while low < high:
                middle = (low + high) // 2
                if entries[middle * U.ENTRY_WIDTH + U.OFFSET] < origin:
                    low = middle + 1
                else:
                    high = middle
            if low >= count or entries[low * U.ENTRY_WIDTH + U.OFFSET] != origin:
                key = index
                break
            at = low
        found[_NAME * count + index] = name
        found[_LINKAGE * count + index] = linkage
        found[_LAST * count + index] = at
        found[_KEY * count + index] = key


class EntryNames:
    """`ids[entry]` is the number of the entry's name in `table`, 0 (which is "") for none."""

    def __init__(self, info: DebugInfo, rows: ModuleRows, plain: bool) -> None:
        self._info = info
        self._rows = rows
        self.table = NameTable(plain, len(rows.entries) // 8)
        found = np.empty(len(rows.entries) * _WIDTH, dtype=np.int64)
        run_hot(follow_origins, not plain, np.ascontiguousarray(rows.entries).reshape(-1), found)
        self._found = found.reshape(_WIDTH, -1)
        self.ids: NDArray[np.int64] = np.zeros(len(rows.entries), dtype=np.int64)
        self._name_all()

    def _name_all(self) -> None:
        entries, found = self._rows.entries, self._found
        has_code = entries[:, U.START] != U.WITHOUT_CODE
        slow = has_code & (found[_KEY] >= 0)
        linked = np.flatnonzero(has_code & ~slow & (found[_LINKAGE] >= 0))
        languages = self._rows.facts[:, U.LANGUAGE]
        with_scopes = [each for each in distinct_values(languages).tolist() if has_scopes(each)]
        scoped = has_code & ~slow & (found[_LINKAGE] < 0) & (found[_NAME] >= 0)
        in_scopes = np.isin(languages, with_scopes)[entries[:, U.UNIT]] if len(entries) else scoped
        plain = np.flatnonzero(scoped & ~in_scopes)
        self._read(linked, found[_LINKAGE, linked])
        self._correct(linked)
        self._read(plain, found[_NAME, plain])
        self._each(scoped & in_scopes, found[_LAST], self._scoped_name)
        self._each(slow, found[_KEY], self._asked_name)

    def _read(self, places: NDArray[np.int64], references: NDArray[np.int64]) -> None:
        """Give the entries at `places` the strings that are referred to as their names."""
        for data, offsets, chosen in self._rows.sources.string_groups(references):
            self.ids[places[chosen]] = self.table.number_at(data, offsets)

    def _correct(self, linked: NDArray[np.int64]) -> None:
        """Let the scopes tell what the library cannot demangle of the linkage names, which are all names so far."""
        table = self.table
        texts = table.all_texts()
        odd = [number for number, text in enumerate(texts) if text.startswith(MANGLED) and not can_demangle(text)]
        if not odd:
            return
        chosen = linked[np.isin(self.ids[linked], odd)]
        _, firsts, inverse = np.unique(self.ids[chosen], return_index=True, return_inverse=True)
        names = [self._name_in_scopes(entry, texts[int(self.ids[entry])]) for entry in chosen[firsts].tolist()]
        self.ids[chosen] = table.number_of(names)[inverse]

    def _each(self, chosen: NDArray[np.bool_], keys: NDArray[np.int64], name_of: Any) -> None:
        """Name the chosen entries, of which those with equal keys have the name of the first one."""
        places = np.flatnonzero(chosen)
        if not len(places):
            return
        _, firsts, inverse = np.unique(keys[places], return_index=True, return_inverse=True)
        self.ids[places] = self.table.number_of([name_of(at) for at in places[firsts].tolist()])[inverse]

    def _string(self, reference: int) -> str:
        try:
            return read_string(*self._rows.sources.string_data(reference))[0]
        except IndexError:
            return ""

    def _asked_name(self, entry: int) -> str:
        try:
            name, linkage = function_name(self._entry(entry))
        except DwarfError as error:
            self._info.note_problem(error.problem)
            return ""
        return linkage if linkage is not None and demangled(linkage) == name else name or ""

    def _entry(self, entry: int) -> Entry:
        """The entry as an object. Raises DwarfError."""
        columns = self._rows.entries[entry]
        unit = self._rows.sources.unit(int(columns[U.UNIT]))
        return unit.entry_at(self._rows.sources.place(int(columns[U.OFFSET]))[1])

    def _name_in_scopes(self, entry: int, symbol: str) -> str:
        """The name of an entry whose linkage name `symbol` cannot be demangled."""
        language = int(self._rows.facts[int(self._rows.entries[entry, U.UNIT]), U.LANGUAGE])
        name = int(self._found[_NAME, entry])
        if not language or name < 0:
            return self._asked_name(entry)
        return self._scoped_name(entry, symbol) if has_scopes(language) else self._string(name)

    def _scoped_name(self, entry: int, symbol: str | None = None) -> str:
        """The name with the namespaces, classes and function around the place where it is declared."""
        entries = self._rows.entries
        name = self._string(int(self._found[_NAME, entry]))
        scopes: list[str] = []
        declared = int(self._found[_LAST, entry])
        owner = int(entries[declared, U.PARENT])
        while owner >= 0:
            tag = int(entries[owner, U.TAG])
            if tag == C.DW_TAG_subprogram:
                outer = self._function_name(owner)
                if outer is None:
                    return self._asked_name(entry)
                scopes.append(outer or "(anonymous)")
                break
            if tag != C.DW_TAG_inlined_subroutine:
                reference = int(self._found[_NAME, owner])
                if reference >= 0:
                    scopes.append(self._string(reference))
                elif tag == C.DW_TAG_namespace:
                    scopes.append("(anonymous namespace)")
                else:
                    try:
                        scopes.append(scope_name(self._entry(owner), self._entry(declared), symbol))
                    except DwarfError:
                        return name  # the scopes are damaged, the name is not
            owner = int(entries[owner, U.PARENT])
        return "::".join([*reversed(scopes), name])

    def _function_name(self, entry: int) -> str | None:
        """As people write it; None when the entry must be asked itself."""
        if self._found[_KEY, entry] >= 0:
            return None
        if self._found[_LINKAGE, entry] >= 0:
            symbol = self._string(int(self._found[_LINKAGE, entry]))
            readable = demangled(symbol)
            if readable == symbol and symbol.startswith(MANGLED):
                return self._name_in_scopes(entry, symbol)
            return readable
        return self._scoped_name(entry) if self._found[_NAME, entry] >= 0 else ""

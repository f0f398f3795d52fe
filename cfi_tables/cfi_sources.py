"""What a module's table is made of: its call frame sections and ORC, decoded and put together.

Owns which source holds where. Data comes from an `ElfImage` and its debug file; rows go to `table`.

* `.eh_frame` holds where it says something; `.debug_frame` (of the image, else of its debug file) fills its gaps.
* In a kernel **ORC holds where it speaks**: it gives the CFA, the return address, rbp and the kind of the frame, in
  entry code (pt_regs, interrupt frames, the end of the stack), at stack switches, and after the pushes and pops of
  inline assembly, of which DWARF knows nothing. DWARF adds the other callee-saved registers, where its row says
  that they lie at places relative to the CFA, unchanged or in another register, which is right even where its own
  CFA is not. In frames that ORC describes as an interrupt's, DWARF is not asked. Where ORC says nothing (code that
  the kernel's checker cannot follow) DWARF alone holds.
* In retpoline thunks, of which ORC says nothing or that the stack ends there, their code itself tells
  (`retpoline_thunks`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from cfi_tables import layout, rule_pool, x86_64
from cfi_tables.architecture import architecture_of, supported
from cfi_tables.elf_image import ET_REL, PF_X, PT_LOAD, SHF_ALLOC, SHF_EXECINSTR, ElfImage, Section
from cfi_tables.orc import has_orc, orc_rows
from cfi_tables.relocation import link_view, relocated_contents
from cfi_tables.retpoline_thunks import retpoline_thunks, thunk_rows
from cfi_tables.rule_record import INVALID, Rule
from cfi_tables.section_rows import FrameProblemAt, FrameSection, Rows, decode_section, normalize, overlay, rules_at
from cfi_tables.work_memory import WorkMemory

_CODE = SHF_ALLOC | SHF_EXECINSTR


class UnsupportedImage(Exception):
    """Tables are not built for this file; the text says for which they are."""


def decode_image(
    image: ElfImage, debug: ElfImage | None, use_compiled: bool | None = None, memory: WorkMemory | None = None
) -> tuple[Rows, Sequence[Rule], list[FrameProblemAt]]:
    """The rows of all sources put together, their distinct rules by id, and the FDEs that were left out.

    The rows and rules may lie in `memory`. Raises UnsupportedImage, and ElfError for a damaged file.
    """
    empty = np.zeros(0, dtype=np.int64)
    merged = Rows(empty, empty)
    rules: list[Rule] = [INVALID]
    numbers: dict[Rule, int] = {INVALID: rule_pool.RULE_INVALID}
    skipped: list[FrameProblemAt] = []
    sections = [section for section, _ in frame_sections(image, debug)]
    orc = has_orc(image)
    for section in sections:
        rows, section_rules, problems = decode_section(section, use_compiled, memory)
        skipped += problems
        if len(sections) == 1 and not orc and section_rules.are_plain:
            return rows, section_rules, skipped  # there is nothing to merge, and no rule's value is needed
        rows = _renumber(rows, section_rules.values, rules, numbers)
        merged = overlay(merged, rows) if len(merged.addresses) else rows
    if orc:
        rows, orc_rules = orc_rows(image, code_ranges(image))
        rows = _renumber(rows, orc_rules, rules, numbers)
        merged = _combine(rows, merged, rules, numbers) if len(merged.addresses) else rows
        thunks = retpoline_thunks(image) if image.file_type != ET_REL else []
        if thunks:
            rows, thunk_rules = thunk_rows(thunks)
            merged = overlay(_renumber(rows, thunk_rules, rules, numbers), merged)
    return merged, rules, skipped


def _renumber(rows: Rows, own: list[Rule], rules: list[Rule], numbers: dict[Rule, int]) -> Rows:
    """`rows`, whose ids index `own`, with ids that index `rules`, which gets what is new."""
    if len(rules) == 1 and own[:1] == rules:
        fresh = {rule: number for number, rule in enumerate(own)}
        if len(fresh) == len(own):
            rules += own[1:]
            numbers.update(fresh)
            return rows
    mapping = np.array([_number(rule, rules, numbers) for rule in own], dtype=np.int64)
    return replace(rows, rules=mapping[rows.rules])


def _number(rule: Rule, rules: list[Rule], numbers: dict[Rule, int]) -> int:
    if rule not in numbers:
        numbers[rule] = len(rules)
        rules.append(rule)
    return numbers[rule]


# --- sections


def code_ranges(image: ElfImage) -> list[tuple[int, int]]:
    """Address ranges of `image` that hold code; of a relocatable object those of its link view.

    They are the executable segments, and executable sections outside of them: newer kernels (6.19 is one) have their
    init code in a segment that is called writable only.
    """
    if image.file_type == ET_REL:
        return list(link_view(image).code_ranges)
    ranges = [
        (s.address, s.address + s.memory_size)
        for s in image.segments
        if s.type == PT_LOAD and s.flags & PF_X and s.memory_size
    ]
    for section in image.section_list:
        low, high = section.address, section.address + section.size
        if section.flags & _CODE == _CODE and section.size:
            if not any(begin < high and low < end for begin, end in ranges):
                ranges.append((low, high))
    return ranges


def frame_sections(image: ElfImage, debug: ElfImage | None) -> Iterator[tuple[FrameSection, ElfImage]]:
    """The call frame sections to decode with the file of each, the one that wins first. Raises UnsupportedImage."""
    architecture = architecture_of(image.machine)
    if architecture is None or not image.little_endian or image.address_size != architecture.address_size:
        raise UnsupportedImage(
            f"{image.path}: unwind tables are built for {supported()}, this file is for ELF machine "
            f"{image.machine} with {8 * image.address_size}-bit addresses; name a file of one of those"
        )
    ranges = code_ranges(image)
    sources = [(".eh_frame", image)]
    sources += [(".debug_frame", source) for source in (image, debug) if source][:2]
    seen = False
    for name, source in sources:
        if not source.has(name) or (name == ".debug_frame" and seen):
            continue
        seen = name == ".debug_frame"
        for data, place in _contents(source, name):
            yield (
                FrameSection(
                    name=name,
                    data=data,
                    address=place,
                    text_base=_address(image, ".text"),
                    data_base=_address(image, ".got.plt") or _address(image, ".got"),
                    ranges=ranges,
                    architecture=architecture,
                ),
                source,
            )


def _contents(source: ElfImage, name: str) -> Iterator[tuple[NDArray[np.uint8], int]]:
    """(contents, address) of the section; of a relocatable object, which may have several, of each."""
    if source.file_type != ET_REL:
        yield source.section_data(name), _address(source, name)
        return
    found: list[Section] = [section for section in source.section_list if section.name == name and section.size]
    for section in found or [source.sections[".z" + name[1:]]]:
        yield relocated_contents(source, section), link_view(source).addresses[section.index]


def _address(image: ElfImage, name: str) -> int:
    """The address of a section, 0 where there is none."""
    section = image.sections.get(name)
    if section is None:
        return 0
    return link_view(image).addresses[section.index] if image.file_type == ET_REL else section.address


# --- ORC with DWARF


def _combine(orc: Rows, dwarf: Rows, rules: list[Rule], numbers: dict[Rule, int]) -> Rows:
    """One sequence of rows by the rule that this module states."""
    bounds = np.union1d(orc.addresses, dwarf.addresses)
    pairs = np.stack([rules_at(orc, bounds), rules_at(dwarf, bounds)], axis=1)
    distinct, inverse = np.unique(pairs, axis=0, return_inverse=True)
    chosen = np.array(
        [_number(combined(rules[first], rules[second]), rules, numbers) for first, second in distinct.tolist()],
        dtype=np.int64,
    )
    return normalize(Rows(bounds, chosen[inverse.reshape(-1)]))


_RELATIVE = (layout.REGISTER_KIND_SAME, layout.REGISTER_KIND_AT_CFA, layout.REGISTER_KIND_CFA_PLUS)
_USABLE = (*_RELATIVE, layout.REGISTER_KIND_IN_REGISTER)
_KNOWN_TO_ORC = (6, x86_64.STACK_POINTER, x86_64.RETURN_ADDRESS)


def combined(orc: Rule, dwarf: Rule) -> Rule:
    """The rule at an address where ORC says `orc` and DWARF says `dwarf`; INVALID is that one says nothing."""
    if orc.cfa_kind == layout.CFA_KIND_INVALID:
        return dwarf
    without = (layout.CFA_KIND_INVALID, layout.CFA_KIND_END, layout.CFA_KIND_OVERFLOW)
    from_call = any(entry == (x86_64.RETURN_ADDRESS, layout.REGISTER_KIND_AT_CFA, -8) for entry in orc.entries)
    if not from_call or dwarf.cfa_kind in without:
        return orc
    entries = {register: (how, value) for register, how, value in orc.entries if register in _KNOWN_TO_ORC}
    told = {register: (how, value) for register, how, value in dwarf.entries}
    for register in x86_64.CALLEE_SAVED:
        if register in _KNOWN_TO_ORC:
            continue
        how, value = told.get(register, (layout.REGISTER_KIND_SAME, 0))
        if how not in _USABLE:
            how, value = layout.REGISTER_KIND_UNDEFINED, 0
        if how != layout.REGISTER_KIND_SAME:
            entries[register] = (how, value)
    for register, (how, value) in told.items():  # those that calls do not preserve, where DWARF knows them
        if register not in x86_64.CALLEE_SAVED and register not in _KNOWN_TO_ORC and how in _USABLE:
            entries[register] = (how, value)
    return orc._replace(entries=tuple((register, *entries[register]) for register in sorted(entries)))

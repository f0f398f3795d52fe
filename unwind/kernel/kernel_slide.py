"""The slide of a kernel: how far address randomization has moved it from the addresses in its vmlinux.

Data comes from a list of the running kernel's symbols and from vmlinux's symbol table. One symbol would give a number
for any two kernels, right or wrong: symbols from all over the kernel have to agree.
"""

from __future__ import annotations

import numpy as np

from cfi_tables.elf_image import ElfError, ElfImage
from cfi_tables.symbol_table import SHN_UNDEF, symbols
from unwind.kallsyms import Kallsyms
from unwind.kernel.kernel_error import KernelError

_ANCHORS = ("_stext", "_text")
_COMPARED = 200
_ENOUGH = 2


def find_slide(kallsyms: Kallsyms, vmlinux: ElfImage) -> int:
    """Address in `kallsyms` less address in `vmlinux`, the same for every symbol compared. Raises KernelError."""
    try:
        table = symbols(vmlinux)
    except ElfError as error:
        raise KernelError(str(error)) from None
    if table is None or len(table) < 2:
        raise KernelError(
            f"{vmlinux.path} has no symbols to compare with {kallsyms.path}: name the vmlinux that has the debugging "
            "information, or say how far it was moved (--slide)"
        )
    listed = kallsyms.unique_symbols()
    by_address = sorted(listed, key=listed.__getitem__)
    sample = [name for name in _ANCHORS if name in listed]
    sample += by_address[:: max(1, len(by_address) // _COMPARED)]
    slides: dict[int, int] = {}
    for name in dict.fromkeys(sample):
        rows = [row for row in table.find(name).tolist() if table.section[row] != SHN_UNDEF]
        values = np.unique(table.value[rows])
        if len(values) == 1:
            slide = (listed[name] - int(values[0])) % (1 << 64)
            slides[slide] = slides.get(slide, 0) + 1
    if not slides:
        raise KernelError(f"{vmlinux.path} and {kallsyms.path} have no symbol in common: they are of two kernels")
    slide, agreeing = max(slides.items(), key=lambda item: item[1])
    total = sum(slides.values())
    if agreeing < total or total < min(_ENOUGH, len(sample)):
        raise KernelError(
            f"{vmlinux.path} is of another build than the kernel of {kallsyms.path}: of {total} symbols compared "
            f"{agreeing} at the most are moved equally far; name that kernel's own vmlinux"
        )
    return slide

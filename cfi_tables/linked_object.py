"""A relocatable object linked by ld as the link view lays it out, so that readelf can read it.

Owns the linker script and the run of ld. readelf gives every section of an object the address 0, in which functions of
several sections cannot be told apart. ld applies the relocations by itself, so what comes out is independent of
`relocation`, whose addresses it is given.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from cfi_tables.elf_image import SHF_ALLOC, ElfImage
from cfi_tables.readelf_rows import ReadelfError
from cfi_tables.relocation import link_view

_FRAMES = (".eh_frame", ".debug_frame")


def link_object(source: Path, image: ElfImage, target: Path) -> None:
    """Link the object `image`, whose ELF file is `source`, into `target`. Raises ReadelfError."""
    if shutil.which("ld") is None:
        raise ReadelfError(
            "an object's sections are placed by ld, which is not installed; install the package binutils"
        )
    names = [section.name for section in image.section_list if section.flags & SHF_ALLOC and section.size]
    double = sorted({name for name in names if names.count(name) > 1 and name not in _FRAMES})
    if double:
        raise ReadelfError(
            f"{image.path}: it has several sections {double[0]}, which ld cannot place; link it and verify that"
        )
    addresses = link_view(image).addresses
    lines = ["SECTIONS {"]
    placed = [s for s in image.section_list if s.name in names and s.name not in _FRAMES]
    for section in sorted(placed, key=lambda section: addresses[section.index]):
        lines.append(f'  "{section.name}" {addresses[section.index]:#x} : {{ KEEP(*("{section.name}")) }}')
    end = link_view(image).unresolved
    lines += [f'  ".eh_frame" {end:#x} : {{ KEEP(*(.eh_frame)) }}', "  .debug_frame 0 : { *(.debug_frame) }"]
    script = target.with_suffix(".ld")
    script.write_text("\n".join([*lines, "  /DISCARD/ : { *(*) }", "}", ""]))
    # Symbols of other objects, and calls that would be too far, do not matter here: nothing runs.
    command = ["ld", "--noinhibit-exec", "--unresolved-symbols=ignore-all", "-e", "0", "-T", str(script)]
    done = subprocess.run([*command, "-o", str(target), str(source)], capture_output=True, text=True)
    if not target.exists():
        raise ReadelfError(f"ld cannot link {image.path}: {done.stderr.strip()[:300]}; link it and verify that")

"""Unwind tables of programs for a session: of each that is named, of the libraries it needs, and of the kernel's vdso.

They stand in the session's folder by build-id, from where the traced machine hands them to the module when a process
maps such a file. A file without build-id has none there: nothing would tell that it is the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from cfi_tables.cache import table_for
from cfi_tables.debug_file import find_debug_file
from cfi_tables.elf_image import EM_X86_64, SHF_ALLOC, SHF_EXECINSTR, SHT_NOBITS, ElfError, ElfImage
from cfi_tables.table import CompactTable, TableError
from ptap.probe.program_path import library_closure

FOLDER = "tables"
_LARGEST_VDSO = 1 << 16
_ELF = b"\x7fELF\x02\x01\x01"
_VDSO_NAME = b"linux-vdso.so.1"


def write_tables(programs: Iterable[str], vmlinux: ElfImage, folder: Path) -> dict[str, Any]:
    """Write the tables to `folder`/tables: build-id -> the file's path, and that of its table in `folder`.

    Of a file that has no table, none stands there. Raises ElfError and OSError for what was named itself.
    """
    files: dict[str, Any] = {}
    (folder / FOLDER).mkdir(parents=True, exist_ok=True)
    for image in [*_images(programs), *_vdsos(vmlinux)]:
        build_id = image.build_id.hex() if image.build_id is not None else None
        if build_id is None or build_id in files:
            continue
        table = table_of(image)
        files[build_id] = {"path": str(image.path), "table": None}
        if table is not None:
            name = f"{FOLDER}/{build_id}"
            (folder / name).write_bytes(table.data.tobytes())
            files[build_id]["table"] = name
    return files


def _images(programs: Iterable[str]) -> Iterator[ElfImage]:
    for program in dict.fromkeys(str(Path(each).resolve()) for each in programs):
        yield ElfImage.open(program)
        for library in library_closure(program):
            yield ElfImage.open(Path(library).resolve())


def table_of(image: ElfImage) -> CompactTable | None:
    """None where the walk at the probe has to do without: what was copied of the stack is walked afterwards."""
    try:
        table = table_for(image, None if image.has(".eh_frame") else find_debug_file(image).image)
    except (ElfError, TableError):
        return None
    return table if table.machine == EM_X86_64 else None


def _vdsos(vmlinux: ElfImage) -> Iterator[ElfImage]:
    """The images in the kernel that it maps into every process; it holds them as they are, at the start of a page."""
    for section in vmlinux.section_list:
        if not section.flags & SHF_ALLOC or section.flags & SHF_EXECINSTR or section.type == SHT_NOBITS:
            continue
        content = vmlinux.contents(section).tobytes()
        at = content.find(_ELF)
        while at >= 0:
            image = _vdso(content[at : at + _LARGEST_VDSO])
            if image is not None:
                yield image
            at = content.find(_ELF, at + len(_ELF))


def _vdso(content: bytes) -> ElfImage | None:
    if _VDSO_NAME not in content:
        return None
    try:
        image = ElfImage.from_bytes(content, "[vdso]")
    except ElfError:
        return None
    return image if image.machine == EM_X86_64 else None

"""The vdso: the kernel's own shared object in every process, read from memory because it is in no file.

vdso(7). Data comes from the process's memory while it lives; after that from our own process when its mapping has
the same size, since one kernel gives every 64-bit process the same vdso.
"""

from __future__ import annotations

from cfi_tables.elf_image import ElfError, ElfImage
from relay_reader.capture import Mapping


def read_vdso(pid: int, mapping: Mapping) -> ElfImage:
    """The vdso of process `pid`, mapped by `mapping`. Raises ElfError when it cannot be read."""
    data = _read_memory(f"/proc/{pid}/mem", mapping.start, mapping.end)
    if data is None:
        own = _own_vdso_range()
        if own is not None and own[1] - own[0] == mapping.end - mapping.start:
            data = _read_memory("/proc/self/mem", *own)
    if data is None:
        raise ElfError("[vdso]: the process is gone and its vdso could not be read; trace it while it runs")
    return ElfImage.from_bytes(data, "[vdso]")


def own_vdso() -> ElfImage | None:
    """This process's own vdso, the same for every 64-bit process of the running kernel; None when it has none."""
    own = _own_vdso_range()
    data = _read_memory("/proc/self/mem", *own) if own is not None else None
    return ElfImage.from_bytes(data, "[vdso]") if data is not None else None


def _read_memory(path: str, start: int, end: int) -> bytes | None:
    try:
        with open(path, "rb", buffering=0) as memory:
            memory.seek(start)
            data = memory.read(end - start)
    except (OSError, ValueError):
        return None
    return data if data.startswith(b"\x7fELF") else None


def _own_vdso_range() -> tuple[int, int] | None:
    with open("/proc/self/maps") as maps:
        for line in maps:
            if line.rstrip().endswith("[vdso]"):
                start, end = line.split()[0].split("-")
                return int(start, 16), int(end, 16)
    return None

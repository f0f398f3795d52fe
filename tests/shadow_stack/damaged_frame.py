"""A program with one wrong rule in its CFI, to see that a test notices: placed by readelf's listing."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from cfi_tables.elf_image import ElfImage

_FACTOR = 8  # DW_CFA_offset counts in data alignments, which are -8 on 64-bit machines


def damage_frame(program: Path, target: Path, address: int, register: int) -> None:
    """Copy `program`, with the first DW_CFA_offset of `register` in the FDE at `address` made to name another slot."""
    data = bytearray(program.read_bytes())
    text = subprocess.run(["readelf", "-wNf", str(program)], capture_output=True, text=True, check=True).stdout
    entry = re.search(
        rf"^([0-9a-f]+) ([0-9a-f]+) [0-9a-f]+ FDE cie=\w+ pc=0*{address:x}\.\.(?:.+\n)+", text, re.MULTILINE
    )
    assert entry
    offset = re.search(rf"DW_CFA_offset: r{register} \(\w+\) at cfa-(\d+)", entry[0])
    assert offset
    start = ElfImage.open(program).sections[".eh_frame"].offset + int(entry[1], 16) + 4
    instruction = bytes([0x80 | register, int(offset[1]) // _FACTOR])
    place = data.index(instruction, start, start + int(entry[2], 16))
    data[place + 1] += 1
    target.write_bytes(data)
    target.chmod(0o755)

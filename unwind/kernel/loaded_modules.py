"""Where the running kernel has loaded its modules: /proc/modules and /sys/module/*/sections (proc(5), sysfs).

Both show zeros to those who may not see addresses; such a module counts as one whose place is not known.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from cfi_tables.elf_image import build_id_of_notes


@dataclass(slots=True)
class LoadedModule:
    """One module; its name has underscores, whatever its file is called."""

    name: str
    base: int | None = None
    """Where its code begins, None when that is not shown."""
    size: int = 0
    """Bytes of memory, of which newer kernels have only a part at `base`."""
    sections: dict[str, int] = field(default_factory=dict)
    """Address by the name of the section; those only that are shown."""
    build_id: bytes | None = None


def read_modules(text: str) -> dict[str, LoadedModule]:
    """The modules that the lines of /proc/modules list, by name; lines of another form are passed over."""
    found: dict[str, LoadedModule] = {}
    for line in text.splitlines():
        # name size users dependencies state address [taints]
        fields = line.split()
        try:
            module = LoadedModule(fields[0], int(fields[5], 16) or None, int(fields[1]))
        except (ValueError, IndexError):
            continue
        found[module.name] = module
    return found


def add_sections(module: LoadedModule, folder: Path) -> None:
    """Add what `folder` (/sys/module) tells of `module`: its sections' addresses and its build-id."""
    try:
        files = list((folder / module.name / "sections").iterdir())
    except OSError:
        files = []
    for file in files:
        try:
            address = int(file.read_text(), 16)
        except (OSError, ValueError):
            continue
        if address:
            module.sections[file.name] = address
    try:
        notes = (folder / module.name / "notes" / ".note.gnu.build-id").read_bytes()
    except OSError:
        return
    module.build_id = build_id_of_notes(notes, "<")

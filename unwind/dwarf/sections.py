"""The .debug_* sections of one file, as views of the mapped file, decompressed or relocated when first asked for.

Data comes from an ElfImage; it goes to every reader of this package. A section that is missing or damaged
is empty here, and the damage is kept as a text, so that the parts which do not need it go on.
"""

from __future__ import annotations

from cfi_tables.elf_image import ET_REL, ElfError, ElfImage, Section
from unwind.dwarf.damage import DwarfError, DwarfReason
from unwind.dwarf.integer import SectionData, read_string


class DwarfSections:
    """Sections by name (`.debug_info`, …); `damage` has the error of each that could not be read, by path and name."""

    def __init__(self, image: ElfImage, suffix: str = "", damage: dict[str, str] | None = None) -> None:
        """Take the sections of `image` whose names end in `suffix` (`.dwo` in split files), which `get` leaves out.

        `damage` is where damage is kept for a file that another refers to.
        """
        self.image = image
        self._suffix = suffix
        self.damage: dict[str, str] = {} if damage is None else damage
        self._data: dict[str, SectionData] = {}

    def get(self, name: str) -> SectionData:
        """The contents of section `name`, b"" when the file has none or it is damaged."""
        return self.plain(name + self._suffix)

    def plain(self, name: str) -> SectionData:
        """`get` of a section without the suffix."""
        data = self._data.get(name)
        if data is None:
            data = memoryview(b"")
            if self.image.has(name):
                try:
                    data = self._contents(name)
                except ElfError as error:
                    self.damage[f"{self.image.path} {name}"] = str(error)
            self._data[name] = data
        return data

    def _contents(self, name: str) -> SectionData:
        if self.image.file_type != ET_REL:
            return self.image.section_data(name).data
        # Objects have a section for each type unit, all of one name (COMDAT groups).
        parts = [self._relocated(each) for each in self.image.section_list if each.name == name]
        return parts[0] if len(parts) == 1 else b"".join(parts) or self.image.section_data(name).data

    def _relocated(self, section: Section) -> SectionData:
        from cfi_tables.relocation import relocated_contents

        return relocated_contents(self.image, section).data.toreadonly()

    def string(self, section: str, offset: int) -> str:
        """The string at `offset` of a string section. Raises DwarfError."""
        try:
            return read_string(self.get(section), offset)[0]
        except IndexError:
            raise DwarfError(DwarfReason.TRUNCATED, section, offset) from None

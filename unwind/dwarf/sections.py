"""The .debug_* sections of one file, as bytes, decompressed when first asked for.

Data comes from an ElfImage; it goes to every reader of this package. A section that is missing or damaged
is empty here, and the damage is kept as a text, so that the parts which do not need it go on.
"""

from __future__ import annotations

from cfi_tables.elf_image import ElfError, ElfImage
from unwind.dwarf.damage import DwarfError, DwarfReason
from unwind.dwarf.integer import read_string


class DwarfSections:
    """Sections by name (`.debug_info`, …); `damage` lists those that could not be read, with the error."""

    def __init__(self, image: ElfImage) -> None:
        self.image = image
        self.damage: dict[str, str] = {}
        self._data: dict[str, bytes] = {}

    def get(self, name: str) -> bytes:
        """The contents of section `name`, b"" when the file has none or it is damaged."""
        data = self._data.get(name)
        if data is None:
            data = b""
            if self.image.has(name):
                try:
                    data = self.image.section_data(name).tobytes()
                except ElfError as error:
                    self.damage[name] = str(error)
            self._data[name] = data
        return data

    def string(self, section: str, offset: int) -> str:
        """The string at `offset` of a string section. Raises DwarfError."""
        try:
            return read_string(self.get(section), offset)[0]
        except IndexError:
            raise DwarfError(DwarfReason.TRUNCATED, section, offset) from None

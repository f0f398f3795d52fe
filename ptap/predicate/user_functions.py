"""Functions of a program or library by name → the ranges in which a predicate's program looks for frames."""

from __future__ import annotations

from cfi_tables.elf_image import ElfImage
from ptap.predicate.kernel_functions import FunctionCode, code_of
from unwind.symbolize.symbolizer import Symbolizer


class UserFunctions:
    """Those of one file that has a build-id."""

    def __init__(self, image: ElfImage) -> None:
        assert image.build_id is not None
        self.path = image.path
        self.build_id = image.build_id
        self._symbolizer = Symbolizer(image)

    def find(self, pattern: str, file: str | None) -> FunctionCode | None:
        """The functions of that name; None where names or files cannot be told. Empty when there are none.

        Raises SymbolIndexError and TableError.
        """
        return code_of(self._symbolizer, pattern, file)

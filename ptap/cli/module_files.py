"""The options that name the files of a kernel's modules."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from ptap.kernel_module.module_files import ModuleFiles


def module_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give `command` the options, as its parameters `module_file` and `module_dir`, each a tuple."""
    folder = click.option(
        "--module-dir", metavar="DIR", multiple=True, help="Where modules are looked for (repeatable)."
    )
    file = click.option("--module-file", metavar="FILE", multiple=True, help="The .ko of a module (repeatable).")
    return file(folder(command))


def files_of(files: Sequence[str], folders: Sequence[str]) -> ModuleFiles:
    """What the options have named."""
    from pathlib import Path

    from ptap.kernel_module.module_files import ModuleFiles

    return ModuleFiles([Path(each) for each in files], [Path(each) for each in folders])

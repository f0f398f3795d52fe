"""Which source of frames a command line asks for: a file, a build-id, a kernel, or a map of code made at run time."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from unwind.kernel.kernel_symbolizer import KernelSources
    from unwind.symbolize.address_source import AddressSource

_KINDS = {"elf": "-e", "build_id": "--build-id", "kernel": "--kernel", "perf_map": "--perf-map"}
_OF_KERNELS = ("vmlinux", "kallsyms", "system_map", "modules", "sections", "module_dir", "slide")


def _slide(_: click.Context, __: click.Parameter, value: str | None) -> int | None:
    """A number as kernels print it: hexadecimal with 0x, or decimal."""
    try:
        return int(value, 0) if value is not None else None
    except ValueError:
        raise click.BadParameter(f"{value!r} is no number, such as 0x1a000000") from None


_OPTIONS = (
    click.option(*("-e", "--exe", "elf"), metavar="ELF", help="The file whose addresses they are."),
    click.option("--build-id", metavar="ID", help="The file with this build-id, wherever on this machine it is."),
    click.option(
        "--kernel", is_flag=True, help="A running kernel with its modules: this one's, if nothing else is named."
    ),
    click.option("--perf-map", metavar="FILE", help="Code made at run time, as /tmp/perf-PID.map names it."),
    click.option("--vmlinux", metavar="FILE", help="The kernel's file with debugging information."),
    click.option("--kallsyms", metavar="FILE", help="The kernel's /proc/kallsyms, where it is another machine's."),
    click.option("--system-map", metavar="FILE", help="The kernel's System.map, where there is no kallsyms."),
    click.option("--modules", metavar="FILE", help="The kernel's /proc/modules."),
    click.option("--sections", metavar="DIR", help="The kernel's /sys/module, where each module's sections lie."),
    click.option("--module-dir", metavar="DIR", multiple=True, help="Where the modules' files are (.ko, .ko.xz, …)."),
    click.option(
        *("--slide",),
        callback=_slide,
        metavar="OFFSET",
        help="How far the kernel was moved from its vmlinux ('Kernel Offset'), where kallsyms does not tell.",
    ),
)


def source_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that name a source."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def source_name(options: dict[str, Any]) -> str:
    """What the source is called in messages."""
    if options["kernel"]:
        return "the kernel"
    name: str = options["elf"] or options["perf_map"] or f"build-id {options['build_id']}"
    return name


def _chosen(options: dict[str, Any]) -> list[str]:
    return [kind for kind in _KINDS if options[kind]]


def names_source(options: dict[str, Any]) -> bool:
    """Whether the options say whose addresses they are."""
    return bool(_chosen(options))


def open_source(options: dict[str, Any], index: bool) -> AddressSource:
    """The source that the options of `source_options` name. Raises click.UsageError, and what opening raises."""
    chosen = _chosen(options)
    if len(chosen) != 1:
        raise click.UsageError(
            f"Say whose addresses they are, by one of {', '.join(_KINDS.values())}; or name logs that are there, "
            "or have one on standard input."
        )
    odd = [name for name in _OF_KERNELS if options[name] not in (None, ()) and chosen != ["kernel"]]
    if odd:
        raise click.UsageError(f"--{odd[0].replace('_', '-')} goes with --kernel.")
    if chosen == ["kernel"]:
        return _kernel(options)
    if chosen == ["perf_map"]:
        from unwind.symbolize.perf_map import PerfMap

        return PerfMap.open(options["perf_map"])
    from unwind.symbolize.symbolizer import Symbolizer

    if options["build_id"]:
        from cfi_tables.build_id_search import find_build_id, parse_build_id

        symbolizer = Symbolizer(find_build_id(parse_build_id(options["build_id"])))
    else:
        symbolizer = Symbolizer.open(_path(options["elf"]))
    if index:
        symbolizer.build_index()
    return symbolizer


def kernel_sources(options: dict[str, Any]) -> KernelSources:
    """What the options say of a kernel. Raises click.UsageError."""
    from unwind.kernel.kernel_symbolizer import KernelSources

    if options["kallsyms"] and options["system_map"]:
        raise click.UsageError("--kallsyms tells all that --system-map does: name one of them.")
    return KernelSources(
        vmlinux=options["vmlinux"],
        kallsyms=options["kallsyms"],
        system_map=options["system_map"],
        modules=options["modules"],
        sections=options["sections"],
        module_folders=options["module_dir"],
        slide=options["slide"],
    )


def _kernel(options: dict[str, Any]) -> AddressSource:
    from unwind.kernel.kernel_symbolizer import KernelSymbolizer

    return KernelSymbolizer.open(kernel_sources(options))


def _path(name: str) -> str:
    """The file that the user means: a path, a command or a library by its name. Raises PathNotFound."""
    if os.path.exists(name):
        return name
    from ptap.probe.program_path import find_modules

    return find_modules(name, None, ())[0]

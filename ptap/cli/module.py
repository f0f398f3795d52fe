"""`ptap module`: sessions of the kernel module for other machines."""

from __future__ import annotations

import click

from ptap.cli.failure import told_to_the_user
from ptap.cli.module_files import files_of, module_options
from ptap.cli.progress_bars import progress_shown


@click.group("module", short_help="Make sessions of the kernel module.")
def command() -> None:
    """Probes in a kernel by a module of its own, made on one machine and run on another.

    \b
    Example:
      ptap module build --kernel-headers DIR --vmlinux VMLINUX -o reads 'kernel.function("vfs_read")'
    """


@command.command("build", short_help="Write a session for another machine.")
@click.option("--kernel-headers", metavar="DIR", required=True, help="What modules for that kernel are built with.")
@click.option("--vmlinux", metavar="FILE", required=True, help="That kernel with its symbols and CFI or ORC.")
@click.option("--system-map", metavar="FILE", help="Its symbols, where FILE of --vmlinux has none.")
@module_options
@click.option("-o", "--output", metavar="DIR", required=True, help="Where to write it; made when it is not there.")
@click.option(
    "--program",
    "programs",
    metavar="FILE",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False),
    help="Walk user stacks through FILE and the libraries it needs at the probe, not only afterwards. Repeatable.",
)
@click.option(
    "--slices",
    metavar="none|words|frames|flat:BYTES",
    default="words",
    show_default=True,
    help="What to record of the stacks: nothing but addresses, the words that walking again needs, both ends of every "
    "frame of the program, or the program's stack as it is.",
)
@click.option("--when", metavar="PREDICATE", help="Record only stacks of which this holds, decided at the probe.")
@click.option("--oracle", is_flag=True, hidden=True, help="Record the kernel's own stack traces, too.")
@click.argument("probes", metavar="PROBE...", nargs=-1, required=True)
def build(
    kernel_headers: str,
    vmlinux: str,
    system_map: str | None,
    module_file: tuple[str, ...],
    module_dir: tuple[str, ...],
    output: str,
    programs: tuple[str, ...],
    slices: str,
    when: str | None,
    oracle: bool,
    probes: tuple[str, ...],
) -> None:
    """Write to DIR a session that traces PROBE... in a kernel.

    DIR holds all that the traced machine needs, which needs Python, and neither a compiler nor debug files:
    `python3 DIR/run.pyz DIR -o CAPTURE -- CMD` there as root. `ptap report CAPTURE` here prints the traces.

    \b
    PROBEs:
      kernel.function("NAME")              entries and inlined copies; also .call .inline .return
      kernel.function("NAME@FILE:LINE")    of those that are declared there
      kernel.statement("NAME@FILE:LINE"), kernel.statement(0xADDRESS)
      module("M").function("NAME")         in a module, loaded or not; also .statement, .trace, .return and so on
      kernel.trace("NAME")                 a tracepoint, also "GROUP:NAME"
      timer.profile(HZ)                    whatever runs, HZ times a second on each processor
    NAME and FILE take the wildcards * ? [...]. Stacks go through a module's code where its file is named or probed.

    \b
    Example:
      ptap module build --kernel-headers /usr/src/linux-headers-6.1.0-56-amd64 \\
        --vmlinux /usr/lib/debug/boot/vmlinux-6.1.0-56-amd64 -o reads 'kernel.function("vfs_read")'

    \b
    PREDICATE is made of these, `and`, `or`, `not` and parentheses:
      caller("NAME[@FILE]"[, N])        NAME stands above the probed function, at most N frames
      direct_caller("NAME[@FILE]")      it is the next one above
      called_from("FILE")               a frame lies in this program, library or kernel module
      user_caller(["FILE",] "NAME"[, N])
      depth() > N, kernel_depth(), user_depth(), pid(), tid(), comm() == "NAME"
    What the probe cannot decide is recorded, and decided by `ptap report`.
    """
    with told_to_the_user(), progress_shown():
        from pathlib import Path

        from cfi_tables.image_file import open_image
        from ptap.kernel_module.kernel_point import parse_kernel_point
        from ptap.kernel_module.messages import RecordOptions
        from ptap.kernel_module.session import write_session
        from ptap.kernel_module.slice_mode import parse_slices
        from ptap.kernel_module.user_place import is_user_point, parse_user_point

        points = [parse_user_point(text) if is_user_point(text) else parse_kernel_point(text) for text in probes]
        try:
            kind, size = parse_slices(slices)
        except ValueError as error:
            raise click.BadParameter(str(error), param_hint="--slices") from None
        options = RecordOptions(slices=kind, flat_bytes=size, oracle=oracle)
        image, folder = open_image(vmlinux), Path(output)
        places = write_session(
            *(Path(kernel_headers), image, points, options, folder, system_map, programs),
            module_files=files_of(module_file, module_dir),
            when=when,
            tell=lambda text: click.echo(f"ptap: {text}", err=True),
        )
        for place in places:
            click.echo(f"{place.name}  {place.reached}")

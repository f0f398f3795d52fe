"""`ptap serve`: captures as pages in a browser of this machine, and symbols for the Firefox Profiler."""

from __future__ import annotations

import click

from ptap.cli.failure import Failure, told_to_the_user

_PROFILER = "https://profiler.firefox.com"


def _web_address(_: click.Context, __: click.Parameter, value: str) -> str:
    from urllib.parse import urlsplit

    if urlsplit(value).scheme not in ("http", "https") or not urlsplit(value).netloc:
        raise click.BadParameter(f"{value!r} is no address of a web site, such as {_PROFILER}")
    return value


@click.command("serve", short_help="Show captures in a browser, and serve symbols to the Firefox Profiler.")
@click.argument("paths", nargs=-1, type=click.Path(exists=True), metavar="[FILE]...")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=0,
    metavar="PORT",
    help="The port to listen on.  [default: one that is free]",
)
@click.option(
    "--host", default="127.0.0.1", metavar="ADDRESS", show_default=True, help="An address of this machine's loopback."
)
@click.option("--open", "open_browser", is_flag=True, help="Open the page in a browser.")
@click.option(
    "--sysroot",
    type=click.Path(exists=True, file_okay=False),
    metavar="DIR",
    default="/",
    show_default=True,
    help="Where the files of the machine that the captures come from lie.",
)
@click.option(
    "--vmlinux",
    type=click.Path(exists=True, dir_okay=False),
    metavar="VMLINUX",
    help="The kernel of the captures, where it is not at its old place.",
)
@click.option(
    *("--profiler",),
    callback=_web_address,
    default=_PROFILER,
    metavar="URL",
    show_default=True,
    help="The Firefox Profiler that may ask for symbols and sources.",
)
def command(
    paths: tuple[str, ...], port: int, host: str, open_browser: bool, sysroot: str, vmlinux: str | None, profiler: str
) -> None:
    """List captures on a web page of this machine, with their flame graphs and downloads, until Ctrl-C.

    FILE is what `ptap report` reads, a folder with captures in it (the current one, if none is named), a profile that
    another tool has written for the Firefox Profiler, or a program or library. Nothing else is read but the programs
    and libraries that these name, with their debugging information, and the source files that it names.

    For each capture a link is printed that opens it in the Firefox Profiler, which gets its symbols (/symbolicate/v5)
    and sources (/source/v1) from here. The address has a token in it: who does not know it gets nothing.

    \b
    Examples:
      ptap serve trace.ptap perf.data
      ptap serve --open
      ptap serve samply.json.gz
      ptap serve --port 3000 ./server      (symbols of a program, for any profile of it)
    """
    with told_to_the_user():
        import secrets

        from ptap.capture_report import ReportOptions
        from ptap.service.application import Application
        from ptap.service.capture_facts import Content, content_of
        from ptap.service.limits import Limits
        from ptap.service.loopback_server import AddressError, LoopbackServer, listen
        from ptap.service.served_files import served_files
        from unwind.trace_builder import ArgumentFrames

        served = served_files(paths or (".",))
        for file in served:
            if content_of(file.path) is Content.NOTHING:
                raise Failure(f"{file.path}: a file of no known kind; give captures, profiles, programs or libraries")
        try:
            listening = listen(host, port)
        except AddressError as error:
            raise Failure(str(error)) from None
        name, bound = listening.getsockname()[:2]
        origin = f"http://[{name}]:{bound}" if ":" in name else f"http://{name}:{bound}"
        options = ReportOptions(sysroot=sysroot, vmlinux=vmlinux, arguments=ArgumentFrames.NONE)
        limits = Limits()
        application = Application(served, options, limits, secrets.token_hex(24), origin, profiler)
        server = LoopbackServer(listening, application, limits)
        for number, file in enumerate(served):
            if content_of(file.path) is not Content.SYMBOLS:
                click.echo(application.profiler_url(number))
        count = f"{len(served)} file" + ("" if len(served) == 1 else "s")
        click.echo(f"ptap: {count} at {application.url}/ until Ctrl-C", err=True)
        if open_browser:
            import webbrowser

            webbrowser.open(f"{application.url}/")
        server.serve_forever()

"""A user without privileges: the main job works through ptrace, and what is refused says what would allow it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

NOBODY = 65534
REPOSITORY = Path(__file__).resolve().parents[2]


class Unprivileged:
    """Runs ptap as nobody (as ourselves when we are not root), with a home of its own."""

    def __init__(self, directory: Path, prefix: list[str]) -> None:
        self.directory = directory
        self.prefix = prefix
        self.environment = {**os.environ, "HOME": str(directory), "XDG_CACHE_HOME": str(directory / "cache")}
        self.environment["PYTHONPATH"] = str(REPOSITORY)

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        command = [*self.prefix, sys.executable, "-m", "ptap", *arguments]
        settings = {**self.environment, **environment}
        return subprocess.run(command, capture_output=True, text=True, timeout=120, env=settings, cwd="/")


@pytest.fixture
def nobody(tmp_path_factory, require_tool, programs):
    directory = tmp_path_factory.mktemp("nobody")
    prefix = []
    if os.geteuid() == 0:
        prefix = [require_tool("setpriv", "util-linux"), f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
        prefix += ["--inh-caps=-all", "--bounding-set=-all"]
        os.chown(directory, NOBODY, NOBODY)
        for each in (directory, *list(directory.parents)[: -len(Path("/tmp").parts)]):
            each.chmod(each.stat().st_mode | 0o755)
    program = directory / "orders"
    program.write_bytes(programs.build("orders").read_bytes())
    program.chmod(0o755)
    user = Unprivileged(directory, prefix)
    can = subprocess.run(
        [*prefix, sys.executable, "-c", "import ptap"], capture_output=True, env=user.environment, cwd="/"
    )
    if can.returncode != 0:
        pytest.skip(f"user {NOBODY} may not run {sys.executable}: {can.stderr.decode().strip()[-200:]}")
    return user


def test_the_main_job_works_by_itself(nobody):
    program = nobody.directory / "orders"
    run = nobody.run("--backtrace", "-v", 'process.function("apply_discount")', "--", str(program))
    assert run.returncode == 0 and "Traceback" not in run.stderr, run.stderr
    assert "back end ptrace" in run.stderr
    assert "apply_discount" in run.stdout and "main" in run.stdout and "turnover" in run.stdout
    assert run.stderr.splitlines()[-1].endswith("0 records lost, 0 cut short")
    assert list((nobody.directory / "cache").rglob("*.table")), "tables are kept in the user's own cache"


def test_a_cache_that_cannot_be_written_is_no_matter(nobody):
    program = nobody.directory / "orders"
    for home in ("/nonexistent", "/proc"):
        run = nobody.run(
            "--backtrace", "--count", "1", 'process.function("apply_discount")', "--", str(program),
            HOME=home, XDG_CACHE_HOME=f"{home}/cache",
        )  # fmt: skip
        assert run.returncode == 0 and "#0" in run.stdout and "Traceback" not in run.stderr, run.stderr


def test_perf_events_say_what_would_allow_them(nobody):
    run = nobody.run("--backend", "perf", 'process.function("main")', "--", str(nobody.directory / "orders"))
    assert run.returncode == 2 and "Traceback" not in run.stderr
    assert "--backend perf" in run.stderr and "run as root" in run.stderr and "ptrace" in run.stderr
    run = nobody.run('kernel.trace("sched:sched_switch")', "--", str(nobody.directory / "orders"))
    assert run.returncode == 2 and "needs perf events" in run.stderr and "use --backend ptrace" not in run.stderr


def test_someone_elses_process_is_refused(nobody):
    if os.geteuid() != 0:
        pytest.skip("needs root, to be someone else")
    for probe in ('process.function("main")', 'process("libc.so.6").function("write")'):
        run = nobody.run(probe, "-p", str(os.getpid()))
        assert run.returncode == 2 and "belongs to user 0" in run.stderr and "Traceback" not in run.stderr


def test_a_file_that_may_not_be_read(nobody):
    if os.geteuid() != 0:
        pytest.skip("needs root, to own a file that others may not read")
    secret = nobody.directory / "secret"
    secret.write_bytes((nobody.directory / "orders").read_bytes())
    secret.chmod(0o700)
    run = nobody.run("list", f'process("{secret}").function("main")')
    assert run.returncode == 2 and f"{secret}: Permission denied" in run.stderr and "Traceback" not in run.stderr


def test_doctor_tells_both(nobody):
    run = nobody.run("doctor")
    assert run.returncode == 0 and f"user id {NOBODY if nobody.prefix else os.geteuid()}" in run.stdout
    lines = {line.split()[2]: line for line in run.stdout.splitlines() if line.startswith("back end")}
    assert lines["ptrace"].endswith("works")
    assert "does not work" in lines["perf"] and ("root" in lines["perf"] or "sysctl" in lines["perf"])

"""Arguments and locals of every frame in core files of real programs, against gdb; how many, against drgn."""

from __future__ import annotations

import pytest
from cores.conftest import CoreOf, traces_of
from cores.gdb_core import values_in
from cores.value_comparison import Comparison, compare, count_by_drgn


def _nothing(trace, frame, variable) -> bool:
    return False


def _wrong_entry_value(trace, frame, variable) -> bool:
    """gdb 13 takes the value that sqlite3_step was entered with from a register of another frame, in the call that is
    inlined there. The caller's own variable and the callee's argument, on which it agrees, say what was passed."""
    if (frame["function"], variable["name"]) != ("sqlite3Step", "p"):
        return False
    index = trace["frames"].index(frame)
    caller = next(each for each in trace["frames"][index:] if each["function"] == "sqlite3_step")
    callee = trace["frames"][index - 1]
    passed = {each["value"] for each in (*caller["arguments"], *callee["arguments"]) if each["name"] in ("pStmt", "p")}
    return passed == {variable["value"]}


def _check(result: Comparison, found: CoreOf, above_drgn: bool = True) -> None:
    import drgn  # noqa: F401  # its absence is to be told as such, before the work

    present, total = count_by_drgn(found.core)
    print(f"{found.program.name}: {result}; drgn {present} of {total}, ours {result.ours}")
    assert not result.different, f"{len(result.different)}:\n" + "\n".join(result.different[:10])
    assert sum(result.only_gdb.values()) <= 0.02 * result.by_gdb, "\n".join(result.missed[:20])
    assert present > 0
    assert result.ours > present if above_drgn else result.ours == present


def test_values_in_python(python_crash):
    traces = traces_of(python_crash.core, "--locals")
    result = compare(traces, values_in(python_crash.core, python_crash.program), _nothing)
    _check(result, python_crash)
    assert result.frames > 200 and result.equal > 1000


def test_values_in_sqlite(sqlite_stop):
    traces = traces_of(sqlite_stop.core, "--locals", "-e", sqlite_stop.program)
    result = compare(traces, values_in(sqlite_stop.core, sqlite_stop.program), _wrong_entry_value)
    _check(result, sqlite_stop)
    assert result.equal > 30 and result.gdb_wrong <= 1


def test_values_in_threads_of_cplusplus(inventory):
    traces = traces_of(inventory.core, "--locals")
    assert len(traces) == 4
    result = compare(traces, values_in(inventory.core, inventory.program), _nothing)
    _check(result, inventory)
    assert result.equal > 100


def test_values_in_what_the_kernel_dumped(kernel_core):
    traces = traces_of(kernel_core.core, "--locals")
    result = compare(traces, values_in(kernel_core.core, kernel_core.program), _nothing)
    # Without optimization, and few frames of libc, there is nothing to be had that drgn has not.
    _check(result, kernel_core, above_drgn=False)
    assert traces[0]["signal"] == "SIGABRT"
    assert {trace["stop"] for trace in traces} == {"end_of_stack"}


def test_shadowed_names_are_told_apart(kernel_core):
    (trace,) = traces_of(kernel_core.core, "--locals")
    innermost = next(frame for frame in trace["frames"] if frame["function"] == "leaf")
    values = [(each["type"], each["shadowed"]) for each in innermost["locals"] if each["name"] == "value"]
    assert values == [("const char *", False), ("int", True), ("int", True)]
    lines = [each["line"] for each in innermost["locals"] if each["name"] == "value"]
    assert lines == sorted(lines, reverse=True)
    outer = [frame for frame in trace["frames"] if frame["function"] == "leaf"][1:]
    assert outer
    for frame in outer:
        assert [each["shadowed"] for each in frame["locals"] if each["name"] == "value"] == [False]


@pytest.mark.parametrize("form", ["json", "text"])
def test_without_locals_there_are_none(kernel_core, form):
    from cores.conftest import ptap_report

    done = ptap_report(kernel_core.core, "--format", form, "--arguments", "none")
    assert done.returncode == 0
    assert '"locals"' not in done.stdout and "prime" not in done.stdout and "depth=" not in done.stdout
    assert "leaf" in done.stdout

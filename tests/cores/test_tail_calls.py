"""What a function was entered with, when others jumped to it: by gdb where there is one way, unknown where not."""

from __future__ import annotations

import subprocess

import pytest
from cores.conftest import HERE, traces_of
from cores.gdb_core import core_at, values_in
from cores.value_comparison import compare

PASSED = {"only way": ("22", "11", "33"), "either way": ("13", None, None), "directly": ("12", "44", "55")}


@pytest.mark.parametrize("flags", [("-gdwarf-5",), ("-gdwarf-4",)], ids=" ".join)
@pytest.mark.parametrize("way", PASSED)
def test_values_at_entry(require_tool, tmp_path, way, flags):
    require_tool("gdb", "gdb")
    program = tmp_path / "tail_calls"
    source = HERE / "programs" / "tail_calls.c"
    command = [require_tool("gcc", "gcc"), "-O2", *flags, source, "-o", program]
    subprocess.run(command, check=True)
    arguments = ["x"] * list(PASSED).index(way)
    core = core_at(program, arguments, [], tmp_path / "core")
    traces = traces_of(core, "--locals")
    result = compare(traces, values_in(core, program), lambda trace, frame, variable: False)
    assert not result.different, result.different
    (last,) = (frame for frame in traces[0]["frames"] if frame["function"] == "last")
    values = tuple(each["value"] for each in last["arguments"])
    assert values[1:] == PASSED[way][1:]
    assert values[0] == PASSED[way][0] or way == "either way"
    for each in last["arguments"]:
        assert each["value"] is not None or "jumped here" in each["why"]

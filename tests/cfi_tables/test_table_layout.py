"""The generated files are what the schema gives, and C, NumPy and construct agree on every offset."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess

import construct
import numpy as np
import pytest

from cfi_tables import layout, schema
from cfi_tables.generate import TABLE_LAYOUT, run
from relay_reader import record_layout, record_schema
from relay_reader.generate import RECORD_LAYOUT

_LAYOUTS = {"table": (TABLE_LAYOUT, layout), "records": (RECORD_LAYOUT, record_layout)}
_STRUCTURES = [(module, python, name) for module, python in ((schema, layout), (record_schema, record_layout))
               for name in module.STRUCTURES]  # fmt: skip


@pytest.fixture(params=_LAYOUTS)
def generated(request):
    return _LAYOUTS[request.param]


def test_generated_files_are_fresh(generated):
    assert generated[0].stale() == {}


def test_a_stale_file_is_noticed(generated, tmp_path):
    moved = dataclasses.replace(generated[0], python=tmp_path / "layout.py", header=tmp_path / generated[0].header.name)
    assert run(moved, ["--check"]) == 1
    assert not moved.python.exists() and not moved.header.exists()
    run(moved, [])
    assert run(moved, ["--check"]) == 0
    moved.python.write_text(moved.python.read_text() + "\n")
    assert list(moved.stale()) == [moved.python]


def _value(field, number):
    """What construct builds a field from, so that each of its elements is `number`, or as many bytes."""
    if isinstance(field.subcon, construct.Array):
        return [number] * field.subcon.count
    return bytes([number]) * field.sizeof() if isinstance(field.subcon, construct.Bytes) else number


@pytest.mark.parametrize(("declared", "python", "name"), _STRUCTURES, ids=[each[2] for each in _STRUCTURES])
def test_dtype_equals_structure(declared, python, name):
    structure, dtype = declared.STRUCTURES[name], getattr(python, f"{name.upper()}_DTYPE")
    assert dtype.itemsize == structure.sizeof() == getattr(python, f"{name.upper()}_SIZE")
    # each field holds its own bytes: a value written by construct is read back by NumPy
    for field in structure.subcons:
        values = {other.name: _value(other, 77 if other is field else 0) for other in structure.subcons}
        row = np.frombuffer(structure.build(values), dtype=dtype)[0]
        wanted = values[field.name]
        assert (bytes(row[field.name]) if isinstance(wanted, bytes) else row[field.name].tolist()) == wanted


def test_c_agrees(generated, tmp_path):
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed: apt install gcc")
    declared, python = generated[0].schema, generated[1]
    lines = ["#include <stddef.h>", f'#include "{generated[0].header}"']
    for name, structure in declared.STRUCTURES.items():
        lines.append(f'_Static_assert(sizeof(struct ptap_{name}) == {structure.sizeof()}, "{name}");')
        for field in structure.subcons:
            offset = getattr(python, f"{name.upper()}_{field.name.upper()}")
            lines.append(
                f'_Static_assert(offsetof(struct ptap_{name}, {field.name}) == {offset}, "{name}.{field.name}");'
            )
    for enum in declared.ENUMS:
        for member in getattr(python, "".join(part.capitalize() for part in enum.split("_"))):
            lines.append(f'_Static_assert(PTAP_{enum.upper()}_{member.name} == {member.value}, "{member.name}");')
    source = tmp_path / "layout.c"
    source.write_text("\n".join(lines) + "\n")
    for standard in ("-std=c11", "-std=gnu17"):
        subprocess.run(
            [
                "gcc",
                standard,
                f"-I{TABLE_LAYOUT.header.parent}",
                "-Wall",
                "-Wextra",
                "-Werror",
                "-c",
                "-o",
                "/dev/null",
                str(source),
            ],
            check=True,
        )

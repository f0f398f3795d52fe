"""The generated files are what the schema gives, and C, NumPy and construct agree on every offset."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from cfi_tables import generate, layout, schema


def test_generated_files_are_fresh():
    assert generate.stale() == []


def test_a_stale_file_is_noticed(tmp_path, monkeypatch):
    path = tmp_path / "layout.py"
    monkeypatch.setattr(generate, "GENERATED", {path: generate.layout_source})
    assert generate.main(["--check"]) == 1
    assert not path.exists()
    generate.main([])
    assert generate.main(["--check"]) == 0
    path.write_text(path.read_text() + "\n")
    assert generate.stale() == [path]


@pytest.mark.parametrize("name", schema.STRUCTURES)
def test_dtype_equals_structure(name):
    structure, dtype = schema.STRUCTURES[name], getattr(layout, f"{name.upper()}_DTYPE")
    assert dtype.itemsize == structure.sizeof() == getattr(layout, f"{name.upper()}_SIZE")
    # each field holds its own bytes: a value written by construct is read back by NumPy
    for field in structure.subcons:
        values = {other.name: bytes(20) if other.name == "build_id" else 0 for other in structure.subcons}
        wanted = b"x" * 20 if field.name == "build_id" else 77
        values[field.name] = wanted
        import numpy as np

        row = np.frombuffer(structure.build(values), dtype=dtype)[0]
        assert (bytes(row[field.name]) if field.name == "build_id" else int(row[field.name])) == wanted


def test_c_agrees(tmp_path):
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed: apt install gcc")
    header = next(path for path in generate.GENERATED if path.suffix == ".h")
    lines = ["#include <stddef.h>", f'#include "{header}"']
    for name, structure in schema.STRUCTURES.items():
        lines.append(f'_Static_assert(sizeof(struct ptap_{name}) == {structure.sizeof()}, "{name}");')
        for field in structure.subcons:
            offset = getattr(layout, f"{name.upper()}_{field.name.upper()}")
            lines.append(
                f'_Static_assert(offsetof(struct ptap_{name}, {field.name}) == {offset}, "{name}.{field.name}");'
            )
    for enum in schema.ENUMS:
        for member in getattr(layout, "".join(part.capitalize() for part in enum.split("_"))):
            lines.append(f'_Static_assert(PTAP_{enum.upper()}_{member.name} == {member.value}, "{member.name}");')
    source = tmp_path / "layout.c"
    source.write_text("\n".join(lines) + "\n")
    for standard in ("-std=c11", "-std=gnu17"):
        subprocess.run(
            ["gcc", standard, "-Wall", "-Wextra", "-Werror", "-c", "-o", "/dev/null", str(source)], check=True
        )

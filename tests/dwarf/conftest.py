"""Programs that the DWARF tests read, each compiled once a run."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

SHAPES_CPP = r"""
#include <cstdio>
#include <cstdlib>
namespace shapes {
struct Point { int x, y; double weight; static const int limit = -3; };
enum class Colour : unsigned char { red = 1, green = 200 };
template <class T> struct Pair { T first, second; T sum() const { return first + second; } };
static inline __attribute__((always_inline)) int clamp(int value, int low) {
  if (value < low) { value = low + rand() % 7; }
  return value;
}
int area(Point p, Pair<long> *pair, Colour colour) {
  int total = 0;
  for (int i = 0; i < p.x; i++) {
    int step = clamp(p.y - i, 4);
    total += step * (int)pair->sum();
    if (step > 90) { printf("%d\n", total); total = clamp(total, i); }
  }
  return total + (int)colour;
}
}
__attribute__((cold, noinline)) static void complain(const char *text) { fprintf(stderr, "%s", text); }
int main(int argc, char **argv) {
  shapes::Pair<long> pair = {argc, 2};
  if (argc > 40) complain(argv[0]);
  return shapes::area({argc, 7, 1.5}, &pair, shapes::Colour::green);
}
"""

Build = Callable[..., Path]


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """`build("g++", "-O2", …)` compiles the shapes program with these arguments and gives its path."""
    folder = tmp_path_factory.mktemp("dwarf_programs")
    (folder / "shapes.cpp").write_text(SHAPES_CPP)
    done: dict[tuple[str, ...], Path] = {}

    def compile_program(compiler: str, *options: str) -> Path:
        key = (compiler, *options)
        if key not in done:
            if shutil.which(compiler) is None:
                pytest.skip(f"{compiler} is not installed")
            output = folder / f"program{len(done)}"
            command = [compiler, *options, "-o", str(output), "shapes.cpp"]
            subprocess.run(command, cwd=folder, check=True, capture_output=True)
            done[key] = output
        return done[key]

    return compile_program

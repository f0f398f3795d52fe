"""Programs that print their own stacks, ptap on what they print, and addr2line as the oracle."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from text_log_oracle import Oracle, Rewritten, Told, rewrite

RequireTool = Callable[[str, str], str]
Symbolize = Callable[..., Rewritten]

TELLER_C = r"""
#define _GNU_SOURCE
#include <execinfo.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

extern const char __executable_start;
static void *stack[64];
static int depth;
static const char *self;

/* What gdb and systemd-coredump print of the same stack: the innermost frame there is the one that ran. */
static void in_other_forms(void)
{
  char line[512];
  FILE *maps = fopen("/proc/self/maps", "r");
  printf("maps:\n");
  while (fgets(line, sizeof line, maps))
    fputs(line, stdout);
  fclose(maps);
  printf("gdb:\n#0  0x%016lx in ?? ()\n", (unsigned long)stack[0] - 1);
  for (int i = 1; i < depth; i++)
    printf("#%d  0x%016lx in ?? ()\n", i, (unsigned long)stack[i]);
  printf("coredump:\n");
  for (int i = 0; i < depth; i++) {
    long at = (const char *)stack[i] - !i - &__executable_start;
    if (at > 0 && at < 1 << 20)
      printf("    #%d  0x%016lx n/a (%s + 0x%lx)\n", i, (unsigned long)stack[i] - !i, self, at);
  }
  fflush(stdout);
}

static void show(int number)
{
  depth = backtrace(stack, 64);
  printf("fd:\n");
  fflush(stdout);
  backtrace_symbols_fd(stack, depth, 1);
  char **lines = backtrace_symbols(stack, depth);
  printf("lines:\n");
  for (int i = 0; i < depth; i++)
    printf("2026-01-01 12:00:00 [error] %s\n", lines[i]);
  fflush(stdout);
  if (number) {
    in_other_forms();
    _exit(0);
  }
}

static inline __attribute__((always_inline)) int deeper(int amount)
{
  show(0);
  return amount * 3;
}

__attribute__((noinline)) int visible(int amount)
{
  int sum = deeper(amount) + 1;
  return sum + amount;
}

static __attribute__((noinline)) int hidden(int amount)
{
  return visible(amount + 1) + 2;
}

/* Its first instruction is the one that fails: looked up before it, another function is found. */
__attribute__((noinline)) int failing(const int *place)
{
  return *place + 1;
}

int main(int argc, char **argv)
{
  self = argv[0];
  signal(SIGSEGV, show);
  int sum = hidden(argc);
  return failing((const int *)(long)(argc * 8)) + sum;
}
"""


@pytest.fixture
def symbolize(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Symbolize:
    """Rewrites a log as `ptap symbolize` does, in this process: `rewrite` with a folder for what is between."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("DEBUGINFOD_URLS", raising=False)
    return partial(rewrite, tmp_path)


@pytest.fixture(scope="session")
def teller(tmp_path_factory: pytest.TempPathFactory, require_tool: RequireTool) -> Callable[..., Told]:
    """`teller("-no-pie")` compiles the program with these options, runs it and gives what it printed."""
    done: dict[tuple[str, ...], Told] = {}

    def run(*options: str) -> Told:
        if options not in done:
            folder = tmp_path_factory.mktemp("teller")
            (folder / "teller.c").write_text(TELLER_C)
            path = folder / "teller"
            subprocess.run(
                [require_tool("gcc", "gcc"), "-g", "-O2", *options, "-o", path, folder / "teller.c"], check=True
            )
            text = subprocess.run([path], capture_output=True, text=True, check=True).stdout
            parts = re.split(r"^(\w+):\n", text, flags=re.M)
            sections: dict[str, str] = {}
            for name, part in zip(parts[1::2], parts[2::2], strict=True):
                sections[name] = sections.get(name, "") + part
            done[options] = Told(path, sections)
        return done[options]

    return run


@pytest.fixture
def oracle(require_tool: RequireTool) -> Callable[[Path], Oracle]:
    return lambda path: Oracle(require_tool("addr2line", "binutils"), path)

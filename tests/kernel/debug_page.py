"""Runs the module's tests in the kernel that checks itself, and writes bench/KERNEL-DEBUG.md: `make kernel-debug-test`.

`python -m kernel.debug_page [PYTEST ARGUMENTS]`: without arguments all of tests/kernel that boots a kernel.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path

from kernel.debug_kernel import CONFIGURATION, RELEASE, debug_kernel, options_not_taken
from kernel.guest import complaints

_ROOT = Path(__file__).resolve().parents[2]
_PAGE = _ROOT / "bench" / "KERNEL-DEBUG.md"
_TESTS = (
    "test_kernel_stacks.py", "test_module_session.py", "test_user_stacks.py", "test_predicates.py",
    "test_probe_kinds.py", "test_module_load.py", "test_module_damage.py", "test_endurance.py",
)  # fmt: skip
_CHECKS = (
    "KASAN", "KASAN_VMALLOC", "KASAN_STACK", "UBSAN_BOUNDS", "UBSAN_SHIFT", "PROVE_LOCKING", "PROVE_RCU",
    "DEBUG_ATOMIC_SLEEP", "DEBUG_PREEMPT", "DEBUG_LIST", "DEBUG_KMEMLEAK", "PREEMPT", "SOFTLOCKUP_DETECTOR",
    "DETECT_HUNG_TASK", "KPROBES", "KRETPROBES", "UPROBES", "FUNCTION_TRACER", "UNWINDER_ORC", "VMAP_STACK",
)  # fmt: skip
"""Options that the page names."""


def _outcomes(reports: Sequence[Path]) -> Iterator[tuple[str, str]]:
    """(test, what became of it)."""
    for report in reports:
        for case in ElementTree.parse(report).iter("testcase"):
            if not case.get("name"):
                continue  # what pytest notes of a run that was ended early
            problem = next((child for child in case if child.tag in ("failure", "error", "skipped")), None)
            file = case.get("classname", "").rsplit(".", 1)[-1]
            yield f"{file}::{case.get('name', '')}", "passed" if problem is None else problem.tag


def _logs(folders: Sequence[Path]) -> list[str]:
    """What dmesg has said in each boot that was made in these folders of pytest."""
    found = [path for folder in folders for path in sorted(folder.glob("*-debug0/results/dmesg"))]
    return [path.read_text(errors="replace") for path in found]


def _loads(folders: Sequence[Path]) -> Iterator[str]:
    """Lines on what was done under load."""
    for path in (path for folder in folders for path in folder.glob("load-debug0/results/load.json")):
        seen = json.loads(path.read_text())
        cycles, endured = seen["cycles"], seen["endurance"]
        yield f"| loads and unloads with the probe hot | {cycles['count']}, {sum(cycles['hits'])} hits |"
        for what, name in (("of the kernel", "tables"), ("of programs", "user tables"), ("of modules", "modules")):
            verdicts = seen[name]["verdicts"]
            refused, sound = sum(map(bool, verdicts)), verdicts.count(None)
            yield f"| damaged tables {what} | {refused} refused, {sound} sound ones walked by |"
        verdicts = seen["predicates"]["verdicts"]
        yield f"| damaged predicates | {sum(map(bool, verdicts))} refused, {verdicts.count(None)} programs decided |"
        kinds = f"{endured['loads']} loads of a probed module, {endured['calls']} calls of a probed program"
        yield f"| all kinds of probes at once, {endured['seconds']} s | {kinds} |"
        refused, noise = seen["messages"]["refused"], seen["messages"]["noise"]
        yield f"| wrong messages | {len(refused)} refused; of random bodies {noise['taken']} of {noise['sent']} taken |"
        calls = [int(line.split()[1]) for name in ("counted", "slow") for line in _told(path.with_name(f"{name}.told"))]
        yield f"| counted reads | {sum(calls)} |"
        yield f"| kmemleak | {'nothing' if seen['kmemleak'] == '' else seen['kmemleak'] or 'not asked'} |"


def _told(path: Path) -> list[str]:
    return path.read_text().splitlines()


def write_page(reports: Sequence[Path], folders: Sequence[Path]) -> int:
    """Write the page of runs whose JUnit reports and folders these are; how many tests have not passed."""
    package, tree, _ = debug_kernel()
    built = (tree / ".config").read_text().splitlines()
    outcomes, logs = list(_outcomes(reports)), _logs(folders)
    splats = [line for log in logs for line in complaints(log)]
    lines = [
        "# The module in a kernel that checks itself",
        "",
        f"Written by `make kernel-debug-test`; the whole configuration is tests/kernel/{CONFIGURATION.name}, on top of",
        "allnoconfig. Such a kernel is many times slower, so a reader may not keep up in it: tests of that (a",
        "reader that keeps up, the report without losses) may fail. What counts here is what the kernel says.",
        "",
        "| | |",
        "|---|---|",
        f"| kernel | {package.build} |",
        f"| date | {date.today()} |",
        f"| options | {', '.join(name for name in _CHECKS if f'CONFIG_{name}=y' in built)} |",
        f"| asked for and not to be had | {', '.join(options_not_taken(tree)) or 'none'} |",
        f"| boots | {len(logs)} |",
        f"| splats in their logs | {len(splats) or 'none'} |",
        *_loads(folders),
        "",
        *(f"    {line}" for line in splats),
        "",
        "| test | |",
        "|---|---|",
        *(f"| {name} | {outcome} |" for name, outcome in outcomes),
    ]
    _PAGE.write_text("\n".join(lines) + "\n")
    return sum(outcome != "passed" for _, outcome in outcomes)


def main() -> None:
    """Run the tests, write the page."""
    debug_kernel()
    chosen = sys.argv[1:] or [str(Path(__file__).with_name(name)) for name in _TESTS]
    environment = {**os.environ, "PTAP_TEST_KERNELS": RELEASE, "PTAP_TEST_LARGE_DOWNLOADS": "1"}
    environment.setdefault("PTAP_TEST_ENDURANCE", "1")
    with tempfile.TemporaryDirectory(prefix="ptap-debug-") as name:
        base, report = Path(name, "tests"), Path(name, "report.xml")
        command = [sys.executable, "-m", "pytest", "--timeout=0", f"--basetemp={base}", f"--junitxml={report}", *chosen]
        subprocess.run(command, cwd=_ROOT, env=environment, check=False)
        failed = write_page([report], [base])
    print(f"{_PAGE}: {failed} tests have not passed")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()

"""Why a walk stopped, in words: what was missing at which module, and the command that mends it."""

from __future__ import annotations

from cfi_tables.layout import StopReason
from relay_reader.capture import ChainSource, ToldChain
from unwind.architecture.frame_architecture import frame_architecture
from unwind.stack_walker import WalkedStack

LIVE_CUT_REMEDY = "use a larger --user-stack, or --backend ptrace, which sees it whole"
LIVE_MEMORY_REMEDY = "(another stack?): --backend ptrace reads it live"


def stop_text(
    stack: WalkedStack,
    made_at_run_time: str | None = None,
    memory_remedy: str = LIVE_MEMORY_REMEDY,
    cut_remedy: str = LIVE_CUT_REMEDY,
) -> str | None:
    """The sentence for a stack that was cut short; None for one that is whole.

    `made_at_run_time` is the name of the outermost frame where a program that makes code has told it, `memory_remedy`
    follows "memory at ADDRESS was not captured", `cut_remedy` what is said of a stack that is larger than its copy.
    """
    last = stack.frames[-1] if stack.frames else None
    where = last.mapping.path if last is not None and last.mapping is not None else "an unknown module"
    match stack.stop:
        case StopReason.END_OF_STACK:
            return None
        case StopReason.STACK_CUT:
            return f"the stack is larger than the copy that was made of it: {cut_remedy}"
        case StopReason.MEMORY_NOT_CAPTURED:
            return f"memory at {stack.detail:#x} was not captured {memory_remedy}"
        case StopReason.NO_MAPPING:
            return f"{stack.detail:#x} lies in no executable mapping"
        case StopReason.NO_TABLE:
            return _no_table(stack, where, made_at_run_time)
        case StopReason.NO_ROW:
            return (
                f"{where} has no call frame information for {stack.detail:#x} "
                "(assembly without .cfi directives, or built with -fno-asynchronous-unwind-tables)"
            )
        case StopReason.UNKNOWN_REGISTER:
            architecture = frame_architecture(stack.machine)
            if stack.detail in (architecture.program_counter, architecture.cfi.return_column):
                name = "the return address"
            else:
                name = architecture.register_name(stack.detail)
            return f"{where}: the rule for this frame needs {name}, which an inner frame did not preserve"
        case StopReason.BAD_CFA:
            return f"{where}: its call frame information leads to {stack.detail:#x}, not above the frame before"
        case StopReason.BAD_EXPRESSION:
            return f"{where}: a DWARF expression in its call frame information cannot be evaluated"
        case StopReason.OVERFLOW:
            return f"{where}: a rule here does not fit the compact table; please report it"
        case StopReason.TOO_DEEP:
            return f"more than {len(stack.frames)} frames: use a larger --max-depth"
        case StopReason.RETURN_TRAMPOLINE:
            return "a return address was replaced by another tracer's return probe, and the real one is not known"
        case StopReason.NO_REGISTERS:
            return "the sample has no user registers (a kernel thread?)"
        case _:
            return stack.stop.name.lower().replace("_", " ")


def chain_stop_text(chain: ToldChain, stop: StopReason) -> str | None:
    """The sentence for a chain of addresses that a source found by itself; None where it is whole."""
    if stop is StopReason.END_OF_STACK:
        return None
    if chain.source is ChainSource.LAST_BRANCHES:
        return "the processor keeps a few calls only: record with --call-graph dwarf to have them all"
    if chain.cut:
        return (
            "the kernel ended the chain at its limit (sysctl kernel.perf_event_max_stack): raise that, or record with "
            "--call-graph dwarf"
        )
    return "the chain of frame pointers ends here: record with --call-graph dwarf to go on without them"


def _no_table(stack: WalkedStack, where: str, made_at_run_time: str | None) -> str:
    module = stack.frames[-1].module if stack.frames else None
    if made_at_run_time is not None:
        return f"{made_at_run_time} is code made at run time, which has no call frame information"
    if module is None:
        return (
            f"{stack.detail:#x} is in {where}, which is no file (code made at run time, without a name in "
            "/tmp/perf-PID.map: `node --perf-basic-prof` and others write one)"
        )
    problem = module.problem or module.table_problem
    if problem:
        return problem
    return f"{module.path} has no call frame information: build it with -fasynchronous-unwind-tables"

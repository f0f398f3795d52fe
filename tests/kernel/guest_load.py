"""What the module has to stand, run in a guest by its own Python: many hits, damage, loads without end.

Writes captures and what was seen (load.json) to the folder that is named. Standard library only. What of the damage
has to be refused was decided by the machine that has made it (damage.py).
"""

import json
import os
import random
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

SESSIONS = Path("/guest/sessions")
sys.path.insert(0, str(SESSIONS / "stacks" / "run.pyz"))

from ptap_target.collector import CAPTURE_MAGIC, run_session  # noqa: E402
from ptap_target.kernel_module import FILES, KernelModule  # noqa: E402
from ptap_target.session_folder import SessionFolder  # noqa: E402

READS = "/guest/counted_reads"
WARM_UP, AS_IT_IS = 3, 40
"""Cycles before memory is measured, and cycles before grace periods are sped up."""
SLOW_BYTES = 1 << 14
HEADER = 8
KIND = slice(6, 8)
UNKNOWN_KINDS = (0, 99, 0x7FFF, 0xFFFF)


def counted(count, told):
    """The command that reads `count` times on each of two processors; what it tells goes to the file `told`."""
    return ["sh", "-c", f"{READS} 0 {count} >> {told} & {READS} 1 {count} >> {told} & wait"]


@contextmanager
def first_to_run():
    """This process runs whenever it can, its children as usual: so a reader keeps up, on few processors too."""
    os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(1))
    try:
        yield
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def read_slowly(session, output, command):
    """A capture by a reader that is too slow, and reads what is left in the end."""
    with KernelModule(session.module) as module, open(output, "wb") as file:
        file.write(CAPTURE_MAGIC + json.dumps(session.description).encode() + b"\n")
        for message in session.messages:
            module.send(message)
        readers = module.record_files()
        child = subprocess.Popen(command)
        while child.poll() is None:
            time.sleep(0.01)
            for reader in readers:
                file.write(os.read(reader, SLOW_BYTES))
        module.send(session.stop)
        for reader in readers:
            while content := os.read(reader, 1 << 20):
                file.write(content)
            os.close(reader)
    return child.wait()


def works(module, messages, stop):
    """Whether the module, as it is now, records what it should: the hits of a few reads."""
    count = 20
    for message in messages:
        module.send(message)
    subprocess.run([READS, "0", str(count)], check=True, stdout=subprocess.DEVNULL)
    module.send(stop)
    hits = sum(int(line.split()[3]) for line in module.status() if line.startswith("cpu "))
    size = 0
    for descriptor in module.record_files():
        with open(descriptor, "rb", buffering=0) as records:
            size += len(records.read(1 << 20))
    return hits >= count and size > 0


def sent(module, message):
    """(errno, the module's text) of a refused message; None when it was taken."""
    try:
        with open(FILES / "control", "wb", buffering=0) as file:
            file.write(message)
    except OSError as error:
        told = [line for line in module.status() if line.startswith("error ")]
        return error.errno, told[0].removeprefix("error ") if told else ""
    return None


def parts(session):
    """Of a session's messages: what comes before the table, the table, what comes after it."""
    at = next(n for n, message in enumerate(session.messages) if message.what == "the kernel's unwind table")
    return session.messages[:at], session.messages[at], session.messages[at + 1 :]


def damaged_tables(session, damages):
    """What became of each damaged table, and how often the module was seen to work after some."""
    before, table, after = parts(session)
    verdicts, worked, waiting = [], [], list(damages)
    while waiting:
        with KernelModule(session.module) as module:
            for message in before:
                module.send(message)
            taken = False
            for _ in range(min(len(waiting), 32)):
                damage = waiting.pop(0)
                content = bytearray(table.content)
                for at, value in damage["bytes"]:
                    content[at] = value
                content = content[: damage["size"]]
                verdict = sent(module, bytes(content))
                verdicts.append(verdict)
                taken = verdict is None
                if taken:
                    break
            # With one that was taken the module walks by that; else it has to be as if nothing had come.
            worked.append(works(module, after if taken else [table, *after], session.stop))
    return {"verdicts": verdicts, "worked": worked}


def wrong_messages(message, chance):
    """(what, bytes) of copies of one message that are wrong in their length or their header."""
    whole = message.content
    for size in {0, 1, HEADER - 1, HEADER, len(whole) - 1, len(whole) - 8, chance.randrange(len(whole))}:
        if 0 <= size < len(whole):
            yield f"cut to {size}", whole[:size]
    yield "longer by 8", whole + bytes(8)
    yield "longer by 1", whole + b"\1"
    for kind in UNKNOWN_KINDS:
        yield f"kind {kind}", whole[: KIND.start] + kind.to_bytes(2, "little") + whole[KIND.stop :]
    yield "another magic", b"\0" + whole[1:]
    yield "another version", whole[:4] + b"\xff\xff" + whole[6:]


def damaged_messages(session):
    """What became of wrong copies of each kind of message, sent where the right one would come; then it is sent.

    Bodies of random bytes may be anything but a crash: they are sent to a module of their own.
    """
    chance = random.Random(1)
    messages, refused = [*session.messages, session.stop], []
    with KernelModule(session.module) as module:
        seen = set()
        for message in messages:
            kind = message.content[KIND]
            for what, content in () if kind in seen else wrong_messages(message, chance):
                refused.append([f"{message.what}, {what}", sent(module, content)])
            seen.add(kind)
            if message is not session.stop:
                module.send(message)
        worked = works(module, [], session.stop)
    noise = {"sent": 0, "taken": 0}
    for _ in range(8):
        with KernelModule(session.module) as module:
            for message in messages[:2]:
                module.send(message)
            for _ in range(100):
                whole = bytearray(chance.choice(messages).content[:400])
                for _ in range(chance.choice([1, 2, 8, 100])):
                    whole[chance.randrange(HEADER, len(whole)) if len(whole) > HEADER else KIND.start] = chance.choice(
                        [0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)]
                    )
                noise["sent"] += 1
                noise["taken"] += sent(module, bytes(whole)) is None
    return {"refused": refused, "worked": worked, "noise": noise}


def in_use():
    """Memory by owner: objects of each slab cache and how many a slab has, per-CPU memory, code that is gone."""
    time.sleep(0.5)
    for path in Path("/sys/kernel/slab").glob("*/shrink"):
        path.write_text("1")
    slabs = [line.split() for line in Path("/proc/slabinfo").read_text().splitlines()[2:]]
    memory = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    areas = [line for line in Path("/proc/vmallocinfo").read_text().splitlines() if "ptap" in line]
    strange = [line for line in Path("/proc/vmallocinfo").read_text().splitlines() if " 0xffffffffc" in line]
    return {
        "slabs": {words[0]: [int(words[1]), int(words[4])] for words in slabs},
        "percpu kB": int(memory["Percpu"].split()[0]) if "Percpu" in memory else 0,
        "areas": areas + strange,
    }


def cycle(session):
    """Load, probe, unload; the hits that there were meanwhile."""
    with KernelModule(session.module) as module:
        for message in session.messages:
            module.send(message)
        time.sleep(0.01)
        module.send(session.stop)
        return sum(int(line.split()[3]) for line in module.status() if line.startswith("cpu "))


def cycles(session, count):
    """`count` of them while the probes are hit: hits, and memory in use before and after.

    Most of the time of one is spent in waiting for grace periods of RCU, so those are sped up after some.
    """
    expedited = Path("/sys/kernel/rcu_expedited")
    hits, seconds = [], []
    before = after = None
    child = subprocess.Popen([READS, "0", str(1 << 40)], stdout=subprocess.DEVNULL)
    try:
        for number in range(WARM_UP + count):
            if number == WARM_UP:
                before = in_use()
            expedited.write_text("1" if number >= WARM_UP + AS_IT_IS else "0")
            begin = time.monotonic()
            hits.append(cycle(session))
            seconds.append(time.monotonic() - begin)
        after = in_use()
    finally:
        child.kill()
        child.wait()
        expedited.write_text("0")
    return {"count": count, "hits": hits[WARM_UP:], "before": before, "after": after, "seconds": seconds}


def leaks():
    """What kmemleak has found, where the kernel has it; None elsewhere."""
    subprocess.run(["mount", "-t", "debugfs", "debugfs", "/sys/kernel/debug"], check=False, capture_output=True)
    file = Path("/sys/kernel/debug/kmemleak")
    if not file.exists():
        return None
    for _ in range(2):
        time.sleep(6)  # younger objects are not looked at
        file.write_text("scan")
    return file.read_text()


def main():
    results, plan = Path(sys.argv[1]), json.loads(Path("/guest/plan.json").read_text())
    times = [time.monotonic()]
    seen = {"seconds": {}}

    def done(what):
        times.append(time.monotonic())
        seen["seconds"][what] = round(times[-1] - times[-2], 2)

    command = counted(plan["reads"], results / "counted.told")
    with first_to_run():
        status, told = run_session(SESSIONS / "counted", results / "counted", command)
    seen["counted"] = {"status": status, "told": told}
    done("a reader that keeps up")
    command = counted(plan["reads too fast"], results / "slow.told")
    seen["slow"] = {"status": read_slowly(SessionFolder.open(SESSIONS / "small"), results / "slow", command)}
    done("a slow reader")
    seen["tables"] = damaged_tables(SessionFolder.open(SESSIONS / "small"), plan["damages"])
    done("damaged tables")
    seen["messages"] = damaged_messages(SessionFolder.open(SESSIONS / "stacks"))
    done("damaged messages")
    seen["cycles"] = cycles(SessionFolder.open(SESSIONS / "small"), plan["cycles"])
    done("cycles")
    seen["left"] = Path("/proc/ptap_kernel").exists() or "ptap_kernel" in Path("/proc/modules").read_text()
    seen["kmemleak"] = leaks()
    seen["tainted"] = int(Path("/proc/sys/kernel/tainted").read_text())
    (results / "load.json").write_text(json.dumps(seen))


main()

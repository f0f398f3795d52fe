"""Damage, done in a guest: wrong messages of every kind, sent where the right one would come. Standard library only.

What of the damaged tables has to be refused was decided by the machine that has made them (damage.py); of all else the
test says what is to be refused (wrong_fields.py). None of it may be more than refused.
"""

import os
import random
import subprocess
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from guest_memory import kilobytes
from guest_work import READS

from ptap_target.kernel_module import FILES, KernelModule
from ptap_target.module_sections import placements
from ptap_target.session_folder import Message
from ptap_target.space_follower import SpaceFollower
from ptap_target.space_messages import space, target, user_table

HEADER = 8
KIND = slice(6, 8)
UNKNOWN_KINDS = (0, 99, 0x7FFF, 0xFFFF)
LARGEST_RING = 1 << 28
RING_BYTES = slice(HEADER, HEADER + 4)
"""Of the message that starts the probes."""


def works(module, messages, stop):
    """Whether the module, as it is now, records what it should: the hits of a few reads."""
    count = 20
    for message in messages:
        module.send(message)
    subprocess.run([READS, "0", str(count)], check=True, stdout=subprocess.DEVNULL)
    if Path("/proc/ptap_probed").exists():
        subprocess.run(["cat", "/proc/ptap_probed"], check=True, stdout=subprocess.DEVNULL)
    module.send(stop)
    hits = sum(int(line.split()[3]) for line in module.status() if line.startswith("cpu "))
    size = 0
    for descriptor in module.record_files():
        with open(descriptor, "rb", buffering=0) as records:
            size += len(records.read(1 << 20))
    return hits >= count and size > 0


def sent(module, content):
    """(errno, the module's text) of a refused message; None when it was taken."""
    try:
        with open(FILES / "control", "wb", buffering=0) as file:
            file.write(content)
    except OSError as error:
        told = [line for line in module.status() if line.startswith("error ")]
        return error.errno, told[0].removeprefix("error ") if told else ""
    return None


def damaged(content, damage):
    """The message's bytes with what the damage is."""
    content = bytearray(content)
    for at, value in damage["bytes"]:
        content[at] = value
    return bytes(content[: damage["size"]])


def damaged_copies(session, what, damages):
    """What became of each damaged copy of the message `what`, and how often the module was seen to work after some."""
    messages = started_last(session, placements(session))
    at = next(n for n, message in enumerate(messages) if message.what.startswith(what))
    before, sound, after = messages[:at], messages[at], messages[at + 1 :]
    verdicts, worked, waiting = [], [], list(damages)
    while waiting:
        with KernelModule(session.module) as module:
            for message in before:
                module.send(message)
            taken = False
            for _ in range(min(len(waiting), 32)):
                verdicts.append(sent(module, damaged(sound.content, waiting.pop(0))))
                taken = verdicts[-1] is None
                if taken:
                    break
            # With one that was taken the module goes by that; else it has to be as if nothing had come.
            worked.append(works(module, after if taken else [sound, *after], session.stop))
    return {"verdicts": verdicts, "worked": worked}


def started_last(session, more):
    """The session's messages, with `more` before the one that starts the probes."""
    *configuration, start = session.messages
    return [*configuration, *more, start]


class Told(SpaceFollower):
    """Of a process what the module would be told, kept."""

    def __init__(self, session):
        super().__init__(lambda build_id, _: session.table_of(build_id), lambda _: None)
        self.messages = []

    def _send(self, message):
        self.messages.append(Message(f"of a process, kind {message[KIND][0]}", message))


@contextmanager
def told_process(program):
    """A process of the program that waits for a file that never comes, making system calls."""
    notes = Path("/tmp/damage.notes")
    notes.unlink(missing_ok=True)
    child = subprocess.Popen([program, str(notes), "/tmp/never", "1"])
    while not notes.exists():
        time.sleep(0.05)
    time.sleep(0.5)  # beyond its first round, in which it makes children
    try:
        yield child.pid
    finally:
        child.kill()
        child.wait()


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


def damaged_messages(session, program, fields):
    """What became of wrong copies of each kind of message, sent where the right one would come; then it is sent.

    `fields` has of each kind (what, byte, hexadecimal digits): fields that cannot be so. Bodies of random bytes may be
    anything but a crash: they are sent to modules of their own.
    """
    chance = random.Random(1)
    with told_process(program) as pid:
        told = Told(session)
        told.tell(pid)
        told.messages.append(Message("the target", target(os.getpid())))
        messages = [*started_last(session, [*placements(session), *told.messages]), session.stop]
        refused, kinds = [], set()
        with KernelModule(session.module) as module:
            for message in messages:
                kind = int.from_bytes(message.content[KIND], "little")
                for what, content in () if kind in kinds else wrong_messages(message, chance):
                    refused.append([kind, f"{message.what}, {what}", sent(module, content)])
                for what, at, digits in () if kind in kinds else fields.get(str(kind), ()):
                    changed = bytes.fromhex(digits)
                    content = message.content[:at] + changed + message.content[at + len(changed) :]
                    refused.append([kind, f"{message.what}, {what}", sent(module, content)])
                kinds.add(kind)
                if message is not session.stop:
                    module.send(message)
            worked = works(module, [], session.stop)
        return {"refused": refused, "worked": worked, "noise": noise(session, messages, chance)}


def noise(session, messages, chance):
    """Messages with random bytes in their bodies, to modules that know where the kernel lies: how many were taken."""
    # A timer of any frequency is a sound one, that leaves a slow guest no time for anything else.
    messages = [message for message in messages if not message.what.startswith("timer")]
    counts = {"sent": 0, "taken": 0}
    for _ in range(8):
        with KernelModule(session.module) as module:
            for message in messages[:2]:
                module.send(message)
            for _ in range(100):
                content = chance.choice(messages).content
                whole = bytearray(content[: chance.choice([400, 1 << 16])])
                for _ in range(chance.choice([1, 2, 8, 100])):
                    whole[chance.randrange(HEADER, len(whole)) if len(whole) > HEADER else KIND.start] = chance.choice(
                        [0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)]
                    )
                counts["sent"] += 1
                counts["taken"] += sent(module, bytes(whole)) is None
    return counts


def damaged_user_tables(session, program, damages):
    """What became of each damaged table of the program; by those that were taken its stacks are walked."""
    verdicts = []
    with told_process(program) as pid, KernelModule(session.module) as module:
        told = Told(session)
        told.tell(pid)
        for message in [*started_last(session, placements(session)), *told.messages]:
            module.send(message)
        stack, mappings = told._mappings_of(pid)
        whose = next(each for each in mappings if each.path == program)
        sound = session.table_of(whose.build_id)
        hits = 0
        for number, damage in enumerate(damages, 1000):
            verdicts.append(sent(module, damaged(user_table(number, sound), damage)))
            if verdicts[-1] is None:
                changed = [replace(each, table=number) if each is whose else each for each in mappings]
                module.send(Message("the damaged table's mapping", space(pid, number, stack, changed)))
                time.sleep(0.03)
        for descriptor in module.record_files():
            with open(descriptor, "rb", buffering=0) as records:
                hits += len(records.read(1 << 20)) > 0
        return {"verdicts": verdicts, "worked": [hits > 0, works(module, [], session.stop)]}


def too_large_rings(session):
    """What becomes of a start that would take the machine's last memory, and whether a smaller one goes on after it."""
    *configuration, start = session.messages
    large = LARGEST_RING.to_bytes(4, "little")
    content = start.content[: RING_BYTES.start] + large + start.content[RING_BYTES.stop :]
    filled = []
    while kilobytes("MemAvailable") << 10 > LARGEST_RING * 3 // 2:
        filled.append(b"\1" * (1 << 23))
    with KernelModule(session.module) as module:
        for message in configuration:
            module.send(message)
        available = kilobytes("MemAvailable")
        verdict = sent(module, content)
        kept = available - kilobytes("MemAvailable")
        worked = works(module, [start], session.stop)
    return {"verdict": verdict, "kept kB": kept, "worked": worked}

"""Damaged messages of every kind, sent to the module in a running kernel: refused with a reason, never more than that.

What Python's own check of tables says is compared with what the module says; wrong_fields.py has what cannot be.
"""

from __future__ import annotations

import errno

import pytest

from relay_reader.record_layout import MessageKind

_REFUSED = {
    errno.EPROTO, errno.EMSGSIZE, errno.EINVAL, errno.EBADMSG, errno.EBUSY, errno.E2BIG, errno.ENOENT, errno.ESRCH,
    errno.ESTALE, errno.EXDEV,
}  # fmt: skip
"""How a message is refused: each of these has a text of its own."""
_BY_SYSTEM = {MessageKind.TRAMPOLINE}
"""Kinds that a session may be without."""


@pytest.mark.parametrize("what", ["tables", "user tables", "modules"])
def test_damaged_tables_are_refused(loaded, what):
    """The module refuses just those that Python refuses, says so, and works after that; sound ones are walked by."""
    damages = {"tables": loaded.damages, "user tables": loaded.user_damages, "modules": loaded.module_damages}[what]
    verdicts = loaded.seen[what]["verdicts"]
    assert len(verdicts) == len(damages)
    for damage, verdict in zip(damages, verdicts, strict=True):
        assert (verdict is None) == (damage.problem is None), (damage, verdict)
        if verdict is not None:
            assert verdict[0] in (errno.EBADMSG, errno.EINVAL) and "table" in verdict[1], (damage, verdict)
    refused, sound = (sum((damage.problem is None) == kind for damage in damages) for kind in (False, True))
    assert refused > sound > 0
    worked = loaded.seen[what]["worked"]
    assert all(worked) and (what == "user tables" or len(worked) >= sound)


def test_damaged_predicates_are_refused_or_harmless(loaded):
    """What another byte makes of a program may be one: then it decides, and the module works all the same."""
    verdicts, worked = loaded.seen["predicates"]["verdicts"], loaded.seen["predicates"]["worked"]
    refused = [verdict for verdict in verdicts if verdict is not None]
    assert len(refused) >= max(len(verdicts) // 4, 1)
    for code, text in refused:
        assert code == errno.EBADMSG and "predicate" in text
    assert len(worked) >= len(verdicts) - len(refused) and all(worked)


def test_wrong_messages_are_refused(loaded):
    """Each with an error and a text; what a random body is taken for is open, but the module goes on."""
    told = loaded.seen["messages"]
    for _, what, verdict in told["refused"]:
        assert verdict is not None, f"{what}: taken"
        code, text = verdict
        assert code in _REFUSED, (what, verdict)
        assert text, what
    assert {kind for kind, _, _ in told["refused"]} >= set(MessageKind) - _BY_SYSTEM and told["worked"]
    assert 0 < told["noise"]["taken"] < told["noise"]["sent"]


def test_what_a_process_does_not_have_is_refused_by_its_reason(loaded):
    """Of mappings: told of nobody, of another program, of another file, or by no table."""
    reasons = {what.rsplit(", ", 1)[1]: verdict[0] for _, what, verdict in loaded.seen["messages"]["refused"]}
    for field, code in {
        "start_stack 0x1": errno.ESTALE,
        "first.inode 0x0": errno.ESTALE,
        "first.start 0x0": errno.ESTALE,
        "first.end 0x0": errno.EINVAL,
        f"first.table {(1 << 64) - 1:#x}": errno.ENOENT,
        "pid 0x0": errno.ESRCH,
    }.items():
        assert reasons[field] == code, field


def test_rings_leave_memory_to_others(loaded):
    """A start that would take the last of it is refused at once; nothing of it is kept, and no program is ended."""
    told = loaded.seen["large rings"]
    code, text = told["verdict"]
    assert code == errno.ENOMEM and "smaller rings" in text
    assert told["kept kB"] < 32 << 10 and told["worked"]
    log = loaded.run.kernel_log
    assert "Out of memory" not in log and "oom-killer" not in log

"""Capture through perf events: uprobes, kprobes, tracepoints and timers of the kernel, with registers and stack dumps.

Modules: `tracefs`, `probe_definitions`, `uprobe_events` and `kprobe_events` define the probes, `event_plan` says which
events are opened and `event_attr` opens them, `ring_buffer` and `ring_reader` drain them, `command_start` starts a
command, `process_state` tells what already runs, and `capture` ties them together.
"""

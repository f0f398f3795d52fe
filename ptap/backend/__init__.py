"""Capture back ends: what arms probes on a live target and yields the events of `relay_reader.capture`."""

"""The capture file (`.ptap`): chunks of events with checksums, written as they come, read a chunk at a time."""

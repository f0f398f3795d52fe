"""Captures: whatever their source, read into the one model of `relay_reader.capture`."""

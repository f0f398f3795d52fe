"""Reading DWARF: units, entries (DIEs), line programs, ranges."""

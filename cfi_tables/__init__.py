"""Call frame information: from ELF sections to compact unwind tables, and lookups in them."""

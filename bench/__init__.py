"""Measurements of ptap against today's tools, on the machine and in the run where they are made."""

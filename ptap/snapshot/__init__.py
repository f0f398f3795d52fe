"""Snapshots of running processes: all threads are stopped, copied and let go within a few milliseconds.

What is copied is of one moment; whatever is made of it (`ptap.live_report`) takes its time while the process runs on.
"""

"""Capture of kernel probes by the kernel module, which is built, loaded, read while the command runs, and unloaded.

Modules: `running_kernel` finds what the module needs of the kernel that runs here, `availability` says whether it can
work, `session` builds it, `module_ring` reads its records, and `capture` ties them together.
"""

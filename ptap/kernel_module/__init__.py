"""Sessions of the kernel module: probes and tables as messages, the module built for a kernel, all in one folder."""

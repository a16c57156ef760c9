"""Benchmarks of the C library: time on this machine, instructions in QEMU."""

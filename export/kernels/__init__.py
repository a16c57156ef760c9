"""The C kernels: sources only."""

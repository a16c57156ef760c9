"""Everything after training: int8 files, packed files, kernels, generated C."""

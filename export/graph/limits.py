"""How large a net may be. Files from outside are hostile: whatever is counted has a bound."""

TENSORS = 1 << 16
OPERATORS = 1 << 16
RANK = 8
ELEMENTS = 1 << 28  # of one tensor
ALL_ELEMENTS = 1 << 32  # of all tensors that are computed, together
WINDOW = (1 << 16) - 1  # strides, dilations and the sizes of windows, in elements
NAME = 1 << 16  # bytes of one name

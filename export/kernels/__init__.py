"""The C library: sources, headers, and `build`, which compiles them."""

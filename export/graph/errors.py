"""The one exception for a file that cannot be used."""


class FileError(ValueError):
    """A file is damaged, hostile, or holds what cannot be done with it.

    The message says what was required, what was received and what to do.
    """

"""What an export can fail with."""


class ExportError(Exception):
    """An export was refused; the message says what is wrong and what to do."""

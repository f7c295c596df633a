"""What every failure to provide data has in common."""


class DataError(Exception):
    """A data set cannot be provided. The message names what was found, what was expected, and what to do."""

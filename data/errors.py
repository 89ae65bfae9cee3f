class DataError(OSError):
    """A data set is missing or damaged; the message says what to do."""

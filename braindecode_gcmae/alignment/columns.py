"""Which column of a table of windows says whose they are."""

__all__ = ["SUBJECT_COLUMNS", "subject_column"]

# MOABB and braindecode, pandas' habit, BIDS.
SUBJECT_COLUMNS = ("subject", "subject_id", "participant_id", "participant")


def subject_column(columns) -> str | None:
    """The first of ``SUBJECT_COLUMNS`` that is there; None if none is."""
    return next((name for name in SUBJECT_COLUMNS if name in columns), None)

"""Which column of a table of windows says whose they are."""

__all__ = ["SUBJECT_COLUMNS", "subject_column"]

# MOABB and braindecode, pandas' habit, BIDS; psychologists and clinics. Not "id": it
# may number windows.
SUBJECT_COLUMNS = (
    "subject",
    "subject_id",
    "participant_id",
    "participant",
    "sub",
    "patient",
    "patient_id",
    "subj",
    "subj_id",
    "subject_nr",
)


def subject_column(columns) -> str | None:
    """The first of ``SUBJECT_COLUMNS`` that is there, in either case, or None."""
    spelled = {str(name).lower(): name for name in reversed(list(columns))}
    return next((spelled[n] for n in SUBJECT_COLUMNS if n in spelled), None)

"""Which column of a table of windows says whose and of which recording they are."""

__all__ = ["SUBJECT_COLUMNS", "named_column", "subject_column"]

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


_SPELLINGS = {
    "subject": SUBJECT_COLUMNS,
    "session": ("session", "session_id", "ses", "session_nr"),
    "run": ("run", "run_id", "run_nr"),
}


def named_column(name, columns) -> str | None:
    """The column that is called so; of subject, session and run any usual name."""
    if name in columns or name not in _SPELLINGS:
        return name if name in columns else None
    spelled = {str(column).lower(): column for column in reversed(list(columns))}
    return next((spelled[n] for n in _SPELLINGS[name] if n in spelled), None)


def subject_column(columns) -> str | None:
    """The first of ``SUBJECT_COLUMNS`` that is there, in either case, or None."""
    spelled = {str(name).lower(): name for name in reversed(list(columns))}
    return next((spelled[n] for n in SUBJECT_COLUMNS if n in spelled), None)

"""Which channels are the electrodes that are aligned by themselves."""

import numpy as np

from braindecode_gcmae.montage import match_electrodes
from braindecode_gcmae.montage.evidence import as_list

__all__ = ["check_named", "electrode_mask", "named_channels"]


def named_channels(ch_names, n_chans):
    """Names of the channels of arrays, made of their rows where none are given."""
    if ch_names is None:
        return [f"channel {i}" for i in range(n_chans)]
    if len(ch_names) != n_chans:
        raise ValueError(
            f"ch_names has {len(ch_names)} names, the windows have {n_chans} channels"
        )
    return list(ch_names)


def check_named(electrodes, ch_names):
    """Refuse electrodes by name in arrays, whose channels have none."""
    rows = as_list([] if electrodes is None else electrodes, "electrodes")
    if ch_names is None and any(isinstance(row, str) for row in rows):
        raise ValueError(
            f"electrodes={rows} are names, and an array does not tell its "
            "channels': pass ch_names=, or Epochs (in MOABB return_epochs=True)"
        )


def electrode_mask(electrodes, channels):
    """Rows of ``electrodes`` as a mask (N,), None if there are none."""
    if electrodes is None:
        return None
    rows = as_list(electrodes, "electrodes")
    if any(isinstance(row, str) for row in rows):
        try:
            rows = match_electrodes(rows, channels)  # as a model with these channels
        except ValueError as error:
            raise ValueError(
                f"{error}. Recordings of a cap without some of them are aligned by a "
                "RecordingAlignment of their own, with electrodes= those that it has"
            ) from error
    kept = np.zeros(len(channels), bool)
    kept[rows] = True
    return kept

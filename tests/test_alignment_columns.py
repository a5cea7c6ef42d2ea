"""RecordingAlignment: which windows and which channels it takes together."""

import warnings

import numpy as np
import pandas as pd
import pytest

from braindecode_gcmae.alignment import RecordingAlignment
from tests.tiny import NAMES, epochs, windows


def two():
    """Windows of two recordings that differ in loudness."""
    return np.concatenate([3 * windows(12), windows(12, seed=1)]), np.repeat([1, 2], 12)


def aligned(made, **options):
    """Windows of aligned Epochs in µV, where nothing is said."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        out = RecordingAlignment(**options).transform(made)
    return 1e6 * out.get_data()


SPELLINGS = ["session", "Session", "ses", "session_id", "run", "Run", "run_id"]


@pytest.mark.parametrize("name", SPELLINGS)
def test_sessions_and_runs_are_found_by_any_usual_name_of_the_column(name):
    x, which = two()
    expected = RecordingAlignment().transform(x, groups=which)
    made = epochs(x, **{"subject": [1] * 24, name: which})
    np.testing.assert_allclose(aligned(made), expected, rtol=1e-4, atol=1e-4)


def test_a_session_by_another_name_makes_files_no_recordings_of_their_own():
    x, which = two()
    told = {"subject": [1] * 24, "path": list(range(24))}
    made = epochs(x, **told, Session=which)
    expected = RecordingAlignment().transform(x, groups=which)
    np.testing.assert_allclose(aligned(made), expected, rtol=1e-4, atol=1e-4)


def test_metadata_that_tell_no_recordings_apart_are_said_to_tell_none():
    x, which = two()
    made = epochs(x, wearer=which, stimulus=["a", "b"] * 12)
    with pytest.warns(
        UserWarning, match="none of .*'subject', 'session', 'run'.*weare"
    ):
        RecordingAlignment().transform(made)
    whole = RecordingAlignment().transform(x)
    np.testing.assert_allclose(aligned(made, groups_from=()), whole, atol=1e-4)
    apart = RecordingAlignment().transform(x, groups=which)
    by_name = aligned(made, groups_from=("wearer",))
    np.testing.assert_allclose(by_name, apart, atol=1e-4)
    np.testing.assert_allclose(aligned(epochs(x)), whole, atol=1e-4)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        RecordingAlignment().transform(made, groups=which)


def test_metadata_without_columns_say_nothing():
    made = epochs(two()[0])
    made.metadata = pd.DataFrame(index=range(24))
    assert len(aligned(made)) == 24


def test_a_cap_that_lacks_an_electrode_is_told_what_to_do():
    x, _ = two()
    few = epochs(x).pick(NAMES[:4])
    with pytest.raises(ValueError, match="'Pz'.*aligned by a RecordingAlignment of th"):
        RecordingAlignment(electrodes=["Cz", "Pz"]).transform([epochs(x), few])


@pytest.mark.filterwarnings("ignore:.*not finite in many windows")
def test_of_channels_that_are_missing_equally_often_the_order_decides_nothing():
    x = windows(12)
    x[:6, 1], x[5:11, 4] = np.nan, np.nan  # without one of them half are complete
    x[:, 1] *= 2
    expected = RecordingAlignment(ch_names=NAMES).transform(x)
    assert np.isnan(expected[:, 4]).all() and not np.isnan(expected[6:, 1]).any()
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(6)
        step = RecordingAlignment(ch_names=[NAMES[row] for row in order])
        np.testing.assert_allclose(
            step.transform(x[:, order]), expected[:, order], rtol=1e-4, atol=1e-4
        )


def test_eyes_and_muscles_that_have_the_type_eeg_are_named_and_stay():
    made = epochs(two()[0]).rename_channels({"Pz": "HEOG", "F3": "EMG1"})
    with pytest.warns(
        UserWarning, match=r"\['EMG1', 'HEOG'\] have the type EEG"
    ) as said:
        out = RecordingAlignment().transform(made)
    assert len(said) == 1 and out.ch_names == made.ch_names
    expected = RecordingAlignment().transform(made.get_data(units="uV"))
    np.testing.assert_allclose(out.get_data(units="uV"), expected, rtol=1e-6)
    made.info["bads"] = ["HEOG", "EMG1"]  # takes no part
    aligned(made)
    made.info["bads"] = []
    aligned(made.set_channel_types({"HEOG": "eog", "EMG1": "emg"}, verbose=False))

"""StreamingAlignment: of electrodes alone as RecordingAlignment, and never of volts."""

import warnings

import mne
import numpy as np
import pytest

from braindecode_gcmae import StreamingClassifier, export_onnx
from braindecode_gcmae.alignment import RecordingAlignment, StreamingAlignment
from tests.tiny import (
    FEW,
    N_TIMES,
    NAMES,
    SFREQ,
    epochs,
    probabilities,
    student,
    trained,
    windows,
)

KEPT = [NAMES.index(name) for name in FEW]
CAP = {"electrodes": FEW, "ch_names": NAMES}


def mixed(n=12, n_times=N_TIMES, seed=0):
    """Windows whose channels share sources."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(6, 6)) @ windows(n, seed=seed)[..., :n_times]
    return x.astype(np.float32)


def referenced(**given):
    x = mixed(**given)
    return x - x.mean(1, keepdims=True)


@pytest.mark.filterwarnings("ignore:.*recording")
@pytest.mark.parametrize(
    "x", [mixed(), mixed(6, 8), mixed(3), referenced()], ids=["", "short", "few", "ref"]
)
@pytest.mark.parametrize("options", [{}, {"scale": None}, {"shrinkage": 0.1}])
def test_electrodes_of_a_stream_are_aligned_as_those_of_the_recording(x, options):
    batch = RecordingAlignment(**CAP, **options).transform(x)
    stream = StreamingAlignment(**CAP, **options)
    for window in x:
        stream.update(window)
    streamed = stream.transform(x)
    np.testing.assert_allclose(streamed, batch, rtol=1e-4, atol=1e-4)
    own = StreamingAlignment(**options).update(x[:, KEPT]).transform(x[:, KEPT])
    np.testing.assert_array_equal(streamed[:, KEPT], own)
    np.testing.assert_array_equal(stream.transform(x[2]), streamed[2])


def test_electrodes_of_a_stream_may_be_rows_and_a_band_is_theirs_too():
    x, band = mixed(), {"band": (8, 30), "sfreq": SFREQ}
    stream = StreamingAlignment(electrodes=KEPT, **band).update(x)
    batch = RecordingAlignment(**CAP, **band).transform(x)
    np.testing.assert_allclose(stream.transform(x), batch, rtol=1e-4, atol=1e-4)


def test_all_electrodes_of_a_stream_are_aligned_as_without_a_choice():
    x = mixed()
    expected = StreamingAlignment().update(x).transform(x)
    for every in (NAMES, range(6)):
        stream = StreamingAlignment(electrodes=every, ch_names=NAMES).update(x)
        np.testing.assert_array_equal(stream.transform(x), expected)


def test_the_others_of_a_stream_are_aligned_before_an_electrode_was_seen():
    x = mixed()
    x[:, KEPT] = np.nan
    out = StreamingAlignment(**CAP).update(x).transform(x)
    others = [row for row in range(6) if row not in KEPT]
    expected = StreamingAlignment().update(x[:, others]).transform(x[:, others])
    np.testing.assert_allclose(out[:, others], expected, rtol=1e-5)
    assert np.isnan(out[:, KEPT]).all()


def test_a_stream_of_electrodes_goes_on_from_a_saved_state_and_from_nothing():
    x = mixed()
    stream = StreamingAlignment(**CAP).update(x[:6])
    state = stream.state_dict()
    assert all(isinstance(value, np.ndarray) for value in state.values())
    again = StreamingAlignment(**CAP).load_state_dict(state)
    empty = StreamingAlignment(**CAP)
    fresh = StreamingAlignment(**CAP).load_state_dict(empty.state_dict())
    for one in (stream, again):
        one.update(x[6:])
    np.testing.assert_array_equal(stream.transform(x), again.transform(x))
    stream.reset()
    for one in (stream, fresh):
        one.update(x[:6])
    np.testing.assert_array_equal(stream.transform(x), fresh.transform(x))
    with pytest.raises(ValueError, match="with electrodes=, this one is without"):
        StreamingAlignment().load_state_dict(state)
    with pytest.raises(ValueError, match="without electrodes=, this one is with"):
        again.load_state_dict(StreamingAlignment().update(x).state_dict())


def test_electrodes_of_a_stream_that_are_not_known_are_named_before_it_begins():
    with pytest.raises(ValueError, match="give ch_names"):
        StreamingAlignment(electrodes=FEW)
    with pytest.raises(ValueError, match="Oz"):
        StreamingAlignment(electrodes=["Oz"], ch_names=NAMES)
    with pytest.raises(ValueError, match="6 names, the windows have 5 channels"):
        StreamingAlignment(**CAP).update(mixed()[:, :5])


def test_an_artefact_in_an_electrode_is_said_once_by_its_row():
    x = mixed(14)
    x[12] *= 1e3
    with pytest.warns(UserWarning, match=r"channels \[0, 1, 2, 3, 4, 5\] move") as said:
        StreamingAlignment(**CAP).update(x)
    assert len(said) == 1


def test_a_file_for_all_channels_decides_in_a_stream_as_in_the_recording(tmp_path):
    model, x = trained(student()), mixed(20)
    file = export_onnx(model, tmp_path / "all.onnx", channels="all")
    seen = StreamingAlignment(**CAP).update(x)
    stream = StreamingClassifier(file, step=N_TIMES / SFREQ, align=seen)
    said = [d.probabilities for d in stream.push(np.concatenate(list(x), axis=1))]
    batch = RecordingAlignment(**CAP).transform(x)
    # The last window was taken in twice by then, as all others were.
    np.testing.assert_allclose(said[-1], probabilities(model, batch)[-1], atol=1e-4)


def test_epochs_are_volts_and_a_stream_says_how_to_give_them():
    made = epochs(mixed())
    stream = StreamingAlignment().update(mixed())
    for call in (StreamingAlignment().update, stream.update, stream.transform):
        with pytest.raises(TypeError, match=r"EpochsArray holds volts.*1e6 \* epochs"):
            call(made)
    raw = mne.io.RawArray(mixed()[0] * 1e-6, made.info, verbose=False)
    with pytest.raises(TypeError, match="RawArray holds volts"):
        stream.update(raw)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        stream.update(1e6 * made.get_data(NAMES))

"""A stream answers as its windows do."""

import pickle
import warnings

import numpy as np
import pytest

from braindecode_gcmae import StreamingClassifier, export_onnx
from braindecode_gcmae.alignment import StreamingAlignment
from tests.tiny import (
    FEW,
    N_TIMES,
    NAMES,
    SFREQ,
    exported_answers,
    probabilities,
    student,
    trained,
    windows,
)

KEPT = [NAMES.index(name) for name in FEW]
CLASSES = ["left", "right"]


@pytest.fixture(scope="module")
def model():
    return trained(student())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("exported")


@pytest.fixture(scope="module")
def file(model, folder):
    return export_onnx(model, folder / "student.onnx", classes=CLASSES)


def recording(n_samples=700, seed=3):
    parts = windows(n_samples // N_TIMES + 1, len(FEW), seed=seed)
    return np.concatenate(list(parts), axis=1)[:, :n_samples]


@pytest.mark.parametrize("chunk", [1, 7, 160, 700])
def test_a_stream_gives_the_answers_of_its_windows(model, file, chunk):
    signal = recording()
    stream = StreamingClassifier(file, step=0.1)
    found = []
    for start in range(0, signal.shape[1], chunk):
        found += stream.push(signal[:, start : start + chunk])
    ends = list(range(N_TIMES, signal.shape[1] + 1, int(0.1 * SFREQ)))
    assert [decision.sample for decision in found] == ends
    cut = np.stack([signal[:, end - N_TIMES : end] for end in ends])
    np.testing.assert_array_equal(
        [decision.probabilities for decision in found],
        np.concatenate([exported_answers(file, window[None]) for window in cut]),
    )
    np.testing.assert_allclose(
        [decision.probabilities for decision in found],
        probabilities(model, cut),
        atol=1e-5,
    )


def test_a_chunk_without_samples_is_no_sample(file):
    """An inlet of LSL that has nothing new returns an empty list."""
    stream = StreamingClassifier(file)
    for nothing in ([], np.empty((len(FEW), 0)), np.empty((0, len(FEW)))):
        assert stream.push(nothing) == []
    assert stream.n_seen == 0


def test_a_pace_that_is_no_whole_number_of_samples_does_not_drift():
    stream = StreamingClassifier(
        lambda x: np.zeros((1, 2)), step=0.1, n_chans=1, n_times=10, sfreq=128
    )
    decisions = stream.push(np.zeros((1, 10 + 128)))
    assert [d.sample for d in decisions] == [
        10 + round(12.8 * k) for k in range(len(decisions))
    ]
    assert len(decisions) == 11  # ten a second


def test_a_reset_stream_knows_nothing_of_before(file):
    signal = recording()
    stream = StreamingClassifier(file)
    first = stream.push(signal[:, :300])
    stream.push(signal[:, 300:])
    stream.reset()
    again = stream.push(signal[:, :300])
    assert [d.sample for d in first] == [d.sample for d in again]
    np.testing.assert_array_equal(first[-1].probabilities, again[-1].probabilities)


@pytest.mark.parametrize("chunk", [1, 50, 700])
def test_a_stream_aligns_by_the_full_windows_so_far(chunk):
    signal = recording()
    signal[0] *= 7  # what alignment is for
    stream = StreamingClassifier(
        lambda x: x[:, :, :2].reshape(1, -1),
        step=0.1,
        n_chans=len(FEW),
        n_times=N_TIMES,
        sfreq=SFREQ,
        align=StreamingAlignment(),
    )
    found = []
    for start in range(0, signal.shape[1], chunk):
        found += stream.push(signal[:, start : start + chunk])
    by_hand, n_full = StreamingAlignment(), 0
    for decision in found:
        while (n_full + 1) * N_TIMES <= decision.sample:
            n_full += 1
            by_hand.update(signal[:, (n_full - 1) * N_TIMES : n_full * N_TIMES])
        window = signal[:, decision.sample - N_TIMES : decision.sample]
        expected = by_hand.transform(window)[:, :2].ravel()
        np.testing.assert_allclose(decision.probabilities, expected, rtol=1e-5)
    assert n_full == 700 // N_TIMES > 1


def test_what_an_alignment_has_seen_before_serves_until_the_stream_is_reset():
    seen = StreamingAlignment().update(recording(N_TIMES, seed=9))
    stream = StreamingClassifier(
        lambda x: x.mean((1, 2))[None],
        n_chans=len(FEW),
        n_times=N_TIMES,
        sfreq=SFREQ,
        align=seen,
    )
    assert int(seen.state_dict()["n_windows"]) == 1
    stream.push(recording(N_TIMES))
    assert int(seen.state_dict()["n_windows"]) == 2
    stream.reset()
    assert int(seen.state_dict()["n_windows"]) == 0


def test_samples_and_arguments_that_do_not_fit_are_refused(file, folder):
    stream = StreamingClassifier(file)
    assert (stream.channels, stream.classes) == (FEW, CLASSES)
    with pytest.raises(ValueError, match="samples of 3 electrodes"):
        stream.push(np.zeros(4))
    with pytest.raises(ValueError, match="are needed"):
        StreamingClassifier(lambda x: x)
    with pytest.raises(ValueError, match="shorter than a sample"):
        StreamingClassifier(file, step=0.001)
    with pytest.raises(ValueError, match="sfreq=250, but the file is for 100"):
        StreamingClassifier(file, sfreq=250)
    with pytest.raises(ValueError, match=f"n_chans=19, but the file is for {len(FEW)}"):
        StreamingClassifier(file, n_chans=19)
    assert StreamingClassifier(file, n_chans=len(FEW), sfreq=SFREQ).sfreq == SFREQ
    other = StreamingAlignment(band=(8, 30), sfreq=2 * SFREQ)
    with pytest.raises(ValueError, match="band at 200 Hz, the stream runs at 100 Hz"):
        StreamingClassifier(file, align=other)


def guess(window):
    return np.array([[0.5, 0.5]])


def test_a_window_that_was_handed_out_stays_as_it_was():
    seen = []
    stream = StreamingClassifier(
        lambda w: (seen.append(w), guess(w))[1], step=1, n_chans=2, n_times=4, sfreq=1
    )
    stream.push(np.arange(16.0).reshape(2, 8))
    assert [w[0, 0].tolist() for w in seen] == [
        [start + k for k in range(4)] for start in range(5)
    ]


def test_a_decision_tells_the_share_of_electrodes_that_it_was_made_without():
    stream = StreamingClassifier(guess, step=1, n_chans=4, n_times=2, sfreq=1)
    samples = np.arange(16.0).reshape(4, 4)
    samples[0, 1] = samples[:, 3] = np.nan
    assert [d.missing for d in stream.push(samples)] == [0.25, 0.25, 1.0]


def test_a_packet_lost_in_the_first_window_does_not_end_the_session():
    rng, align = np.random.default_rng(0), StreamingAlignment()
    stream = StreamingClassifier(
        guess, step=1, n_chans=3, n_times=50, sfreq=50, align=align
    )
    samples = rng.normal(size=(3, 200))
    samples[:, 20] = np.nan
    decisions = stream.push(samples)
    assert decisions[0].missing == 1 and decisions[-1].missing == 0
    assert len(decisions) == 4 and align.has_seen
    stream.reset()
    again = stream.push(samples)
    assert [d.missing for d in again] == [d.missing for d in decisions]


def test_what_the_alignment_has_not_seen_is_missing_in_whole_windows_too():
    stream = StreamingClassifier(
        guess, step=0.5, n_chans=3, n_times=50, sfreq=50, align=StreamingAlignment()
    )
    samples = np.random.default_rng(0).normal(size=(3, 150))
    samples[:, 10] = np.nan  # the window that ends at 75 is whole
    samples[2, 60] = np.nan  # so is, of channel 2, the one that ends at 125
    decisions = stream.push(samples)
    found = {d.sample: round(3 * d.missing) for d in decisions}
    assert found == {50: 3, 75: 3, 100: 1, 125: 1, 150: 0}


def test_a_file_that_is_given_volts_says_so_once(file):
    volts = 1e-6 * recording(2 * N_TIMES)
    stream = StreamingClassifier(file)
    for nothing in (np.nan, 0):  # as amplifiers begin
        assert stream.push(np.full_like(volts, nothing)[:, :N_TIMES])
    with pytest.warns(UserWarning, match="are they in volts") as caught:
        stream.push(volts)
    assert len(caught) == 1 and caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        stream.push(volts)
        StreamingClassifier(file, align=StreamingAlignment()).push(volts)
        StreamingClassifier(file).push(recording(N_TIMES))


class Scaled:
    """An alignment of one's own, which knows of no rate."""

    band = (8, 30)
    has_seen = True

    def update(self, window):
        return self

    def transform(self, window):
        return 2 * window


def test_an_alignment_of_ones_own_needs_no_rate():
    stream = StreamingClassifier(
        guess, step=1.0, n_chans=3, n_times=50, sfreq=50, align=Scaled()
    )
    assert len(stream.push(np.ones((3, 100)))) == 2


def test_a_prediction_that_fails_loses_no_sample():
    calls = []

    def predict(window):
        calls.append(window.copy())
        if len(calls) == 2:
            raise RuntimeError("once")
        return np.array([[0.5, 0.5]])

    x = np.random.default_rng(0).standard_normal((3, 500)).astype(np.float32)
    stream = StreamingClassifier(predict, n_chans=3, n_times=200, sfreq=100.0)
    with pytest.raises(RuntimeError, match="once"):
        stream.push(x[:, :400])
    assert stream.n_seen == 400
    (*_, last) = stream.push(x[:, 400:])
    assert last.sample == 500 and np.array_equal(calls[-1][0], x[:, 300:500])


class Fails:
    """An alignment that fails once, where it is told to."""

    has_seen = True

    def __init__(self, where):
        self.where, self.n_windows = where, 0

    def update(self, window):
        self.n_windows += 1
        self._fail("update")

    def transform(self, window):
        self._fail("transform")
        return window

    def _fail(self, where):
        if where == self.where:
            self.where = None
            raise RuntimeError("once")


@pytest.mark.parametrize("where", ["update", "transform"])
def test_an_alignment_that_fails_loses_no_sample(where):
    seen, align = [], Fails(where)

    def predict(window):
        seen.append(window.copy())
        return guess(window)

    x = np.random.default_rng(0).standard_normal((3, 500)).astype(np.float32)
    stream = StreamingClassifier(
        predict, n_chans=3, n_times=200, sfreq=100.0, align=align
    )
    with pytest.raises(RuntimeError, match="once"):
        stream.push(x[:, :400])
    assert stream.n_seen == 400 and align.n_windows == 2
    (*_, last) = stream.push(x[:, 400:])
    assert last.sample == 500 and np.array_equal(seen[-1][0], x[:, 300:500])
    assert len(seen) == 31 - 1, "one decision failed"


def test_a_file_takes_windows_of_any_number_type_and_of_its_shape_alone(file):
    predict = StreamingClassifier(file).predict
    x = np.round(windows(4)[:, KEPT])
    for kind in (np.float64, np.float16, np.int16):
        np.testing.assert_array_equal(predict(x.astype(kind)), predict(x))
    for wrong in (x[0], x[:, :2], x[:, :, :100], np.concatenate([x, x], 2)):
        with pytest.raises(ValueError, match=r"shape \(n, 3, 160\) in µV.*got \("):
            predict(wrong)


def test_a_stream_from_a_file_can_be_sent_to_another_process(tmp_path):
    stream = StreamingClassifier(export_onnx(trained(student()), tmp_path / "s.onnx"))
    samples = windows(1)[0][KEPT]
    decisions = pickle.loads(pickle.dumps(stream)).push(samples)
    expected = stream.push(samples)
    assert [d.sample for d in decisions] == [d.sample for d in expected] != []
    for decision, other in zip(decisions, expected, strict=True):
        np.testing.assert_array_equal(decision.probabilities, other.probabilities)


@pytest.mark.parametrize("step", [np.inf, np.nan])
def test_a_pace_without_end_is_refused(step):
    with pytest.raises(ValueError, match="no number of seconds"):
        StreamingClassifier(
            lambda X: X, step=step, n_chans=8, n_times=N_TIMES, sfreq=SFREQ
        )

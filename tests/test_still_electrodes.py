"""A channel that does not move is a missing electrode, to models, files and streams."""

import numpy as np
import pytest
import torch

from braindecode_gcmae import StreamingClassifier, export_onnx
from braindecode_gcmae.alignment import StreamingAlignment
from tests.tiny import (
    FEW,
    N_TIMES,
    NAMES,
    exported_answers,
    probabilities,
    student,
    teacher,
    trained,
    windows,
)

STILL = {
    "zeros": np.zeros(N_TIMES),
    "a constant": np.full(N_TIMES, 5.0),
    "railed": np.full(N_TIMES, 187_500.0),
    "rounding of a filter": 1e-9 * np.sin(np.arange(N_TIMES)),
}
ROW = NAMES.index("C3")


def with_row(x, signal, window=1):
    out = x.copy()
    out[window, ROW] = signal
    return out


@pytest.mark.parametrize("signal", STILL.values(), ids=STILL)
@pytest.mark.parametrize("build", [student, teacher])
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_a_channel_that_does_not_move_is_missing(signal, build, training):
    x, answers = windows(3), []
    for given in (signal, np.nan):
        model = trained(build()).train(training)
        answers.append(model(torch.from_numpy(with_row(x, given))))
    assert torch.equal(*answers)
    assert not torch.equal(
        answers[0], trained(build()).train(training)(torch.from_numpy(x))
    )


def test_the_smallest_signals_are_signals():
    x = windows(3) * 1e-6  # in volts, of which a warning tells
    model = trained(student())
    lost = probabilities(model, with_row(x, np.nan))
    assert not np.array_equal(probabilities(model, x), lost)


def test_an_exported_file_takes_a_still_channel_as_missing(tmp_path):
    model = trained(student())
    file = export_onnx(model, tmp_path / "student.onnx")
    kept = [NAMES.index(name) for name in FEW]
    x = with_row(windows(3), 5.0)[:, kept]
    np.testing.assert_allclose(
        exported_answers(file, x), probabilities(model, x), atol=1e-5
    )
    lost = with_row(windows(3), np.nan)[:, kept]
    np.testing.assert_array_equal(
        exported_answers(file, x), exported_answers(file, lost)
    )


@pytest.mark.parametrize("value", [0.0, 187_500.0])
def test_a_stream_tells_of_an_electrode_that_is_unplugged(value, tmp_path):
    file = export_onnx(trained(student()), tmp_path / "student.onnx")
    signal = np.concatenate(list(windows(6, len(FEW))), axis=1)
    found = []
    for given in (value, np.nan):
        signal[0] = given
        stream = StreamingClassifier(file, step=0.5, align=StreamingAlignment())
        found.append(stream.push(signal))
    for one, other in zip(*found, strict=True):
        assert one.missing == other.missing == pytest.approx(1 / len(FEW))
        np.testing.assert_array_equal(one.probabilities, other.probabilities)


def test_a_whole_cap_that_is_unplugged_is_missing():
    stream = StreamingClassifier(
        lambda x: np.full((1, 2), 0.5), n_chans=2, n_times=100, sfreq=100
    )
    assert stream.push(np.zeros((2, 100)))[0].missing == 1

"""An exported file answers as the model does; a stream answers as its windows do."""

import sys
import warnings

import numpy as np
import pytest
import torch

from braindecode_gcmae.alignment import StreamingAlignment
from braindecode_gcmae.export import (
    StreamingClassifier,
    export_onnx,
    export_program,
)
from tests.tiny import FEW, N_TIMES, NAMES, SFREQ, student, teacher, windows

KEPT = [NAMES.index(name) for name in FEW]
CLASSES = ["left", "right"]


def trained(model):
    """Weights of any size: fresh ones hide the graph, the encoder and the head."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.add_(0.2 * noise)
    return model.eval()


@pytest.fixture(scope="module")
def model():
    return trained(student())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("exported")


@pytest.fixture(scope="module")
def file(model, folder):
    return export_onnx(model, folder / "student.onnx", classes=CLASSES)


def probabilities(model, x):
    with torch.no_grad():
        return model(torch.as_tensor(x)).softmax(-1).numpy()


def session(path):
    import onnxruntime

    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def answers(path, x):
    return session(path).run(None, {"x": np.asarray(x, np.float32)})[0]


# ------------------------------------------------------------------ torch.export
@pytest.mark.parametrize("make", [student, teacher])
def test_the_captured_program_is_the_model_at_any_batch_size(make):
    model = trained(make())
    program = export_program(model, probabilities=False).module()
    for n in (1, 2, 7):
        x = torch.as_tensor(windows(n, model.network.n_nodes))
        with torch.no_grad():
            torch.testing.assert_close(program(x), model(x), rtol=1e-5, atol=1e-5)


def test_exporting_leaves_the_model_as_it_was(folder):
    model = student().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    export_program(model)
    assert model.training
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])


# ------------------------------------------------------------------------- ONNX
@pytest.mark.parametrize("n", [1, 2, 5, 33])
def test_one_file_goes_from_raw_windows_to_probabilities(model, file, n):
    x = windows(n, len(FEW), seed=n)
    ours = answers(file, x)
    np.testing.assert_allclose(ours, probabilities(model, x), atol=1e-5)
    np.testing.assert_allclose(ours.sum(-1), 1, atol=1e-6)
    assert np.ptp(probabilities(model, windows(33, len(FEW)))[:, 0]) > 0.01


def test_a_missing_electrode_is_missing_in_the_file_too(model, file):
    x = windows(4, len(FEW))
    x[1, 0, 7], x[2, 1], x[3] = np.nan, np.inf, np.nan
    ours = answers(file, x)
    np.testing.assert_allclose(ours, probabilities(model, x), atol=1e-5)
    other = x.copy()
    other[1, 0] = 1e20  # what a missing electrode holds is nobody's business
    np.testing.assert_array_equal(answers(file, other), ours)


def test_a_file_for_all_channels_takes_the_electrodes_out_of_them(model, folder, file):
    whole = export_onnx(model, folder / "all.onnx", channels="all")
    x = windows(3)
    np.testing.assert_allclose(
        answers(whole, x), answers(file, x[:, KEPT]), rtol=0, atol=1e-6
    )


def test_an_embedding_model_exports_its_embeddings(folder):
    model = trained(student(n_outputs=None))
    with pytest.raises(ValueError, match="no head"):
        export_onnx(model, folder / "refused.onnx")
    program = export_program(model, probabilities=False).module()
    x = torch.as_tensor(windows(2, len(FEW)))
    with torch.no_grad():
        torch.testing.assert_close(program(x), model(x), rtol=1e-5, atol=1e-5)


def test_eight_bits_are_close_and_say_so_in_a_smaller_file(folder):
    model = trained(student(emb_dim=32, depth=2))
    full = export_onnx(model, folder / "full.onnx")
    small = export_onnx(model, folder / "int8.onnx", int8=True)
    x = windows(64, len(FEW))
    gap = np.abs(answers(small, x) - answers(full, x))
    assert 0 < gap.max() < 0.1
    assert gap.mean() < 0.02
    assert small.stat().st_size < 0.8 * full.stat().st_size
    assert StreamingClassifier(small).channels == FEW


def test_a_file_knows_its_electrodes_and_nothing_of_the_machine(file):
    import onnx

    facts = {entry.key: entry.value for entry in onnx.load(file).metadata_props}
    assert facts["channels"] == '["C3", "Cz", "C4"]'
    assert float(facts["sfreq"]) == SFREQ
    content = file.read_bytes()
    assert sys.prefix.encode() not in content
    assert b"site-packages" not in content and b"braindecode_gcmae/" not in content


@pytest.mark.parametrize(
    ("classes", "expected"),
    [
        (np.array([0, 1]), ["0", "1"]),
        (np.array(CLASSES), CLASSES),
        (("left", 2.5), ["left", "2.5"]),
    ],
)
def test_classes_may_be_any_sequence_of_names_or_numbers(
    model, folder, classes, expected
):
    path = export_onnx(model, folder / "classes.onnx", classes=classes)
    assert StreamingClassifier(path).classes == expected


def test_what_cannot_be_exported_is_refused_by_name(model, folder):
    with pytest.raises(TypeError, match="Linear"):
        export_program(torch.nn.Linear(2, 2))
    with pytest.raises(ValueError, match="channels must be"):
        export_program(model, channels="some")
    with pytest.raises(ValueError, match="3 names of classes"):
        export_onnx(model, folder / "no.onnx", classes=["a", "b", "c"])


# -------------------------------------------------------------------- streaming
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
        np.concatenate([answers(file, window[None]) for window in cut]),
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


def test_a_file_names_the_channels_in_the_order_in_which_it_takes_them(folder):
    x = windows(2, len(FEW))
    turned = trained(student(ch_names=FEW, electrodes=FEW[::-1]))
    path = export_onnx(turned, folder / "turned.onnx")
    assert StreamingClassifier(path).channels == FEW
    np.testing.assert_allclose(answers(path, x), probabilities(turned, x), atol=1e-5)


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


@pytest.mark.parametrize(
    "export", [export_program, lambda m, **k: export_onnx(m, "m.onnx", **k)]
)
def test_probabilities_of_a_single_output_are_refused(export, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = student(n_outputs=1)
    with pytest.raises(ValueError, match="one output.*probabilities=False"):
        export(model)
    export(model, probabilities=False)


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
    samples = np.ones((4, 4))
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

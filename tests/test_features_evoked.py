"""The time course as node features: its formula, its sign, and what it is for."""

import math
import warnings

import numpy as np
import pytest
import torch
from braindecode import EEGClassifier

from braindecode_gcmae import (
    GCMAEPretrainer,
    GCMAEStudent,
    GCMAETeacher,
    StartFrom,
    TopologyDistillation,
)
from braindecode_gcmae.features import (
    CombinedFeatures,
    Electrodes,
    EvokedFeatures,
    SpectralFeatures,
    TemporalFeatures,
)
from braindecode_gcmae.models import CheckpointError

CAP = ["F3", "F4", "C3", "Cz", "C4", "P3", "Pz", "P4"]
SFREQ, N_TIMES = 80, 80


def everywhere(b, n):
    yes = torch.ones(b, n, dtype=torch.bool)
    return Electrodes(torch.randn(1, n, 3), torch.randn(1, n, 4), yes, yes)


def course(x, sfreq=SFREQ, **arguments):
    features = EvokedFeatures(sfreq, x.shape[2], **arguments).to(x.dtype)
    return features(features.observe(x), everywhere(*x.shape[:2]))


def model(cls=GCMAEStudent, **arguments):
    settings = {"n_outputs": 2, "ch_names": CAP, "sfreq": SFREQ, "n_times": N_TIMES}
    parts = {"features": EvokedFeatures, "emb_dim": 8}
    return cls(**settings | parts | arguments).eval()


def evoked(n, seed=0):
    """Windows (n, 8, 80) in µV with a response that is up or down, and which it is."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, n)
    time = np.arange(N_TIMES) / SFREQ
    response = (
        8 * np.exp(-0.5 * ((time - 0.35) / 0.06) ** 2) * np.linspace(0, 1, 8)[:, None]
    )
    sign = 2.0 * y[:, None, None] - 1
    X = rng.normal(0, 10, (n, 8, N_TIMES)) + sign * response
    return X.astype(np.float32), y


# ---------------------------------------------------------------- formula


@pytest.mark.parametrize(("sfreq", "n_times", "f_max", "n_bins"), [
    (80, 80, 40.0, 16), (250, 200, 40.0, 13), (80, 80, 4.0, 8), (10, 40, 5.0, 40),
])  # fmt: skip
def test_bins_agree_with_a_slow_loop(sfreq, n_times, f_max, n_bins):
    x = torch.randn(2, 3, n_times, dtype=torch.float64)
    ours = course(x, sfreq, f_max=f_max)
    assert ours.shape == (2, 3, n_bins)
    for b in range(n_bins):
        total = weight = 0.0
        for t in range(n_times):
            w = max(0.0, 1 - abs((t + 0.5) * n_bins / n_times - (b + 0.5)))
            total, weight = total + w * x[..., t], weight + w
        expected = total / weight - x.mean(-1)
        torch.testing.assert_close(ours[..., b], expected, rtol=0, atol=1e-6)


def test_a_ramp_is_a_ramp_and_a_constant_is_nothing():
    time = torch.arange(N_TIMES, dtype=torch.float64) / SFREQ
    ours = course(torch.stack([time, torch.full_like(time, 1e4)])[None])[0]
    steps = ours[0, 1:].diff()[:-1]  # the bins at the ends are cut in half
    torch.testing.assert_close(steps, torch.full_like(steps, 1 / 16), rtol=0, atol=1e-6)
    assert ours[1].abs().max() < 1e-3  # of 1e4 µV


def test_a_slow_wave_keeps_its_height_and_a_fast_one_goes():
    time = (torch.arange(N_TIMES, dtype=torch.float64) + 0.5) / SFREQ
    slow, fast = (torch.sin(2 * math.pi * f * time) for f in (2.0, 16.0))
    ours = course(torch.stack([slow, fast])[None])[0]
    centres = (torch.arange(16) + 0.5) / 16
    wave = torch.sin(2 * math.pi * 2.0 * centres).double()
    # a triangle of half width h passes sinc(f h)^2
    passed = float(np.sinc(2.0 / 16) ** 2)
    torch.testing.assert_close(ours[0, 1:-1], passed * wave[1:-1], rtol=0, atol=0.02)
    assert ours[1, 1:-1].abs().max() < 0.02


def test_another_sampling_rate_gives_the_same_time_course():
    def wave(sfreq):
        time = (torch.arange(sfreq) + 0.5) / sfreq
        return torch.exp(-0.5 * ((time - 0.3) / 0.05) ** 2)[None, None]

    here, there = course(wave(80), 80), course(wave(500), 500)
    torch.testing.assert_close(here, there, rtol=0, atol=0.01)


@pytest.mark.parametrize("n_times", [64, 79, 81, 160])
def test_windows_of_another_length_are_an_error(n_times):
    features = EvokedFeatures(SFREQ, N_TIMES, segment_seconds=0.5)
    with pytest.raises(ValueError, match=f"{n_times} samples.*course of 80 samples"):
        features.observe(torch.randn(1, 8, n_times))


@pytest.mark.parametrize("n_times", [40, 100, 159, 161, 320])
def test_a_model_names_the_one_length_it_takes_and_no_spectrum(n_times):
    student = model(n_times=160)  # two segments of a second
    with pytest.raises(ValueError, match=f"of 160 samples.*n_times={n_times}$") as told:
        student(torch.randn(1, 8, n_times))
    assert "spectrum" not in str(told.value)


def test_a_checkpoint_for_another_length_of_window_says_so(tmp_path):
    model().save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="EvokedFeatures of.*another length"):
        GCMAEStudent.from_pretrained(tmp_path, n_times=2 * N_TIMES)


def test_a_start_from_weights_for_another_length_of_window_says_so(tmp_path):
    model().save_pretrained(tmp_path)
    longer = np.concatenate([evoked(8)[0]] * 2, axis=2)
    net = EEGClassifier(
        model(n_times=2 * N_TIMES),
        batch_size=8,
        train_split=None,
        callbacks=[("start", StartFrom(tmp_path))],
    )
    with pytest.raises(ValueError, match="EvokedFeatures: for windows of its length"):
        net.fit(longer, np.arange(8) % 2)


# ---------------------------------------------------------------- what it is for


def test_a_window_and_its_negative_are_told_apart_and_by_powers_they_are_not():
    x = torch.from_numpy(evoked(6)[0])
    features = EvokedFeatures(SFREQ, N_TIMES)
    assert torch.equal(features.observe(-x), -features.observe(x))
    with torch.no_grad():
        powers = model(features=TemporalFeatures)
        torch.testing.assert_close(powers(-x), powers(x))
        by_sign = model()
        torch.nn.init.normal_(by_sign.final_layer.weight)
        assert (by_sign(-x) - by_sign(x)).abs().min() > 1e-3


def test_a_student_learns_responses_that_powers_do_not_show():
    X, y = evoked(192)
    unseen, truth = evoked(128, seed=1)
    both_ways, truth = np.concatenate([unseen, -unseen]), np.append(truth, 1 - truth)
    scores = {}
    for features in (EvokedFeatures, TemporalFeatures):
        torch.manual_seed(0)
        net = EEGClassifier(
            model(features=features),
            optimizer=torch.optim.AdamW,
            lr=3e-3,
            max_epochs=20,
            batch_size=32,
            train_split=None,
            verbose=0,
        )
        net.fit(X, y)
        scores[features] = net.score(both_ways, truth)
    assert scores[EvokedFeatures] > 0.9
    assert scores[TemporalFeatures] == pytest.approx(0.5, abs=0.02)


def test_pretraining_rebuilds_the_time_course_of_hidden_electrodes():
    X, _ = evoked(16)
    pretrainer = GCMAEPretrainer(
        teacher=model(GCMAETeacher, depth=1, n_outputs=None),
        student=model(electrodes=CAP[2:5], n_outputs=None),
        electrodes=CAP[2:5],
        max_epochs=1,
        batch_size=8,
        verbose=0,
    )
    pretrainer.fit(X)
    before, after = pretrainer.reconstruct(X[:2], ["Cz"])[:2]
    assert before.shape == after.shape == (2, 8, 16)
    norm = pretrainer.teacher_.network.norm
    x = torch.from_numpy(X[:2])
    expected = norm(EvokedFeatures(SFREQ, N_TIMES).observe(x)).numpy()
    np.testing.assert_allclose(before, expected, rtol=0, atol=1e-4)
    assert np.isfinite(after).all()


def test_a_checkpoint_serves_another_cap_at_another_rate(tmp_path):
    student = model()
    torch.nn.init.normal_(student.final_layer.weight)
    student.save_pretrained(tmp_path)
    other = GCMAEStudent.from_pretrained(tmp_path, ch_names=CAP[::-1], sfreq=160)
    assert isinstance(other.network.features, EvokedFeatures)
    assert other.n_times == 160
    height = 10 * torch.randn(4, 8, 1)

    def wave(sfreq):
        time = (torch.arange(sfreq) + 0.5) / sfreq
        return height * torch.exp(-0.5 * ((time - 0.3) / 0.1) ** 2)

    with torch.no_grad():
        ours = other.eval()(wave(160).flip(1))
        torch.testing.assert_close(ours, student(wave(80)), rtol=0.01, atol=0.02)
        assert ours.std() > 1


def test_an_exported_file_decides_as_the_model(tmp_path):
    pytest.importorskip("onnxruntime")
    from braindecode_gcmae import StreamingClassifier, export_onnx

    student, (X, _) = model(), evoked(3)
    torch.nn.init.normal_(student.final_layer.weight)
    stream = StreamingClassifier(export_onnx(student, tmp_path / "student.onnx"))
    expected = torch.softmax(student(torch.from_numpy(X)), -1).detach().numpy()
    np.testing.assert_allclose(stream.predict(X), expected, rtol=0, atol=1e-5)


COURSE, RHYTHMS = ({"features": f} for f in (EvokedFeatures, TemporalFeatures))


def unlike_said(run):
    """How often it is said that teacher and student see different things."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run()
    texts = [str(warning.message) for warning in caught]
    return [text for text in texts if "see different things" in text]


def pretrained(teacher, student):
    pretrainer = GCMAEPretrainer(
        teacher=model(GCMAETeacher, depth=1, n_outputs=None, **teacher),
        student=model(electrodes=CAP[2:5], n_outputs=None, **student),
        electrodes=CAP[2:5],
        max_epochs=1,
        batch_size=8,
        verbose=0,
    )
    pretrainer.fit(evoked(8)[0])


def distilled(teacher, student, fitted=True):
    taught = model(GCMAETeacher, depth=1, **teacher)
    torch.nn.init.constant_(taught.final_layer.bias, 1e-3)
    settings = {"max_epochs": 1, "batch_size": 8, "train_split": None, "verbose": 0}
    if not fitted:
        taught = EEGClassifier(taught, **settings)
    distil = [("distil", TopologyDistillation(taught, gtd_weight=0.0))]
    net = model(electrodes=CAP[2:5], **student)
    EEGClassifier(net, **settings, callbacks=distil).fit(*evoked(16))


def unfitted(teacher, student):
    distilled(teacher, student, fitted=False)


@pytest.mark.parametrize("stage", [pretrained, distilled, unfitted])
def test_a_pair_of_which_one_sees_the_time_course_is_told_once(stage):
    (text,) = unlike_said(lambda: stage(RHYTHMS, COURSE))
    assert "(features TemporalFeatures and EvokedFeatures)" in text
    (text,) = unlike_said(lambda: stage(COURSE, {"features": SpectralFeatures}))
    assert "(features EvokedFeatures and SpectralFeatures)" in text
    assert not unlike_said(lambda: stage(COURSE, COURSE))
    assert not unlike_said(lambda: stage({"features": CombinedFeatures}, RHYTHMS))


class Own(torch.nn.Module):
    """Features of a user's own, of which nothing is known."""

    def __init__(self, *given, **arguments):
        super().__init__()
        self.own, self.n_features = torch.nn.Identity(), 80

    def observe(self, x):
        return x

    def forward(self, observed, electrodes):
        return observed


def test_of_features_of_the_users_own_nothing_is_said():
    assert not unlike_said(lambda: distilled({"features": Own}, COURSE))
    assert not unlike_said(lambda: distilled({"features": Own}, RHYTHMS))

"""Laws of the alignment: each recording to the scaled identity, without labels."""

import pickle
import warnings
from functools import partial

import mne
import numpy as np
import pandas as pd
import pytest
import scipy.linalg
import scipy.signal
import sklearn
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.utils import _safe_indexing
from skorch.helper import SliceDataset
from torch.utils.data import Subset

from braindecode_gcmae.alignment import (
    RecordingAlignment,
    StreamingAlignment,
    riemannian_mean,
    whitening_matrix,
    window_covariances,
)
from braindecode_gcmae.alignment.columns import SUBJECT_COLUMNS
from braindecode_gcmae.alignment.signal import stored_steps
from braindecode_gcmae.montage.recording import joined_epochs
from tests.tiny import windowed

SFREQ = 100.0


def recording(seed, n_windows=12, n_chans=5, n_times=200, amplitude=20.0):
    """Coloured noise, mixed into channels, its amplitude different in each window."""
    rng = np.random.default_rng(seed)
    sources = np.cumsum(rng.normal(size=(n_windows, n_chans, n_times)), axis=-1)
    sources = np.diff(sources, axis=-1, prepend=0) + 0.3 * sources / 10
    sources *= rng.uniform(0.5, 2.0, size=(n_windows, n_chans, 1))
    mixing = rng.normal(size=(n_chans, n_chans)) + 2 * np.eye(n_chans)
    return amplitude * np.einsum("ij,bjt->bit", mixing, sources)


def slow_covariances(x):
    return np.stack([np.cov(window, bias=True) for window in x])


def make_epochs(x, metadata=None, n_eog=0, bads=()):
    import mne

    names = ["Fp1", "Fz", "C3", "Cz", "Pz", "O1", "O2"][: x.shape[1] - n_eog]
    kinds = ["eeg"] * len(names) + ["eog"] * n_eog
    names = names + [f"EOG{i}" for i in range(n_eog)]
    info = mne.create_info(names, SFREQ, kinds)
    info["bads"] = list(bads)
    events = np.c_[np.arange(len(x)) * 300, np.zeros(len(x)), np.arange(len(x)) % 2 + 1]
    return mne.EpochsArray(
        1e-6 * x,
        info,
        events.astype(int),
        tmin=-0.5,
        event_id={"left": 1, "right": 2},
        metadata=metadata,
        baseline=None,
        verbose="error",
    )


@pytest.mark.parametrize("scale", [1.0, 10.0, 37.5])
def test_mean_covariance_of_the_output_is_the_scaled_identity(scale):
    out = RecordingAlignment(scale=scale).fit_transform(recording(0))
    mean = slow_covariances(out).mean(axis=0)
    np.testing.assert_allclose(mean, scale**2 * np.eye(5), atol=1e-8 * scale**2)


def test_riemannian_mean_of_the_output_is_the_scaled_identity():
    out = RecordingAlignment("riemann").fit_transform(recording(0))
    logs = [scipy.linalg.logm(c / 100.0) for c in slow_covariances(out)]
    np.testing.assert_allclose(np.mean(logs, axis=0), np.zeros((5, 5)), atol=1e-7)


def test_whitening_is_the_inverse_symmetric_root():
    x = recording(1)
    mean = slow_covariances(x).mean(axis=0)
    root = 10.0 * np.linalg.inv(scipy.linalg.sqrtm(mean))
    out = RecordingAlignment().fit_transform(x)
    np.testing.assert_allclose(out, np.einsum("ij,bjt->bit", root, x), rtol=1e-7)
    matrix = whitening_matrix(mean)
    np.testing.assert_allclose(matrix, matrix.T, atol=1e-12)
    assert (np.linalg.eigvalsh(matrix) > 0).all()


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(["euclid", "riemann"]))
def test_mixing_changes_the_output_by_a_rotation_only(seed, metric):
    x = recording(seed)
    rng = np.random.default_rng(seed + 1)
    mixing = rng.normal(size=(5, 5)) + 3 * np.eye(5)
    align = RecordingAlignment(metric)
    first = align.transform(x)
    second = align.transform(np.einsum("ij,bjt->bit", mixing, x))
    flat = [z.transpose(1, 0, 2).reshape(5, -1) for z in (first, second)]
    rotation = flat[1] @ np.linalg.pinv(flat[0])
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(5), atol=1e-6)
    np.testing.assert_allclose(rotation @ flat[0], flat[1], atol=1e-4)


@pytest.mark.parametrize("metric", ["euclid", "riemann"])
def test_amplitude_and_unit_of_a_recording_do_not_matter(metric):
    x = recording(2)
    align = RecordingAlignment(metric)
    np.testing.assert_allclose(align.transform(x), align.transform(1e-6 * x), rtol=1e-6)


@pytest.mark.parametrize("metric", ["euclid", "riemann"])
def test_aligning_twice_changes_nothing(metric):
    once = RecordingAlignment(metric).transform(recording(3))
    twice = RecordingAlignment(metric).transform(once)
    np.testing.assert_allclose(twice, once, atol=1e-5)


def test_scale_none_keeps_the_amplitude_of_the_recording():
    x = recording(4, amplitude=3.0)
    out = RecordingAlignment(scale=None).transform(x)
    assert out.var(axis=-1).mean() == pytest.approx(x.var(axis=-1).mean(), rel=1e-9)


@pytest.mark.parametrize("metric", ["euclid", "riemann"])
def test_order_of_windows_and_of_channels_does_not_matter(metric):
    x, rng = recording(5), np.random.default_rng(0)
    windows, channels = rng.permutation(len(x)), rng.permutation(5)
    align = RecordingAlignment(metric)
    permuted = align.transform(x[windows][:, channels])
    np.testing.assert_allclose(
        permuted, align.transform(x)[windows][:, channels], atol=1e-6
    )


def test_groups_are_independent_recordings():
    parts = [recording(seed) for seed in (6, 7, 8)]
    groups = np.repeat(["a", "b", "c"], 12)
    mixed = np.random.default_rng(0).permutation(36)
    x = np.concatenate(parts)
    expected = np.concatenate([RecordingAlignment().transform(p) for p in parts])
    out = RecordingAlignment().transform(x[mixed], groups=groups[mixed])
    np.testing.assert_allclose(out, expected[mixed], atol=1e-9)
    frame = pd.DataFrame({"subject": groups, "session": 1})
    again = RecordingAlignment().fit_transform(x, groups=frame)
    np.testing.assert_array_equal(again, expected)
    for got, want in zip(
        RecordingAlignment().transform(parts), np.split(expected, 3), strict=True
    ):
        np.testing.assert_array_equal(got, want)


def test_no_label_is_used_and_nothing_is_learnt():
    x, align = recording(9), RecordingAlignment()
    before = vars(align).copy()
    labelled = align.fit(recording(0), y=np.zeros(12)).transform(x)
    np.testing.assert_array_equal(labelled, RecordingAlignment().transform(x))
    np.testing.assert_array_equal(align.fit_transform(x, np.arange(12)), labelled)
    assert vars(align) == before


def test_input_is_not_changed():
    x = recording(10)
    kept = x.copy()
    RecordingAlignment().transform(x)
    np.testing.assert_array_equal(x, kept)


@pytest.mark.parametrize(
    "given_dtype, expected",
    [("f4", "f4"), ("f8", "f8"), ("i2", "f8"), ("f2", "f2")],
)
def test_floating_dtype_is_kept(given_dtype, expected):
    x = recording(11).astype(given_dtype)
    out = RecordingAlignment().transform(x)
    assert out.dtype == np.dtype(expected)
    exact = RecordingAlignment().transform(x.astype("f8"))
    np.testing.assert_allclose(out, exact, atol=0.05 if expected == "f2" else 1e-3)


def test_riemannian_mean_of_two_is_the_geometric_midpoint():
    a, b = slow_covariances(recording(12, n_windows=2))
    root = scipy.linalg.sqrtm(a)
    inverse = np.linalg.inv(root)
    midpoint = root @ scipy.linalg.sqrtm(inverse @ b @ inverse) @ root
    np.testing.assert_allclose(riemannian_mean(np.stack([a, b])), midpoint, rtol=1e-6)


def test_riemannian_mean_of_commuting_matrices_is_their_geometric_mean():
    rng = np.random.default_rng(13)
    basis = np.linalg.qr(rng.normal(size=(4, 4)))[0]
    values = rng.uniform(0.1, 9.0, size=(7, 4))
    stack = np.stack([(basis * v) @ basis.T for v in values])
    expected = (basis * np.exp(np.log(values).mean(axis=0))) @ basis.T
    np.testing.assert_allclose(riemannian_mean(stack), expected, rtol=1e-7, atol=1e-9)


def test_riemannian_mean_is_equivariant_and_self_dual():
    rng = np.random.default_rng(14)
    stack = slow_covariances(recording(14))
    mixing = rng.normal(size=(5, 5)) + 3 * np.eye(5)
    mean = riemannian_mean(stack)
    moved = riemannian_mean(mixing @ stack @ mixing.T)
    np.testing.assert_allclose(moved, mixing @ mean @ mixing.T, rtol=1e-6)
    dual = riemannian_mean(np.linalg.inv(stack))
    np.testing.assert_allclose(dual @ mean, np.eye(5), atol=1e-6)


def test_a_mean_that_does_not_converge_says_so():
    with pytest.warns(UserWarning, match="did not converge in 1 iterations"):
        riemannian_mean(slow_covariances(recording(14)), max_iter=1)


@pytest.mark.parametrize("n_times", [200, 151])
@pytest.mark.parametrize("band", [(8.0, 30.0), (0.0, 50.0)])
def test_band_covariance_equals_scipys_cross_spectrum(n_times, band):
    x = recording(15, n_windows=3, n_times=n_times)
    window = scipy.signal.get_window("hann", n_times)
    freqs, csd = scipy.signal.csd(
        x[:, :, None], x[:, None], SFREQ, window, nperseg=n_times, detrend="constant"
    )
    inside = (freqs >= band[0]) & (freqs <= band[1])
    expected = csd.real[..., inside].sum(axis=-1) * (freqs[1] - freqs[0])
    got = window_covariances(x, sfreq=SFREQ, band=band)
    np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-9 * expected.max())


def test_band_power_of_a_sine_is_half_its_squared_amplitude():
    t = np.arange(400) / SFREQ
    x = np.stack([6.0 * np.sin(2 * np.pi * 10 * t), 50 * np.sin(2 * np.pi * 2 * t)])
    got = window_covariances(x[None], sfreq=SFREQ, band=(8, 30))[0]
    np.testing.assert_allclose(got, [[18.0, 0.0], [0.0, 0.0]], atol=1e-9)


def test_alignment_in_a_band_whitens_that_band_and_ignores_drifts():
    x = recording(16)
    drift = 500 * np.sin(2 * np.pi * np.arange(200) / SFREQ)  # 1 Hz, two full cycles
    align = RecordingAlignment(band=(8, 30), sfreq=SFREQ)
    out = align.transform(x)
    mean = window_covariances(out, sfreq=SFREQ, band=(8, 30)).mean(axis=0)
    np.testing.assert_allclose(mean, 100 * np.eye(5), atol=1e-7)
    shifted = align.transform(x + drift)
    matrix = out[0] @ np.linalg.pinv(x[0])
    np.testing.assert_allclose(shifted - out, matrix @ (0 * x + drift), atol=1e-4)


def test_average_reference_is_whitened_on_its_range():
    x = recording(17)
    x = x - x.mean(axis=1, keepdims=True)
    for metric in ("euclid", "riemann"):
        out = RecordingAlignment(metric).transform(x)
        assert np.isfinite(out).all()
        np.testing.assert_allclose(out.sum(axis=1), 0.0, atol=1e-6)
    mean = slow_covariances(RecordingAlignment().transform(x)).mean(axis=0)
    projector = np.eye(5) - 1 / 5
    np.testing.assert_allclose(mean, 100 * 5 / 4 * projector, atol=1e-6)
    np.testing.assert_allclose(np.trace(mean) / 5, 100)
    single = RecordingAlignment().transform(x.astype("f4"))
    np.testing.assert_allclose(single, RecordingAlignment().transform(x), atol=1e-2)


@pytest.mark.parametrize("metric", ["euclid", "riemann"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_missing_channel_is_as_if_not_on_the_head(metric, value):
    x = recording(18)
    x[:, 2, 50] = value
    others = [0, 1, 3, 4]
    align = RecordingAlignment(metric)
    out = align.transform(x)
    assert not np.isfinite(out[:, 2]).any()
    np.testing.assert_allclose(out[:, others], align.transform(x[:, others]))


def test_a_channel_lost_in_one_window_costs_only_that_window():
    x = recording(19)
    broken = x.copy()
    broken[4, 1, 7] = np.nan
    out = RecordingAlignment().transform(broken)
    rest = np.delete(np.arange(12), 4)
    np.testing.assert_allclose(out[rest], RecordingAlignment().transform(x[rest]))
    assert np.isnan(out[4, 1]).all()
    others = [0, 2, 3, 4]
    mean = slow_covariances(x[rest]).mean(axis=0)[np.ix_(others, others)]
    root = 10 * np.linalg.inv(scipy.linalg.sqrtm(mean))
    np.testing.assert_allclose(out[4, others], root @ x[4, others], rtol=1e-6)


def test_a_channel_lost_in_most_windows_is_left_out_and_named():
    x = recording(20)
    x[:9, 3] = np.nan
    with pytest.warns(UserWarning, match="channel 3.*not finite"):
        out = RecordingAlignment().transform(x)
    assert np.isnan(out[:, 3]).all()
    others = [0, 1, 2, 4]
    np.testing.assert_allclose(
        out[:, others], RecordingAlignment().transform(x[:, others])
    )


@pytest.mark.parametrize("level", [0.0, 42.5])
def test_a_flat_channel_stays_as_it_is_and_is_named(level):
    x = recording(21)
    x[:, 0] = level
    with pytest.warns(UserWarning, match="channel 0.*flat"):
        out = RecordingAlignment().transform(x)
    np.testing.assert_array_equal(out[:, 0], x[:, 0])
    np.testing.assert_allclose(out[:, 1:], RecordingAlignment().transform(x[:, 1:]))


def test_no_signal_at_all_is_an_error():
    with pytest.raises(ValueError, match="every channel is flat"):
        RecordingAlignment().transform(np.ones((6, 3, 50)))
    with pytest.raises(ValueError, match="'bob' has no channel that is finite"):
        RecordingAlignment().transform(np.full((6, 3, 50), np.nan), groups=["bob"] * 6)


def test_one_window_is_only_brought_to_scale():
    x = recording(22, n_windows=1)
    with pytest.warns(UserWarning, match="1 windows of .*shrinkage 1"):
        out = RecordingAlignment().transform(x)
    np.testing.assert_allclose(out, x * 10 / np.sqrt(x.var(axis=-1).mean()))


@pytest.mark.parametrize("shape", [(3, 4, 200), (6, 16, 10)])
def test_too_few_windows_or_samples_are_shrunk_with_a_warning(shape):
    x = np.random.default_rng(0).normal(size=shape)
    with pytest.warns(UserWarning, match=f"{shape[0]} windows of {shape[2]} samples"):
        out = RecordingAlignment().transform(x)
    assert np.isfinite(out).all()
    assert out.var(axis=-1).mean() == pytest.approx(100)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        RecordingAlignment(shrinkage=0.1).transform(x)
        RecordingAlignment().transform(recording(0))


def test_windows_shorter_than_channels_have_a_riemannian_alignment():
    x = recording(23, n_windows=40, n_chans=8, n_times=6)
    out = RecordingAlignment("riemann", shrinkage=0.0).transform(x)
    assert np.isfinite(out).all()
    mixing = np.random.default_rng(0).normal(size=(8, 8)) + 4 * np.eye(8)
    moved = RecordingAlignment("riemann", shrinkage=0.0).transform(mixing @ x)
    np.testing.assert_allclose(
        np.linalg.norm(moved, axis=1), np.linalg.norm(out, axis=1), rtol=1e-4
    )


def test_full_shrinkage_leaves_the_directions_alone():
    x = recording(24)
    out = RecordingAlignment(shrinkage=1).transform(x)
    np.testing.assert_allclose(out / x, np.full_like(x, (out / x)[0, 0, 0]))


def test_epochs_equal_arrays_and_keep_everything_else():
    x = np.concatenate([recording(25), recording(26)])
    metadata = pd.DataFrame(
        {"subject": np.repeat([1, 2], 12), "session": "0", "run": list("ab") * 12}
    )
    epochs = make_epochs(x, metadata)
    kept = epochs.get_data(copy=True)
    out = RecordingAlignment().fit_transform(epochs)
    expected = RecordingAlignment().transform(x, groups=metadata[["subject", "run"]])
    np.testing.assert_allclose(1e6 * out.get_data(copy=True), expected, rtol=1e-6)
    np.testing.assert_array_equal(epochs.get_data(copy=True), kept)
    np.testing.assert_array_equal(out.events, epochs.events)
    pd.testing.assert_frame_equal(out.metadata, epochs.metadata)
    assert out.event_id == epochs.event_id and out.ch_names == epochs.ch_names
    np.testing.assert_array_equal(out.times, epochs.times)
    by_person = RecordingAlignment(groups_from=("subject",)).transform(epochs)
    expected = RecordingAlignment().transform(x, groups=metadata["subject"])
    np.testing.assert_allclose(1e6 * by_person.get_data(copy=True), expected, rtol=1e-6)


def test_epochs_without_metadata_are_one_recording_and_know_their_rate():
    x = recording(27)
    out = RecordingAlignment(band=(8, 30), scale=None).transform(make_epochs(x))
    expected = RecordingAlignment(band=(8, 30), scale=None, sfreq=SFREQ).transform(x)
    np.testing.assert_allclose(1e6 * out.get_data(copy=True), expected, rtol=1e-6)
    groups = np.arange(12) % 2
    out = RecordingAlignment().transform(make_epochs(x), groups=groups)
    expected = RecordingAlignment().transform(x, groups=groups)
    np.testing.assert_allclose(1e6 * out.get_data(copy=True), expected, rtol=1e-6)


def test_eye_channels_of_epochs_are_left_alone():
    x = recording(28, n_chans=6)
    out = RecordingAlignment().transform(make_epochs(x, n_eog=1))
    data = 1e6 * out.get_data(copy=True)
    np.testing.assert_allclose(data[:, 5], x[:, 5])
    np.testing.assert_allclose(
        data[:, :5], RecordingAlignment().transform(x[:, :5]), rtol=1e-6
    )


def test_a_bad_channel_of_epochs_is_as_if_not_on_the_head_and_comes_out_missing():
    x = recording(28, n_chans=6)
    x[:, 1] *= 30
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        out = RecordingAlignment().transform(make_epochs(x, n_eog=1, bads=["Fz"]))
    data = 1e6 * out.get_data(copy=True)
    assert np.isnan(data[:, 1]).all() and out.info["bads"] == ["Fz"]
    np.testing.assert_allclose(data[:, 5], x[:, 5])
    good = [0, 2, 3, 4]
    np.testing.assert_allclose(
        data[:, good], RecordingAlignment().transform(x[:, good]), rtol=1e-6
    )


def test_a_bad_channel_of_epochs_may_be_kept_as_it_came():
    x = recording(28)
    x[3, 1] = np.nan
    epochs = make_epochs(x, bads=["Fz"])
    missing = RecordingAlignment().transform(epochs).get_data(copy=True)
    kept = RecordingAlignment(bads="keep").transform(epochs).get_data(copy=True)
    np.testing.assert_array_equal(kept[:, 1], epochs.get_data(copy=True)[:, 1])
    np.testing.assert_array_equal(
        np.delete(kept, 1, axis=1), np.delete(missing, 1, axis=1)
    )


@pytest.mark.parametrize("electrodes", [["Pz", "Fz", "Fp1"], [4, 1, 0]])
def test_a_bad_channel_takes_no_part_where_it_is_one_of_the_kept(electrodes):
    x = recording(28)
    step = RecordingAlignment(electrodes=electrodes)
    data = step.transform(make_epochs(x, bads=["Fz"])).get_data(units="uV")
    assert np.isnan(data[:, 1]).all()
    without = make_epochs(x).drop_channels(["Fz"])
    rest = RecordingAlignment(electrodes=["Pz", "Fp1"]).transform(without)
    np.testing.assert_array_equal(np.delete(data, 1, axis=1), rest.get_data(units="uV"))


def test_the_others_are_aligned_where_all_kept_electrodes_are_bad():
    epochs = make_epochs(recording(28), bads=["Fz", "C3"])
    kept = RecordingAlignment(electrodes=["C3", "Fz"]).transform(epochs)
    plain = RecordingAlignment().transform(epochs)
    np.testing.assert_array_equal(kept.get_data(copy=True), plain.get_data(copy=True))


@pytest.mark.parametrize("unusable", [{"n_eog": 5}, {"bads": ["Fp1", "Fz", "C3"]}])
def test_epochs_without_a_good_channel_are_an_error(unusable):
    x = recording(28, n_chans=5 if "n_eog" in unusable else 3)
    with pytest.raises(ValueError, match="no good EEG|no channel of type EEG"):
        RecordingAlignment().transform(make_epochs(x, **unusable))


def test_a_channel_that_came_out_missing_is_missing_to_our_models():
    from braindecode_gcmae import GCMAEStudent

    x = recording(28)
    names = make_epochs(x).ch_names
    arguments = {"n_outputs": 2, "sfreq": SFREQ, "n_times": 200, "emb_dim": 16}
    with torch.random.fork_rng():
        torch.default_generator.manual_seed(0)
        model = GCMAEStudent(ch_names=names, **arguments).eval()

    def answers(windows):
        with torch.no_grad():
            return model.network(torch.as_tensor(windows, dtype=torch.float32))

    found = []
    for factor in (1, 1000):
        x[:, 1] *= factor
        out = RecordingAlignment().transform(make_epochs(x, bads=["Fz"]))
        found.append(answers(out.get_data(units="uV")))
    assert torch.isfinite(found[0]).all() and torch.equal(*found)


def test_epochs_may_have_no_window_of_some_event():
    x = recording(28)
    epochs = make_epochs(x).drop(np.arange(1, 12, 2), verbose="error")
    out = RecordingAlignment().transform(epochs)
    assert out.event_id == epochs.event_id == {"left": 1, "right": 2}
    np.testing.assert_array_equal(out.events, epochs.events)
    expected = RecordingAlignment().transform(x[::2])
    np.testing.assert_allclose(out.get_data(units="uV"), expected, rtol=1e-6)


class _FakeWindows:
    """The part of a braindecode windows dataset that the alignment relies on."""

    def __init__(self, x, description):
        self.x, self.description, self.transform = x, description, None
        self.crop_inds = [[0, 0, 0]] * len(x)

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        x = self.x[i]
        return (x if self.transform is None else self.transform(x)), 0, [0, 0, 0]


class _FakeConcat:
    def __init__(self, datasets):
        self.datasets = datasets

    @property
    def description(self):
        return pd.DataFrame([part.description for part in self.datasets])


def _all(dataset):
    return np.concatenate([[p[i][0] for i in range(len(p))] for p in dataset.datasets])


def test_datasets_are_aligned_by_their_descriptions():
    runs = [recording(seed) for seed in (29, 30, 31)]
    about = [{"subject": 1, "run": 1}, {"subject": 1, "run": 2}, {"subject": 2}]
    dataset = _FakeConcat([_FakeWindows(*p) for p in zip(runs, about, strict=True)])
    dataset.datasets[0].transform = np.negative
    x = np.concatenate([-runs[0], runs[1], runs[2]])
    out = RecordingAlignment(groups_from=("subject",)).fit_transform(dataset)
    expected = RecordingAlignment().transform(x, groups=np.repeat([1, 1, 2], 12))
    np.testing.assert_allclose(_all(out), expected)
    np.testing.assert_array_equal(_all(dataset), x)
    each = RecordingAlignment(groups_from=()).transform(dataset)
    expected = RecordingAlignment().transform(x, groups=np.repeat([0, 1, 2], 12))
    np.testing.assert_allclose(_all(each), expected)
    np.testing.assert_array_equal(_all(pickle.loads(pickle.dumps(each))), _all(each))
    with pytest.raises(ValueError, match="groups cannot.*descriptions"):
        RecordingAlignment().transform(dataset, groups=[1])
    del dataset.datasets[1].crop_inds
    with pytest.raises(TypeError, match="cut into windows"):
        RecordingAlignment().transform(dataset)


def test_a_braindecode_dataset_has_what_the_alignment_relies_on():
    from braindecode.datasets import create_from_X_y

    x = np.concatenate([recording(32), recording(33)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecations
        dataset = create_from_X_y(
            x, [0, 1] * 12, drop_last_window=False, sfreq=SFREQ, ch_names=list("abcde")
        )
        dataset.set_description({"subject": np.repeat([32, 33], 12)})
        out = RecordingAlignment().transform(dataset)
    assert type(out) is type(dataset) and len(out) == len(dataset)
    seen = _all(out)
    assert seen.shape == x.shape and out[0][1] == dataset[0][1]
    assert seen.var(axis=-1).mean() == pytest.approx(100, rel=1e-3)


class _Variance(ClassifierMixin, BaseEstimator):
    """Nearest class mean of log power: enough of a net for a pipeline."""

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        power = np.log(np.var(X, axis=-1))
        self.means_ = np.stack([power[y == c].mean(axis=0) for c in self.classes_])
        return self

    def predict(self, X):
        power = np.log(np.var(X, axis=-1))[:, None]
        return self.classes_[((power - self.means_) ** 2).sum(-1).argmin(axis=1)]


def test_a_dataset_of_single_windows_is_asked_whose_they_are():
    from braindecode.datasets import create_from_X_y

    x = np.stack([recording(seed, n_windows=1)[0] for seed in range(4)])
    names = ["C3", "Cz", "C4", "Pz", "Oz"]
    dataset = create_from_X_y(x, [0, 1] * 2, False, sfreq=200.0, ch_names=names)
    with pytest.raises(ValueError, match="4 parts of one window each.*'subject'"):
        RecordingAlignment().transform(dataset)
    dataset.set_description({"subject": [1, 1, 2, 2]})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        aligned = RecordingAlignment().transform(dataset)
        expected = RecordingAlignment().transform(x, groups=[1, 1, 2, 2])
    found = np.stack([window for window, *_ in aligned])
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_clone_params_pickle_and_pipeline():
    align = RecordingAlignment("riemann", band=(4, 38), sfreq=SFREQ, scale=5.0)
    assert clone(align).get_params() == align.get_params()
    x, y = recording(34, n_windows=30), np.arange(30) % 2
    same = pickle.loads(pickle.dumps(align)).transform(x)
    np.testing.assert_array_equal(same, align.transform(x))
    pipe = make_pipeline(RecordingAlignment(), _Variance())
    scores = cross_val_score(pipe, x, y, cv=3)
    assert scores.shape == (3,) and np.isfinite(scores).all()
    pipe.set_params(recordingalignment__metric="riemann").fit(x, y)
    assert pipe.predict(x).shape == (30,)


def test_set_output_leaves_arrays_alone():
    x = recording(35)
    pipe = make_pipeline(RecordingAlignment()).set_output(transform="pandas")
    assert isinstance(pipe.fit_transform(x), np.ndarray)
    with sklearn.config_context(transform_output="pandas"):
        assert isinstance(RecordingAlignment().fit_transform(x), np.ndarray)


def test_groups_are_routed_to_transform_by_a_pipeline():
    x = np.concatenate([recording(36), recording(37)])
    groups, y = np.repeat([0, 1], 12), np.arange(24) % 2
    expected = RecordingAlignment().transform(x, groups=groups)
    with sklearn.config_context(enable_metadata_routing=True):
        pipe = make_pipeline(RecordingAlignment(), _Variance())
        pipe.fit(x, y, groups=groups)
        by_hand = _Variance().fit(expected, y)
        np.testing.assert_array_equal(pipe[-1].means_, by_hand.means_)
        np.testing.assert_array_equal(
            pipe.predict(x, groups=groups), by_hand.predict(expected)
        )
        off = RecordingAlignment().set_transform_request(groups=False)
        pipe = make_pipeline(off, _Variance())
        with pytest.raises(TypeError, match="groups"):
            pipe.fit(x, y, groups=groups)


def test_streaming_equals_batch_after_the_whole_recording():
    x = recording(38)
    for options in ({}, {"band": (8, 30), "sfreq": SFREQ}, {"scale": None}):
        stream = StreamingAlignment(**options)
        for window in x:
            stream.update(window)
        batch = RecordingAlignment(**options).transform(x)
        np.testing.assert_allclose(stream.transform(x), batch, rtol=1e-7, atol=1e-9)
        np.testing.assert_allclose(
            stream.transform(x[3]), batch[3], rtol=1e-7, atol=1e-9
        )


def test_streaming_equals_batch_with_a_dead_and_a_flat_channel():
    x = recording(39)
    x[:, 1], x[:, 3] = np.nan, 7.0
    stream = StreamingAlignment().update(x)
    with pytest.warns(UserWarning, match="flat"):
        batch = RecordingAlignment().transform(x)
    np.testing.assert_allclose(stream.transform(x), batch, rtol=1e-7, atol=1e-9)


@pytest.mark.filterwarnings("ignore:the recording")
def test_streaming_shrinks_a_short_recording_by_the_channels_that_move_as_batch_does():
    x = recording(39, n_windows=6, n_times=8)  # 48 samples: enough for 4, not for 5
    x[:, 3] = 7.0
    streamed = StreamingAlignment().update(x).transform(x)
    batch = RecordingAlignment().transform(x)
    np.testing.assert_allclose(streamed, batch, rtol=1e-7, atol=1e-9)


def test_streaming_starts_with_the_scale_and_goes_on_from_a_saved_state():
    x = recording(40).astype("f4")
    stream = StreamingAlignment()
    with pytest.raises(ValueError, match="no window seen"):
        stream.transform(x[0])
    first = stream.update(x[0]).transform(x[0])
    np.testing.assert_allclose(
        first, x[0] * 10 / np.sqrt(x[0].var(axis=-1).mean()), rtol=1e-4
    )
    assert first.dtype == np.float32
    state = stream.update(x[1:6]).state_dict()
    assert all(isinstance(value, np.ndarray) for value in state.values())
    other = StreamingAlignment().load_state_dict(state)
    for window in x[6:]:
        stream.update(window)
        other.update(window)
        np.testing.assert_array_equal(other.transform(x), stream.transform(x))
    stream.reset().update(x[:1])
    np.testing.assert_array_equal(stream.transform(x[0]), first)


def test_memory_forgets_the_old_cap():
    old, new = recording(41, n_windows=20), recording(42, n_windows=60)
    stream = StreamingAlignment(memory=8).update(old).update(new)
    mean = slow_covariances(old[:8]).mean(axis=0)  # the first 8 windows: a plain mean
    for covariance in [*slow_covariances(old[8:]), *slow_covariances(new)]:
        mean = 7 / 8 * mean + 1 / 8 * covariance
    np.testing.assert_allclose(stream.state_dict()["covariance"], mean, rtol=1e-9)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"metric": "log"}, "metric.*'log'"),
        ({"shrinkage": 1.5}, "shrinkage.*1.5"),
        ({"shrinkage": "oas"}, "shrinkage.*'oas'"),
        ({"scale": 0}, "scale"),
        ({"scale": "big"}, "scale.*'big'"),
        ({"band": (30, 8)}, "band"),
        ({"band": 8}, "band"),
        ({"band": (8, 30)}, "sfreq"),
        ({"band": (8, 60), "sfreq": SFREQ}, "Nyquist"),
        ({"band": (8.1, 8.2), "sfreq": SFREQ}, "no frequency bin"),
        ({"groups_from": "subject"}, "groups_from"),
        ({"bads": "drop"}, "bads must be.*'drop'"),
        ({"bads": ["C3"]}, "bads must be.*C3"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        RecordingAlignment(**options).fit(None).transform(recording(0))


@pytest.mark.parametrize(
    "x, error, message",
    [
        (np.zeros((3, 4)), ValueError, r"shape.*\(3, 4\)"),
        (np.zeros((0, 4, 9)), ValueError, r"none of them 0.*\(0, 4, 9\)"),
        (np.zeros((2, 3, 4, 5)), ValueError, "n_chans"),
        (np.zeros((2, 3, 4), dtype=complex), TypeError, "real"),
        (np.full((2, 3, 4), "a"), TypeError, "real"),
        ({"X": 1}, TypeError, "dict"),
        (None, TypeError, "NoneType"),
        ([np.zeros((2, 5)), np.zeros((3, 5))], ValueError, "different shapes"),
    ],
)
def test_bad_input_is_named(x, error, message):
    with pytest.raises(error, match=message):
        RecordingAlignment().transform(x)


@pytest.mark.parametrize(
    "groups, message",
    [
        ([1, 2], "each of 12 windows"),
        ([1.0] * 11 + [np.nan], "missing.*window 11"),
        ([None] + ["a"] * 11, "missing.*window 0"),
    ],
)
def test_bad_groups_are_named(groups, message):
    with pytest.raises(ValueError, match=message):
        RecordingAlignment().transform(recording(0), groups=groups)


def test_bad_streams_are_named():
    stream = StreamingAlignment().update(recording(0))
    with pytest.raises(ValueError, match="5 channels so far.*has 4"):
        stream.update(np.zeros((4, 200)))
    with pytest.raises(ValueError, match=r"\(5,\)"):
        stream.update(np.zeros(5))
    with pytest.raises(ValueError, match="memory"):
        StreamingAlignment(memory=0)
    with pytest.raises(ValueError, match="band needs the sampling rate"):
        StreamingAlignment(band=(8, 30))  # not at the first window of a session
    with pytest.raises(ValueError, match="state must hold"):
        stream.load_state_dict({"covariance": np.eye(2)})
    state = stream.state_dict() | {"counts": np.ones((2, 2))}
    with pytest.raises(ValueError, match=r"\(5, 5\) and \(2, 2\)"):
        stream.load_state_dict(state)


def test_a_window_without_any_channel_stays_missing_and_disturbs_no_other():
    x = recording(43)
    broken = x.copy()
    broken[5] = np.nan
    out = RecordingAlignment().transform(broken)
    rest = np.delete(np.arange(12), 5)
    assert np.isnan(out[5]).all()
    np.testing.assert_allclose(out[rest], RecordingAlignment().transform(x[rest]))


def test_integer_windows_can_be_streamed_and_no_fit_is_needed():
    x = recording(44).astype("i4")
    streamed = StreamingAlignment().update(x).transform(x)
    np.testing.assert_allclose(streamed, RecordingAlignment().transform(x), rtol=1e-7)
    assert streamed.dtype == np.float64
    sklearn.utils.validation.check_is_fitted(RecordingAlignment())
    tags = sklearn.utils.get_tags(RecordingAlignment())
    assert not tags.requires_fit and tags.input_tags.three_d_array


def test_kept_electrodes_are_aligned_as_if_the_others_were_not_there():
    rng = np.random.default_rng(0)
    mixing = rng.standard_normal((6, 6))
    x = np.einsum("ij,bjt->bit", mixing, rng.standard_normal((20, 6, 200)))
    names = ["C3", "Cz", "C4", "F3", "Fz", "F4"]
    kept = ["C4", "F3"]
    nested = RecordingAlignment(electrodes=kept, ch_names=names).transform(x)
    alone = RecordingAlignment().transform(x[:, [2, 3]])
    np.testing.assert_allclose(nested[:, [2, 3]], alone, rtol=1e-9)
    mean = window_covariances(nested).mean(0)
    np.testing.assert_allclose(mean, 100 * np.eye(6), atol=1e-6)


def few_windows(rng):
    return rng.standard_normal((6, 32, 50))


def a_removed_electrode_comes_off(rng):
    x = rng.standard_normal((30, 32, 400))
    x[:12, 20] = np.nan
    return x


def a_kept_electrode_comes_off(rng):
    x = rng.standard_normal((30, 32, 400))
    x[:12, 3] = np.nan
    return x


def none_of_them_is_connected(rng):
    x = rng.standard_normal((30, 32, 400))
    x[:, :8] = np.nan
    return x


@pytest.mark.filterwarnings("ignore:.*recording")
@pytest.mark.parametrize(
    "make", [few_windows, a_removed_electrode_comes_off, a_kept_electrode_comes_off]
)
def test_kept_electrodes_are_those_of_their_own_cap_bit_for_bit(make):
    rng = np.random.default_rng(0)
    x = (rng.standard_normal((32, 32)) @ make(rng)).astype(np.float32)
    nested = RecordingAlignment(electrodes=list(range(8))).transform(x)
    np.testing.assert_array_equal(
        nested[:, :8], RecordingAlignment().transform(np.ascontiguousarray(x[:, :8]))
    )


@pytest.mark.filterwarnings("ignore:.*recording")
def test_the_others_are_aligned_where_no_kept_electrode_has_a_signal():
    x = none_of_them_is_connected(np.random.default_rng(0))
    nested = RecordingAlignment(electrodes=list(range(8))).transform(x)
    assert np.isnan(nested[:, :8]).all()
    np.testing.assert_allclose(
        nested[:, 8:], RecordingAlignment().transform(x[:, 8:]), rtol=1e-9
    )


def test_people_are_told_apart_by_any_usual_name_of_the_column():
    x = np.concatenate([3 * recording(25), recording(26)])
    who, run = np.repeat([1, 2], 12), ["a"] * 24
    by_person = RecordingAlignment().transform(x, groups=who)
    for column in SUBJECT_COLUMNS:
        metadata = pd.DataFrame({column: who, "run": run})
        out = RecordingAlignment().transform(make_epochs(x, metadata))
        np.testing.assert_allclose(1e6 * out.get_data(copy=True), by_person, rtol=1e-6)


def test_runs_of_nobody_are_said_to_be_aligned_together():
    x = np.concatenate([recording(25), recording(26)])
    epochs = make_epochs(x, pd.DataFrame({"wearer": [1, 2] * 12, "run": ["a"] * 24}))
    with pytest.warns(UserWarning, match="do not say whose.*groups_from"):
        RecordingAlignment().transform(epochs)


def test_kept_electrodes_need_the_euclidean_mean_and_known_names():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((8, 3, 100))
    with pytest.raises(ValueError, match="euclid"):
        RecordingAlignment("riemann", electrodes=[0]).transform(x)
    step = RecordingAlignment(electrodes=["Pz"], ch_names=["C3", "Cz", "C4"])
    with pytest.raises(ValueError, match="Pz"):
        step.transform(x)


raw_windows = partial(windowed, sfreq=SFREQ)


def test_a_bad_channel_of_a_dataset_is_as_if_not_on_the_head_and_comes_out_missing():
    x, names = recording(41, n_chans=5), ["Fp1", "Fz", "C3", "Cz", "Pz"]
    x[:, 1] *= 30
    marked = raw_windows(x, names, bads=["Fz"])
    data = _all(RecordingAlignment().transform(marked))
    good = [0, 2, 3, 4]
    assert np.isnan(data[:, 1]).all()
    expected = RecordingAlignment().transform(x[:, good])
    np.testing.assert_allclose(data[:, good], expected, rtol=1e-4, atol=1e-4)
    kept = _all(RecordingAlignment(bads="keep").transform(marked))
    np.testing.assert_allclose(kept[:, 1], x[:, 1], rtol=1e-6)
    np.testing.assert_array_equal(kept[:, good], data[:, good])


def test_channels_of_a_dataset_that_are_no_eeg_stay_as_they_are():
    x, names = recording(42, n_chans=5), ["Fp1", "VEOG", "C3", "Cz", "Pz"]
    data = _all(RecordingAlignment().transform(raw_windows(x, names, eog=["VEOG"])))
    np.testing.assert_allclose(data[:, 1], x[:, 1], rtol=1e-6)
    eeg = [0, 2, 3, 4]
    expected = RecordingAlignment().transform(x[:, eeg])
    np.testing.assert_allclose(data[:, eeg], expected, rtol=1e-4, atol=1e-4)


def test_electrodes_of_a_dataset_are_found_by_the_names_of_its_channels():
    x, names = recording(43, n_chans=5), ["Fp1", "Fz", "C3", "Cz", "Pz"]
    step = RecordingAlignment(electrodes=["Pz", "c3"])
    given = RecordingAlignment(electrodes=["Pz", "c3"], ch_names=names)
    np.testing.assert_allclose(
        _all(step.transform(raw_windows(x, names))),
        given.transform(x),
        rtol=1e-4,
        atol=1e-4,
    )


def test_parts_of_one_recording_with_other_channels_are_refused_by_name():
    from braindecode.datasets import BaseConcatDataset

    x = recording(44, n_chans=3)
    parts = [
        raw_windows(x, names, run=run).datasets[0]
        for run, names in enumerate((["Fp1", "Fz", "C3"], ["Fp1", "Fz", "C4"]))
    ]
    dataset = BaseConcatDataset(parts)
    with pytest.raises(ValueError, match="different channels.*C3.*C4.*groups_from"):
        RecordingAlignment(groups_from=("subject",)).transform(dataset)
    assert len(RecordingAlignment().transform(dataset)) == 2 * len(x)


def test_an_aligned_dataset_still_tells_the_rate_that_its_windows_come_out_at():
    from braindecode_gcmae.datasets import unlabelled_windows
    from braindecode_gcmae.pretraining import UnlabelledWindows

    raw = raw_windows(recording(45, n_chans=5), ["Fp1", "Fz", "C3", "Cz", "Pz"])
    raw = raw.datasets[0].raw
    cut = unlabelled_windows(raw, 1.0, sfreq=SFREQ / 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # few windows
        aligned = RecordingAlignment().transform(cut)
    assert UnlabelledWindows(aligned).sfreq == UnlabelledWindows(cut).sfreq == SFREQ / 2


def test_a_list_of_datasets_is_aligned_item_by_item():
    names = ["Fp1", "Fz", "C3", "Cz", "Pz"]
    sets = [raw_windows(recording(seed, n_chans=5), names) for seed in (46, 47)]
    both = RecordingAlignment().transform(sets)
    for one, dataset in zip(both, sets, strict=True):
        np.testing.assert_array_equal(
            _all(one), _all(RecordingAlignment().transform(dataset))
        )


def test_parts_of_a_dataset_do_not_pass_for_one_recording():
    dataset = raw_windows(recording(46, n_chans=5), ["Fp1", "Fz", "C3", "Cz", "Pz"])
    whole, half = SliceDataset(dataset), Subset(dataset, range(6))
    for part in (whole, half):
        with pytest.raises(TypeError, match=f"a {type(part).__name__} does not tell"):
            RecordingAlignment().transform(part)
    out = RecordingAlignment().transform(whole, groups=np.repeat([1, 2], 6))
    expected = RecordingAlignment().transform(np.asarray(whole)[:6])
    np.testing.assert_array_equal(out[:6], expected)


def test_what_a_split_makes_of_epochs_is_aligned_as_epochs():
    x = np.concatenate([recording(25), recording(26)])
    epochs = make_epochs(x, pd.DataFrame({"subject": np.repeat([1, 2], 12)}))
    rows = np.r_[0:9, 14:22]
    split = _safe_indexing(epochs, rows)
    assert isinstance(split, list)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a window alone is too little to align by
        out = RecordingAlignment().transform(split)
    expected = RecordingAlignment().transform(epochs[rows])
    np.testing.assert_array_equal(out.get_data(copy=True), expected.get_data(copy=True))
    assert out.metadata["subject"].tolist() == expected.metadata["subject"].tolist()
    np.testing.assert_array_equal(out.events, expected.events)
    # their times are not unique
    twice = RecordingAlignment().transform([*split, *split])
    np.testing.assert_allclose(twice.get_data()[: len(rows)], out.get_data())


def test_a_list_of_single_windows_from_different_caps_is_aligned_item_by_item():
    several = [make_epochs(recording(n, n_chans=n))[:1] for n in (4, 5)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # too few windows
        out = RecordingAlignment().transform(several)
    assert [one.ch_names for one in out] == [one.ch_names for one in several]


def unlike(window, what):
    """The same window as of other Epochs."""
    if what == "metadata":
        window.metadata = pd.DataFrame({"subject": [1]})
    elif what == "time":
        window.shift_time(0.5)
    else:  # the name of an event
        window.events[:, 2] = 7
        window.event_id = {"left": 7}
    return window


@pytest.mark.parametrize("what", ["metadata", "time", "event"])
def test_single_windows_that_are_of_no_same_epochs_stay_a_list(what):
    windows = make_epochs(recording(4))
    several = [windows[0], unlike(windows[1], what)]
    assert joined_epochs(several) is several


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("how", ["average reference", "interpolated"])
def test_what_the_kept_electrodes_explain_wholly_comes_out_missing(how, dtype):
    x = recording(48, n_chans=6)
    if how == "interpolated":
        x[:, 5] = 0.3 * x[:, 0] + 0.7 * x[:, 1]
    else:
        x -= x.mean(1, keepdims=True)
    step = RecordingAlignment(electrodes=[0, 1, 2, 3, 4])
    with pytest.warns(UserWarning, match="channel 5.*sums of the electrodes"):
        out = step.transform(x.astype(dtype))
    assert np.isnan(out[:, 5]).all()
    own = RecordingAlignment().transform(x[:, :5].astype(dtype))
    np.testing.assert_array_equal(out[:, :5], own)


def test_directions_that_the_kept_electrodes_explain_are_not_blown_up():
    """Two channels whose sum, but neither of them, is known from the others."""
    x = recording(49, n_chans=6)
    x[:, 5] = x[:, 0] - x[:, 4]
    out = RecordingAlignment(electrodes=[0, 1, 2, 3]).transform(x.astype(np.float32))
    rest = np.concatenate(list(out[:, 4:]), axis=1)
    rest -= rest.mean(1, keepdims=True)
    values = np.linalg.eigvalsh(rest @ rest.T)
    assert values[0] < 1e-6 * values[1]
    assert np.abs(out[:, :4]).max() > 0 and np.isfinite(out).all()


def test_an_electrode_that_fails_and_comes_back_is_as_loud_as_the_others():
    """Beside an artefact that only the others have seen as rarely."""
    rng = np.random.default_rng(0)
    x = recording(50, n_windows=40, n_chans=6)
    x[3] += 300 * rng.standard_normal((1, x.shape[2]))
    clean = x[20:].copy()
    x[5:15, 2] = np.nan
    step = StreamingAlignment().update(x)
    loud = np.sqrt((step.transform(clean) ** 2).mean((0, 2)))
    assert loud.max() < 3 * loud.min()
    whole = RecordingAlignment().transform(x)
    assert np.nanmax(np.abs(whole)) < np.inf
    again = StreamingAlignment().load_state_dict(step.state_dict())
    np.testing.assert_array_equal(again.transform(clean), step.transform(clean))


def test_pairs_that_contradict_each_other_leave_no_direction_to_blow_up():
    step = StreamingAlignment()
    x = recording(51, n_windows=9, n_chans=3)
    # three pairs seen apart, each of other signs: no signals have such correlations
    for start, i, j, sign in ((0, 0, 1, 1), (3, 1, 2, 1), (6, 0, 2, -1)):
        x[start : start + 3, j] = sign * x[start : start + 3, i]
        x[start : start + 3, 3 - i - j] = np.nan
    covariance = step.update(x)._mean_covariance()
    values = np.linalg.eigvalsh(
        covariance / np.sqrt(np.outer(*2 * [np.diag(covariance)]))
    )
    assert values[0] > 1e-4


def test_windows_whose_groups_are_forgotten_are_told():
    x, groups = recording(52), np.repeat([0, 1], 6)
    step = RecordingAlignment()
    step.fit_transform(x, groups=groups)
    with pytest.warns(UserWarning, match="had groups.*scoring=None"):
        step.transform(x)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        step.transform(x, groups=groups)
        clone(step).fit(x).transform(x)


def test_epochs_on_bad_stretches_are_left_out_with_all_that_belongs_to_them():
    x = recording(53, n_windows=6, n_chans=3)
    info = mne.create_info(["Fp1", "Fz", "C3"], SFREQ, "eeg")
    raw = mne.io.RawArray(1e-6 * np.concatenate(list(x), 1), info, verbose=False)
    seconds = x.shape[2] / SFREQ
    raw.set_annotations(mne.Annotations([2 * seconds + 0.1], [0.1], ["BAD_move"]))
    made = mne.make_fixed_length_epochs(raw, seconds, preload=False, verbose=False)
    made.metadata = pd.DataFrame({"Subject": np.arange(6) // 3})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # few windows
        out = RecordingAlignment().transform(made)
    assert len(out) == 5 and out.metadata["Subject"].tolist() == [0, 0, 1, 1, 1]


def test_a_subject_is_found_in_any_case_of_letters():
    x = recording(54)
    table = pd.DataFrame({"Subject": np.repeat([0, 1], 6)})
    out = RecordingAlignment().transform(make_epochs(x, table))
    expected = RecordingAlignment().transform(x, groups=table["Subject"])
    np.testing.assert_allclose(out.get_data(units="uV"), expected, rtol=1e-6)


def test_epochs_without_eeg_say_what_they_have():
    made = make_epochs(recording(55, n_chans=3))
    made.set_channel_types(dict.fromkeys(made.ch_names, "misc"), verbose=False)
    with pytest.raises(ValueError, match=r"\['misc'\].*set_channel_types"):
        RecordingAlignment().transform(made)


def test_a_channel_that_was_never_seen_changes_nothing_for_the_others():
    """However alike these are: no direction of theirs is held to be a contradiction."""
    x = recording(56, n_windows=20, n_chans=5)
    x[:, 4] = x[:, 0] + 1e-3 * x[:, 4]
    lost = np.concatenate([x, np.full_like(x[:, :1], np.nan)], axis=1)
    with_it = StreamingAlignment().update(lost).transform(lost)
    alone = StreamingAlignment().update(x).transform(x)
    np.testing.assert_array_equal(with_it[:, :5], alone)
    assert np.isnan(with_it[:, 5]).all()


def average_referenced(offset, dtype, n_chans=16):
    """Mixed sources with DC offsets (µV), referenced to their average in a dtype."""
    rng = np.random.default_rng(0)
    mixing = 2.5 * rng.standard_normal((n_chans, n_chans))
    x = np.einsum("ij,bjt->bit", mixing, rng.standard_normal((40, n_chans, 200)))
    x = (x + offset * rng.standard_normal((1, n_chans, 1))).astype(dtype)
    return x - x.mean(1, keepdims=True)


def common_mode(x):
    return (x - x.mean(-1, keepdims=True)).mean(1).std()


@pytest.mark.parametrize("offset", [0.0, 2e3, 1e5])
def test_what_an_average_reference_removed_stays_away_in_single_precision(offset):
    x = average_referenced(offset, np.float32)
    assert common_mode(RecordingAlignment().transform(x)) < 0.1
    stream = StreamingAlignment().update(x)
    assert common_mode(stream.transform(x)) < 0.1
    again = StreamingAlignment()
    again.load_state_dict(stream.state_dict())
    assert np.array_equal(again.transform(x), stream.transform(x))


def test_offsets_that_rounding_can_bear_change_no_other_direction():
    exact, rounded = (average_referenced(2e3, d) for d in (np.float64, np.float32))
    a, b = (RecordingAlignment().transform(x) for x in (exact, rounded))
    a, b = (x - x.mean(-1, keepdims=True) for x in (a, b))
    assert np.abs(a - b).max() < 1e-2 * a.std()


@pytest.mark.parametrize("memory", [1, 2, 4])
def test_a_short_memory_is_shrunk_like_a_short_recording(memory):
    x = recording(3, n_windows=40)
    fading = StreamingAlignment(memory=memory).update(x).transform(x[-1])
    covariance = np.cov(fading, bias=True)
    # Not whitened by itself: what distinguishes the window is still there.
    assert np.abs(covariance - 100 * np.eye(len(covariance))).max() > 1


@pytest.mark.parametrize("name", ["patient", "Patient_ID", "subj", "subject_nr"])
def test_patients_are_people(name):
    x = np.concatenate([recording(s, amplitude=10.0 * s) for s in (1, 2)])
    who = np.repeat([1, 2], 12)
    epochs = make_epochs(x, metadata=pd.DataFrame({name: who, "condition": 0}))
    aligned = RecordingAlignment().transform(epochs).get_data(units="uV")
    assert np.allclose(aligned, RecordingAlignment().transform(x, groups=who))


def test_files_of_one_person_are_recordings_where_nothing_else_tells():
    from braindecode.datasets import BaseConcatDataset

    names = [f"ch{i}" for i in range(5)]
    parts = [
        windowed(recording(s, amplitude=10.0**s), names, path=f"task-{s}", subject=who)
        for s, who in ((1, "P1"), (2, "P1"), (1, None), (2, None))
    ]
    aligned = RecordingAlignment().transform(BaseConcatDataset(parts))
    for part in aligned.datasets:
        x = np.stack([part[i][0] for i in range(len(part))])
        x = x - x.mean(-1, keepdims=True)
        assert np.sqrt(np.square(x).mean()) == pytest.approx(10, rel=1e-3)


def egi_part():
    """Epochs of part of a net of 256: the names alone would be those of 128."""
    net = mne.channels.make_standard_montage("GSN-HydroCel-256")
    names = [name for name in net.ch_names if int(name[1:]) < 129]
    x = recording(3, n_windows=6, n_chans=len(names))
    info = mne.create_info(names, SFREQ, "eeg")
    info.set_montage(net)
    return mne.EpochsArray(1e-6 * x, info, verbose="error")


def test_the_electrodes_that_are_kept_are_those_that_a_model_takes():
    from braindecode_gcmae.montage import match_electrodes

    epochs, wanted = egi_part(), ["C3", "Fz"]
    rows = sorted(match_electrodes(wanted, epochs.info["chs"]))
    assert rows != sorted(match_electrodes(wanted, epochs.ch_names))
    alone = epochs.copy().pick([epochs.ch_names[row] for row in rows])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        whole = RecordingAlignment(electrodes=wanted).transform(epochs).get_data()
        few = RecordingAlignment().transform(alone).get_data()
    np.testing.assert_array_equal(whole[:, rows], few)


def stored(x, step):
    """Numbers of a file that holds integers."""
    return step * np.rint(x / step)


@pytest.mark.parametrize("step", [0.01, 0.1, 1.0])
def test_what_an_average_reference_removed_stays_away_in_files_of_integers(step):
    x = recording(0, n_windows=20, n_chans=16)
    x = stored(x - x.mean(1, keepdims=True), step)
    out = RecordingAlignment().transform(x)
    assert common_mode(out) < 0.1
    stream = StreamingAlignment().update(x)
    assert common_mode(stream.transform(x)) < 0.1


def test_a_channel_that_the_kept_ones_explain_but_for_its_step_comes_out_missing():
    x = recording(0, n_windows=40, n_chans=6)
    x = stored(x - x.mean(1, keepdims=True), 0.1)
    with pytest.warns(UserWarning, match="sums of the electrodes"):
        out = RecordingAlignment(electrodes=range(5)).transform(x)
    assert np.isnan(out[:, 5]).all() and np.isfinite(out[:, :5]).all()


def test_integers_without_an_empty_direction_are_aligned_as_what_they_stand_for():
    x = recording(0)
    whole, rounded = (RecordingAlignment().transform(y) for y in (x, stored(x, 0.01)))
    assert np.abs(whole - rounded).max() < 1e-2 * whole.std()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_only_stored_integers_have_a_step(dtype):
    x = recording(0).astype(dtype)
    assert not stored_steps(x).any()
    assert not stored_steps(1000 + x).any()
    few = np.sign(x)  # two values are multiples of anything
    assert not stored_steps(few).any()
    x[:, 1:3] = stored(x[:, 1:3].astype(float), 0.25)
    np.testing.assert_allclose(stored_steps(x), [0, 0.25, 0.25, 0, 0], rtol=1e-5)


def test_one_window_that_carries_a_channel_is_said_to_make_the_others_small():
    x = recording(0, n_windows=20)
    x[7, 1] *= 300
    with pytest.warns(UserWarning, match=r"\['channel 1'\] move in one window of 20"):
        RecordingAlignment().transform(x)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        RecordingAlignment().transform(np.delete(x, 7, axis=0))


def test_a_stream_says_that_an_artefact_was_taken_in():
    x = recording(0, n_windows=20)
    stream = StreamingAlignment().update(x)
    with pytest.warns(UserWarning, match=r"channels \[2\] move by more than 32 times"):
        stream.update(x[0] * np.array([1, 1, 300, 1, 1])[:, None])


@pytest.mark.parametrize("loud", [0, 4])
def test_a_stream_says_that_it_began_with_an_artefact(loud):
    windows = recording(0)[:12].copy()
    windows[loud] *= 100  # the transient of a filter
    with pytest.warns(UserWarning, match="a filter that settles") as caught:
        StreamingAlignment().update(windows)
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        StreamingAlignment().update(np.delete(windows, loud, axis=0))


def test_what_holds_no_windows_is_refused_by_its_type():
    info = mne.create_info(["C3", "C4"], SFREQ, "eeg")
    raw = mne.io.RawArray(np.zeros((2, 500)), info, verbose=False)
    evoked = mne.EvokedArray(np.zeros((2, 50)), info)
    for what in (raw, evoked):
        with pytest.raises(TypeError, match=f"a {type(what).__name__} is none"):
            RecordingAlignment().transform(what)


def annotated_epochs(onset):
    """Epochs of a recording with a blink (s)."""
    info = mne.create_info(["C3", "Cz", "C4"], SFREQ, "eeg")
    signal = 1e-6 * np.concatenate(list(recording(0, n_chans=3)), axis=1)
    raw = mne.io.RawArray(signal, info, verbose=False)
    raw.set_annotations(mne.Annotations([onset], [0.2], ["blink"]))
    epochs = mne.make_fixed_length_epochs(raw, 2.0, preload=True, verbose=False)
    return epochs


def test_epochs_keep_their_annotations_and_their_baseline():
    epochs = annotated_epochs(0.5)
    epochs.apply_baseline((None, 0.5), verbose=False)
    out = RecordingAlignment().transform(epochs)
    assert out.baseline == epochs.baseline
    assert out.get_annotations_per_epoch() == epochs.get_annotations_per_epoch()
    before = epochs.time_as_index([0.5])[0] + 1
    assert np.abs(out.get_data()[..., :before].mean(-1)).max() < 1e-12


@pytest.mark.parametrize("scale", [1.0, 1e-6])
def test_a_band_has_its_share_of_the_rounding(scale):
    # The smallest direction is signal, below what rounding has at all frequencies.
    x = recording(0, n_windows=40, n_chans=4, amplitude=5.0)
    x[:, 3] = x[:, 0] + 0.1 * x[:, 3]
    whole = stored(scale * x, scale)
    band = {"band": (8, 12), "sfreq": SFREQ}
    smallest = np.linalg.eigvalsh(window_covariances(x, **band).mean(0))[0]
    assert 3 * (12 - 8) / 50 / 12 < smallest < 1 / 12
    for out in (
        RecordingAlignment(**band).transform(whole),
        StreamingAlignment(**band).update(whole).transform(whole),
    ):
        covariance = window_covariances(out, **band).mean(0)
        np.testing.assert_allclose(covariance, 100 * np.eye(4), atol=1e-6)


def test_what_an_average_reference_removed_stays_away_from_a_band_of_integers():
    x = recording(0, n_windows=40, n_chans=16)
    x = stored(x - x.mean(1, keepdims=True), 1.0)
    band = {"band": (8, 30), "sfreq": SFREQ}
    assert common_mode(RecordingAlignment(**band).transform(x)) < 0.1
    assert common_mode(StreamingAlignment(**band).update(x).transform(x)) < 0.1


def test_short_windows_have_the_step_of_their_recording():
    x = recording(0, n_windows=80, n_chans=16, n_times=25, amplitude=2.0)
    x = stored(x - x.mean(1, keepdims=True), 1.0)
    stream = StreamingAlignment()
    for window in x:
        stream.update(window)
    np.testing.assert_allclose(
        stream.transform(x), RecordingAlignment().transform(x), atol=1e-8
    )


def test_no_blink_of_a_short_recording_and_no_window_of_a_riemannian_mean_carries_it():
    blink = recording(0, n_windows=12)
    blink[7, 1] *= 10
    artefact = recording(0, n_windows=20)
    artefact[7, 1] *= 300
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        RecordingAlignment().transform(blink)
        RecordingAlignment(metric="riemann").transform(artefact)


def test_epochs_at_another_rate_keep_their_annotations():
    epochs = annotated_epochs(4.5)
    epochs.decimate(2, verbose="error")
    out = RecordingAlignment().transform(epochs)
    assert out.get_annotations_per_epoch() == epochs.get_annotations_per_epoch()


# ------------------------------------------------------------------------ first errors
def test_electrodes_by_name_in_an_array_ask_for_names():
    for electrodes in (["C3", "C4"], ["C3", 1]):
        step = RecordingAlignment(electrodes=electrodes)
        with pytest.raises(ValueError, match="an array does not tell.*ch_names="):
            step.transform(recording(1))
    names = ["Fp1", "Fz", "C3", "Cz", "Pz"]
    named = RecordingAlignment(electrodes=["C3"], ch_names=names)
    rows = RecordingAlignment(electrodes=[2])
    x = recording(1)
    np.testing.assert_array_equal(named.transform(x), rows.transform(x))


@pytest.mark.parametrize("given", ["array", "epochs"])
def test_a_preset_is_no_list_of_electrodes(given):
    x = recording(1) if given == "array" else make_epochs(recording(1))
    with pytest.raises(TypeError, match="turned into names by montage_preset"):
        RecordingAlignment(electrodes="motor-8").transform(x)


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA])
def test_a_recording_that_is_not_named_is_told(missing):
    groups = pd.Series(["anna"] * 11 + [missing], dtype="object")
    with pytest.raises(ValueError, match="groups are missing.*window 11"):
        RecordingAlignment().transform(recording(1), groups=groups)

"""Node features: MNE, scipy, textbook signals, and each power computed a second way."""

import inspect
import io
import math

import mne
import numpy as np
import pytest
import torch
from scipy import integrate, signal, special

from braindecode_gcmae.features import (
    CombinedFeatures,
    Electrodes,
    EvokedFeatures,
    FeatureNorm,
    SpectralFeatures,
    TemporalFeatures,
    WelchSpectrum,
    band_power,
    spherical_harmonics,
    welch_psd,
)

CLOSE = {"rtol": 0, "atol": 1e-12}
EVERY = [SpectralFeatures, TemporalFeatures, CombinedFeatures, EvokedFeatures]
N_BASIS = inspect.signature(TemporalFeatures).parameters["n_basis"].default

pytestmark = pytest.mark.usefixtures("same_numbers_each_time")


def everywhere(n_windows, n, n_basis=N_BASIS, dtype=torch.float32):
    """Electrodes with data, with any positions and any basis."""
    present = torch.ones(n_windows, n, dtype=torch.bool)
    positions = 0.09 * torch.randn(n_windows, n, 3, dtype=dtype)
    basis = torch.randn(n_windows, n, n_basis, dtype=dtype)
    return Electrodes(positions, basis, present, present)


def signals(*shape, offset=50.0):
    """Mixed noise in µV with an offset, float64."""
    n = shape[-2]
    mixing = torch.randn(n, n, dtype=torch.float64)
    return mixing @ torch.randn(*shape, dtype=torch.float64) + offset


# ---------------------------------------------------------------- Welch


@pytest.mark.parametrize("sfreq", [100.0, 160.0, 250.5])
@pytest.mark.parametrize(
    ("n_times", "n_per_seg", "n_overlap"),
    [(640, 128, 64), (641, 127, 63), (300, 300, 0), (500, 100, 99), (333, 64, 0)],
)
def test_welch_psd_agrees_with_mne_and_scipy(sfreq, n_times, n_per_seg, n_overlap):
    x = signals(2, 3, n_times)
    freqs, psd = welch_psd(x, sfreq, n_per_seg=n_per_seg, n_overlap=n_overlap)
    keywords = {"n_per_seg": n_per_seg, "n_overlap": n_overlap, "window": "hann"}
    theirs, f = mne.time_frequency.psd_array_welch(
        x.numpy(), sfreq, n_fft=n_per_seg, average="mean", verbose=False, **keywords
    )
    np.testing.assert_allclose(freqs, f, rtol=1e-12)
    np.testing.assert_allclose(psd, theirs, rtol=1e-9, atol=1e-12)
    f, theirs = signal.welch(
        x.numpy(),
        sfreq,
        nperseg=n_per_seg,
        noverlap=n_overlap,
        detrend="constant",
    )
    np.testing.assert_allclose(freqs, f, rtol=1e-12)
    np.testing.assert_allclose(psd, theirs, rtol=1e-9, atol=1e-12)
    assert freqs.dtype == psd.dtype == torch.float64


@pytest.mark.parametrize("window", ["hann", "hamming", "boxcar"])
@pytest.mark.parametrize("detrend", ["constant", None])
def test_every_taper_and_detrend_agrees_with_scipy(window, detrend):
    x = signals(2, 300)
    _, ours = welch_psd(
        x, 128, n_per_seg=100, n_overlap=30, window=window, detrend=detrend
    )
    _, theirs = signal.welch(
        x.numpy(),
        128,
        window=window,
        nperseg=100,
        noverlap=30,
        detrend=detrend or False,
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-9)


def test_without_detrend_an_offset_leaks_and_with_it_it_does_not():
    # ANCHORS E11: an offset of 50 made the two differ by thousands
    x = torch.randn(1, 640, dtype=torch.float64)
    keywords = {"n_per_seg": 128, "n_overlap": 64}
    _, plain = welch_psd(x, 128, **keywords)
    _, moved = welch_psd(x + 50, 128, **keywords)
    torch.testing.assert_close(moved, plain, rtol=0, atol=1e-9)
    _, leaked = welch_psd(x + 50, 128, detrend=None, **keywords)
    assert (leaked - plain).abs().max() > 1000


@pytest.mark.parametrize("sfreq", [128, 250])
def test_a_tone_of_amplitude_one_holds_a_power_of_one_half(sfreq):
    t = torch.arange(10 * sfreq, dtype=torch.float64) / sfreq
    x = torch.sin(2 * math.pi * 10 * t + 0.3)
    freqs, psd = welch_psd(x, sfreq, n_per_seg=2 * sfreq, n_overlap=sfreq)
    assert freqs[psd.argmax()] == 10
    near = (freqs - 10).abs() <= 2
    assert psd[near].sum().item() * 0.5 == pytest.approx(0.5, abs=1e-9)


@pytest.mark.parametrize(("sfreq", "sigma"), [(200, 1.0), (128, 3.0)])
def test_white_noise_has_density_two_variance_over_rate(sfreq, sigma):
    x = sigma * torch.randn(8, 40_000, dtype=torch.float64)
    _, psd = welch_psd(x, sfreq, n_per_seg=200, n_overlap=100)
    expected = 2 * sigma**2 / sfreq
    assert psd[:, 2:-2].mean().item() == pytest.approx(expected, rel=0.01)


def test_the_density_integrates_to_the_variance():
    x = torch.randn(5, 256, dtype=torch.float64)
    freqs, psd = welch_psd(x, 64, n_per_seg=256, n_overlap=0, window="boxcar")
    torch.testing.assert_close(psd.sum(-1) * freqs[1], x.var(-1, correction=0), **CLOSE)


def test_welch_gradient_agrees_with_finite_differences():
    x = torch.randn(2, 20, dtype=torch.float64, requires_grad=True)

    def density(x):
        return welch_psd(x, 10, n_per_seg=8, n_overlap=4)[1]

    assert torch.autograd.gradcheck(density, (x,))


def test_integers_of_a_recorder_are_taken_as_numbers():
    x = torch.randint(-500, 500, (2, 300), dtype=torch.int16)
    for detrend in ("constant", None):
        keywords = {"n_per_seg": 100, "n_overlap": 50, "detrend": detrend}
        _, ours = welch_psd(x, 100, **keywords)
        torch.testing.assert_close(ours, welch_psd(x.float(), 100, **keywords)[1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_per_seg": 200}, r"windows of 100 samples are shorter.*n_per_seg=200"),
        ({"n_overlap": 64}, r"n_overlap must be in \[0, n_per_seg=64\), got 64"),
        ({"n_overlap": -1}, "n_overlap must be in"),
        ({"n_per_seg": 0, "n_overlap": 0}, "n_overlap must be in"),
        ({"window": "kaiser"}, "window must be.*got 'kaiser'"),
        ({"detrend": "linear"}, "detrend must be.*got 'linear'"),
        ({"sfreq": 0.0}, "sfreq must be positive, got 0.0 Hz"),
        ({"sfreq": -1.0}, "sfreq must be positive"),
        ({"sfreq": float("nan")}, "sfreq must be positive"),
    ],
)
def test_bad_welch_arguments_are_named(arguments, message):
    given = {"sfreq": 100.0, "n_per_seg": 64, "n_overlap": 32} | arguments
    with pytest.raises(ValueError, match=message):
        welch_psd(torch.randn(2, 100), given.pop("sfreq"), **given)


# ---------------------------------------------------------------- band power


def test_band_power_of_a_straight_line_is_its_value_in_the_middle():
    freqs = torch.arange(0, 41, dtype=torch.float64)
    psd = torch.stack([3 * freqs + 1, torch.full_like(freqs, 7.0)])
    ours = band_power(freqs, psd, [(4, 8), (8, 14), (10, 10)])
    expected = [[3 * 6 + 1, 3 * 11 + 1, 31], [7, 7, 7]]
    torch.testing.assert_close(ours, torch.tensor(expected, dtype=torch.float64))


def test_band_power_agrees_with_a_loop_over_frequencies():
    freqs = torch.arange(0, 30) * 0.75
    psd = torch.rand(2, 3, 30)
    bands = [(1.5, 5.0), (4.9, 13.5)]
    ours = band_power(freqs, psd, bands)
    for b, (low, high) in enumerate(bands):
        inside = [i for i, f in enumerate(freqs.tolist()) if low <= f <= high]
        torch.testing.assert_close(ours[..., b], psd[..., inside].mean(-1))


@pytest.mark.parametrize("band", [(4.1, 4.9), (41, 50), (8, 4)])
def test_a_band_without_a_frequency_is_an_error(band):
    freqs = torch.arange(0, 41.0)
    with pytest.raises(ValueError, match=f"{band[0]}-{band[1]} Hz.*0-40 Hz"):
        band_power(freqs, freqs, [(4, 8), band])


def test_no_bands_is_an_error():
    with pytest.raises(ValueError, match="at least one"):
        band_power(torch.arange(4.0), torch.arange(4.0), [])


# ---------------------------------------------------------------- co-spectrum


@pytest.mark.parametrize("sfreq", [100, 128, 160, 250, 512])
@pytest.mark.parametrize("segment_seconds", [0.5, 1.0])
def test_power_is_welch_psd_on_its_grid_at_every_rate(sfreq, segment_seconds):
    n_times = 3 * sfreq + 1
    spectrum = WelchSpectrum(sfreq, n_times, segment_seconds=segment_seconds).double()
    x = torch.randn(2, 3, n_times)  # the operator is made in float32
    n = round(segment_seconds * sfreq)
    freqs, psd = welch_psd(x.double(), sfreq, n_per_seg=n, n_overlap=n // 2)
    low, high = spectrum.freqs[[0, -1]].tolist()
    inside = (freqs >= low - 1e-6) & (freqs <= high + 1e-6)
    torch.testing.assert_close(spectrum.freqs, freqs[inside])
    assert (low, high) == (4.0, 40.0)
    torch.testing.assert_close(
        spectrum.power(x.double()), psd[..., inside], rtol=1e-5, atol=1e-7
    )


def test_segments_of_odd_length_overlap_as_in_scipy():
    x = torch.randn(1, 2, 1000)
    ours = WelchSpectrum(125, 1000)
    _, theirs = signal.welch(x.numpy(), 125, nperseg=125, detrend="constant")
    np.testing.assert_allclose(ours.power(x), theirs[..., 4:41], rtol=1e-4)
    assert ours(x).shape == (1, 2, 2, (1000 - 125) // 63 + 1, 37)


def test_density_at_nyquist_is_one_sided():
    spectrum = WelchSpectrum(64, 640, 4, 32)
    x = torch.randn(1, 2, 640)
    _, psd = welch_psd(x, 64, n_per_seg=64, n_overlap=32)
    torch.testing.assert_close(spectrum.power(x), psd[..., 4:], rtol=1e-4, atol=1e-7)


def test_a_window_shorter_than_a_segment_is_one_segment():
    spectrum = WelchSpectrum(100, 80, 4, 40, segment_seconds=2.0)
    x = torch.randn(2, 3, 80)
    padded = signal.periodogram(
        x.numpy(), 100, window="hann", nfft=200, detrend="constant"
    )
    np.testing.assert_allclose(spectrum.freqs, padded[0][8:81], atol=1e-6)
    np.testing.assert_allclose(spectrum.power(x), padded[1][..., 8:81], rtol=1e-3,
                               atol=1e-6)  # fmt: skip
    assert spectrum(x).shape == (2, 3, 2, 1, 73)


def test_coefficients_agree_with_a_slow_loop():
    sfreq, n_times, n = 50, 130, 50
    x = np.random.default_rng(0).normal(size=(2, 3, n_times))
    ours = WelchSpectrum(sfreq, n_times, 4, 9)(torch.from_numpy(x).float())
    taper = signal.get_window("hann", n)
    scale = math.sqrt(2 / (sfreq * (taper**2).sum()))
    assert ours.shape == (2, 3, 2, 4, 6)
    for s, start in enumerate(range(0, n_times - n + 1, 25)):
        piece = x[..., start : start + n]
        piece = (piece - piece.mean(-1, keepdims=True)) * taper * scale
        for k, f in enumerate(range(4, 10)):
            z = piece @ np.exp(-2j * np.pi * f * np.arange(n) / sfreq)
            np.testing.assert_allclose(ours[:, :, 0, s, k], z.real, atol=1e-5)
            np.testing.assert_allclose(ours[:, :, 1, s, k], z.imag, atol=1e-5)


def test_products_of_coefficients_are_scipys_cross_spectrum():
    x = signals(3, 512)
    ours = WelchSpectrum(128, 512)(x[None].float())[0]
    z = torch.complex(ours[:, 0], ours[:, 1]).numpy()
    for i in range(3):
        for j in range(3):
            _, theirs = signal.csd(x[i], x[j], 128, nperseg=128, detrend="constant")
            np.testing.assert_allclose(
                (z[i].conj() * z[j]).mean(0), theirs[4:41], rtol=1e-3, atol=1e-3
            )


def test_coefficients_are_linear_and_blind_to_offsets():
    spectrum = WelchSpectrum(128, 512)
    x, mixing = torch.randn(1, 4, 512), torch.randn(3, 4)
    torch.testing.assert_close(spectrum(x + 100), spectrum(x), rtol=0, atol=1e-4)
    mixed = torch.einsum("ij,bj...->bi...", mixing, spectrum(x))
    torch.testing.assert_close(spectrum(mixing @ x), mixed, rtol=0, atol=1e-4)


def test_the_operator_is_no_part_of_a_checkpoint():
    assert WelchSpectrum(128, 512).state_dict() == {}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"f_max": 65.0}, "f_max=65 Hz is above the Nyquist frequency 64 Hz"),
        ({"f_min": 40.0}, "0 < f_min < f_max, got 40.0 and 40.0"),
        ({"f_min": 0.0}, "0 < f_min < f_max"),
        ({"f_min": -1.0}, "0 < f_min < f_max"),
        ({"n_times": 63}, r"windows of 63 samples.*needs at least 64 samples"),
        ({"segment_seconds": 0.2}, "segment_seconds=0.2 s is shorter.*least 0.25 s"),
        ({"segment_seconds": 0.0}, "segment_seconds=0 s"),
        ({"segment_seconds": -1.0}, "segment_seconds=-1 s"),
        ({"segment_seconds": float("nan")}, "segment_seconds=nan"),
    ],
)
@pytest.mark.parametrize("kind", [WelchSpectrum, SpectralFeatures, TemporalFeatures,
                                  CombinedFeatures])  # fmt: skip
def test_bands_and_windows_that_cannot_be_are_errors(kind, arguments, message):
    with pytest.raises(ValueError, match=message):
        kind(**({"sfreq": 128.0, "n_times": 512} | arguments))


def test_limits_themselves_are_allowed():
    assert WelchSpectrum(80.0, 40, 4, 40, 0.25).freqs.tolist() == list(range(4, 41, 4))


def test_the_grid_starts_at_f_min_and_does_not_pass_f_max():
    assert WelchSpectrum(128, 512, 4, 6, 0.4).freqs.tolist() == [4.0]
    freqs = WelchSpectrum(128, 512, 4.5, 7, 2.0).freqs
    assert freqs.tolist() == [4.5, 5.0, 5.5, 6.0, 6.5, 7.0]
    freqs = WelchSpectrum(128, 1024, 4, 40, 0.3).freqs
    assert freqs[-1] <= 40 and len(freqs) == 11


# ---------------------------------------------------------------- spectral


def test_spectral_features_are_the_logarithm_of_the_density():
    x = signals(2, 3, 512).float()
    features = SpectralFeatures(128, 512, f_min=8, f_max=14)
    electrodes = everywhere(2, 3)
    ours = features(features.observe(x), electrodes)
    _, psd = signal.welch(x.numpy(), 128, nperseg=128, detrend="constant")
    assert ours.shape == (2, 3, features.n_features) == (2, 3, 7)
    np.testing.assert_allclose(ours, np.log(psd[..., 8:15]), atol=1e-3)
    assert not list(features.parameters())


@pytest.mark.parametrize("kind", [SpectralFeatures, TemporalFeatures, CombinedFeatures])
def test_features_of_silence_are_finite_and_so_are_their_gradients(kind):
    features = kind(128, 256)
    x = torch.zeros(2, 3, 256, requires_grad=True)
    ours = features(features.observe(x), everywhere(2, 3))
    torch.testing.assert_close(ours, torch.full_like(ours, math.log(1e-6)))
    ours.sum().backward()
    assert torch.isfinite(x.grad).all()
    assert all(torch.isfinite(p.grad).all() for p in features.parameters())


def test_combined_features_are_the_two_side_by_side():
    x = signals(2, 4, 512).float()
    electrodes = everywhere(2, 4)
    combined = CombinedFeatures(128, 512, n_bands=3, n_filters=2)
    spectral = SpectralFeatures(128, 512)
    ours = combined(combined.observe(x), electrodes)
    assert ours.shape == (2, 4, combined.n_features) == (2, 4, 37 + 6)
    torch.testing.assert_close(
        ours[..., :37], spectral(spectral.observe(x), electrodes), rtol=0, atol=1e-4
    )
    temporal = combined.temporal
    assert torch.equal(ours[..., 37:], temporal(temporal.observe(x), electrodes))


# ---------------------------------------------------------------- temporal


@pytest.mark.parametrize("sfreq", [128, 250])
def test_temporal_features_agree_with_filtering_then_mixing_then_power(sfreq):
    """The explicit route, electrode by electrode, in numpy."""
    n_times, n, n_bands, n_filters = 2 * sfreq, 4, 3, 2
    features = TemporalFeatures(sfreq, n_times, 5, n_bands=n_bands, n_filters=n_filters)
    electrodes = everywhere(2, n, 5)
    x = signals(2, n, n_times).float()
    with torch.no_grad():
        centres = features.centres.numpy().astype(float)
        widths = np.exp(features.log_widths.numpy().astype(float))
        features.mixing.normal_(std=10)  # also the filter that starts as the identity
        ours = features(features.observe(x), electrodes).numpy()
        mixing = features.mixing.numpy().astype(float)
    freqs = np.arange(4, 41)
    taper = signal.get_window("hann", sfreq)
    scale = 2 / (sfreq * (taper**2).sum())
    for b in range(2):
        basis = electrodes.basis[b].numpy().astype(float)
        for band in range(n_bands):
            gain = np.exp(-0.5 * ((freqs - centres[band]) / widths[band]) ** 2)
            gain /= gain.sum()
            for g in range(n_filters):
                rows = np.eye(n) + 0.1 * basis @ mixing[g] @ basis.T / (5 * n**0.5)
                rows /= np.linalg.norm(rows, axis=1, keepdims=True)
                level = np.zeros(n)
                for start in (0, sfreq // 2, sfreq):
                    piece = x[b, :, start : start + sfreq].numpy().astype(float)
                    piece = (piece - piece.mean(-1, keepdims=True)) * taper
                    z = np.fft.rfft(piece)[:, 4:41] * np.sqrt(gain)  # filtered
                    power = scale * (np.abs(rows @ z) ** 2).sum(-1)  # mixed
                    level += np.log(power + 1e-6) / 3
                np.testing.assert_allclose(
                    ours[b, :, g * n_bands + band], level, atol=2e-3
                )


def continuous(n, seconds, sfreq, seed=0):
    """The same signal sampled at any rate: tones between 5 and 38 Hz."""
    rng = np.random.default_rng(seed)
    t = np.arange(round(seconds * sfreq)) / sfreq
    f = rng.uniform(5, 38, size=(n, 60, 1))
    tones = np.cos(2 * np.pi * (f * t + rng.uniform(size=(n, 60, 1))))
    return torch.from_numpy((rng.uniform(1, 5, size=(n, 60, 1)) * tones).sum(1)).float()


@pytest.mark.parametrize("kind", [SpectralFeatures, TemporalFeatures, CombinedFeatures])
@pytest.mark.parametrize("sfreq", [100, 256, 500])
def test_weights_serve_at_another_sampling_rate(kind, sfreq):
    electrodes = everywhere(1, 4)
    here = kind(128, 4 * 128)
    there = kind(sfreq, 4 * sfreq)
    there.load_state_dict(here.state_dict())
    with torch.no_grad():
        a = here(here.observe(continuous(4, 4, 128)[None]), electrodes)
        b = there(there.observe(continuous(4, 4, sfreq)[None]), electrodes)
    # bins far from every tone hold what leaks, which depends on the rate
    audible = a > a.max() - 9
    assert audible.float().mean() > 0.9
    torch.testing.assert_close(a[audible], b[audible], rtol=0, atol=0.05)


def test_filters_have_rows_of_unit_length_over_electrodes_with_data():
    features = TemporalFeatures(128, 256, 7)
    assert torch.equal(
        features.filters(everywhere(2, 5, 7))[:, 0] > 0.999,
        torch.eye(5, dtype=torch.bool).expand(2, 5, 5),
    )  # the first starts as the identity
    torch.nn.init.normal_(features.mixing)
    electrodes = everywhere(2, 5, 7)
    electrodes.present[0, 2] = electrodes.present[1, 0] = False
    filters = features.filters(electrodes)
    assert filters.shape == (2, 4, 5, 5)
    assert (filters[0, :, :, 2] == 0).all() and (filters[1, :, :, 0] == 0).all()
    torch.testing.assert_close(
        filters.norm(dim=-1), torch.ones(2, 4, 5), rtol=0, atol=1e-3
    )
    assert (filters < 0).any()  # DESIGN 4: the sign is what matters


def test_responses_are_gaussians_in_hertz_that_sum_to_one():
    features = TemporalFeatures(128, 256, n_bands=5)
    with torch.no_grad():
        ours = features.responses()
        features.centres[0], features.log_widths[0] = 12.0, math.log(2.0)
        narrow = features.responses()[0]
    torch.testing.assert_close(ours.sum(-1), torch.ones(5))
    expected = np.exp(-0.5 * ((np.arange(4, 41) - 12) / 2) ** 2)
    np.testing.assert_allclose(narrow, expected / expected.sum(), atol=1e-6)
    assert features.centres[1:].min() > 4 and features.centres.max() < 40
    np.testing.assert_allclose(
        TemporalFeatures(128, 256, n_bands=3).centres.detach(),
        [5.0, math.sqrt(5 * 34), 34.0],
        rtol=1e-5,
    )


def test_a_filter_moved_off_the_grid_gives_no_nan():
    features = TemporalFeatures(128, 256, 3)
    with torch.no_grad():
        features.centres.fill_(1e4)
    ours = features(features.observe(torch.randn(1, 3, 256)), everywhere(1, 3, 3))
    assert torch.isfinite(ours).all()


@pytest.mark.parametrize("kind", EVERY)
def test_a_masked_electrode_influences_no_other(kind):
    features = kind(128, 256, 6)
    electrodes = everywhere(2, 5, 6)
    electrodes.present[0, 1] = electrodes.present[1, 4] = False
    present = electrodes.present
    x = torch.randn(2, 5, 256)
    reference = features(features.observe(x), electrodes)
    for junk in (7.0, 1e6, float("nan"), float("inf")):
        other = x.clone()
        other[~present] = junk
        observed = features.observe(other).requires_grad_()
        ours = features(observed, electrodes)
        assert torch.equal(ours[present], reference[present])
        features.zero_grad()
        ours[present].square().sum().backward()
        assert torch.isfinite(observed.grad).all()
        assert (observed.grad[~present] == 0).all()
        assert (observed.grad[present] != 0).any()
        assert all(torch.isfinite(p.grad).all() for p in features.parameters())
    gone = Electrodes(*(part[:1, [0, 2, 3, 4]] for part in electrodes[:4]))
    without = features(features.observe(x[:1, [0, 2, 3, 4]]), gone)
    torch.testing.assert_close(without, reference[:1, [0, 2, 3, 4]])


@pytest.mark.parametrize("kind", EVERY)
def test_features_follow_the_order_of_electrodes_and_windows(kind):
    features = kind(128, 256, 6)
    electrodes = everywhere(3, 5, 6)
    electrodes.present[0, 1] = False
    x = torch.randn(3, 5, 256)
    ours = features(features.observe(x), electrodes)
    order = torch.randperm(5)
    moved = Electrodes(*(part[:, order] for part in electrodes[:4]))
    permuted = features(features.observe(x[:, order]), moved)
    torch.testing.assert_close(permuted, ours[:, order], rtol=0, atol=1e-4)
    for b in range(3):
        alone = Electrodes(*(part[b : b + 1] for part in electrodes[:4]))
        single = features(features.observe(x[b : b + 1]), alone)
        torch.testing.assert_close(single, ours[b : b + 1], rtol=0, atol=1e-4)


def test_the_average_of_all_electrodes_is_removed_by_a_filter_that_removes_it():
    # a spatial filter before the power sees what powers alone cannot
    features = TemporalFeatures(128, 512, 1, n_bands=2, n_filters=1)
    n = 4
    electrodes = everywhere(1, n, 1)
    electrodes.basis.fill_(1.0)
    with torch.no_grad():
        features.mixing.fill_(-5.0)  # in units of 0.1 / sqrt(4): I - 1/4
    own = torch.randn(1, n, 512)
    own = own - own.mean(1, keepdim=True)
    common = 1000 * torch.randn(1, 1, 512)
    with torch.no_grad():
        alone = features(features.observe(own), electrodes)
        both = features(features.observe(own + common), electrodes)
    torch.testing.assert_close(alone, both, rtol=0, atol=0.2)


def test_temporal_gradients_agree_with_finite_differences():
    features = TemporalFeatures(64, 40, 3, 4, 12, n_bands=2, n_filters=2).double()
    electrodes = everywhere(1, 3, 3, torch.float64)
    observed = features.observe(torch.randn(1, 3, 40, dtype=torch.float64))
    names = [name for name, _ in features.named_parameters()]
    values = [p.detach().clone().requires_grad_() for p in features.parameters()]

    def power(*values):
        parameters = dict(zip(names, values, strict=True))
        return torch.func.functional_call(features, parameters, (observed, electrodes))

    assert torch.autograd.gradcheck(power, values)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", [TemporalFeatures, CombinedFeatures])
def test_autocast_leaves_the_powers_in_full_precision(kind, dtype):
    # artefacts of 10 mV overflow half precision, and signed filters cancel
    features = kind(128, 512)
    electrodes = everywhere(1, 6)
    x = 1e4 * torch.randn(1, 6, 512)
    x = x + 1e5 * torch.randn(1, 1, 512)
    observed = features.observe(x)
    full = features(observed, electrodes)
    with torch.autocast("cpu", dtype=dtype):
        mixed = features(observed, electrodes)
    assert torch.equal(mixed, full) and torch.isfinite(mixed).all()


@pytest.mark.parametrize("kind", EVERY)
def test_features_script_and_an_empty_batch_is_no_error(kind):
    features = kind(128, 256)
    scripted = torch.jit.script(features)
    electrodes = everywhere(2, 3)
    observed = features.observe(torch.randn(2, 3, 256))
    torch.testing.assert_close(
        scripted(observed, electrodes), features(observed, electrodes)
    )
    none = features.observe(torch.zeros(0, 3, 256))
    assert features(none, everywhere(0, 3)).shape == (0, 3, features.n_features)


@pytest.mark.parametrize("kind", EVERY)
def test_features_export_without_a_fourier_transform(kind):
    class Whole(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.features = kind(128, 256, 4)

        def forward(self, x, basis, present):
            electrodes = Electrodes(x[..., :3], basis, present, present)
            return self.features(self.features.observe(x), electrodes)

    module = Whole()
    electrodes = everywhere(2, 3, 4)
    inputs = (torch.randn(2, 3, 256), electrodes.basis, electrodes.present)
    batch = torch.export.Dim("batch", max=1 << 30)
    exported = torch.export.export(
        module, inputs, dynamic_shapes=({0: batch},) * 3, strict=False
    )
    assert "fft" not in str(exported.graph)
    torch.testing.assert_close(exported.module()(*inputs), module(*inputs))


# ---------------------------------------------------------------- harmonics


def directions(n, seed=0):
    p = np.random.default_rng(seed).normal(size=(n, 3))
    return p / np.linalg.norm(p, axis=1, keepdims=True)


def of_scipy(degree, order, theta, phi):
    """A spherical harmonic; before scipy 1.15 under another name, the other way."""
    if hasattr(special, "sph_harm_y"):
        return special.sph_harm_y(degree, order, theta, phi)
    return special.sph_harm(order, degree, phi, theta)


@pytest.mark.parametrize("degree", [0, 1, 4, 8])
def test_spherical_harmonics_agree_with_scipy(degree):
    p = directions(20)
    positions = torch.from_numpy(0.09 * p + [0, 0, 0.04])
    ours = spherical_harmonics(positions, degree)
    assert ours.shape == (20, (degree + 1) ** 2)
    theta, phi = np.arccos(p[:, 2]), np.arctan2(p[:, 1], p[:, 0])
    column = 0
    for order in range(degree + 1):
        for m in range(-order, order + 1):
            y = of_scipy(order, abs(m), theta, phi) * (-1) ** m
            real = y.real if m == 0 else math.sqrt(2) * (y.imag if m < 0 else y.real)
            np.testing.assert_allclose(
                ours[:, column], math.sqrt(4 * math.pi) * real, atol=1e-12
            )
            column += 1


def test_spherical_harmonics_are_orthonormal_over_the_sphere():
    degree = 4
    z, weight = np.polynomial.legendre.leggauss(degree + 1)
    phi = np.arange(2 * degree + 1) * 2 * np.pi / (2 * degree + 1)
    z, angle = np.meshgrid(z, phi, indexing="ij")
    weight = np.repeat(weight[:, None], len(phi), 1) / (2 * len(phi))
    s = np.sqrt(1 - z**2)
    p = np.stack([s * np.cos(angle), s * np.sin(angle), z], -1).reshape(-1, 3)
    basis = spherical_harmonics(torch.from_numpy(p), degree, centre_height=0.0)
    gram = basis.T @ (torch.from_numpy(weight.reshape(-1, 1)) * basis)
    torch.testing.assert_close(gram, torch.eye(25, dtype=torch.float64), **CLOSE)


def test_degree_one_by_hand():
    positions = torch.tensor([[0.0, 0, 0.14], [0.1, 0, 0.04], [0, -0.2, 0.04]])
    s = math.sqrt(3)
    expected = [[1, 0, s, 0], [1, 0, 0, s], [1, -s, 0, 0]]
    torch.testing.assert_close(
        spherical_harmonics(positions, 1), torch.tensor(expected), rtol=0, atol=1e-6
    )


def test_harmonics_of_an_unknown_place_are_the_constant_alone():
    positions = torch.rand(2, 4, 3)
    positions[0, 1] = float("nan")
    positions[1, 2, 0] = float("inf")
    positions[1, 3] = torch.tensor([0.0, 0.0, 0.04])  # the centre has no direction
    basis = spherical_harmonics(positions, 4)
    constant = torch.eye(25)[0]
    assert torch.equal(basis[0, 1], constant) and torch.equal(basis[1, 2], constant)
    assert torch.isfinite(basis).all()
    assert (basis[..., 0] == 1).all()


# ---------------------------------------------------------------- standardising


def batches(n_batches, b=16, n=4, f=3, seed=0):
    rng = np.random.default_rng(seed)
    data = rng.normal(size=(n_batches, b, n, f)) * [1, 5, 0.2] + [0, 20, -3]
    return torch.from_numpy(data).float()


def test_one_pass_gives_mean_zero_and_variance_one_over_the_training_data():
    data = batches(10)
    norm = FeatureNorm(3)
    present = torch.rand(10, 16, 4) > 0.3
    for x, mask in zip(data, present, strict=True):
        norm.observe(torch.where(mask[..., None], x, float("nan")), mask)
    seen = data[present]
    torch.testing.assert_close(norm.mean, seen.mean(0), rtol=1e-4, atol=1e-4)
    ours = norm(data)[present].double()
    np.testing.assert_allclose(ours.mean(0), 0, atol=1e-3)
    np.testing.assert_allclose(ours.var(0, correction=0), 1, atol=5e-3)
    assert norm.count == present.sum() and norm.windows == 160


def test_the_order_and_size_of_batches_do_not_matter():
    data = batches(6)
    mask = torch.ones(16, 4, dtype=torch.bool)
    forth, back, at_once, single = (FeatureNorm(3) for _ in range(4))
    for i in range(6):
        forth.observe(data[i], mask)
        back.observe(data[5 - i], mask)
        for window in data[i]:
            single.observe(window[None], mask[:1])
    at_once.observe(data.flatten(0, 1), mask.repeat(6, 1))
    for other in (back, at_once, single):
        for name, value in forth.state_dict().items():
            torch.testing.assert_close(
                value, other.state_dict()[name], rtol=1e-4, atol=1e-4
            )


def test_statistics_are_final_after_n_windows():
    data = batches(5)
    mask = torch.ones(16, 4, dtype=torch.bool)
    norm = FeatureNorm(3, n_windows=33)
    for x in data[:3]:
        norm.observe(x, mask)
    assert norm.windows == 48  # the batch that passes the limit still counts
    frozen = {name: value.clone() for name, value in norm.state_dict().items()}
    for x in data[3:]:
        norm.observe(x * 100, mask)
    assert all(torch.equal(norm.state_dict()[name], frozen[name]) for name in frozen)
    exact = FeatureNorm(3, n_windows=16)
    exact.observe(data[0], mask)
    exact.observe(data[1], mask)
    assert exact.windows == 16


def test_applying_the_statistics_changes_nothing_and_knows_no_batch_mates():
    norm = FeatureNorm(3)
    x = batches(1)[0]
    assert torch.equal(norm(x), x)  # before any data: mean 0, variance 1
    norm.observe(x, torch.ones(16, 4, dtype=torch.bool))
    before = {name: value.clone() for name, value in norm.state_dict().items()}
    for mode in (True, False):
        norm.train(mode)
        assert torch.equal(norm(x)[:1], norm(x[:1]))
    assert all(torch.equal(norm.state_dict()[name], before[name]) for name in before)


def test_a_constant_feature_becomes_zero():
    norm = FeatureNorm(1)
    x = torch.full((4, 3, 1), 7.0)
    norm.observe(x, torch.ones(4, 3, dtype=torch.bool))
    assert norm(x).abs().max() < 1e-3 and torch.isfinite(norm(x)).all()


def test_a_batch_without_data_or_with_wild_values_leaves_the_statistics_alone():
    x = batches(1)[0]
    mask = torch.ones(16, 4, dtype=torch.bool)
    norm, clean = FeatureNorm(3), FeatureNorm(3)
    norm.observe(x, ~mask)
    assert norm.count == 0 and torch.equal(norm(x), x)
    wild = x.clone()
    wild[2, 1, 0], wild[5, 3, 2] = float("inf"), float("nan")
    norm.observe(wild, mask)
    mask[2, 1] = mask[5, 3] = False
    clean.observe(x, mask)
    torch.testing.assert_close(norm.mean, clean.mean)
    torch.testing.assert_close(norm.square, clean.square)
    assert norm.count == clean.count == 62
    norm.observe(x[:0], mask[:0])
    torch.testing.assert_close(norm.mean, clean.mean)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_statistics_are_summed_in_the_precision_of_the_buffers(dtype):
    data = batches(1, b=256)[0].to(dtype)
    norm, exact = FeatureNorm(3), FeatureNorm(3)
    mask = torch.ones(256, 4, dtype=torch.bool)
    norm.observe(data, mask)
    exact.observe(data.float(), mask)
    assert torch.equal(norm.mean, exact.mean) and torch.equal(norm.square, exact.square)
    double = FeatureNorm(3).double()
    double.observe(data, mask)
    torch.testing.assert_close(double.mean.float(), exact.mean, rtol=1e-5, atol=1e-5)


def test_the_backward_outlives_a_later_batch():
    # pretraining describes two views before its one backward
    norm = FeatureNorm(3)
    x = batches(1)[0].requires_grad_()
    mask = torch.ones(16, 4, dtype=torch.bool)
    norm.observe(x, mask)
    y = norm(x)
    scale = (norm.square - norm.mean**2).rsqrt()
    norm.observe(x * 9, mask)
    y.sum().backward()
    torch.testing.assert_close(x.grad, scale.expand_as(x))
    assert not norm.mean.requires_grad


def test_statistics_travel_in_a_checkpoint():
    norm, other = FeatureNorm(3), FeatureNorm(3)
    norm.observe(batches(1)[0], torch.ones(16, 4, dtype=torch.bool))
    file = io.BytesIO()
    torch.save(norm.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file, weights_only=True))
    x = batches(1, seed=1)[0]
    assert torch.equal(norm(x), other(x))


class Learning(torch.nn.Module):
    def __init__(self, norm):
        super().__init__()
        self.norm = norm

    def forward(self, x: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
        self.norm.observe(x, present)
        return self.norm(x)


def test_standardisation_learns_the_same_when_scripted():
    eager, scripted = Learning(FeatureNorm(3)), Learning(FeatureNorm(3))
    script = torch.jit.script(scripted)
    mask = torch.ones(16, 4, dtype=torch.bool)
    for x in batches(3):
        torch.testing.assert_close(script(x, mask), eager(x, mask))
    assert scripted.norm.windows == 48


def test_mean_square_of_a_band_is_what_the_density_integrates_to():
    # the log band power of a node is a physical quantity: µV² per Hz
    x = continuous(3, 8, 128)
    freqs, psd = welch_psd(x.double(), 128, n_per_seg=1024, n_overlap=0)
    total = integrate.trapezoid(psd.numpy(), freqs.numpy())
    taper = signal.get_window("hann", 1024)
    centred = (x - x.mean(-1, keepdim=True)).numpy() * taper
    np.testing.assert_allclose(
        total, (centred**2).sum(-1) / (taper**2).sum(), rtol=1e-3
    )


@pytest.mark.parametrize("n_bands,n_filters,dim", [(4, 3, 8), (1, 1, 1)])
def test_an_embedding_starts_with_all_bands_of_a_filter_alike(n_bands, n_filters, dim):
    features = TemporalFeatures(128.0, 256, 9, n_bands=n_bands, n_filters=n_filters)
    embed = torch.nn.Linear(features.n_features, dim)
    features.start_embedding(embed.weight)
    weight = embed.weight.detach()
    assert torch.isfinite(weight).all() and weight.any()
    by_filter = weight.view(dim, n_filters, n_bands)
    assert torch.equal(by_filter, by_filter[..., :1].expand_as(by_filter))
    # in the order in which the features come: a band made louder in all filters alike
    electrodes = Electrodes(
        torch.zeros(1, 3, 3),
        torch.ones(1, 3, 9),
        torch.ones(1, 3, dtype=torch.bool),
        torch.ones(1, 3, dtype=torch.bool),
    )
    x = features.observe(torch.randn(1, 3, 256))
    power = features.power(x, electrodes)  # (B, g, N, S, b)
    found = features(x, electrodes).view(1, 3, n_filters, n_bands)
    expected = torch.log(power + 1e-6).mean(3).permute(0, 2, 1, 3)
    torch.testing.assert_close(found, expected)

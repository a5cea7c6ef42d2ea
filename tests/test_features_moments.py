"""Second moments: correlations of a band, pooled over the head."""

import numpy as np
import pytest
import scipy.linalg
import torch
from sklearn.metrics.pairwise import cosine_similarity

from braindecode_gcmae import GCMAEStudent
from braindecode_gcmae.features import (
    Electrodes,
    SecondMoments,
    WelchSpectrum,
    position_moments,
    signed_topology,
    spherical_harmonics,
)
from braindecode_gcmae.features.moments import band_amplitude, moments_unit
from braindecode_gcmae.montage import make_chs_info, standard_positions

NAMES = "F3 F4 C3 Cz C4 P3 Pz P4".split()
B, N, S, F = 3, 8, 4, 9


def coefficients(seed=0, n=N):
    return torch.randn(B, n, 2, S, F, generator=torch.Generator().manual_seed(seed))


def electrodes(names=NAMES, absent=()):
    table = standard_positions()
    positions = torch.tensor(np.stack([table[name] for name in names])).float()[None]
    exists = torch.ones(B, len(names), dtype=torch.bool)
    present = exists.clone()
    present[:, list(absent)] = False
    return Electrodes(positions, spherical_harmonics(positions, 5), exists, present)


def everywhere(n=N):
    return torch.ones(B, n, dtype=torch.bool)


# ------------------------------------------------------------------- signed topology
def test_topology_is_its_sums_written_out():
    x, amplitude = coefficients(), torch.rand(F) + 0.1
    correlation, power = signed_topology(x, amplitude, everywhere())
    z = x[:, :, 0].double() + 1j * x[:, :, 1].double()

    def covariance(b, i, j):
        total = 0.0
        for s in range(S):
            for f in range(F):
                product = z[b, i, s, f] * z[b, j, s, f].conj()
                total += float(amplitude[f]) ** 2 * float(product.real) / S
        return total

    for b in range(B):
        own = [covariance(b, i, i) for i in range(N)]
        np.testing.assert_allclose(power[b], np.log(own), atol=1e-4)
        for i in range(N):
            assert float(correlation[b, i, i]) == 0.0
            for j in range(i):
                expected = covariance(b, i, j) / (own[i] * own[j]) ** 0.5
                assert float(correlation[b, i, j]) == pytest.approx(expected, abs=1e-5)


def test_correlations_are_the_cosines_of_scikit_learn():
    x, amplitude = coefficients(1), torch.rand(F) + 0.1
    correlation, _ = signed_topology(x, amplitude, everywhere())
    for b in range(B):
        rows = (x[b] * amplitude).flatten(1).numpy()
        expected = cosine_similarity(rows)
        np.fill_diagonal(expected, 0)
        np.testing.assert_allclose(correlation[b], expected, atol=1e-5)


def test_near_the_identity_it_is_the_logarithm_of_the_covariance():
    """To first order: halving the distance leaves a quarter of the error."""
    errors = []
    for distance in (0.1, 0.05):
        noise = np.random.default_rng(0).normal(size=(N, N)) * distance
        covariance = np.eye(N) + (noise + noise.T) / 2
        root = torch.tensor(scipy.linalg.sqrtm(covariance).real).float()
        # N "segments" of one frequency whose covariance is the wanted one
        x = torch.zeros(1, N, 2, N, 1)
        x[0, :, 0, :, 0] = root * N**0.5
        correlation, power = signed_topology(x, torch.ones(1), everywhere()[:1])
        ours = correlation[0].numpy() + np.diag(power[0].numpy())
        errors.append(np.abs(ours - scipy.linalg.logm(covariance)).max())
    assert errors[1] < 0.35 * errors[0]


def test_an_electrode_without_data_goes_along_with_nobody():
    x = coefficients()
    x[:, 2] = float("nan")
    present = everywhere()
    present[:, 2] = False
    correlation, power = signed_topology(x, torch.ones(F), present)
    assert torch.isfinite(correlation).all() and torch.isfinite(power).all()
    assert not correlation[:, 2].any() and not power[:, 2].any()
    others = [i for i in range(N) if i != 2]
    alone, _ = signed_topology(x[:, others], torch.ones(F), everywhere(N - 1))
    torch.testing.assert_close(correlation[:, others][:, :, others], alone)


def test_a_band_is_one_inside_and_nothing_outside():
    freqs = torch.linspace(0, 400, 801)
    amplitude = band_amplitude(freqs, 8.0, 30.0)
    assert (amplitude[(freqs > 10) & (freqs < 28)] > 0.99).all()
    assert (amplitude[(freqs < 4) | (freqs > 34)] < 0.05).all()


# ------------------------------------------------------------------------- moments
def test_moments_are_their_sums_written_out():
    place = electrodes(absent=[1])
    topology = torch.randn(B, N, N, generator=torch.Generator().manual_seed(2))
    topology = topology + topology.mT
    ours = position_moments(topology, place.basis, place.present)
    here = [i for i in range(N) if i != 1]
    phi, z = place.basis[0].numpy(), topology.numpy()
    expected = np.zeros((B, 36, 36))
    for i in here:
        for j in here:
            expected += z[:, i, j, None, None] * np.outer(phi[i], phi[j]) / len(here)
    np.testing.assert_allclose(ours.view(B, 36, 36), expected, atol=2e-4)


def test_without_a_mask_every_electrode_counts():
    place, x = electrodes(), torch.randn(B, N, 2, 3, F)
    for ours, masked in zip(
        signed_topology(x, torch.ones(F), None),
        signed_topology(x, torch.ones(F), place.present),
        strict=True,
    ):
        assert torch.equal(ours, masked)
    topology = x[:, :, 0, 0] @ x[:, :, 0, 0].mT
    moments = position_moments(topology, place.basis, None)
    assert torch.equal(moments, position_moments(topology, place.basis, place.present))


def test_a_linear_head_on_them_is_any_quadratic_form_of_eight_electrodes():
    place = electrodes()
    row, column = np.triu_indices(N)
    pairs = torch.zeros(len(row), N, N)
    pairs[range(len(row)), row, column] = pairs[range(len(row)), column, row] = 1.0
    there = place.present[:1].expand(len(row), -1)
    moments = position_moments(pairs, place.basis, there)
    assert np.linalg.matrix_rank(moments.numpy(), tol=1e-3) == N * (N + 1) // 2


def test_the_order_of_electrodes_does_not_matter():
    spectrum = WelchSpectrum(128.0, 256)
    module = SecondMoments(spectrum.freqs, 36)
    x = torch.randn(B, N, 256, generator=torch.Generator().manual_seed(3))
    order = [3, 1, 7, 0, 2, 6, 5, 4]
    plain = module(spectrum(x), electrodes())
    shuffled = electrodes([NAMES[i] for i in order])
    torch.testing.assert_close(
        module(spectrum(x[:, order]), shuffled), plain, atol=1e-4, rtol=1e-4
    )


def test_missing_electrodes_are_as_if_the_cap_had_none():
    spectrum = WelchSpectrum(128.0, 256)
    module = SecondMoments(spectrum.freqs, 36)
    x = torch.randn(B, N, 256, generator=torch.Generator().manual_seed(3))
    with_hole = x.clone()
    with_hole[:, 5] = float("nan")
    here = [i for i in range(N) if i != 5]
    smaller = module(spectrum(x[:, here]), electrodes([NAMES[i] for i in here]))
    hole = module(spectrum(with_hole), electrodes(absent=[5]))
    torch.testing.assert_close(hole, smaller, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("low,high", [(1.0, 6.0), (40.0, 60.0), (5.0, 20.0)])
def test_a_band_outside_the_spectrum_is_brought_inside(low, high):
    freqs = torch.arange(low, high + 1)
    edges = SecondMoments(freqs, 4).band
    assert low <= edges[0] < edges[1] <= high


def test_loudness_is_standardised_by_the_training_windows():
    freqs = torch.arange(5.0, 5.0 + F)
    module, place = SecondMoments(freqs, 36, 5.0, 13.0), electrodes()
    module.observe(100 * coefficients(), place)
    assert float(module.norm.mean) == pytest.approx(np.log(100**2 * 2 * F), abs=1.0)
    before = module.norm.mean.clone()
    module(coefficients(), place)
    assert torch.equal(module.norm.mean, before)


# --------------------------------------------------------------------- in the model
def test_the_head_sees_them_beside_the_nodes():
    signal = {"chs_info": make_chs_info(NAMES), "sfreq": 128, "n_times": 256}
    with_them = GCMAEStudent(n_outputs=2, **signal).eval()
    without = GCMAEStudent(n_outputs=2, second_moments=False, **signal).eval()
    x = torch.randn(2, N, 256)
    embedding = with_them(x, return_features=True)["features"]
    plain = without(x, return_features=True)["features"]
    assert embedding.shape[1] == plain.shape[1] + 36 * 36
    assert (
        moments_unit() * 36 > embedding[:, plain.shape[1] :].detach().abs().max() > 1e-3
    )


def test_a_model_of_spectra_has_none():
    model = GCMAEStudent.paper(n_outputs=2, ch_names=NAMES, sfreq=128, n_times=256)
    assert model.network.moments is None
    assert model.final_layer.in_features == model.network.readout.n_outputs

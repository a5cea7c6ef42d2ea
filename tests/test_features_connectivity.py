"""Laws of the connectivity features."""

import numpy as np
import pytest
import torch

from braindecode_gcmae.features import (
    ConnectivityFeatures,
    Electrodes,
    nearest_sites,
    spherical_harmonics,
)
from braindecode_gcmae.montage import electrode_positions, montage_preset

NAMES = ["C3", "Cz", "C4", "Pz"]
SFREQ, N_TIMES = 100.0, 200


def electrodes(names=NAMES, n=2, present=None):
    positions = torch.as_tensor(electrode_positions(names)).float().expand(n, -1, -1)
    exists = torch.ones(n, len(names), dtype=torch.bool)
    basis = spherical_harmonics(positions, 5)
    return Electrodes(positions, basis, exists, exists if present is None else present)


def module():
    torch.manual_seed(0)
    return ConnectivityFeatures(SFREQ, N_TIMES, n_bands=3, n_filters=1).eval()


def signals(n=2, seed=0):
    return torch.from_numpy(
        np.random.default_rng(seed).normal(size=(n, len(NAMES), N_TIMES)) * 10
    ).float()


def slow_correlation(model, x):
    """By definition: correlation of the weighted coefficients, band by band."""
    observed = model.observe(x).double().numpy()
    responses = model.temporal.responses().detach().double().numpy()
    n = x.shape[1]
    out = np.zeros((len(x), n, n))
    for b in range(len(x)):
        for response in responses:
            rows = (observed[b] * np.sqrt(response)).reshape(n, -1)
            for i in range(n):
                for j in range(n):
                    if i != j:
                        length = np.linalg.norm(rows[i]) * np.linalg.norm(rows[j])
                        out[b, i, j] += rows[i] @ rows[j] / length / len(responses)
    return out


def test_profiles_are_the_mean_band_correlation_at_the_sites():
    model, x = module(), signals()
    features = model(model.observe(x), electrodes()).detach().numpy()
    assert features.shape == (2, 4, model.n_features) == (2, 4, 3 + 64)
    sites = electrode_positions(montage_preset("64"))
    gaps = electrode_positions(NAMES)[:, None] - sites
    nearness = np.exp(-0.5 * (gaps**2).sum(-1) / 0.01**2)
    share = nearness / nearness.sum(-1, keepdims=True)
    expected = slow_correlation(model, x) @ share
    np.testing.assert_allclose(features[..., 3:], expected, atol=1e-5)
    assert share.max(-1).min() > 0.95  # sites of the 10-10 are told apart


def test_an_electrode_on_a_site_is_that_site_and_one_between_two_is_shared():
    sites = torch.tensor([[0.0, 0.0, 0.1], [0.04, 0.0, 0.1]])
    where = torch.tensor([[0.0, 0.0, 0.1], [0.02, 0.0, 0.1], [float("nan")] * 3])
    share = nearest_sites(where, sites)
    np.testing.assert_allclose(share[0], [1, 0], atol=1e-3)
    np.testing.assert_allclose(share[1], [0.5, 0.5], atol=1e-6)
    np.testing.assert_allclose(share[2], [0, 0])


def test_a_missing_electrode_changes_nobodys_profile():
    model, x = module(), signals()
    present = torch.ones(2, 4, dtype=torch.bool)
    present[:, 1] = False
    noise = x.clone()
    noise[:, 1] = signals(seed=1)[:, 1] * 100
    kept = [0, 2, 3]
    first, second = (
        model(model.observe(v), electrodes(present=present))[:, kept]
        for v in (x, noise)
    )
    assert torch.equal(first, second)
    cz = 3 + montage_preset("64").index("Cz")
    assert float(first[..., cz].detach().abs().max()) < 1e-2


def test_profiles_do_not_depend_on_the_order_of_the_electrodes():
    model, x = module(), signals()
    order = [2, 0, 3, 1]
    first = model(model.observe(x), electrodes())[:, order]
    names = [NAMES[i] for i in order]
    second = model(model.observe(x[:, order]), electrodes(names))
    torch.testing.assert_close(first, second, rtol=1e-4, atol=1e-4)


def test_amplitudes_do_not_matter_to_profiles_and_silence_gives_zero():
    model, x = module(), signals()
    louder = x * torch.tensor([1.0, 50.0, 0.02, 3.0])[:, None]
    profiles = [model(model.observe(v), electrodes())[..., 3:] for v in (x, louder)]
    torch.testing.assert_close(*profiles, rtol=1e-3, atol=1e-4)
    silent = model(model.observe(torch.zeros_like(x)), electrodes())[..., 3:]
    assert float(silent.detach().abs().max()) == 0


def test_gradients_are_finite_and_reach_the_temporal_filters():
    model, x = module(), signals()
    model(model.observe(x), electrodes()).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert torch.isfinite(parameter.grad).all(), name
    assert float(model.temporal.centres.grad.abs().sum()) > 0


@pytest.mark.parametrize("n", [1, 3])
def test_it_scripts_and_gives_the_same(n):
    model, x = module(), signals(n)
    scripted = torch.jit.script(model)
    given = electrodes(n=n)
    torch.testing.assert_close(
        scripted(model.observe(x), given), model(model.observe(x), given)
    )

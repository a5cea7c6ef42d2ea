"""Missing electrodes influence nothing; padding is no node at all."""

import pytest
import torch
from model_helpers import (
    BOTH,
    HD,
    KEPT,
    LD,
    N_HD,
    build,
    fixed_seed,
    logits,
    positions,
    windows,
)

from braindecode_gcmae.encoders import ChebyshevEncoder
from braindecode_gcmae.features import CombinedFeatures, SpectralFeatures
from braindecode_gcmae.graph import CoherenceGraph, FunctionalGraph, GeometricGraph
from braindecode_gcmae.models import MeanReadout

NAN = float("nan")
MISSING = [2, 9, 18]
VARIANTS = [
    {},
    {"features": SpectralFeatures},
    {"features": CombinedFeatures},
    {"graph": CoherenceGraph},
    {"graph": FunctionalGraph},
    {"graph": GeometricGraph},
    {"encoder": ChebyshevEncoder},
    {"readout": MeanReadout},
]
every_variant = pytest.mark.parametrize(
    "variant", VARIANTS, ids=lambda v: next(iter(v.values())).__name__ if v else ""
)
both_modes = pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])


def mask_without(rows, n=4, n_chans=N_HD):
    mask = torch.ones(n, n_chans, dtype=torch.bool)
    mask[1, rows] = False
    return mask


def run(model, x, seed=3, **extra):
    """Logits and the gradient of a loss at the input, with the same dropout."""
    x = x.clone().requires_grad_()
    with fixed_seed(seed):
        out = model(x, **extra)
    out.square().sum().backward()
    return out.detach(), x.grad


# --------------------------------------------------- nothing leaks from a mask
@every_variant
@both_modes
@pytest.mark.parametrize("value", [0.0, 1e6, NAN, float("inf")])
def test_what_a_masked_electrode_holds_changes_no_bit(variant, training, value):
    x, mask = windows(), mask_without(MISSING)
    other = x.clone()
    other[1, MISSING] = value
    out, gradient = run(build(**variant).train(training), x, ch_mask=mask)
    again, _ = run(build(**variant).train(training), other, ch_mask=mask)
    assert torch.equal(out, again)
    assert torch.isfinite(out).all() and torch.isfinite(gradient).all()
    assert gradient[1, MISSING].abs().max() == 0
    assert gradient[1, [0, 1, 3]].abs().max() > 0


@both_modes
def test_learning_is_blind_to_masked_values(training):
    def learn(x):
        model = build().train(training)
        with fixed_seed(1):
            model(x, ch_mask=mask_without(MISSING)).square().sum().backward()
        values = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
        return {**values, **dict(model.named_buffers())}

    x = windows()
    other = x.clone()
    other[1, MISSING] = NAN
    first, second = learn(x), learn(other)
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.equal(value.nan_to_num(), second[name].nan_to_num()), name


@both_modes
@pytest.mark.parametrize("bad", [NAN, float("inf"), -float("inf"), 1e30])
def test_one_bad_sample_makes_the_channel_a_missing_electrode(training, bad):
    x = windows()
    broken = x.clone()
    broken[1, MISSING, 17] = bad
    out, gradient = run(build().train(training), broken)
    masked, _ = run(build().train(training), x, ch_mask=mask_without(MISSING))
    assert torch.equal(out, masked)
    assert torch.isfinite(gradient).all() and gradient[1, MISSING].abs().max() == 0


def test_a_missing_electrode_changes_no_other_window():
    model, x = build(), windows()
    broken = x.clone()
    broken[1, MISSING] = NAN
    with_loss, without = logits(model, broken), logits(model, x)
    assert torch.equal(with_loss[[0, 2, 3]], without[[0, 2, 3]])
    assert not torch.equal(with_loss[1], without[1])


def test_a_batch_mate_of_nothing_but_nan_changes_no_gradient_of_others():
    x = windows()
    broken = x.clone()
    broken[2] = NAN

    def gradient_of_window_0(x):
        x = x.clone().requires_grad_()
        build()(x)[0].sum().backward()
        return x.grad[0]

    assert torch.equal(gradient_of_window_0(broken), gradient_of_window_0(x))


@both_modes
def test_a_window_without_any_electrode_is_finite(training):
    model = build().train(training)
    x = torch.full_like(windows(2), NAN)
    out, gradient = run(model, x)
    assert torch.isfinite(out).all() and gradient.abs().max() == 0
    out.sum()
    for name, value in model.state_dict().items():
        assert torch.isfinite(value).all(), name


def test_the_learned_token_trains_where_an_electrode_is_missing():
    def moved(x):
        model = build()
        model(x).sum().backward()
        return {n for n, p in model.named_parameters() if p.grad.abs().max() > 0}

    x = windows()
    broken = x.clone()
    broken[:, 3] = NAN
    assert moved(broken) - moved(x) == {"network.token.token"}


# ---------------------------------------------------- missing is not padding
def test_a_missing_electrode_is_not_a_removed_one():
    x, pos = windows(2), positions(HD).expand(2, -1, -1)
    mask = torch.ones(2, len(HD), dtype=torch.bool)
    mask[:, MISSING] = False
    padding = pos.clone()
    padding[:, MISSING] = 0.0
    model = build()
    missing = logits(model, x, pos=pos, ch_mask=mask)
    padded = logits(model, x, pos=padding, ch_mask=mask)
    assert not torch.allclose(missing, padded, atol=1e-4)


@every_variant
@pytest.mark.parametrize("fill", [0.0, NAN, 1e5])
@pytest.mark.parametrize("place", [0.0, NAN])
def test_padded_equals_unpadded(variant, fill, place):
    model, x = build(**variant), windows(3)
    pos = positions(HD)
    few, few_pos = x[:, :7], pos[:7].expand(3, -1, -1)
    mask = torch.arange(len(HD)).expand(3, -1) < 7
    padded = torch.where(mask.unsqueeze(-1), x, torch.tensor(fill))
    padded_pos = torch.where(mask.unsqueeze(-1), pos, torch.tensor(place))
    torch.testing.assert_close(
        logits(model, padded, pos=padded_pos, ch_mask=mask),
        logits(model, few, pos=few_pos),
        rtol=1e-4,
        atol=1e-5,
    )


@both_modes
def test_padding_receives_no_gradient_and_influences_none(training):
    mask = (torch.arange(len(HD)) < 7).expand(4, -1)
    pos = positions(HD) * mask[0].unsqueeze(-1)
    pos = pos.expand(4, -1, -1)
    x = windows()
    first, gradient = run(build().train(training), x, pos=pos, ch_mask=mask)
    x[:, 7:] = NAN
    second, _ = run(build().train(training), x, pos=pos, ch_mask=mask)
    assert torch.equal(first, second)
    assert gradient[:, 7:].abs().max() == 0 and torch.isfinite(gradient).all()


def test_windows_of_several_montages_in_one_batch():
    """Each window's logits are those it has alone, unpadded."""
    model, x, pos = build(), windows(3), positions(HD)
    sizes = [19, 4, 11]
    mask = torch.stack([torch.arange(len(HD)) < size for size in sizes])
    batch = logits(
        model, x * mask.unsqueeze(-1), pos=pos * mask.unsqueeze(-1), ch_mask=mask
    )
    for i, size in enumerate(sizes):
        alone = logits(model, x[i : i + 1, :size], pos=pos[None, :size])
        torch.testing.assert_close(batch[i : i + 1], alone, rtol=1e-4, atol=1e-5)


# ------------------------------------------------------------- by position
@pytest.mark.parametrize("cls", BOTH)
def test_positions_of_the_own_montage_change_nothing(cls):
    x, pos = windows(), positions(HD).expand(4, -1, -1)
    everything, few = build(cls), build(cls, electrodes=LD)
    expected = logits(everything, x)
    torch.testing.assert_close(logits(everything, x, pos=pos), expected)
    assert torch.equal(logits(few, x, pos=pos), logits(few, x))


def test_electrodes_are_found_by_position_in_any_order_and_number():
    model, x, pos = build(electrodes=LD), windows(), positions(HD)
    order = torch.randperm(len(HD), generator=torch.Generator().manual_seed(0))
    moved = pos[order] + 0.003
    out = logits(model, x[:, order], pos=moved.expand(4, -1, -1))
    assert torch.equal(out, logits(model, x))
    some = [row for row in order.tolist() if row in KEPT]
    out = logits(model, x[:, some], pos=pos[some].expand(4, -1, -1))
    assert torch.equal(out, logits(model, x))


def test_an_electrode_too_far_from_every_position_is_missing():
    model, x, pos = build(electrodes=LD), windows(), positions(HD).clone()
    lost = KEPT[1]
    pos[lost] += 0.08
    broken = x.clone()
    broken[:, lost] = NAN
    assert torch.equal(
        logits(model, x, pos=pos.expand(4, -1, -1)), logits(model, broken)
    )


def test_a_dense_cap_finds_each_channel_once():
    """Two nodes closer than the tolerance do not both take the one channel."""
    dense = ["C3", "C3h", "C1"]
    model = build(names=dense, electrodes=dense)
    gap = (positions(["C3"]) - positions(["C3h"])).norm()
    assert gap < 0.02, "not the case this test is about"
    x = windows(1, 1)
    out = logits(model, x, pos=positions(["C3h"])[None])
    other = torch.full((1, 3, x.shape[2]), NAN)
    other[:, 1] = x[:, 0]
    assert torch.equal(out, logits(model, other))


def test_a_channel_without_position_counts_when_all_channels_are_nodes():
    model, x, pos = build(), windows(2), positions(HD).expand(2, -1, -1).clone()
    pos[:, 5] = NAN
    with_it = logits(model, x, pos=pos)
    x[:, 5] *= 3
    assert torch.isfinite(with_it).all()
    assert not torch.allclose(with_it, logits(model, x, pos=pos), atol=1e-4)


def test_one_row_of_positions_serves_the_whole_batch():
    model, x = build(), windows()
    one = logits(model, x, pos=positions(HD))
    assert torch.equal(one, logits(model, x, pos=positions(HD).expand(4, -1, -1)))


# -------------------------------------------------------- electrode dropout
def test_electrode_dropout_acts_in_training_only_and_spares_one():
    still = {"drop_prob": 0.0, "segment_dropout": 0.0}
    model, x = build(electrode_dropout=0.9, **still), windows(64)
    assert torch.equal(logits(model, x), logits(build(**still), x))
    model.train()
    with fixed_seed(0):
        first = logits(model, x)
    with fixed_seed(1):
        second = logits(model, x)
    assert not torch.equal(first, second)
    lonely = x.clone()
    lonely[:, 1:] = NAN  # the one electrode that is left is never dropped
    certain = build(electrode_dropout=1.0, **still).train()
    with fixed_seed(0):
        kept = logits(certain, lonely)
    plain = logits(build(**still).train(), lonely)
    torch.testing.assert_close(kept, plain)

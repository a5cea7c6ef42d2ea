"""Segments that give way to others of their window: what it changes, and what not."""

import pytest
import torch
from model_helpers import BOTH, SFREQ, build, fixed_seed, logits, windows

from braindecode_gcmae.features import SpectralFeatures
from braindecode_gcmae.models import JointPretraining


def features_of(model, x, augment, seed=0):
    with torch.no_grad(), fixed_seed(seed):
        return model.network.graph_of(x, augment=augment)[1]


@pytest.mark.parametrize("cls", BOTH)
def test_it_acts_in_training_only(cls):
    x = windows(8)
    model = build(cls, segment_dropout=0.5, drop_prob=0.0)
    plain = build(cls, segment_dropout=0.0, drop_prob=0.0)
    assert torch.equal(logits(model, x), logits(plain, x))
    model.train(), plain.train()
    with fixed_seed(0):
        first = logits(model, x)
    with fixed_seed(1):
        second = logits(model, x)
    assert not torch.equal(first, second)
    assert torch.equal(logits(plain, x), logits(plain, x))


def test_segments_that_are_alike_may_be_exchanged():
    """A wave whose period divides the hop has equal segments."""
    t = torch.arange(256) / SFREQ
    wave = 20 * torch.sin(2 * torch.pi * 10 * t) + 5 * torch.cos(2 * torch.pi * 22 * t)
    x = wave * torch.linspace(0.5, 2, 19)[:, None]
    model = build(segment_dropout=1.0)
    plain, drawn = (features_of(model, x[None], augment) for augment in (False, True))
    torch.testing.assert_close(drawn, plain, rtol=1e-3, atol=1e-3)


def test_log_powers_are_right_on_average():
    """Means over segments are linear in them, so a bootstrap has no bias."""
    x, model = windows(1), build(segment_dropout=0.7)
    many = features_of(model, x.expand(4000, -1, -1), True)
    plain = features_of(model, x, False)[0]
    error = many.std(0) / 4000**0.5
    assert ((many.mean(0) - plain).abs() < 5 * error + 1e-4).all()
    assert (many.std(0) > 0).all()


def test_segments_stay_within_their_window():
    """A window's features are those of its own segments, whoever is beside it."""
    x, model = windows(2), build(segment_dropout=1.0)
    other = torch.cat([x[:1], 100 * windows(1, seed=5)])
    with_one, with_other = features_of(model, x, True), features_of(model, other, True)
    assert torch.equal(with_one[0], with_other[0])


def test_a_spectrum_that_is_a_mean_already_stays_as_it_is():
    x, model = windows(4), build(features=SpectralFeatures, segment_dropout=1.0)
    assert torch.equal(features_of(model, x, True), features_of(model, x, False))


def test_what_pretraining_reconstructs_is_the_whole_window():
    x, model = windows(4), build(segment_dropout=1.0, electrode_dropout=0.5)
    joint = JointPretraining(None, model, queue_size=8, projection_dim=4).train()
    target = joint.branches["student"].windows(x, False).target
    assert torch.equal(target, features_of(model, x, False))


def test_statistics_of_pretraining_are_those_of_whole_caps():
    x, model = windows(4), build(segment_dropout=1.0, electrode_dropout=0.9)
    plain = build(segment_dropout=0.0)
    JointPretraining(None, model, queue_size=8, projection_dim=4).branches[
        "student"
    ].windows(x, True)
    with torch.no_grad():
        plain.network.graph_of(x, learn=True)
    for ours, theirs in zip(
        model.network.buffers(), plain.network.buffers(), strict=True
    ):
        assert torch.equal(ours, theirs)


def test_a_scripted_model_trains_with_everything_that_drops():
    model = build(segment_dropout=0.5, electrode_dropout=0.5).train()
    scripted = torch.jit.script(model)
    with fixed_seed(0):
        first = scripted(windows(4))
    with fixed_seed(1):
        second = scripted(windows(4))
    assert torch.isfinite(first).all() and not torch.equal(first, second)

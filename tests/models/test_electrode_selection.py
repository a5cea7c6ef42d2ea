"""High- and low-density windows give the same bits, and names say who is who."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from model_helpers import (
    BOTH,
    HD,
    KEPT,
    LD,
    N_TIMES,
    SFREQ,
    build,
    logits,
    windows,
)

from braindecode_gcmae import GCMAEStudent, GCMAETeacher
from braindecode_gcmae.encoders import ChebyshevEncoder, GraphTransformerEncoder
from braindecode_gcmae.features import (
    CombinedFeatures,
    EvokedFeatures,
    SpectralFeatures,
    TemporalFeatures,
)
from braindecode_gcmae.graph import (
    CoherenceGraph,
    FunctionalGraph,
    GeometricGraph,
    LearnedGraph,
    MixedGraph,
)
from braindecode_gcmae.models import FlattenReadout, MeanReadout, PositionReadout

PARTS = [
    ("features", part)
    for part in (SpectralFeatures, TemporalFeatures, CombinedFeatures, EvokedFeatures)
]
PARTS += [
    ("graph", part)
    for part in (
        GeometricGraph,
        FunctionalGraph,
        CoherenceGraph,
        LearnedGraph,
        MixedGraph,
    )
]
PARTS += [("encoder", part) for part in (ChebyshevEncoder, GraphTransformerEncoder)]
PARTS += [("readout", part) for part in (MeanReadout, PositionReadout, FlattenReadout)]
each_part = pytest.mark.parametrize(
    ("role", "part"), PARTS, ids=[part.__name__ for _, part in PARTS]
)


# ------------------------------------------------------- high or low density
@pytest.mark.parametrize("cls", BOTH)
@pytest.mark.parametrize("n", [1, 2, 7])
def test_all_channels_or_just_the_electrodes_give_the_same_bits(cls, n):
    model, x = build(cls, electrodes=LD), windows(n)
    assert torch.equal(logits(model, x), logits(model, x[:, KEPT]))


@each_part
def test_the_same_bits_with_every_part(role, part):
    model, x = build(electrodes=LD, **{role: part}), windows(3)
    assert torch.equal(logits(model, x), logits(model, x[:, KEPT].contiguous()))


def test_the_same_bits_with_the_default_sizes():
    from braindecode_gcmae.montage import make_chs_info

    x = windows(2, n_times=640)
    for cls in BOTH:
        model = cls(
            n_outputs=2,
            chs_info=make_chs_info(HD),
            n_times=640,
            sfreq=160,
            electrodes=LD,
        ).eval()
        assert torch.equal(logits(model, x), logits(model, x[:, KEPT]))


def test_channels_that_are_not_kept_influence_nothing():
    model, x = build(electrodes=LD), windows()
    other = x.clone()
    removed = [row for row in range(len(HD)) if row not in KEPT]
    other[:, removed] = float("nan")
    assert torch.equal(logits(model, x), logits(model, other))


@settings(max_examples=12, deadline=None)
@given(rows=st.permutations(range(len(HD))), k=st.integers(1, len(HD)))
def test_any_subset_in_any_order_is_found_by_name(rows, k):
    kept = rows[:k]
    names = [HD[row] for row in kept]
    model, alone = build(electrodes=names), build(names=names)
    x = windows(2)
    assert torch.equal(logits(model, x), logits(alone, x[:, kept]))
    if k < len(HD):  # as many as there are channels: they come as the channels do
        assert torch.equal(logits(model, x), logits(model, x[:, kept]))


@pytest.mark.parametrize("spelled", [["c4", "PZ", "C3.", "Fz..", "EEG P4-REF"]])
def test_names_are_found_in_other_spellings(spelled):
    x = windows(2)
    assert torch.equal(
        logits(build(electrodes=spelled), x), logits(build(electrodes=LD), x)
    )


def test_old_names_of_the_temporal_electrodes_are_the_same_electrodes():
    x = windows(2)
    old, new = build(electrodes=["T3", "T4"]), build(electrodes=["T7", "T8"])
    assert torch.equal(logits(old, x), logits(new, x))


def test_plain_names_serve_as_well_as_chs_info():
    named = build(names=None, ch_names=HD, electrodes=LD)
    assert torch.equal(
        logits(named, windows()), logits(build(electrodes=LD), windows())
    )
    assert named.n_chans == len(HD)


@each_part
def test_the_order_of_the_electrodes_matters_to_the_flattened_readout_alone(role, part):
    order = np.random.default_rng(0).permutation(len(HD))
    first = build(**{role: part})
    second = build(names=[HD[row] for row in order], **{role: part})
    x = windows(3)
    ours, theirs = logits(first, x), logits(second, x[:, order])
    if part is FlattenReadout:
        assert not torch.allclose(ours, theirs, rtol=1e-2)
    else:
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_who_an_electrode_is_does_matter():
    model, x = build(), windows(3)
    assert not torch.allclose(logits(model, x), logits(model, x.flip(1)), atol=1e-3)


# ---------------------------------------------------------- one window at a time
@pytest.mark.parametrize("cls", BOTH)
def test_an_output_does_not_depend_on_its_batch_mates(cls):
    model, x = build(cls), windows(5)
    together = logits(model, x)
    other = x.clone()
    other[1:] = 1e4 * windows(4, seed=7)
    other[2] = float("nan")
    other[3] = 0.0
    assert torch.equal(logits(model, other)[0], together[0])
    alone = torch.cat([logits(model, window[None]) for window in x])
    torch.testing.assert_close(alone, together, rtol=1e-4, atol=1e-4)


def test_a_forward_in_eval_mode_changes_no_state():
    model = build()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    logits(model, windows())
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())


# -------------------------------------------------------------------- any size
@pytest.mark.parametrize("n_chans", [1, 2, 3, 4, 8, 19, 64, 128, 256])
@pytest.mark.parametrize("known", [True, False])
def test_from_one_to_256_electrodes(n_chans, known):
    names = None
    if known:
        from braindecode_gcmae.montage import standard_positions

        names = sorted(standard_positions())[:n_chans]
    given = {} if known else {"n_chans": n_chans}
    model, x = build(names=names, **given), windows(2, n_chans)
    out = logits(model, x)
    assert out.shape == (2, 3) and torch.isfinite(out).all()
    model.train()
    model(x).sum().backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert all(torch.isfinite(gradient).all() for gradient in gradients)


@pytest.mark.parametrize("cls", BOTH)
def test_no_weight_depends_on_channels_samples_or_rate(cls):
    def shapes(model):
        return {name: value.shape for name, value in model.state_dict().items()}

    reference = shapes(build(cls))
    assert shapes(build(cls, names=HD[:3])) == reference
    assert shapes(build(cls, names=None, n_chans=100)) == reference
    assert shapes(build(cls, n_times=5 * N_TIMES + 3)) == reference
    assert shapes(build(cls, sfreq=250, n_times=750)) == reference
    assert shapes(build(cls, electrodes=LD)) == reference


def test_the_student_is_small_and_the_teacher_ten_times_larger():
    def size(cls):
        model = cls(n_outputs=2, ch_names=HD, n_times=640, sfreq=160)
        return sum(parameter.numel() for parameter in model.parameters())

    assert size(GCMAEStudent) <= 130_000
    assert size(GCMAETeacher) >= 10 * size(GCMAEStudent)


# ---------------------------------------------------------------- any rate
def same_signal(sfreq, seconds=2.0, seed=0):
    """Rhythms between 5 and 30 Hz, the same continuous functions at every rate."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * sfreq)) / sfreq
    x = np.zeros((2, len(HD), len(time)))
    for frequency in rng.uniform(5, 30, 40):
        amplitude = rng.normal(size=(2, len(HD), 1)) * 3
        phase = rng.uniform(0, 2 * np.pi, (2, len(HD), 1))
        x += amplitude * np.sin(2 * np.pi * frequency * time + phase)
    return torch.as_tensor(x, dtype=torch.float32)


@pytest.mark.parametrize("cls", BOTH)
@pytest.mark.parametrize("sfreq", [160, 256, 512])
def test_the_same_signal_at_another_rate_gives_nearly_the_same_logits(cls, sfreq):
    def at(rate):
        model = build(cls, sfreq=rate, n_times=2 * rate)
        return logits(model, same_signal(rate))

    other_signal = logits(build(cls), same_signal(SFREQ, seed=1))
    difference = (at(sfreq) - at(SFREQ)).abs().max()
    assert difference < 0.05 * (other_signal - at(SFREQ)).abs().max()


# ------------------------------------------------------------------- any dtype
@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.int16, torch.int32, torch.int64]
)
def test_recorder_integers_and_doubles_are_windows_too(dtype):
    model, x = build(), windows().round()
    assert torch.equal(logits(model, x.to(dtype)), logits(model, x))


def test_double_precision_agrees_with_single():
    model, x = build(), windows()
    single = logits(model, x)
    torch.testing.assert_close(
        logits(model.double(), x.double()).float(), single, rtol=1e-3, atol=1e-3
    )


@pytest.mark.parametrize("cls", BOTH)
def test_half_precision_stays_close(cls):
    model, x = build(cls), windows()
    single = logits(model, x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = logits(model, x).float()
    assert (half - single).norm() < 0.05 * single.norm()
    assert torch.equal(half, half.clone().nan_to_num())


def test_deterministic_algorithms_suffice():
    model, x = build(electrodes=LD).train(), windows()
    was = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        model(x).square().sum().backward()
        model(x, pos=None, ch_mask=torch.ones(4, len(HD), dtype=torch.bool)).sum()
    finally:
        torch.use_deterministic_algorithms(was)
    assert all(torch.isfinite(p.grad).all() for p in model.final_layer.parameters())


# ------------------------------------------------- outputs follow the weights
def shift_in_place(model):
    with torch.no_grad():
        for parameter in model.network.features.parameters():
            parameter.mul_(1.3)


def shift_data(model):
    for parameter in model.network.features.parameters():
        parameter.data = parameter.data * 1.3


def shift_by_loading(model):
    state = {name: 1.3 * value for name, value in model.state_dict().items()}
    model.load_state_dict({**model.state_dict(), **state})


def shift_by_a_step(model):
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    model(windows()).square().mean().backward()
    optimizer.step()


@pytest.mark.parametrize(
    "change", [shift_in_place, shift_data, shift_by_loading, shift_by_a_step]
)
@pytest.mark.parametrize("cls", BOTH)
def test_a_used_model_answers_like_a_fresh_one_with_its_weights(cls, change):
    """Nothing computed from old weights, or for another montage, is kept."""
    model, x = build(cls, electrodes=LD), windows(2)
    before = logits(model, x)
    model(x).sum().backward()
    model.zero_grad()
    logits(model, x[:1])
    change(model)
    fresh = build(cls, electrodes=LD, seed=1)
    fresh.load_state_dict(model.state_dict())
    assert torch.equal(logits(model, x), logits(fresh, x))
    assert not torch.allclose(logits(model, x), before)
    broken = x.clone()
    broken[:, KEPT[0]] = float("nan")
    assert torch.equal(logits(model, broken), logits(fresh, broken))
    assert torch.equal(logits(model, x), logits(fresh, x))


def test_weights_still_learn_after_a_forward_without_gradient():
    model, x = build(), windows()
    logits(model, x)
    with torch.inference_mode():
        model(x)
    for _ in range(2):
        model.zero_grad()
        model(x).square().sum().backward()
        gradients = [p.grad for p in model.network.features.parameters()]
        assert all(g is not None and g.abs().max() > 0 for g in gradients)

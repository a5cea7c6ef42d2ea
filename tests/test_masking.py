"""Masks, noise and the token: laws, statistics, and a pure-Python SplitMix64."""

from math import dist

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from braindecode_gcmae.masking import (
    MaskToken,
    counter_normal,
    counter_uniform,
    drop_edges,
    drop_nodes,
    failing_electrodes,
    restore_incident_edges,
)

DRAWS = [counter_uniform, counter_normal]
WORD = 1 << 64
GOLDEN = 0x9E3779B97F4A7C15


def splitmix(word):
    word %= WORD
    word = (word ^ (word >> 30)) * 0xBF58476D1CE4E5B9 % WORD
    word = (word ^ (word >> 27)) * 0x94D049BB133111EB % WORD
    return word ^ (word >> 31)


def words_in_plain_python(seed, epoch, index, stream, n):
    key = 0
    for part in (seed, epoch, stream):
        key = splitmix(key + (part + 1) * GOLDEN)
    rows = []
    for sample in index:
        start = splitmix(splitmix(sample * GOLDEN) ^ key)
        rows.append([splitmix(start + (e + 1) * GOLDEN) for e in range(n)])
    return rows


# ---------------------------------------------------------------- the generator


def test_splitmix_agrees_with_its_published_first_value():
    # the reference implementation, started at 0, gives this first
    assert splitmix(GOLDEN) == 0xE220A8397B1DCDAF


def test_counter_uniform_is_the_upper_24_bits_of_splitmix():
    index = [0, 1, 7, 2**40 + 3, -5]
    got = counter_uniform(12, 3, torch.tensor(index), 4, (6,))
    words = words_in_plain_python(12, 3, index, 4, 6)
    expected = [[(word >> 40) / 2**24 for word in row] for row in words]
    assert got.dtype == torch.float32
    assert got.tolist() == expected


def test_counter_normal_is_box_muller_of_the_two_halves_of_the_word():
    index = [0, 9, 123456789]
    got = counter_normal(2**63 + 5, 0, torch.tensor(index), 1, (5,))
    words = np.array(words_in_plain_python(2**63 + 5, 0, index, 1, 5), dtype=object)
    first = (np.array(words >> 32, float) + 0.5) / 2**32
    second = np.array(words % 2**32, float) / 2**32
    expected = np.sqrt(-2 * np.log(first)) * np.cos(2 * np.pi * second)
    assert got.dtype == torch.float32
    np.testing.assert_allclose(got.numpy(), expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("draw", DRAWS)
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**64), epoch=st.integers(0, 10**6), cut=st.integers(0, 13))
def test_a_row_depends_on_its_sample_only(draw, seed, epoch, cut):
    generator = torch.Generator().manual_seed(cut)
    index = torch.randint(0, 2**50, (13,), generator=generator)
    whole = draw(seed, epoch, index, 2, (3, 4))
    assert whole.shape == (13, 3, 4)
    order = torch.randperm(13, generator=generator)
    assert torch.equal(draw(seed, epoch, index[order], 2, (3, 4)), whole[order])
    parts = [
        draw(seed, epoch, part, 2, (3, 4)) for part in index.split([cut, 13 - cut])
    ]
    assert torch.equal(torch.cat(parts), whole)


@pytest.mark.parametrize("draw", DRAWS)
def test_every_part_of_the_counter_matters(draw):
    index = torch.arange(5)
    draws = [
        draw(seed, epoch, index + offset, stream, (7,))
        for seed in (0, 1)
        for epoch in (0, 1)
        for offset in (0, 100)
        for stream in (0, 1)
    ]
    flat = torch.cat([values.flatten() for values in draws])
    assert flat.unique().numel() == flat.numel()


@pytest.mark.parametrize("draw", DRAWS)
def test_global_random_state_is_neither_read_nor_moved(draw):
    # METHOD B-10: re-seeding inside forward repeats the noise in every step
    state = torch.random.get_rng_state()
    first = draw(0, 0, torch.arange(3), 0, (4,))
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.rand(1)
    assert torch.equal(draw(0, 0, torch.arange(3), 0, (4,)), first)
    assert not torch.equal(draw(0, 1, torch.arange(3), 0, (4,)), first)


@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize("epoch", [0, 7, 2**40, -3, 2**63 - 1, -(2**63)])
def test_an_epoch_that_is_a_tensor_changes_no_bit(draw, epoch):
    index = torch.tensor([0, 3, -9, 2**50])
    for seed, stream in ((0, 0), (-7, 1 << 20), (2**64 - 1, 31)):
        expected = draw(seed, epoch, index, stream, (3, 2))
        found = draw(seed, torch.tensor(epoch), index, stream, (3, 2))
        assert torch.equal(found, expected)


def test_draws_for_one_window_may_be_scalars_or_empty():
    index = torch.arange(4)
    assert counter_uniform(0, 0, index, 0, ()).shape == (4,)
    assert counter_uniform(0, 0, index, 0, (0, 3)).shape == (4, 0, 3)
    assert counter_uniform(0, 0, index[:0], 0, (3,)).shape == (0, 3)
    assert torch.equal(
        counter_uniform(0, 0, index, 0, [6]),
        counter_uniform(0, 0, index.int(), 0, (6,)),
    )


@pytest.mark.parametrize(
    "index", [torch.arange(4.0), torch.zeros(2, 2).long(), torch.tensor([True])]
)
def test_an_index_that_is_no_vector_of_integers_is_refused(index):
    with pytest.raises(ValueError, match="index holds one sample number per row"):
        counter_uniform(0, 0, index, 0, (2,))


def test_uniform_passes_moments_and_chi_square():
    values = counter_uniform(1, 2, torch.arange(1000), 3, (200,)).double()
    assert values.min() >= 0 and values.max() < 1
    n = values.numel()
    assert abs(values.mean() - 0.5) < 4 * (1 / 12 / n) ** 0.5
    assert abs(values.var() - 1 / 12) < 4 * (1 / 180 / n) ** 0.5
    counts = torch.histc(values, bins=100, min=0, max=1).numpy()
    assert 1e-3 < stats.chisquare(counts).pvalue < 1 - 1e-3
    per_element = torch.histc(values[:, 0], bins=10, min=0, max=1).numpy()
    assert stats.chisquare(per_element).pvalue > 1e-3


def test_normal_passes_moments_and_kolmogorov_smirnov():
    values = counter_normal(1, 2, torch.arange(1000), 3, (100,)).double().flatten()
    assert abs(values.mean()) < 4 / len(values) ** 0.5
    assert abs(values.var() - 1) < 4 * (2 / len(values)) ** 0.5
    assert stats.kstest(values.numpy(), "norm").pvalue > 1e-3
    assert values.abs().max() > 4 and torch.isfinite(values).all()


@pytest.mark.parametrize("draw", DRAWS)
def test_neighbours_in_every_direction_are_uncorrelated(draw):
    base = draw(5, 0, torch.arange(300), 0, (300,)).double()
    neighbours = {
        "index": draw(5, 0, torch.arange(1, 301), 0, (300,)),
        "epoch": draw(5, 1, torch.arange(300), 0, (300,)),
        "seed": draw(6, 0, torch.arange(300), 0, (300,)),
        "stream": draw(5, 0, torch.arange(300), 1, (300,)),
        "element": base.roll(1, dims=1),
    }
    for name, other in neighbours.items():
        pair = torch.stack([base.flatten(), other.double().flatten()])
        assert abs(torch.corrcoef(pair)[0, 1]) < 4 / 300, name


# ---------------------------------------------------------------- nodes and edges


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(1, 40),
    ratio=st.floats(0, 1),
    seed=st.integers(0, 1000),
    share=st.floats(0, 1),
)
def test_drop_nodes_drops_the_asked_number_of_present_nodes(n, ratio, seed, share):
    noise = counter_uniform(seed, 0, torch.arange(6), 0, (n,))
    present = counter_uniform(seed, 0, torch.arange(6), 1, (n,)) < share
    dropped = drop_nodes(noise, ratio, present)
    assert dropped.dtype == torch.bool and dropped.shape == (6, n)
    assert not (dropped & ~present).any()
    for row, here in zip(dropped, present, strict=True):
        n_present = int(here.sum())
        expected = round(ratio * n_present)
        if ratio > 0:
            expected = max(expected, 1)
        assert row.sum() == min(expected, max(n_present - 1, 0))


def test_drop_nodes_takes_the_lowest_noise_of_those_present():
    noise = torch.tensor([[0.9, 0.1, 0.5, 0.3], [0.2, 0.1, 0.4, 0.3]])
    present = torch.tensor([[True] * 4, [True, False, True, True]])
    expected = [[False, True, False, True], [True, False, False, True]]
    assert drop_nodes(noise, 0.5, present).tolist() == expected
    assert drop_nodes(noise, 0.5).tolist()[0] == expected[0]


@pytest.mark.parametrize(
    "n, ratio, count",
    [(4, 0.0, 0), (4, 0.01, 1), (4, 1.0, 3), (1, 1.0, 0), (2, 0.1, 1), (5, 0.5, 2),
     (7, 0.5, 4), (64, 0.5, 32), (64, 0.75, 48)],
)  # fmt: skip
def test_drop_nodes_keeps_one_and_drops_one(n, ratio, count):
    # METHOD B-8: a ratio above 0 really masks something
    noise = counter_uniform(0, 0, torch.arange(3), 0, (n,))
    assert drop_nodes(noise, ratio).sum(1).tolist() == [count] * 3


def test_drop_nodes_leaves_a_window_without_electrodes_alone():
    noise, nobody = torch.rand(2, 5), torch.zeros(2, 5, dtype=torch.bool)
    assert not drop_nodes(noise, 0.5, nobody).any()


def test_each_node_is_dropped_equally_often():
    dropped = drop_nodes(counter_uniform(0, 0, torch.arange(4000), 0, (8,)), 0.25)
    np.testing.assert_allclose(dropped.double().mean(0).numpy(), 0.25, atol=0.03)


def test_drop_edges_achieves_the_ratio_it_was_asked_for():
    # METHOD B-32: asks 50 %, removes 92, 40 or 41 % in the public code
    noise = counter_uniform(0, 0, torch.arange(200), 0, (20, 20))
    off = ~torch.eye(20, dtype=torch.bool)
    for ratio in (0.0, 0.1, 0.25, 0.5, 0.75, 1.0):
        keep = drop_edges(noise, ratio)
        assert torch.equal(keep, keep.mT)
        assert keep.diagonal(dim1=1, dim2=2).all()
        achieved = 1 - keep[:, off].double().mean()
        assert (
            abs(achieved - ratio) < 4 * (ratio * (1 - ratio) / 200 / 190) ** 0.5 + 1e-9
        )


def test_drop_edges_reads_the_upper_triangle_and_keeps_at_the_ratio():
    noise = torch.tensor([[[0.0, 0.5, 0.2], [0.0, 0.0, 0.49], [0.9, 0.9, 0.0]]])
    expected = [[[True, True, False], [True, True, False], [False, False, True]]]
    assert drop_edges(noise, 0.5).tolist() == expected


@pytest.mark.parametrize("ratio", [-0.1, 1.1, float("nan")])
def test_a_ratio_outside_zero_to_one_is_refused(ratio):
    with pytest.raises(ValueError, match="ratio must lie between 0 and 1"):
        drop_nodes(torch.rand(1, 3), ratio)
    with pytest.raises(ValueError, match="ratio must lie between 0 and 1"):
        drop_edges(torch.rand(1, 3, 3), ratio)


def test_edges_of_masked_nodes_come_back_and_no_others():
    keep = drop_edges(counter_uniform(3, 0, torch.arange(10), 0, (7, 7)), 0.7)
    masked = drop_nodes(counter_uniform(3, 0, torch.arange(10), 1, (7,)), 0.4)
    restored = restore_incident_edges(keep, masked)
    for b in range(10):
        for i in range(7):
            for j in range(7):
                touches = bool(masked[b, i] or masked[b, j])
                assert restored[b, i, j] == (bool(keep[b, i, j]) or touches)


# ---------------------------------------------------------------- the token


def test_token_is_one_registered_parameter_that_learns():
    # METHOD B-9: an embedding created in forward is never trained
    token = MaskToken(3)
    assert [tuple(p.shape) for p in token.parameters()] == [(3,)]
    masked = torch.tensor([[True, False], [True, True]])
    nodes = torch.ones(2, 2, 3)
    out = token(nodes, masked)
    assert out[0, 0].eq(0).all() and out[0, 1].eq(1).all()
    out.sum().backward()
    assert token.token.grad.tolist() == [3.0, 3.0, 3.0]


@pytest.mark.parametrize("hidden", [0.0, 1e30, float("inf"), float("nan")])
def test_masked_values_influence_nothing_not_even_gradients(hidden):
    token = MaskToken(4)
    masked = drop_nodes(torch.rand(3, 6), 0.5)
    clean = torch.randn(3, 6, 4)
    dirty = clean.masked_fill(masked.unsqueeze(-1), hidden).requires_grad_()
    out = token(dirty, masked)
    assert torch.equal(out, token(clean, masked))
    out.square().sum().backward()
    assert dirty.grad[masked].eq(0).all()
    assert torch.equal(dirty.grad[~masked], 2 * clean[~masked])
    assert torch.isfinite(token.token.grad).all()


def test_token_survives_torchscript_and_half_precision():
    token = MaskToken(4)
    with torch.no_grad():
        token.token.copy_(torch.arange(4.0))
    nodes, masked = torch.randn(2, 3, 4), torch.tensor([[True, False, True]] * 2)
    assert torch.equal(torch.jit.script(token)(nodes, masked), token(nodes, masked))
    half = token(nodes.bfloat16(), masked)
    assert half.dtype == torch.bfloat16 and half[0, 0].tolist() == [0, 1, 2, 3]


# ------------------------------------------------------------ failing electrodes
def _failing(ratio=0.3, n=12, windows=4000, together=True, absent=()):
    noise = counter_uniform(3, 0, torch.arange(windows), 0, (n,))
    present = torch.ones(windows, n, dtype=torch.bool)
    present[:, list(absent)] = False
    positions = torch.randn(1, n, 3, generator=torch.Generator().manual_seed(1)) / 10
    whether = torch.full((windows,), together)
    lost = failing_electrodes(noise, ratio, present, positions, whether)
    return noise, present, positions[0], lost


def test_neighbours_fail_as_often_as_electrodes_fail_alone():
    _, _, _, alone = _failing(together=False)
    _, _, _, near = _failing(together=True)
    assert torch.equal(alone.sum(1), near.sum(1))
    # each fails with the ratio's probability, but for the one that is spared
    assert alone.double().mean() == pytest.approx(0.3, abs=0.01)


def test_electrodes_that_fail_together_are_the_nearest_to_a_random_one():
    noise, present, positions, lost = _failing(windows=50, absent=[4])
    for row, where in zip(noise, lost, strict=True):
        here = [i for i in range(12) if i != 4]
        centre = max(here, key=lambda i, row=row: float(row[i]))
        gaps = sorted(here, key=lambda i, c=centre: dist(positions[i], positions[c]))
        assert set(where.nonzero().flatten().tolist()) == set(gaps[: int(where.sum())])
    assert not lost[:, 4].any()


@pytest.mark.parametrize("together", [True, False])
def test_one_electrode_never_fails_and_without_a_ratio_none_does(together):
    _, present, _, lost = _failing(ratio=1.0, together=together, absent=[0, 5])
    assert ((present & ~lost).sum(1) == 1).all()
    assert not (lost & ~present).any()
    assert not _failing(ratio=0.0, together=together)[3].any()


def test_electrodes_of_unknown_place_fail_by_themselves():
    noise, present, positions, _ = _failing(windows=200)
    nowhere = torch.full((1, 12, 3), float("nan"))
    together = torch.ones(200, dtype=torch.bool)
    lost = failing_electrodes(noise, 0.3, present, nowhere, together)
    alone = failing_electrodes(noise, 0.3, present, nowhere, ~together)
    assert torch.equal(lost, alone)


def test_windows_fail_in_their_own_way_and_on_their_own_caps():
    """A batch of both kinds and many caps is its windows one by one."""
    noise = counter_uniform(5, 0, torch.arange(40), 0, (9,))
    positions = torch.randn(40, 9, 3, generator=torch.Generator().manual_seed(2)) / 10
    present = counter_uniform(6, 0, torch.arange(40), 0, (9,)) > 0.2
    together = torch.arange(40) % 2 == 0
    batch = failing_electrodes(noise, 0.4, present, positions, together)
    for b in range(40):
        one = slice(b, b + 1)
        alone = failing_electrodes(
            noise[one], 0.4, present[one], positions[one], together[one]
        )
        assert torch.equal(batch[one], alone)
    assert not (batch & ~present).any()
    with pytest.raises(ValueError, match="ratio"):
        failing_electrodes(noise, 1.4, present, positions, together)

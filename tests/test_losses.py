"""Contrast and reconstruction: closed forms, hand-made numbers, slow loops."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from braindecode_gcmae.losses import (
    info_nce,
    reconstruction_loss,
    scaled_cosine_error,
)
from braindecode_gcmae.momentum import KeyQueue

TEMPERATURES = [0.01, 0.07, 1.0, 10.0]


def embeddings(b=4, p=3, q=6, d=5, dtype=torch.float64):
    shapes = [(b, d), (b, p, d), (q, d)]
    return [torch.randn(shape, dtype=dtype) for shape in shapes]


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def info_nce_by_loops(
    queries, positives, negatives, tau, usable=None, form="corrected"
):
    queries, positives, negatives = (
        unit(x.detach().numpy()) for x in (queries, positives, negatives)
    )
    terms = []
    for b in range(len(queries)):
        pool = sum(
            math.exp(queries[b] @ negatives[i] / tau)
            for i in range(len(negatives))
            if usable is None or usable[b, i]
        )
        for key in positives[b]:
            near = math.exp(queries[b] @ key / tau)
            if form == "corrected":
                terms.append(-math.log(near / (near + pool)))
            else:
                terms.append(-math.log(near / pool) if pool else 0.0)
    return sum(terms) / len(terms)


# ---------------------------------------------------------------- info_nce


@pytest.mark.parametrize("form", ["corrected", "paper"])
@pytest.mark.parametrize("tau", [0.07, 0.5, 2.0])
def test_info_nce_is_its_formula(form, tau):
    given_embeddings = embeddings()
    usable = torch.rand(4, 6) < 0.6
    usable[1] = False
    for mask in (None, usable):
        got = info_nce(*given_embeddings, temperature=tau, usable=mask, form=form)
        expected = info_nce_by_loops(*given_embeddings, tau, mask, form)
        assert got.ndim == 0
        assert got.item() == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("q", [1, 7, 100])
@pytest.mark.parametrize("tau", TEMPERATURES)
def test_collinear_keys_give_the_logarithm_of_their_number(q, tau):
    direction = torch.randn(8, dtype=torch.float64)
    queries, positives = direction.repeat(3, 1), direction.repeat(3, 2, 1) * 7
    negatives = direction.repeat(q, 1) * 0.1
    got = info_nce(queries, positives, negatives, temperature=tau)
    assert got.item() == pytest.approx(math.log(q + 1), rel=1e-9)
    paper = info_nce(queries, positives, negatives, temperature=tau, form="paper")
    assert paper.item() == pytest.approx(math.log(q), abs=1e-9)


def test_info_nce_by_hand():
    queries = torch.tensor([[1.0, 0.0]])
    positives = torch.tensor([[[2.0, 0.0]]])
    negatives = torch.tensor([[0.0, 3.0], [-4.0, 0.0]])
    # cosines: 1 to the key; 0 and -1 to the queue
    e = math.e
    got = info_nce(queries, positives, negatives, temperature=1.0)
    assert got.item() == pytest.approx(math.log((e + 1 + 1 / e) / e), rel=1e-6)
    assert got.item() == pytest.approx(0.407606, abs=1e-6)
    paper = info_nce(queries, positives, negatives, temperature=1.0, form="paper")
    assert paper.item() == pytest.approx(math.log(1 + 1 / e) - 1, rel=1e-6)
    raw = info_nce(queries, positives, negatives, temperature=2.0, normalize=False)
    # dot products 2; 0 and -4
    assert raw.item() == pytest.approx(math.log(1 + (1 + e**-2) / e), rel=1e-6)


def test_one_negative_is_enough_for_the_papers_form():
    queries = torch.tensor([[1.0, 0.0]])
    away = torch.tensor([[-1.0, 0.0]])
    got = info_nce(queries, queries.unsqueeze(1), away, temperature=1.0, form="paper")
    assert got.item() == pytest.approx(-2.0)


def test_default_temperature_is_that_of_moco_and_embeddings_are_normalised():
    given_embeddings = embeddings()
    got = info_nce(*given_embeddings)
    scaled = [5 * x for x in given_embeddings]
    assert torch.equal(got, info_nce(*given_embeddings, temperature=0.07))
    torch.testing.assert_close(info_nce(*scaled), got)


def test_first_loss_is_near_that_of_chance_whatever_the_scale():
    # METHOD B-12: un-normalised embeddings start at 52, then 1,279
    queries, positives, negatives = embeddings(64, 4, 512, 128, torch.float32)
    got = info_nce(1e3 * queries, 1e-3 * positives, negatives)
    assert abs(got.item() - math.log(513)) < 2


def test_each_query_is_paired_with_its_own_keys():
    # METHOD B-4: the public code's reshape hands out other samples' keys
    queries, positives, negatives = embeddings()
    whole = info_nce(queries, positives, negatives, temperature=0.3)
    rows = [
        info_nce(queries[[b]], positives[[b]], negatives, temperature=0.3)
        for b in range(4)
    ]
    torch.testing.assert_close(whole, torch.stack(rows).mean())
    order = torch.tensor([2, 0, 3, 1])
    shuffled = info_nce(queries[order], positives[order], negatives, temperature=0.3)
    torch.testing.assert_close(shuffled, whole)
    mismatched = info_nce(queries, positives[order], negatives, temperature=0.3)
    assert abs(mismatched - whole) > 1e-3


def test_no_positive_is_pushed_away_by_another():
    # METHOD B-5: only column 0 was a positive, five were negatives
    queries, positives, negatives = embeddings()
    whole = info_nce(queries, positives, negatives, temperature=0.3)
    single = [
        info_nce(queries, positives[:, [p]], negatives, temperature=0.3)
        for p in range(3)
    ]
    torch.testing.assert_close(whole, torch.stack(single).mean())
    positives.requires_grad_()
    info_nce(queries, positives, negatives, temperature=0.3, normalize=False).backward()
    towards = (positives.grad * queries.unsqueeze(1)).sum(-1)
    assert (towards < 0).all()


@pytest.mark.parametrize("form", ["corrected", "paper"])
@pytest.mark.parametrize("tau", TEMPERATURES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_without_usable_negatives_loss_and_gradient_are_zero(form, tau, dtype):
    queries, positives, negatives = embeddings(dtype=dtype)
    queries.requires_grad_()
    nobody = torch.zeros(1, 6, dtype=torch.bool)
    for pool, usable in ((negatives, nobody), (negatives[:0], None)):
        loss = info_nce(
            queries, positives, pool, temperature=tau, usable=usable, form=form
        )
        loss.backward()
        assert loss.item() == 0 and loss.isfinite()
        assert queries.grad.eq(0).all()


def test_unusable_negatives_change_nothing():
    queries, positives, negatives = embeddings()
    usable = torch.tensor([True, False, True, True, False, True])
    got = info_nce(queries, positives, negatives, temperature=0.2, usable=usable)
    fewer = info_nce(queries, positives, negatives[usable], temperature=0.2)
    torch.testing.assert_close(got, fewer)


def test_info_nce_takes_what_the_queue_gives():
    queue = KeyQueue(6, 5)
    queue.enqueue(torch.randn(4, 5), torch.tensor([0, 1, 2, 0]))
    queries, positives, _ = embeddings(dtype=torch.float32)
    groups = torch.tensor([0, 1, 2, -1])
    got = info_nce(queries, positives, queue.negatives(), usable=queue.usable(groups))
    expected = info_nce_by_loops(
        queries, positives, queue.keys[:4], 0.07, queue.usable(groups)[:, :4].numpy()
    )
    assert got.item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("tau", TEMPERATURES)
@pytest.mark.parametrize("form", ["corrected", "paper"])
def test_info_nce_is_finite_at_the_edges(tau, form):
    same = torch.ones(4, 5)
    for queries in (same, torch.zeros(4, 5), 1e-20 * same, 1e15 * same):
        queries = queries.clone().requires_grad_()
        loss = info_nce(queries, -same.unsqueeze(1), same, temperature=tau, form=form)
        loss.backward()
        assert loss.isfinite() and queries.grad.isfinite().all()


@settings(max_examples=30, deadline=None)
@given(b=st.integers(1, 6), p=st.integers(1, 4), q=st.integers(0, 9))
def test_info_nce_is_never_negative(b, p, q):
    assert info_nce(*embeddings(b, p, q), temperature=0.1) >= 0


def test_info_nce_has_the_gradient_of_finite_differences():
    tensors = [x.requires_grad_() for x in embeddings(3, 2, 4, 3)]
    usable = torch.tensor([[True, True, False, True]] * 2 + [[False] * 4])
    for form in ("corrected", "paper"):
        assert torch.autograd.gradcheck(
            lambda *x, form=form: info_nce(
                *x, temperature=0.5, usable=usable, form=form
            ),
            tensors,
        )


def test_autocast_does_not_round_the_logits():
    given_embeddings = embeddings(dtype=torch.float32)
    expected = info_nce(*given_embeddings, temperature=0.01)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = info_nce(*given_embeddings, temperature=0.01)
    assert torch.equal(got, expected) and got.dtype == torch.float32


@pytest.mark.parametrize(
    "change, message",
    [
        ({"temperature": 0.0}, "temperature must be above 0, got 0.0"),
        ({"temperature": -1.0}, "temperature must be above 0"),
        ({"temperature": float("nan")}, "temperature must be above 0"),
        ({"form": "Paper"}, r"form must be one of \('corrected', 'paper'\), got 'P"),
        ({"negatives": torch.ones(4, 2, 5)}, r"info_nce takes queries \(B, D\)"),
        ({"queries": torch.ones(5), "positives": torch.ones(5, 1, 5)}, "takes"),
    ],
)
def test_info_nce_refuses_what_does_not_fit(change, message):
    arguments = dict(
        zip(["queries", "positives", "negatives"], embeddings(), strict=True)
    )
    with pytest.raises(ValueError, match=message):
        info_nce(**{**arguments, **change})


# ---------------------------------------------------------------- scaled cosine error


@pytest.mark.parametrize("gamma", [1.0, 2.0, 3.0])
def test_cosine_error_of_equal_orthogonal_and_opposite_rows(gamma):
    x = torch.tensor([[3.0, 0.0], [0.0, 2.0]])
    y = x.flip(1)
    assert scaled_cosine_error(x, 5 * x, gamma=gamma).item() == pytest.approx(0)
    assert scaled_cosine_error(x, y, gamma=gamma).item() == pytest.approx(1)
    opposite = scaled_cosine_error(x, -x, gamma=gamma).item()
    assert opposite == pytest.approx(2**gamma)
    assert scaled_cosine_error(x, 0 * x, gamma=gamma).item() == pytest.approx(1)


def test_cosine_error_is_that_of_graphmae():
    x, y = torch.randn(2, 4, 5, 7, dtype=torch.float64)
    for gamma in (1.0, 1.5, 3.0):
        normal = torch.nn.functional.normalize
        theirs = (1 - (normal(x, dim=-1) * normal(y, dim=-1)).sum(-1)).pow(gamma).mean()
        torch.testing.assert_close(scaled_cosine_error(x, y, gamma=gamma), theirs)
    torch.testing.assert_close(
        scaled_cosine_error(x, y), scaled_cosine_error(x, y, gamma=2)
    )


def test_cosine_error_has_the_gradient_of_finite_differences_and_none_at_zero():
    x, y = torch.randn(2, 3, 4, dtype=torch.float64).unbind()
    x.requires_grad_(), y.requires_grad_()
    for gamma in (1.0, 1.5, 2.0):
        assert torch.autograd.gradcheck(
            lambda a, b, gamma=gamma: scaled_cosine_error(a, b, gamma=gamma), (x, y)
        )
    zero = torch.zeros(2, 3, requires_grad=True)
    scaled_cosine_error(zero, torch.ones(2, 3)).backward()
    assert zero.grad.eq(0).all()
    with pytest.raises(ValueError, match="gamma must be at least 1, got 0.9"):
        scaled_cosine_error(x, y, gamma=0.9)


# ---------------------------------------------------------------- reconstruction


def correlation_by_numpy(x):
    return np.stack([np.corrcoef(rows) for rows in x.numpy()])


def nodes(b=3, n=5, f=7):
    return torch.randn(2, b, n, f, dtype=torch.float64).unbind()


def test_papers_form_is_equation_2():
    ours, target = nodes()
    got = reconstruction_loss(ours, target, form="mse", structure_form="gram")
    x, y = ours.numpy(), target.numpy()
    gram_x, gram_y = x @ x.transpose(0, 2, 1), y @ y.transpose(0, 2, 1)
    expected = ((x - y) ** 2).mean() + ((gram_x - gram_y) ** 2).mean()
    assert got.item() == pytest.approx(expected)
    given_graph = torch.randn(5, 5, dtype=torch.float64)
    got = reconstruction_loss(
        ours, target, form="mse", structure_form="gram", adjacency=given_graph
    )
    expected = ((x - y) ** 2).mean() + ((gram_x - given_graph.numpy()) ** 2).mean()
    assert got.item() == pytest.approx(expected)


def test_default_form_is_cosine_error_on_masked_nodes_plus_correlation():
    ours, target = nodes()
    masked = torch.tensor([[1, 0, 1, 0, 0], [0, 0, 0, 0, 1], [1, 1, 1, 1, 1]]).bool()
    got = reconstruction_loss(ours, target, masked=masked)
    terms = []
    for b in range(3):
        rows = [
            (1 - unit(ours[b, i].numpy()) @ unit(target[b, i].numpy())) ** 2
            for i in range(5)
            if masked[b, i]
        ]
        terms.append(np.mean(rows))
    gap = correlation_by_numpy(ours) - correlation_by_numpy(target)
    assert got.item() == pytest.approx(np.mean(terms) + (gap**2).mean())
    only = reconstruction_loss(ours, target, masked=masked, structure=0)
    assert only.item() == pytest.approx(np.mean(terms))
    heavy = reconstruction_loss(ours, target, masked=masked, structure=2.5)
    assert heavy.item() == pytest.approx(np.mean(terms) + 2.5 * (gap**2).mean())


def test_reconstruction_by_hand():
    target = torch.tensor([[[1.0, 0.0], [0.0, 2.0]]])
    ours = torch.tensor([[[0.0, 1.0], [0.0, 1.0]]])
    # cosine errors 1 and 0; squared errors 1 and 1/2; correlations -1 against +1
    first = torch.tensor([[True, False]])
    loss = reconstruction_loss
    assert loss(ours, target, structure=0).item() == pytest.approx(0.5)
    assert loss(ours, target, structure=0, masked=first).item() == pytest.approx(1.0)
    assert loss(ours, target, structure=0, form="mse").item() == pytest.approx(0.75)
    assert loss(ours, target).item() == pytest.approx(0.5 + (0 + 4 + 4 + 0) / 4)
    # Gram [[1, 1], [1, 1]] against [[1, 0], [0, 4]]
    gram = loss(ours, target, structure_form="gram").item()
    assert gram == pytest.approx(0.5 + (0 + 1 + 1 + 9) / 4)
    assert loss(-target, target, structure=0, gamma=3.0).item() == pytest.approx(8.0)


@pytest.mark.parametrize("form", ["sce", "mse"])
@pytest.mark.parametrize("structure_form", ["correlation", "gram"])
def test_perfect_reconstruction_costs_nothing(form, structure_form):
    _, target = nodes()
    loss = reconstruction_loss(
        target.clone(), target, form=form, structure_form=structure_form
    )
    assert abs(loss.item()) < 1e-12


def test_loss_of_a_batch_is_the_mean_of_its_windows():
    ours, target = nodes()
    masked = torch.rand(3, 5) < 0.5
    masked[1] = False
    present = torch.rand(3, 5) < 0.8
    whole = reconstruction_loss(ours, target, masked=masked, present=present)
    alone = [
        reconstruction_loss(
            ours[[b]], target[[b]], masked=masked[[b]], present=present[[b]]
        )
        for b in range(3)
    ]
    torch.testing.assert_close(whole, torch.stack(alone).mean())


@pytest.mark.parametrize("form", ["sce", "mse"])
@pytest.mark.parametrize("structure_form", ["correlation", "gram"])
def test_absent_nodes_influence_nothing(form, structure_form):
    ours, target = nodes(2, 6)
    present = torch.tensor([[True] * 4 + [False] * 2] * 2)
    masked = torch.tensor([[True, False] * 3] * 2)
    options = {"form": form, "structure_form": structure_form}
    expected = reconstruction_loss(
        ours[:, :4], target[:, :4], masked=masked[:, :4], **options
    )
    for garbage in (0.0, 1e6, float("nan")):
        dirty = ours.clone()
        dirty[:, 4:] = garbage
        dirty.requires_grad_()
        got = reconstruction_loss(
            dirty, target / present.unsqueeze(-1), masked=masked, present=present,
            **options,
        )  # fmt: skip
        torch.testing.assert_close(got, expected)
        got.backward()
        assert dirty.grad.isfinite().all() and dirty.grad[:, 4:].eq(0).all()


def test_window_without_any_node_costs_nothing():
    ours, target = nodes()
    nobody = torch.zeros(3, 5, dtype=torch.bool)
    assert reconstruction_loss(ours, target, present=nobody).item() == 0


def test_no_gradient_reaches_the_target():
    ours, target = nodes()
    ours.requires_grad_(), target.requires_grad_()
    reconstruction_loss(ours, target).backward()
    assert target.grad is None and ours.grad.abs().sum() > 0


@pytest.mark.parametrize("form", ["sce", "mse"])
@pytest.mark.parametrize("structure_form", ["correlation", "gram"])
def test_reconstruction_has_the_gradient_of_finite_differences(form, structure_form):
    ours, target = nodes(2, 3, 4)
    masked = torch.tensor([[True, False, True]] * 2)
    assert torch.autograd.gradcheck(
        lambda x: reconstruction_loss(
            x, target, masked=masked, form=form, structure_form=structure_form
        ),
        ours.requires_grad_(),
    )


def test_constant_features_are_finite():
    ours, target = nodes()
    for flat in (torch.zeros_like(ours), torch.full_like(ours, 3.0)):
        flat.requires_grad_()
        loss = reconstruction_loss(flat, target)
        loss.backward()
        assert loss.isfinite() and flat.grad.isfinite().all()
        assert reconstruction_loss(target, flat).isfinite()


def test_autocast_does_not_round_the_reconstruction():
    ours, target = (x.float() for x in nodes())
    for structure_form in ("correlation", "gram"):
        expected = reconstruction_loss(ours, target, structure_form=structure_form)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            got = reconstruction_loss(ours, target, structure_form=structure_form)
        assert torch.equal(got, expected)
    half = reconstruction_loss(ours.bfloat16(), target.bfloat16())
    assert half.dtype == torch.float32


@pytest.mark.parametrize(
    "change, message",
    [
        ({"form": "cosine"}, "form must be one of"),
        ({"structure_form": "raw"}, "structure_form must be one of"),
        ({"structure": -1.0}, "structure must be above 0"),
        ({"gamma": 0.5}, "gamma must be at least 1"),
    ],
)
def test_reconstruction_refuses_what_does_not_fit(change, message):
    ours, target = nodes()
    with pytest.raises(ValueError, match=message):
        reconstruction_loss(**{"reconstruction": ours, "target": target, **change})

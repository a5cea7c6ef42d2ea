"""Laws for any size and any values: losses, pairs, masks, queue, 1 to 256 nodes."""

import math

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from braindecode_gcmae.graph import topology_pairs
from braindecode_gcmae.losses import (
    graph_contrastive_loss,
    info_nce,
    local_structure_loss,
    logit_distillation_loss,
    reconstruction_loss,
    scaled_cosine_error,
    topology_distillation_loss,
)
from braindecode_gcmae.masking import counter_uniform, drop_edges, drop_nodes
from braindecode_gcmae.momentum import KeyQueue
from braindecode_gcmae.montage import (
    make_chs_info,
    match_electrodes,
    retained_and_removed,
    standard_positions,
)

KERNELS = ["cosine", "linear", "poly", "rbf", "euclidean"]
seeds = st.integers(0, 2**31)
temperatures = st.floats(0.01, 10.0)
scales = st.sampled_from([0.0, 1e-6, 1.0, 1e3])
some = settings(deadline=None, max_examples=25)


class Drawn:
    """Tensors of one seed: nodes of teacher and student, pairs, who is present."""

    def __init__(self, seed, b, n, extra, d=3, wide=4, scale=1.0):
        self.generator = torch.Generator().manual_seed(seed)
        m = n + extra
        self.student = scale * self.noise(b, n, d)
        self.teacher = scale * self.noise(b, m, wide)
        self.kept = torch.randperm(m, generator=self.generator)[:n]
        linked = self.noise(n, n) > 0
        self.positive = (linked | linked.T) & ~torch.eye(n, dtype=torch.bool)
        self.negative = ~self.positive & ~torch.eye(n, dtype=torch.bool)
        self.present = self.noise(b, n) > -1
        self.windows = torch.randperm(b, generator=self.generator)
        self.nodes = torch.randperm(n, generator=self.generator)

    def noise(self, *shape):
        return torch.randn(*shape, generator=self.generator, dtype=torch.float64)


def losses(c, t, kernel, form):
    """Every loss of one drawn case, by name; only log_ratio may be negative."""
    nodes = {"student_nodes": c.student, "teacher_nodes": c.teacher, "kept": c.kept}
    nodes["present"] = c.present
    rows = c.student.flatten(0, 1)
    return {
        "topology": topology_distillation_loss(
            **nodes,
            positive=c.positive,
            negative=c.negative,
            kernel=kernel,
            temperature=t,
            form=form,
        ),
        "structure": local_structure_loss(
            **nodes, neighbours=c.positive, kernel=kernel, temperature=t
        ),
        "nodes": graph_contrastive_loss(**nodes, temperature=t),
        "contrast": info_nce(c.student[:, 0], c.student, rows, temperature=t),
        "reconstruction": reconstruction_loss(
            c.student, c.student.flip(-1), present=c.present
        ),
        "features": scaled_cosine_error(c.student, c.student.flip(-1)),
        "logits": logit_distillation_loss(
            c.student[:, 0], c.student[:, -1], temperature=t
        ),
    }


def turned(c):
    """The same case with its windows and its electrodes in another order."""
    other = Drawn.__new__(Drawn)
    w, e = c.windows, c.nodes
    other.student, other.teacher = c.student[w][:, e], c.teacher[w]
    other.kept, other.present = c.kept[e], c.present[w][:, e]
    other.positive, other.negative = c.positive[e][:, e], c.negative[e][:, e]
    return other


@some
@given(
    seed=seeds,
    b=st.integers(1, 4),
    n=st.integers(1, 9),
    extra=st.integers(0, 4),
    t=temperatures,
    scale=scales,
    kernel=st.sampled_from(KERNELS),
    form=st.sampled_from(["ratio", "margin"]),
)
@example(32, 1, 3, 0, 2.0, 1000.0, "cosine", "ratio")  # soft labels of -1e-223
def test_losses_are_finite_and_not_negative(seed, b, n, extra, t, scale, kernel, form):
    if kernel == "poly" and scale > 1:
        scale = 1.0  # its cube of a squared length has no bound
    case = Drawn(seed, b, n, extra, scale=scale)
    case.student.requires_grad_()
    for name, loss in losses(case, t, kernel, form).items():
        assert loss >= 0 and math.isfinite(loss), name
        (gradient,) = torch.autograd.grad(loss, case.student, retain_graph=True)
        assert torch.isfinite(gradient).all(), name


@some
@given(
    seed=seeds,
    b=st.integers(1, 4),
    n=st.integers(1, 9),
    extra=st.integers(0, 4),
    t=st.floats(0.05, 10.0),
    kernel=st.sampled_from(KERNELS),
    form=st.sampled_from(["ratio", "margin", "log_ratio"]),
)
def test_losses_do_not_depend_on_the_order(seed, b, n, extra, t, kernel, form):
    case = Drawn(seed, b, n, extra, scale=0.3)
    ours, other = (losses(c, t, kernel, form) for c in (case, turned(case)))
    for name in {"topology", "structure", "nodes", "reconstruction", "features"}:
        torch.testing.assert_close(ours[name], other[name], rtol=1e-7, atol=1e-9)


@some
@given(seed=seeds, b=st.integers(2, 5), q=st.integers(1, 9), t=temperatures)
def test_the_order_of_queries_keys_and_negatives_does_not_matter(seed, b, q, t):
    c = Drawn(seed, b, 4, 0)
    negatives, turn = c.noise(q, 3), torch.randperm(q, generator=c.generator)
    queries, keys = c.student[:, 0], c.student[:, 1:]
    torch.testing.assert_close(
        info_nce(queries, keys, negatives, temperature=t),
        info_nce(
            queries[c.windows], keys[c.windows].flip(1), negatives[turn], temperature=t
        ),
    )
    torch.testing.assert_close(
        logit_distillation_loss(queries, keys[:, 0], temperature=t),
        logit_distillation_loss(
            queries[c.windows].flip(1), keys[c.windows, 0].flip(1), temperature=t
        ),
    )


@settings(deadline=None, max_examples=12)
@given(n=st.integers(1, 256), seed=seeds, extra=st.integers(0, 8))
def test_one_to_256_electrodes_have_pairs_masks_and_losses(n, seed, extra):
    case = Drawn(seed, 1, n, extra)
    for name, loss in losses(case, 0.2, "cosine", "ratio").items():
        assert loss.shape == () and loss >= 0 and math.isfinite(loss), name
    noise = case.noise(2, n).abs() % 1
    assert drop_nodes(noise, 0.5).shape == (2, n)
    square = counter_uniform(seed, 0, torch.arange(2), 0, (n, n))
    assert drop_edges(square, 0.5).shape == (2, n, n)


@some
@given(seed=seeds, n=st.integers(1, 12), extra=st.integers(0, 6), share=st.floats(0, 1))
def test_pairs_are_symmetric_disjoint_off_the_diagonal_and_follow_the_order(
    seed, n, extra, share
):
    case, m = Drawn(seed, 1, n, extra), n + extra
    student, teacher = case.noise(n, n), case.noise(m, m)
    graphs = [(a + a.T).abs() for a in (student, teacher)]
    density = max(share, 0.01)
    positive, negative = topology_pairs(*graphs, case.kept, density=density)
    for pairs in (positive, negative):
        assert torch.equal(pairs, pairs.T) and not pairs.diagonal().any()
    assert not (positive & negative).any()
    turn, again = (
        case.nodes,
        topology_pairs(
            graphs[0][case.nodes][:, case.nodes],
            graphs[1],
            case.kept[case.nodes],
            density=density,
        ),
    )
    assert torch.equal(again[0], positive[turn][:, turn])
    assert torch.equal(again[1], negative[turn][:, turn])


@some
@given(seed=seeds, n=st.integers(1, 40), ratio=st.floats(0, 1))
def test_dropped_edges_are_symmetric_and_loops_always_stay(seed, n, ratio):
    noise = counter_uniform(seed, 0, torch.arange(2), 0, (n, n))
    stays = drop_edges(noise, ratio)
    assert torch.equal(stays, stays.mT)
    assert stays.diagonal(dim1=1, dim2=2).all()
    fewer = drop_edges(noise, min(1.0, ratio + 0.2))
    assert not (fewer & ~stays).any(), "what goes early does not come back"


@some
@given(
    size=st.integers(1, 20),
    pushes=st.lists(st.integers(1, 25), max_size=6),
    people=st.integers(1, 4),
)
def test_no_person_is_a_negative_of_itself_and_the_queue_never_overflows(
    size, pushes, people
):
    queue = KeyQueue(size, 3)
    generator = torch.Generator().manual_seed(sum(pushes))
    for n in pushes:
        keys = torch.randn(n, 3, generator=generator)
        who = torch.randint(people, (n,), generator=generator)
        queue.enqueue(keys, who)
    assert int(queue.fill) == min(size, sum(pushes))
    assert queue.negatives().shape[1] == 3
    usable = queue.usable(torch.arange(people))
    for person in range(people):
        row = usable[person] if usable.ndim == 2 else usable
        own = queue.groups[: row.shape[-1]] == person
        assert not (row & own).any()
    norms = queue.negatives()[: int(queue.fill)].norm(dim=-1)
    assert torch.allclose(norms, torch.ones_like(norms), atol=1e-5)


TABLE = sorted(standard_positions())


@some
@given(rows=st.lists(st.sampled_from(range(len(TABLE))), min_size=2, unique=True))
def test_matching_is_the_inverse_of_choosing_and_parts_make_the_whole(rows):
    cap = [TABLE[row] for row in rows]
    channels = make_chs_info(cap)
    wanted = cap[::-2]
    found = match_electrodes(wanted, channels)
    assert [cap[row] for row in found] == wanted
    by_place = [{**channel, "ch_name": f"X{i}"} for i, channel in enumerate(channels)]
    assert match_electrodes(wanted, by_place) == found
    kept, removed = retained_and_removed(wanted, channels)
    assert kept == found and sorted([*kept, *removed]) == list(range(len(cap)))


@pytest.mark.parametrize("seed", [0, 1])
def test_a_turned_case_is_another_case(seed):
    """The test of order would pass if nothing were turned."""
    case = Drawn(seed, 4, 9, 2)
    assert not torch.equal(turned(case).student, case.student)

"""Distillation: hand-made numbers, slow loops, laws, and the paper's figure 2."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from braindecode_gcmae.losses import (
    fixed_projection,
    graph_contrastive_loss,
    local_structure_loss,
    logit_distillation_loss,
    topology_distillation_loss,
)

KERNELS = ["cosine", "linear", "poly", "rbf", "euclidean"]
FORMS = ["ratio", "margin", "log_ratio"]
TEMPERATURES = [0.01, 0.2, 1.0, 10.0]


def problem(b=3, n=5, m=8, d=4, wide=6, seed=0, dtype=torch.float64):
    """Nodes of both, pairs that cover everything but the last node's, kept rows."""
    generator = torch.Generator().manual_seed(seed)
    student = torch.randn(b, n, d, dtype=dtype, generator=generator)
    teacher = torch.randn(b, m, wide, dtype=dtype, generator=generator)
    linked = torch.rand(n, n, generator=generator) < 0.5
    linked = (linked | linked.T) & ~torch.eye(n, dtype=torch.bool)
    rest = ~linked & ~torch.eye(n, dtype=torch.bool)
    kept = torch.randperm(m, generator=generator)[:n]
    return student, teacher, linked, rest, kept


def similarity_by_loop(rows, kernel, temperature):
    n = len(rows)
    z = np.zeros((n, n))
    for i, j in itertools.product(range(n), range(n)):
        dot = float(rows[i] @ rows[j])
        distance = float(np.linalg.norm(rows[i] - rows[j]))
        length = np.linalg.norm(rows[i]) * np.linalg.norm(rows[j])
        z[i, j] = {
            "cosine": dot / length if length else 0.0,
            "linear": dot,
            "poly": (dot + 1) ** 3,
            "rbf": math.exp(-0.5 * distance**2),
            "euclidean": -distance,
        }[kernel] / temperature
    return z


def softmax_by_loop(z, i, others):
    top = max(z[i, k] for k in others)
    total = sum(math.exp(z[i, k] - top) for k in others)
    return {j: math.exp(z[i, j] - top) / total for j in others}


def topology_by_loop(
    student, teacher, positive, negative, kept, *, kernel="cosine", temperature=0.2,
    eps=1e-3, form="ratio", reverse=False, margin_weight=1.0, present=None,
):  # fmt: skip
    losses = []
    for b in range(len(student)):
        n = student.shape[1]
        here = [i for i in range(n) if present is None or present[b, i]]
        z_s = similarity_by_loop(student[b].numpy(), kernel, temperature)
        z_t = similarity_by_loop(teacher[b].numpy()[kept.tolist()], kernel, temperature)
        terms = {True: [], False: []}
        push = []
        for i in here:
            others = [j for j in here if j != i]
            if not others:
                continue
            q, p = softmax_by_loop(z_s, i, others), softmax_by_loop(z_t, i, others)
            if reverse:
                p, q = q, p
            for j in others:
                term = p[j] * math.log(p[j] / q[j]) - p[j] + q[j]
                if positive[i, j]:
                    terms[True].append(term)
                if negative[i, j]:
                    terms[False].append(term)
                    push.append(math.log1p(math.exp(z_s[i, j])))
        near = np.mean(terms[True]) if terms[True] else 0.0
        far = np.mean(terms[False]) + eps if terms[False] else 1.0
        if form == "ratio":
            losses.append(near / far)
        elif form == "margin":
            losses.append(near + margin_weight * (np.mean(push) if push else 0.0))
        else:
            losses.append(math.log((near + eps) / far) if terms[True] else 0.0)
    return np.mean(losses)


# ---------------------------------------------------------------- topology: formula


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("reverse", [False, True])
def test_topology_loss_is_its_formula(kernel, form, reverse):
    nodes = problem()
    options = {
        "kernel": kernel, "form": form, "reverse": reverse, "temperature": 1.7,
        "eps": 0.03, "margin_weight": 0.4,
    }  # fmt: skip
    nodes[0].mul_(0.5), nodes[1].mul_(0.5)
    got = topology_distillation_loss(*nodes, **options)
    assert got.ndim == 0
    assert got.item() == pytest.approx(topology_by_loop(*nodes, **options), rel=1e-8)


def test_defaults_are_cosine_ratio_teacher_first():
    nodes = problem()
    expected = topology_by_loop(*nodes)
    assert topology_distillation_loss(*nodes).item() == pytest.approx(expected)
    margin = topology_distillation_loss(*nodes, form="margin").item()
    assert margin == pytest.approx(topology_by_loop(*nodes, form="margin"))


def triangle():
    """Three electrodes; in row 0 the dot products with 1 and 2 are 0, and log 3."""
    a = math.log(3.0)
    student = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [a, 0.0]]], dtype=torch.float64)
    teacher = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]], dtype=torch.float64)
    positive = torch.zeros(3, 3, dtype=torch.bool)
    negative = torch.zeros(3, 3, dtype=torch.bool)
    positive[0, 1] = negative[0, 2] = True
    return student, teacher, positive, negative, torch.arange(3)


def test_topology_loss_by_hand():
    # row 0: student softmax (1/4, 3/4), teacher (1/2, 1/2), the diagonal left out
    options = {"kernel": "linear", "temperature": 1.0, "eps": 0.01}
    near = 0.5 * math.log(2) - 0.5 + 0.25
    far = 0.5 * math.log(2 / 3) - 0.5 + 0.75
    loss = topology_distillation_loss
    got = loss(*triangle(), **options).item()
    assert got == pytest.approx(near / (far + 0.01), rel=1e-12)
    got = loss(*triangle(), form="log_ratio", **options).item()
    assert got == pytest.approx(math.log((near + 0.01) / (far + 0.01)), rel=1e-12)
    got = loss(*triangle(), form="margin", margin_weight=2.0, **options).item()
    assert got == pytest.approx(near + 2 * math.log(1 + 3), rel=1e-12)
    near = 0.25 * math.log(0.5) - 0.25 + 0.5
    far = 0.75 * math.log(1.5) - 0.75 + 0.5
    got = loss(*triangle(), reverse=True, **options).item()
    assert got == pytest.approx(near / (far + 0.01), rel=1e-12)


def test_temperature_divides_the_similarity():
    student, teacher, *rest = triangle()
    hot = topology_distillation_loss(
        student, teacher, *rest, kernel="linear", temperature=4.0
    )
    cool = topology_distillation_loss(
        student / 2, teacher / 2, *rest, kernel="linear", temperature=1.0
    )
    torch.testing.assert_close(hot, cool)


def test_without_negative_pairs_the_denominator_is_one():
    student, teacher, positive, negative, kept = triangle()
    near = 0.5 * math.log(2) - 0.25
    options = {"kernel": "linear", "temperature": 1.0, "eps": 0.01}
    got = topology_distillation_loss(
        student, teacher, positive, negative & False, kept, **options
    )
    assert got.item() == pytest.approx(near, rel=1e-12)
    got = topology_distillation_loss(
        student, teacher, positive, negative & False, kept, form="log_ratio", **options
    )
    assert got.item() == pytest.approx(math.log(near + 0.01), rel=1e-12)
    got = topology_distillation_loss(
        student, teacher, positive, negative & False, kept, form="margin", **options
    )
    assert got.item() == pytest.approx(near, rel=1e-12)


def test_without_positive_pairs_the_loss_is_zero():
    student, teacher, positive, negative, kept = triangle()
    nobody = positive & False
    student.requires_grad_()
    for form in ("ratio", "log_ratio"):
        loss = topology_distillation_loss(
            student, teacher, nobody, negative, kept, kernel="linear", form=form
        )
        assert loss.item() == 0
        (grad,) = torch.autograd.grad(loss, student)
        assert grad.eq(0).all()
    margin = topology_distillation_loss(
        student, teacher, nobody, negative, kept, kernel="linear", temperature=1.0,
        form="margin",
    )  # fmt: skip
    assert margin.item() == pytest.approx(math.log(4))


def test_one_electrode_has_no_pairs_and_no_loss():
    student = torch.randn(2, 1, 3, requires_grad=True)
    yes = torch.ones(1, 1, dtype=torch.bool)
    for form in FORMS:
        loss = topology_distillation_loss(
            student, torch.randn(2, 4, 5), yes, yes, torch.tensor([2]), form=form
        )
        loss.backward()
        assert loss.item() == 0 and student.grad.eq(0).all()


def test_a_full_row_of_pair_terms_is_the_kullback_leibler_divergence():
    student, teacher, _, _, kept = problem()
    everything = torch.ones(5, 5, dtype=torch.bool)
    got = topology_distillation_loss(
        student, teacher, everything, ~everything, kept, temperature=1.0
    )
    off = ~torch.eye(5, dtype=torch.bool)
    z = []
    for nodes in (student, teacher[:, kept]):
        nodes = torch.nn.functional.normalize(nodes, dim=-1)
        z.append((nodes @ nodes.mT)[:, off].view(3, 5, 4).log_softmax(-1))
    expected = torch.nn.functional.kl_div(
        z[0].flatten(0, 1), z[1].flatten(0, 1), log_target=True, reduction="batchmean"
    )
    torch.testing.assert_close(got, expected / 4)  # mean over 20 pairs, sum over 5 rows


def test_figure_2_of_the_paper():
    # METHOD A.7: Fz-T8 is three hops apart in the teacher, so it is negative only
    names = ["Fz", "T8", "P8", "P5", "Oz"]
    pairs = {
        "positive": ["P5-Oz", "P5-P8", "P5-T8", "P8-T8"],
        "negative": ["Fz-T8", "Fz-P8", "Oz-P8"],
    }
    masks = {}
    for kind, edges in pairs.items():
        masks[kind] = torch.zeros(5, 5, dtype=torch.bool)
        for edge in edges:
            i, j = (names.index(name) for name in edge.split("-"))
            masks[kind][i, j] = masks[kind][j, i] = True
    student, teacher, _, _, kept = problem(n=5, m=7)
    got = topology_distillation_loss(student, teacher, **masks, kept=kept)
    expected = topology_by_loop(student, teacher, **masks, kept=kept)
    assert got.item() == pytest.approx(expected)


# ---------------------------------------------------------------- topology: laws


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_identical_student_and_teacher_cost_nothing(kernel, dtype):
    student, _, positive, negative, _ = problem(dtype=torch.float64)
    student = student.to(dtype).requires_grad_()
    everyone = torch.arange(5)
    for form in ("ratio", "log_ratio"):
        loss = topology_distillation_loss(
            student, student, positive, negative, everyone, kernel=kernel, form=form
        )
        loss.backward()
        assert loss.item() == 0
        assert student.grad.abs().max() < 1e-3


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    n=st.integers(1, 9),
    kernel=st.sampled_from(KERNELS),
    reverse=st.booleans(),
    eps=st.sampled_from([1e-3, 1e-12]),
    log_gap=st.floats(-8, 1),
    temperature=st.sampled_from(TEMPERATURES),
)
def test_ratio_is_never_negative_nor_infinite(
    seed, n, kernel, reverse, eps, log_gap, temperature
):
    # METHOD B-26: 196 of 500 near-converged draws were negative
    student, teacher, positive, negative, kept = problem(
        n=n, m=9, d=6, seed=seed, dtype=torch.float32
    )
    student = teacher[:, kept] + 10**log_gap * student
    student.requires_grad_()
    loss = topology_distillation_loss(
        student, teacher, positive, negative, kept, kernel=kernel, reverse=reverse,
        temperature=temperature, eps=eps,
    )  # fmt: skip
    loss.backward()
    assert loss >= 0 and loss.isfinite() and student.grad.isfinite().all()


@pytest.mark.parametrize("form", FORMS)
def test_loss_does_not_depend_on_the_batch_size(form):
    # METHOD B-25: the public loss grows as B^2
    student, teacher, *rest = problem(b=4)
    whole = topology_distillation_loss(student, teacher, *rest, form=form)
    alone = [
        topology_distillation_loss(student[[b]], teacher[[b]], *rest, form=form)
        for b in range(4)
    ]
    torch.testing.assert_close(whole, torch.stack(alone).mean())
    repeated = topology_distillation_loss(
        student.repeat(16, 1, 1), teacher.repeat(16, 1, 1), *rest, form=form
    )
    torch.testing.assert_close(repeated, whole)


@pytest.mark.parametrize("kernel", KERNELS)
def test_order_of_the_electrodes_does_not_matter(kernel):
    student, teacher, positive, negative, kept = problem()
    order = torch.tensor([3, 0, 4, 1, 2])
    permuted = [mask[order][:, order] for mask in (positive, negative)]
    options = {"kernel": kernel, "temperature": 5.0}
    torch.testing.assert_close(
        topology_distillation_loss(
            student[:, order], teacher, *permuted, kept[order], **options
        ),
        topology_distillation_loss(
            student, teacher, positive, negative, kept, **options
        ),
    )


def test_teacher_is_read_at_the_students_electrodes_only():
    # METHOD B-23: the public loss reads the teacher's first n rows
    student, teacher, positive, negative, kept = problem()
    expected = topology_distillation_loss(student, teacher, positive, negative, kept)
    others = [row for row in range(8) if row not in kept.tolist()]
    changed = teacher.clone()
    changed[:, others] = float("nan")
    got = topology_distillation_loss(student, changed, positive, negative, kept)
    assert torch.equal(got, expected)
    first = topology_distillation_loss(
        student, teacher, positive, negative, torch.arange(5)
    )
    assert abs(first - expected) > 1e-6
    as_list = topology_distillation_loss(
        student, teacher, positive, negative, kept.tolist()
    )
    assert torch.equal(as_list, expected)


def test_a_node_and_itself_are_never_a_pair():
    # METHOD B-26: self-pairs saturate the softmax
    student, teacher, positive, negative, kept = problem()
    loops = torch.eye(5, dtype=torch.bool)
    torch.testing.assert_close(
        topology_distillation_loss(
            student, teacher, positive | loops, negative | loops, kept
        ),
        topology_distillation_loss(student, teacher, positive, negative, kept),
    )


def test_masks_may_differ_between_windows():
    student, teacher, positive, negative, kept = problem()
    positives = torch.stack([positive, negative, positive & False])
    negatives = torch.stack([negative, negative & False, positive])
    for form in FORMS:
        alone = [
            topology_distillation_loss(
                student[[b]], teacher[[b]], positives[b], negatives[b], kept, form=form
            )
            for b in range(3)
        ]
        got = topology_distillation_loss(
            student, teacher, positives, negatives, kept, form=form
        )
        torch.testing.assert_close(got, torch.stack(alone).mean())


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("form", FORMS)
def test_absent_electrodes_take_part_in_no_pair(kernel, form):
    student, teacher, positive, negative, kept = problem()
    present = torch.tensor([[1, 1, 1, 1, 1], [1, 0, 1, 1, 0], [0, 0, 0, 1, 0]]).bool()
    options = {"kernel": kernel, "form": form, "temperature": 2.0, "present": present}
    expected = topology_by_loop(student, teacher, positive, negative, kept, **options)
    student = student.masked_fill(~present.unsqueeze(-1), float("nan")).requires_grad_()
    teacher[1, kept[1]] = float("inf")
    got = topology_distillation_loss(
        student, teacher, positive, negative, kept, **options
    )
    assert got.item() == pytest.approx(expected, rel=1e-8)
    got.backward()
    assert student.grad.isfinite().all() and student.grad[~present].eq(0).all()


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("reverse", [False, True])
def test_topology_loss_has_the_gradient_of_finite_differences(kernel, form, reverse):
    student, *rest = problem(b=2, n=4, m=5, d=3, wide=3)
    assert torch.autograd.gradcheck(
        lambda x: topology_distillation_loss(
            x, *rest, kernel=kernel, form=form, reverse=reverse, temperature=3.0
        ),
        student.requires_grad_(),
        fast_mode=True,
    )


def test_teacher_gets_no_gradient():
    student, teacher, positive, negative, kept = problem(wide=4)
    logits = torch.randn(2, 3, 2, requires_grad=True)
    student.requires_grad_(), teacher.requires_grad_()
    loss = (
        topology_distillation_loss(student, teacher, positive, negative, kept)
        + local_structure_loss(student, teacher, positive, kept)
        + graph_contrastive_loss(student, teacher, kept)
        + logit_distillation_loss(logits[0], logits[1])
    )
    loss.backward()
    assert teacher.grad is None and logits.grad[1].eq(0).all()
    assert student.grad.abs().sum() > 0 and logits.grad[0].abs().sum() > 0


def all_losses(student, teacher, positive, negative, kept, **options):
    yield topology_distillation_loss(
        student, teacher, positive, negative, kept, **options
    )
    yield local_structure_loss(student, teacher, positive, kept, **options)
    if "kernel" not in options or options["kernel"] == "cosine":
        yield graph_contrastive_loss(
            student, teacher, kept, temperature=options["temperature"]
        )


@pytest.mark.parametrize("tau", TEMPERATURES)
@pytest.mark.parametrize("kernel", KERNELS)
def test_losses_are_finite_at_the_edges(tau, kernel):
    _, _, positive, negative, kept = problem()
    noise = torch.randn(3, 5, 4)
    edges = [
        torch.zeros(3, 5, 4),
        torch.ones(3, 5, 4),
        noise[:1].repeat(3, 1, 1),
        noise[:, :1].repeat(1, 5, 1),
        20 * noise,
        1e-20 * noise,
    ]
    for ours, theirs in itertools.product(edges, edges[1::3]):
        ours = ours.clone().requires_grad_()
        teacher = torch.zeros(3, 8, 4).index_copy(1, kept, theirs)
        for loss in all_losses(
            ours, teacher, positive, negative, kept, kernel=kernel, temperature=tau
        ):
            (grad,) = torch.autograd.grad(loss, ours)
            assert loss.isfinite() and loss >= 0 and grad.isfinite().all()


def test_autocast_and_half_precision_round_no_similarity():
    nodes = problem(dtype=torch.float32)
    expected = list(all_losses(*nodes, temperature=0.1))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = list(all_losses(*nodes, temperature=0.1))
    for ours, theirs in zip(got, expected, strict=True):
        assert torch.equal(ours, theirs)
    student, teacher, *rest = nodes
    for loss in all_losses(student.half(), teacher.bfloat16(), *rest, temperature=0.1):
        assert loss.dtype == torch.float32 and loss.isfinite()


@pytest.mark.parametrize(
    "change, message",
    [
        ({"kernel": "gauss"}, "kernel must be one of .* got 'gauss'"),
        ({"form": "quotient"}, "form must be one of"),
        ({"temperature": 0}, "temperature must be above 0"),
        ({"eps": 0.0}, "eps must be above 0"),
        ({"positive": torch.ones(5, 5)}, "positive must be boolean"),
        ({"positive": torch.ones(8, 8).bool()}, r"positive must .* shape \(5, 5\)"),
        ({"negative": torch.ones(5, 4).bool()}, "negative must be boolean"),
    ],
)
def test_topology_loss_refuses_what_does_not_fit(change, message):
    names = ["student_nodes", "teacher_nodes", "positive", "negative", "kept"]
    arguments = dict(zip(names, problem(), strict=True))
    with pytest.raises(ValueError, match=message):
        topology_distillation_loss(**{**arguments, **change})


# ---------------------------------------------------------------- logits


def test_logit_loss_by_hand():
    student = torch.tensor([[0.0, math.log(3.0)]])
    teacher = torch.tensor([[0.0, 0.0]])
    divergence = 0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75)
    got = logit_distillation_loss(student, teacher, temperature=1.0).item()
    assert got == pytest.approx(divergence, rel=1e-6)
    got = logit_distillation_loss(3 * student, teacher, temperature=3.0).item()
    assert got == pytest.approx(9 * divergence, rel=1e-6)


@pytest.mark.parametrize("temperature", [1.0, 4.0, 0.5])
def test_logit_loss_is_that_of_hinton_and_the_mean_over_the_batch(temperature):
    student, teacher = torch.randn(2, 6, 4, dtype=torch.float64)
    got = logit_distillation_loss(student, teacher, temperature=temperature)
    functional = torch.nn.functional
    theirs = functional.kl_div(
        functional.log_softmax(student / temperature, dim=1),
        functional.softmax(teacher / temperature, dim=1),
        reduction="batchmean",
    )
    torch.testing.assert_close(got, theirs * temperature**2)
    assert torch.equal(
        logit_distillation_loss(student, teacher),
        logit_distillation_loss(student, teacher, temperature=4.0),
    )


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), temperature=st.sampled_from(TEMPERATURES))
def test_logit_loss_is_finite_zero_when_equal_and_not_negative(seed, temperature):
    generator = torch.Generator().manual_seed(seed)
    student, teacher = 30 * torch.randn(2, 4, 3, generator=generator)
    student.requires_grad_()
    loss = logit_distillation_loss(student, teacher, temperature=temperature)
    loss.backward()
    assert loss >= -1e-6 and loss.isfinite() and student.grad.isfinite().all()
    same = logit_distillation_loss(teacher + 1, teacher + 1, temperature=temperature)
    assert same.item() == 0


def test_logit_loss_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match=r"\(4, 2\) and teacher logits \(4, 3\)"):
        logit_distillation_loss(torch.ones(4, 2), torch.ones(4, 3))
    with pytest.raises(ValueError, match="temperature must be above 0"):
        logit_distillation_loss(torch.ones(4, 2), torch.ones(4, 2), temperature=0.0)
    half = logit_distillation_loss(torch.ones(4, 2).half(), torch.ones(4, 2).bfloat16())
    assert half.dtype == torch.float32


# ---------------------------------------------------------------- local structure


def local_structure_by_loop(
    student, teacher, neighbours, kept, kernel="cosine", temperature=0.2, present=None
):
    losses = []
    for b in range(len(student)):
        n = student.shape[1]
        here = [i for i in range(n) if present is None or present[b, i]]
        z_s = similarity_by_loop(student[b].numpy(), kernel, temperature)
        z_t = similarity_by_loop(teacher[b].numpy()[kept.tolist()], kernel, temperature)
        total = 0.0
        for i in here:
            near = [j for j in here if neighbours[i, j] and i != j]
            if near:
                q, p = softmax_by_loop(z_s, i, near), softmax_by_loop(z_t, i, near)
                total += sum(p[j] * math.log(p[j] / q[j]) for j in near)
        losses.append(total / max(len(here), 1))
    return np.mean(losses)


@pytest.mark.parametrize("kernel", KERNELS)
def test_local_structure_loss_is_its_formula(kernel):
    student, teacher, neighbours, _, kept = problem()
    neighbours[2] = False  # a node alone adds 0 to the mean
    neighbours = neighbours | torch.eye(5, dtype=torch.bool)
    present = torch.rand(3, 5) < 0.7
    present[0] = False
    for options in ({}, {"present": present}):
        options = {"kernel": kernel, "temperature": 3.0, **options}
        got = local_structure_loss(student, teacher, neighbours, kept, **options)
        expected = local_structure_by_loop(
            student, teacher, neighbours, kept, **options
        )
        assert got.item() == pytest.approx(expected, rel=1e-7)
    got = local_structure_loss(student, teacher, neighbours, kept)
    expected = local_structure_by_loop(student, teacher, neighbours, kept)
    assert got.item() == pytest.approx(expected)


def test_local_structure_loss_by_hand():
    student, teacher, positive, negative, kept = triangle()
    got = local_structure_loss(
        student, teacher, positive | negative, kept, kernel="linear", temperature=1.0
    )
    # row 0: KL((1/2, 1/2) || (1/4, 3/4)); rows 1 and 2 have no neighbours
    expected = 0.5 * math.log(2) + 0.5 * math.log(2 / 3)
    assert got.item() == pytest.approx(expected / 3, rel=1e-12)


def test_local_structure_is_zero_for_equals_and_a_mean_over_windows():
    student, teacher, positive, _, kept = problem()
    everyone = torch.arange(5)
    assert local_structure_loss(student, student, positive, everyone).item() == 0
    alone = [
        local_structure_loss(student[[b]], teacher[[b]], positive, kept)
        for b in range(3)
    ]
    whole = local_structure_loss(student, teacher, positive, kept)
    torch.testing.assert_close(whole, torch.stack(alone).mean())
    assert local_structure_loss(student, teacher, positive & False, kept).item() == 0
    assert torch.autograd.gradcheck(
        lambda x: local_structure_loss(x, teacher, positive, kept),
        student.requires_grad_(),
    )


def test_local_structure_is_never_negative_near_convergence():
    student, teacher, positive, _, kept = problem(dtype=torch.float32)
    for step in range(60):
        near = teacher[:, kept, :4] * (1 + 1e-7 * step) + 1e-8 * step * student
        loss = local_structure_loss(near, teacher[..., :4], positive, kept)
        assert loss >= 0


def test_local_structure_refuses_what_does_not_fit():
    student, teacher, positive, _, kept = problem()
    with pytest.raises(ValueError, match="kernel must be one of"):
        local_structure_loss(student, teacher, positive, kept, kernel="dot")
    with pytest.raises(ValueError, match="temperature must be above 0"):
        local_structure_loss(student, teacher, positive, kept, temperature=0.0)
    with pytest.raises(ValueError, match="neighbours must be boolean"):
        local_structure_loss(student, teacher, positive.float(), kept)


# ---------------------------------------------------------------- node contrast


def contrast_by_loop(student, teacher, kept, tau=0.075, present=None):
    losses = []
    for b in range(len(student)):
        n = student.shape[1]
        here = [i for i in range(n) if present is None or present[b, i]]
        s, t = student[b].numpy(), teacher[b].numpy()[kept.tolist()]
        s, t = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (s, t))
        terms = [
            math.log(sum(math.exp((s[i] @ t[j] - s[i] @ t[i]) / tau) for j in here))
            for i in here
        ]
        losses.append(np.mean(terms) if terms else 0.0)
    return np.mean(losses)


def test_node_contrast_is_its_formula():
    student, teacher, _, _, kept = problem(d=4, wide=4)
    present = torch.tensor([[1, 1, 1, 1, 1], [1, 0, 1, 1, 0], [0, 0, 0, 0, 0]]).bool()
    for options in ({}, {"present": present}):
        got = graph_contrastive_loss(student, teacher, kept, **options)
        expected = contrast_by_loop(student, teacher, kept, **options)
        assert got.item() == pytest.approx(expected)
    got = graph_contrastive_loss(student, teacher, kept, temperature=0.5)
    assert got.item() == pytest.approx(contrast_by_loop(student, teacher, kept, 0.5))


@pytest.mark.parametrize("tau", TEMPERATURES)
def test_node_contrast_of_indistinguishable_nodes_is_the_logarithm_of_n(tau):
    same = torch.ones(2, 7, 3)
    got = graph_contrastive_loss(same, same, torch.arange(7), temperature=tau)
    assert got.item() == pytest.approx(math.log(7), rel=1e-6)


def test_absent_nodes_are_no_negatives_whatever_they_hold():
    student, teacher, _, _, kept = problem(d=4, wide=4)
    present = torch.tensor([[True, True, False, True, True]] * 3)
    expected = graph_contrastive_loss(
        student[:, [0, 1, 3, 4]], teacher, kept[[0, 1, 3, 4]]
    )
    student = student.masked_fill(~present.unsqueeze(-1), float("nan")).requires_grad_()
    teacher[:, kept[2]] = float("nan")
    got = graph_contrastive_loss(student, teacher, kept, present=present)
    torch.testing.assert_close(got, expected)
    got.backward()
    assert student.grad.isfinite().all() and student.grad[:, 2].eq(0).all()


@pytest.mark.parametrize("wide", [3, 8])
def test_unequal_widths_meet_in_the_fixed_or_the_given_projection(wide):
    student, teacher, _, _, kept = problem(d=4, wide=wide)
    got = graph_contrastive_loss(student, teacher, kept)
    fixed = fixed_projection(wide, 4, torch.float64, torch.device("cpu"))
    expected = contrast_by_loop(student, teacher @ fixed, kept)
    assert got.item() == pytest.approx(expected)
    learned = torch.randn(wide, 4, dtype=torch.float64, requires_grad=True)
    got = graph_contrastive_loss(student, teacher, kept, projection=learned)
    expected = contrast_by_loop(student, teacher @ learned.detach(), kept)
    assert got.item() == pytest.approx(expected)
    got.backward()
    assert learned.grad.abs().sum() > 0
    with pytest.raises(ValueError, match=rf"shape \({wide}, 4\)"):
        graph_contrastive_loss(student, teacher, kept, projection=learned.mT)


def test_equal_widths_need_no_projection_but_take_one():
    student, teacher, _, _, kept = problem(d=4, wide=4)
    turned = torch.eye(4, dtype=torch.float64).flip(0)
    got = graph_contrastive_loss(student, teacher, kept, projection=turned)
    expected = contrast_by_loop(student, teacher.flip(-1), kept)
    assert got.item() == pytest.approx(expected)


def test_node_contrast_has_the_gradient_of_finite_differences():
    student, teacher, _, _, kept = problem()
    assert torch.autograd.gradcheck(
        lambda x: graph_contrastive_loss(x, teacher, kept, temperature=0.5),
        student.requires_grad_(),
    )
    with pytest.raises(ValueError, match="temperature must be above 0"):
        graph_contrastive_loss(student, teacher, kept, temperature=0.0)


@pytest.mark.parametrize("shape", [(128, 64), (64, 128), (5, 5)])
def test_fixed_projection_is_orthonormal_fixed_and_scaled(shape):
    cpu = torch.device("cpu")
    first = fixed_projection(*shape, torch.float64, cpu)
    fixed_projection.cache_clear()
    with torch.inference_mode():
        again = fixed_projection(*shape, torch.float64, cpu)
    assert first.shape == shape and torch.equal(first, again)
    assert not again.is_inference()
    narrow = min(shape)
    gram = first.mT @ first if shape[1] == narrow else first @ first.mT
    scale = shape[0] / narrow
    torch.testing.assert_close(gram, scale * torch.eye(narrow, dtype=torch.float64))
    x = torch.randn(400, shape[0], dtype=torch.float64)
    kept_length = (x @ first).norm(dim=1).square().mean() / x.norm(
        dim=1
    ).square().mean()
    assert abs(kept_length - 1) < 0.1
    assert fixed_projection(*shape, torch.float32, cpu).dtype == torch.float32

"""Same seed, same bits; other precisions nearly the same; never a NaN."""

import warnings

import numpy as np
import pytest
import torch
from tiny import (
    N_TIMES,
    X,
    Y,
    classifier,
    distil,
    fit,
    joint,
    pretrainer,
    quietly,
    student,
    teacher,
    vector,
    weights,
    windows,
)

from braindecode_gcmae.features import (
    CombinedFeatures,
    SpectralFeatures,
    TemporalFeatures,
)
from braindecode_gcmae.graph import FunctionalGraph, LearnedGraph, MixedGraph
from braindecode_gcmae.losses import (
    graph_contrastive_loss,
    info_nce,
    local_structure_loss,
    logit_distillation_loss,
    reconstruction_loss,
    scaled_cosine_error,
    topology_distillation_loss,
)

SUBJECTS = np.repeat(np.arange(4), 4)
TERMS = ("rec_teacher", "rec_student", "contrast_teacher", "contrast_student")
TEMPERATURES = [0.01, 0.03, 0.07, 1.0, 10.0]


def draw(*shape, seed=0, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(*shape, generator=generator, dtype=torch.float64)


def told(net):
    return [{k: v for k, v in row.items() if k != "dur"} for row in net.history]


# ------------------------------------------------------------------------- same bits
@pytest.fixture
def deterministic():
    """torch raises where an operation has no deterministic form."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


DROPOUT = {"teacher__drop_prob": 0.3, "student__drop_prob": 0.3}


def test_pretraining_is_the_same_with_any_number_of_workers(deterministic):
    ends = []
    for workers in (0, 2):
        torch.rand(workers + 1)  # the global state is another
        net = pretrainer(**DROPOUT, noise=0.1, iterator_train__num_workers=workers)
        net.fit(windows(), groups=SUBJECTS)
        ends.append((weights(net.module_), told(net)))
    assert torch.equal(ends[0][0], ends[1][0]) and ends[0][1] == ends[1][1]


def test_a_classifier_is_the_same_with_any_number_of_workers(deterministic):
    ends = []
    for workers in (0, 2):
        net = classifier(
            callbacks=distil(unlabelled=windows(12, seed=5)),
            module__drop_prob=0.3,
            iterator_train__num_workers=workers,
        )
        fit(net)
        ends.append((vector(net), told(net)))
    assert torch.equal(ends[0][0], ends[1][0]) and ends[0][1] == ends[1][1]


def test_the_size_of_the_batches_of_prediction_changes_no_class(deterministic):
    net = fit(classifier(max_epochs=1))
    logits = [quietly(net.set_params(batch_size=b).forward, X) for b in (1, 5, 24)]
    for other in logits[1:]:
        torch.testing.assert_close(logits[0], other, rtol=1e-5, atol=1e-6)


def test_the_global_random_state_is_left_alone_by_pretraining():
    before, state = torch.get_rng_state(), np.random.get_state()[1].copy()
    pretrainer(**DROPOUT).fit(windows(), groups=SUBJECTS)
    assert (np.random.get_state()[1] == state).all()
    # One number an epoch is drawn by torch's own loader.
    after = torch.get_rng_state()
    torch.set_rng_state(before)
    for _ in range(2):
        torch.empty((), dtype=torch.int64).random_()
    assert torch.equal(torch.get_rng_state(), after)


# ------------------------------------------------------------------------- precisions
def adjacency(n, seed):
    a = draw(n, n, seed=seed).sigmoid()
    return (a + a.T) / 2


def pairs(n, seed=3):
    positive = torch.ones(n, n, dtype=torch.bool).triu(1)
    positive &= draw(n, n, seed=seed) > 0
    positive = positive | positive.T
    negative = ~positive & ~torch.eye(n, dtype=torch.bool)
    return positive, negative


KEPT = torch.tensor([5, 0, 3, 2])
POSITIVE, NEGATIVE = pairs(4)
LOSSES = {
    "info_nce": lambda a, b: info_nce(
        a[:, 0], b[:, :2], draw(32, a.shape[-1], seed=9).to(a), temperature=0.07
    ),
    "reconstruction": lambda a, b: reconstruction_loss(a, b[:, :4]),
    "mean squared": lambda a, b: reconstruction_loss(
        a, b[:, :4], form="mse", structure_form="gram"
    ),
    "cosine": lambda a, b: scaled_cosine_error(a, b[:, :4], gamma=2.0),
    "soft labels": lambda a, b: logit_distillation_loss(
        a[:, 0], b[:, 0], temperature=4.0
    ),
    "topology": lambda a, b: topology_distillation_loss(
        a, b, POSITIVE, NEGATIVE, KEPT, temperature=0.2
    ),
    "local structure": lambda a, b: local_structure_loss(a, b, POSITIVE, KEPT),
    "contrast of nodes": lambda a, b: graph_contrastive_loss(a, b, KEPT),
}


@pytest.mark.parametrize("name", LOSSES)
def test_losses_agree_between_precisions(name):
    """bfloat16 rounds its arguments to 3 digits; the loss itself is float32."""
    a, b = draw(6, 4, 8, seed=1), draw(6, 6, 8, seed=2)
    exact = float(LOSSES[name](a, b))
    assert float(LOSSES[name](a.float(), b.float())) == pytest.approx(exact, rel=1e-5)
    half = LOSSES[name](a.bfloat16(), b.bfloat16())
    assert half.dtype == torch.float32
    assert float(half) == pytest.approx(exact, rel=5e-2)
    with torch.autocast("cpu", torch.bfloat16):
        assert float(LOSSES[name](a.float(), b.float())) == pytest.approx(
            exact, rel=1e-4
        )


def pretraining_terms(module, x, dtype, autocast=False):
    module = module.to(dtype).eval()
    batch = torch.from_numpy(x).to(dtype)
    index = torch.arange(len(x))
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast), torch.no_grad():
        output = module(batch, index, index % 3)
    return {name: float(output[name]) for name in TERMS}


def filled(**arguments):
    """A joint module whose statistics and queue are those of training."""
    module = joint(**arguments)
    x = torch.from_numpy(windows(8, seed=4))
    for epoch in range(2):
        module.epoch = epoch
        output = module(x, torch.arange(8), torch.arange(8) + 5)
        module.momentum_step(output["keys"], output["groups"])
    return module


def test_a_forward_pass_of_pretraining_agrees_between_precisions():
    module, x = filled(), windows(8)
    exact = pretraining_terms(module, x, torch.float64)
    single = pretraining_terms(module, x, torch.float32)
    half = pretraining_terms(module, x, torch.float32, autocast=True)
    for name in TERMS:
        assert single[name] == pytest.approx(exact[name], rel=2e-4), name
        assert half[name] == pytest.approx(exact[name], rel=5e-2), name


# --------------------------------------------------------------------- numerical health
def check_healthy(loss, *inputs):
    assert torch.isfinite(loss)
    loss.backward()
    for tensor in inputs:
        assert tensor.grad is None or torch.isfinite(tensor.grad).all()


def degenerate(kind):
    a, b = draw(6, 4, 8, seed=1), draw(6, 6, 8, seed=2)
    if kind == "identical windows":
        a, b = a[:1].expand(6, -1, -1), b[:1].expand(6, -1, -1)
    elif kind == "one node":
        a, b = a[:, :1].expand(-1, 4, -1), b[:, :1].expand(-1, 6, -1)
    elif kind == "zero":
        a, b = torch.zeros_like(a), torch.zeros_like(b)
    elif kind == "equal":
        a = b[:, KEPT]
    elif kind == "huge":
        a, b = 1e6 * a, 1e6 * b
    elif kind == "tiny":
        a, b = 1e-6 * a, 1e-6 * b
    # Two leaves of their own.
    return [part.float().clone().requires_grad_() for part in (a, b)]


KINDS = ["identical windows", "one node", "zero", "equal", "huge", "tiny"]


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("kind", KINDS)
def test_losses_and_gradients_are_finite_whatever_comes(name, kind):
    a, b = degenerate(kind)
    check_healthy(LOSSES[name](a, b), a, b)


@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("kind", KINDS)
def test_temperatures_from_a_hundredth_to_ten_are_healthy(temperature, kind):
    a, b = degenerate(kind)
    queue = draw(32, 8, seed=9).float()
    for loss in (
        info_nce(a[:, 0], b[:, :2], queue, temperature=temperature),
        info_nce(a[:, 0], a[:, :2], a[:, 0].detach(), temperature=temperature),
        logit_distillation_loss(a[:, 0], b[:, 0], temperature=temperature),
        topology_distillation_loss(
            a, b, POSITIVE, NEGATIVE, KEPT, temperature=temperature
        ),
    ):
        check_healthy(loss, a, b)


def one_step(module, x, index=None):
    """Every term and gradient of one step of pretraining is finite."""
    index = torch.arange(len(x)) if index is None else index
    output = module(torch.from_numpy(x), index, index % 2)
    loss = sum(output[name] for name in TERMS)
    assert torch.isfinite(loss)
    loss.backward()
    for name, parameter in module.named_parameters():
        if parameter.grad is not None:
            assert torch.isfinite(parameter.grad).all(), name
    module.momentum_step(output["keys"], output["groups"])
    assert torch.isfinite(weights(module)).all()
    return loss


@pytest.mark.parametrize("temperature", [0.01, 10.0])
def test_pretraining_is_healthy_at_any_temperature(temperature):
    module = filled(temperature=temperature)
    one_step(module, windows(8))


def spoilt(how):
    x = windows(8)
    if how == "identical windows":
        x[:] = x[0]
    elif how == "identical channels":
        x[:] = x[:, :1]
    elif how == "a constant channel":
        x[:, 2] = 7.0
    elif how == "constant channels":
        x[:] = np.arange(6, dtype=np.float32)[:, None]
    elif how == "zeros":
        x[:] = 0
    elif how == "a missing channel":
        x[:, 1] = np.nan
    elif how == "one channel left":
        x[:, 1:] = np.nan
    elif how == "volts":
        x *= 1e-6
    elif how == "a million":
        x *= 1e6
    elif how == "a spike":
        x[3, 2, N_TIMES // 2] = 1e8
    return x


SPOILS = [
    "identical windows",
    "identical channels",
    "a constant channel",
    "constant channels",
    "zeros",
    "a missing channel",
    "one channel left",
    "volts",
    "a million",
    "a spike",
]


@pytest.mark.parametrize("how", SPOILS)
@pytest.mark.parametrize(
    ("graph", "features"),
    [
        (MixedGraph, TemporalFeatures),
        (FunctionalGraph, SpectralFeatures),
        (LearnedGraph, CombinedFeatures),
    ],
)
def test_pretraining_is_healthy_whatever_the_windows_hold(how, graph, features):
    parts = {"graph": graph, "features": features}
    models = {"teacher": teacher(**parts), "student": student(**parts)}
    module = joint(**models)
    one_step(module, spoilt(how))  # the first batch sets the statistics
    one_step(filled(**models), spoilt(how))


def test_a_queue_full_of_one_key_is_healthy():
    module = filled(temperature=0.01)
    queue = module.queue
    one = torch.nn.functional.normalize(torch.ones(1, queue.keys.shape[1]))
    queue.enqueue(one.repeat(len(queue.keys), 1))
    assert int(queue.fill) == len(queue.keys)
    one_step(module, windows(8))
    # Its own key among them.
    module = filled(temperature=0.01)
    with torch.no_grad():
        x = torch.from_numpy(windows(1))
        key = module(x, torch.tensor([0]), torch.tensor([0]))["keys"][0, :1]
    module.queue.enqueue(key.repeat(len(queue.keys), 1))
    one_step(module, windows(1), torch.tensor([0]))


def test_training_on_constant_windows_does_not_die():
    x = np.concatenate([spoilt("constant channels"), windows(8)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = pretrainer().fit(x, groups=SUBJECTS)
    assert torch.isfinite(weights(net.module_)).all()
    net = quietly(fit, classifier(), x=np.concatenate([x, X[:8]]), y=Y)
    assert torch.isfinite(vector(net)).all()

"""CudaGraph: a replayed step is the step, and nothing else of a fit changes."""

import copy
import pickle

import numpy as np
import pytest
import torch
from skorch.callbacks import Callback, GradientNormClipping
from tiny import classifier, distil, fit, pretrainer, quietly, vector, windows
from torch import nn
from torch.utils._pytree import tree_leaves

from braindecode_gcmae import CudaGraph, GCMAEClassifier, ResumableCheckpoint
from braindecode_gcmae.callbacks import cuda_graph

SUBJECTS = np.repeat(np.arange(4), 5)
GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


class OnTheCpu(cuda_graph.RecordedStep):
    """A graph's behaviour without a GPU: same places in each replay, nothing before."""

    def _record(self, step, stream):
        self.step, self.graph = step, self
        enclosed = [cell.cell_contents for cell in step.__closure__]
        (net,) = [part.args[0] for part in enclosed if hasattr(part, "args")]
        self.parameters = [p for _, p in net.get_all_learnable_params()]
        before = copy.deepcopy(net.module_.state_dict())
        with torch.random.fork_rng():
            self.outputs = step(self.inputs)
        net.module_.load_state_dict(before)

    def replay(self):
        for parameter in self.parameters:
            parameter.grad = None
        places, values = (
            tree_leaves(o) for o in (self.outputs, self.step(self.inputs))
        )
        for place, value in zip(places, values, strict=True):
            if isinstance(place, torch.Tensor):
                place.copy_(value)
        for parameter, gradient in self.gradients:
            gradient.copy_(parameter.grad)


@pytest.fixture
def on_the_cpu(monkeypatch):
    monkeypatch.setattr(CudaGraph, "check", lambda *_, **__: None)
    monkeypatch.setattr(cuda_graph, "RecordedStep", OnTheCpu)


def pretrained(*callbacks, n=20, **arguments):
    given = {"max_epochs": 2, "batch_size": 4, **arguments}
    net = pretrainer(callbacks=[*callbacks], **given)
    quietly(net.fit, windows(n), groups=SUBJECTS[:n])
    return net


def everything(net):
    """All weights, key encoders, statistics and the queue."""
    return torch.cat([v.double().flatten() for v in net.module_.state_dict().values()])


# ------------------------------------------------------------------ the same training
@pytest.mark.parametrize("objective", ["joint", "reconstruction", "sequential"])
def test_replayed_pretraining_is_eager_pretraining(on_the_cpu, objective):
    given = {"objective": objective, "student__drop_prob": 0.3}
    eager, replayed = pretrained(**given), pretrained(CudaGraph(), **given)
    assert torch.equal(everything(eager), everything(replayed))
    keys = [k for k in eager.history[-1] if k not in ("dur", "batches")]
    for key in keys:
        assert eager.history[:, key] == replayed.history[:, key]


@GPU
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_replayed_pretraining_is_eager_pretraining_on_a_gpu(precision):
    given = {"device": "cuda", "precision": precision, "student__drop_prob": 0.3}
    given |= {"optimizer": torch.optim.SGD, "lr": 1e-2}
    eager, graph = pretrained(**given), CudaGraph()
    replayed = pretrained(graph, **given)
    assert dict(replayed.callbacks_)["CudaGraph"].replayed_ == 6
    torch.testing.assert_close(
        everything(eager), everything(replayed), rtol=1e-3, atol=1e-4
    )


@GPU
def test_replayed_classification_is_eager_classification_on_a_gpu():
    given = {"device": "cuda", "batch_size": 4, "max_epochs": 3}
    given |= {"optimizer": torch.optim.SGD, "lr": 1e-2}
    eager = fit(classifier(**given))
    replayed = fit(classifier(callbacks=[("graph", CudaGraph())], **given))
    assert dict(replayed.callbacks_)["graph"].replayed_ > 0
    torch.testing.assert_close(vector(eager), vector(replayed), rtol=1e-3, atol=1e-4)


def distilled(*callbacks, **arguments):
    both = [*distil(gtd_weight=1.0, kd_weight=1.0), *callbacks]
    return fit(classifier(callbacks=both, batch_size=4, max_epochs=3, **arguments))


TERMS = ["train_kd", "train_gtd", "train_distil", "train_loss"]


def test_a_replayed_distillation_is_an_eager_one(on_the_cpu):
    eager, replayed = distilled(), distilled(("graph", CudaGraph()))
    assert replays(replayed) == 3 * (6 - 2)
    assert torch.equal(vector(eager), vector(replayed))
    for key in TERMS:
        assert eager.history[:, key] == replayed.history[:, key]


@GPU
def test_a_replayed_distillation_is_an_eager_one_on_a_gpu():
    given = {"device": "cuda", "optimizer": torch.optim.SGD, "lr": 1e-2}
    eager, replayed = distilled(**given), distilled(("graph", CudaGraph()), **given)
    assert replays(replayed) == 3 * (6 - 2)
    torch.testing.assert_close(vector(eager), vector(replayed), rtol=1e-3, atol=1e-4)
    for key in TERMS:
        there, here = (net.history[:, key] for net in (eager, replayed))
        np.testing.assert_allclose(here, there, rtol=1e-3)


@pytest.mark.parametrize("cls", [None, GCMAEClassifier])
def test_replayed_classification_is_eager_classification(on_the_cpu, cls):
    given = {"batch_size": 4, "max_epochs": 3, **({"cls": cls} if cls else {})}
    eager = fit(classifier(**given))
    replayed = fit(classifier(callbacks=[("graph", CudaGraph())], **given))
    assert torch.equal(vector(eager), vector(replayed))
    scores = [net.history[:, "train_loss"] for net in (eager, replayed)]
    assert scores[0] == scores[1]


def test_gradients_are_clipped_as_without(on_the_cpu):
    clip = ("clip", GradientNormClipping(1e-3))
    sgd = {"optimizer": torch.optim.SGD, "lr": 1.0}
    eager = pretrained(clip, **sgd)
    replayed = pretrained(clip, ("graph", CudaGraph()), **sgd)
    assert torch.equal(everything(eager), everything(replayed))
    assert not torch.equal(everything(eager), everything(pretrained(**sgd)))


def test_what_a_step_returned_is_not_overwritten_by_the_next(on_the_cpu):
    class Keep(Callback):
        def on_batch_end(self, net, loss=None, y_pred=None, training=False, **kwargs):
            net.kept_.append((loss, y_pred["keys"], y_pred["keys"].clone()))

        def on_train_begin(self, net, **kwargs):
            net.kept_ = []

    net = pretrained(Keep(), CudaGraph())
    for _, keys, then in net.kept_:
        assert torch.equal(keys, then)
    assert len({float(loss) for loss, _, _ in net.kept_}) == len(net.kept_)


# ------------------------------------------------------------- which steps are replayed
def replays(net):
    return next(c.replayed_ for _, c in net.callbacks_ if isinstance(c, CudaGraph))


def test_after_two_steps_of_an_epoch_the_others_are_replayed(on_the_cpu):
    assert replays(pretrained(CudaGraph())) == 2 * (5 - 2)


def test_a_smaller_batch_is_not_replayed(on_the_cpu):
    net = pretrained(CudaGraph(), n=18, iterator_train__drop_last=False)
    assert replays(net) == 2 * (4 - 2)


class AddsUp(Callback):
    """Makes the gradients of a batch, then those of the same batch beside them."""

    def on_train_begin(self, net, **kwargs):
        net.gradients_ = []

    def on_batch_begin(self, net, batch=None, **kwargs):
        net._zero_grad_optimizer()
        for _ in range(2):
            net.train_step_single(batch)
            given = [p.grad for p in net.module_.parameters() if p.grad is not None]
            net.gradients_.append(torch.cat([g.flatten() for g in given]))
        net._zero_grad_optimizer()


def test_gradients_add_up_as_without(on_the_cpu):
    eager = pretrained(AddsUp())
    replayed = pretrained(CudaGraph(), AddsUp())
    assert replays(replayed) > 0
    for one, two in zip(eager.gradients_, replayed.gradients_, strict=True):
        assert torch.equal(one, two)


# ------------------------------------------------------------------------ a net's step
def test_after_a_fit_the_net_has_its_own_step(on_the_cpu):
    net = pretrained(CudaGraph())
    assert "train_step_single" not in vars(net)


class Stop(Callback):
    """Ends a fit in its second epoch, once."""

    def on_epoch_end(self, net, **kwargs):
        if len(net.history) == 2:
            raise ZeroDivisionError


def test_a_fit_that_died_leaves_a_net_that_can_be_fitted(on_the_cpu):
    net = pretrainer(callbacks=[CudaGraph(), Stop()], max_epochs=3, batch_size=4)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            quietly(net.fit, windows(20), groups=SUBJECTS)
    assert replays(net) == 2 * (5 - 2)


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda x: x], ids=["copy", "not"])
def test_a_net_copied_inside_a_fit_can_be_fitted(on_the_cpu, duplicate):
    class Copy(Callback):
        def on_batch_end(self, net, **kwargs):
            copies.append(pickle.loads(pickle.dumps(vars(net)["train_step_single"])))

    copies = []
    net = pretrained(CudaGraph(), Copy())
    with pytest.raises(RuntimeError, match="copied inside a fit"):
        copies[-1](None)
    again = duplicate(net)
    again.train_step_single = copies[-1]
    quietly(again.fit, windows(20), groups=SUBJECTS)
    assert replays(again) == 2 * (5 - 2)


def test_a_run_goes_on_with_or_without(on_the_cpu, tmp_path):
    whole = pretrained(max_epochs=3)
    kept = [ResumableCheckpoint(tmp_path)]
    pretrained(*kept, CudaGraph(), max_epochs=2)
    goes_on = pretrained(*kept, max_epochs=3)
    assert torch.equal(everything(whole), everything(goes_on))


# ---------------------------------------------------------------------------- refusals
def test_a_net_on_the_cpu_is_refused_before_it_trains():
    with pytest.raises(ValueError, match=r"on 'cpu'.*device='cuda'"):
        pretrained(CudaGraph())


def on_cuda(monkeypatch):
    monkeypatch.setattr(cuda_graph, "device_of", lambda net: torch.device("cuda"))


@pytest.mark.parametrize("given", [{"unlabelled": windows(4)}, {"cross_fit": 2}])
def test_terms_of_other_windows_are_refused_by_name(monkeypatch, given):
    on_cuda(monkeypatch)
    (term,) = distil(**given)
    with pytest.raises(ValueError, match="cannot replay what the callback 'distil'"):
        fit(classifier(callbacks=[("graph", CudaGraph()), ("distil", term[1])]))


def test_accelerate_is_refused(monkeypatch):
    on_cuda(monkeypatch)
    net = pretrainer(callbacks=[CudaGraph()])
    net.accelerator = object()
    with pytest.raises(ValueError, match="accelerate"):
        quietly(net.fit, windows(20), groups=SUBJECTS)


def test_a_step_that_cannot_be_recorded_says_why(monkeypatch):
    class Refuses:
        def __init__(self, graph, stream, capture_error_mode):
            pass

        def __enter__(self):
            return self

        def __exit__(self, *_):
            raise RuntimeError("capture invalidated")

    def step(inputs):
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(torch.cuda, "CUDAGraph", object)
    monkeypatch.setattr(torch.cuda, "graph", Refuses)
    left = []
    monkeypatch.setattr(torch.cuda, "set_stream", left.append)
    with pytest.raises(RuntimeError, match="and leave the callback out: operation not"):
        cuda_graph.RecordedStep(step, [torch.ones(2)], [], "cpu", "mine")
    assert left == ["mine"]


@GPU
def test_a_step_that_waits_for_the_gpu_is_refused():
    class Waits(nn.CrossEntropyLoss):
        def forward(self, *args):
            loss = super().forward(*args)
            return loss * (1.0 if float(loss) > 0 else 2.0)

    net = classifier(
        callbacks=[("graph", CudaGraph())], criterion=Waits, device="cuda", batch_size=4
    )
    with pytest.raises(RuntimeError, match="cannot record this net's training step"):
        fit(net)

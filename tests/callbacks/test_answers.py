"""A frozen teacher's answers are kept, and are still its answers."""

import pytest
import torch
from tiny import SIGNAL, SMALL, classifier, distil, fit, teacher, vector, windows

from braindecode_gcmae import GCMAETeacher
from braindecode_gcmae.callbacks.distillation.answers import TeacherAnswers, mean_graph
from braindecode_gcmae.callbacks.distillation.answers import _digests as digests


def frozen(**arguments):
    return teacher(**arguments).eval().requires_grad_(False)


def counted(model):
    """How often the model's encoder is called."""
    calls = []
    model.network.encoder.register_forward_hook(lambda *_: calls.append(1))
    return calls


def batches(x, size=4):
    return [{"x": part} for part in torch.from_numpy(x).split(size)]


def test_what_is_kept_is_what_the_teacher_says():
    model, x = frozen(), windows(10)
    answers = TeacherAnswers(model)
    answers.learn(batches(x))
    order = torch.tensor([7, 0, 3, 3, 9])
    calls = counted(model)
    logits, nodes = answers({"x": torch.from_numpy(x)[order]})
    assert not calls and logits.shape == (5, 2) and nodes.shape[:2] == (5, 6)
    torch.testing.assert_close(logits, model(torch.from_numpy(x)[order]))
    alone = TeacherAnswers(model)({"x": torch.from_numpy(x)[order]})
    torch.testing.assert_close(nodes, alone[1])


def test_a_teacher_answers_by_its_own_forward():
    class Sure(GCMAETeacher):
        def forward(self, x, pos=None, ch_mask=None):
            return super().forward(x, pos, ch_mask) + torch.tensor([7.0, 0.0])

    x = torch.from_numpy(windows(5))
    plain, sure = frozen(), Sure(2, **SIGNAL, **SMALL)
    sure.load_state_dict(plain.state_dict())
    hooks = len(plain.network.readout._forward_pre_hooks)
    (told, nodes), (surely, same_nodes) = (
        TeacherAnswers(model.eval())({"x": x}) for model in (plain, sure)
    )
    torch.testing.assert_close(surely - told, torch.tensor([[7.0, 0.0]] * 5))
    assert torch.equal(nodes, same_nodes)
    assert len(plain.network.readout._forward_pre_hooks) == hooks


def test_a_window_is_known_by_its_content():
    model, x = frozen(), windows(8)
    answers = TeacherAnswers(model)
    answers.learn(batches(x))
    changed = torch.from_numpy(x).clone()
    changed[3, 2, 50] += 1.0  # an augmented window, say
    calls = counted(model)
    torch.testing.assert_close(answers({"x": changed})[0], model(changed))
    assert calls
    # the same samples with an electrode declared missing are another window
    seen = torch.ones(8, 6, dtype=torch.bool)
    seen[:, 1] = False
    inputs = {"x": torch.from_numpy(x), "ch_mask": seen}
    torch.testing.assert_close(answers(inputs)[0], model(**inputs))
    assert not torch.allclose(answers(inputs)[0], answers({"x": inputs["x"]})[0])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_windows_of_any_precision_are_told_apart(dtype):
    x = torch.from_numpy(windows(4)).to(dtype)
    keys = digests({"x": x, "pos": torch.zeros(6, 3)})
    assert len(set(keys)) == 4 and keys == digests({"x": x, "pos": torch.zeros(6, 3)})
    assert not set(keys) & set(digests({"x": x.float(), "pos": torch.zeros(6, 3)}))
    assert not set(keys) & set(digests({"x": x, "pos": torch.ones(6, 3)}))


def test_kept_bits_do_not_depend_on_the_batch_in_which_a_window_is_met():
    model, x = frozen(), torch.from_numpy(windows(9))
    answers = TeacherAnswers(model)
    answers.learn(batches(x.numpy()))
    one, _ = answers({"x": x[:1]})
    many, _ = answers({"x": x.flip(0)})
    assert torch.equal(one[0], many[-1])


@pytest.mark.parametrize(
    ("n_windows", "n_uses", "largest", "expected"),
    [(10, 11, 1 << 28, True), (10, 10, 1 << 28, False), (10, 50, 1000, False)],
)
def test_answers_are_kept_where_they_come_again_and_fit(
    n_windows, n_uses, largest, expected
):
    assert TeacherAnswers(frozen(), largest).pays(n_windows, n_uses) is expected


def test_the_size_of_what_is_kept_is_what_was_reckoned():
    model, x = frozen(), windows(5)
    answers = TeacherAnswers(model)
    answers.learn(batches(x))
    size = sum(t.numel() * 4 for row in answers.rows.values() for t in row)
    assert TeacherAnswers(model, size).pays(5, 6)
    assert not TeacherAnswers(model, size - 1).pays(5, 6)


def test_training_is_the_same_with_and_without_the_memory(monkeypatch):
    sgd = {"optimizer": torch.optim.SGD, "lr": 0.1, "max_epochs": 3}
    pool = windows(12, seed=5)
    with_memory = fit(classifier(callbacks=distil(unlabelled=pool), **sgd))
    monkeypatch.setattr(TeacherAnswers, "pays", lambda *_: False)
    without = fit(classifier(callbacks=distil(unlabelled=pool), **sgd))
    torch.testing.assert_close(vector(with_memory), vector(without), atol=1e-5, rtol=0)


def test_the_teacher_sees_each_window_once_a_fit(monkeypatch):
    seen = []
    original = TeacherAnswers.__call__

    def counting(self, inputs):
        seen.append(len(self.rows))
        return original(self, inputs)

    monkeypatch.setattr(TeacherAnswers, "__call__", counting)
    model = teacher()
    callbacks = distil(model, unlabelled=windows(12, seed=5))
    net = fit(classifier(callbacks=callbacks, max_epochs=4))
    own = dict(net.callbacks_)["distil"].answers_
    assert len(own.rows) == 24 + 12 and seen.count(0) == 3  # batches of 8, once


def test_a_pickled_student_carries_no_answers():
    import pickle

    net = fit(classifier(callbacks=distil(), max_epochs=1))
    again = pickle.loads(pickle.dumps(net))
    assert dict(again.callbacks_)["distil"].answers_ is None


def test_an_electrode_that_half_of_the_windows_lack_keeps_its_edges():
    model, x = frozen(), windows(8)
    net = classifier(model).initialize()
    lacking = x.copy()
    lacking[::2, 1] = float("nan")
    graph, whole = (
        mean_graph(model, net, net.get_dataset(part)) for part in (lacking, x[1::2])
    )
    torch.testing.assert_close(graph[1], whole[1])
    assert (whole[1] > 0).any()

"""GCMAEPretrainer: a skorch net, a transformer, the same bits from the same seed."""

import copy
import pickle

import numpy as np
import pytest
import sklearn
import torch
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from test_data import mixed
from tiny import (
    FEW,
    SFREQ,
    epochs,
    info,
    labelled,
    pretrainer,
    quietly,
    student,
    teacher,
    weights,
    windows,
)

from braindecode_gcmae import GCMAEPretrainer, GCMAEStudent, GCMAETeacher
from braindecode_gcmae.models import CheckpointError
from braindecode_gcmae.pretraining import PretrainingLoss

TERMS = ["rec_teacher", "rec_student", "contrast_teacher", "contrast_student"]
SUBJECTS = np.repeat(np.arange(4), 4)
pytestmark = pytest.mark.filterwarnings("ignore:some windows have no subject")


def fitted(x=None, groups=SUBJECTS, **arguments):
    return pretrainer(**arguments).fit(windows() if x is None else x, groups=groups)


# ----------------------------------------------------------------------------- terms
def test_the_history_names_the_four_terms_and_the_loss_is_their_sum():
    net = fitted()
    for row in net.history:
        assert all(np.isfinite(row[name]) for name in TERMS)
        assert row["train_loss"] == pytest.approx(sum(row[n] for n in TERMS), rel=1e-5)


def test_the_weights_of_the_terms_are_arguments_of_the_criterion():
    output = {"rec_student": torch.tensor(2.0), "contrast_student": torch.tensor(3.0)}
    loss = PretrainingLoss(reconstruction_weight=0.5, contrast_weight=10.0)
    assert float(loss(output, None)) == 31.0


@pytest.mark.parametrize(
    ("objective", "terms"),
    [("contrast", TERMS[2:]), ("reconstruction", TERMS[:2]), ("joint", TERMS)],
)
def test_an_objective_has_its_terms(objective, terms):
    history = fitted(objective=objective, max_epochs=1).history
    assert {name for name in TERMS if name in history[-1]} == set(terms)


def test_sequential_contrasts_first_and_reconstructs_then():
    history = fitted(objective="sequential", max_epochs=4).history
    found = [{name for name in TERMS if name in row} for row in history]
    assert found == [set(TERMS[2:])] * 2 + [set(TERMS[:2])] * 2


# -------------------------------------------------------------------------- precision
def test_bfloat16_rounds_the_terms_and_nothing_that_is_kept():
    full, half = fitted(), fitted(precision="bfloat16")
    for ours, theirs in zip(full.history, half.history, strict=True):
        for name in TERMS:
            assert ours[name] != theirs[name]
            assert theirs[name] == pytest.approx(ours[name], rel=0.02)
    kept = half.module_.state_dict()
    assert not {v.dtype for v in kept.values()} & {torch.bfloat16, torch.float16}
    moments = [v for s in half.optimizer_.state.values() for v in s.values()]
    assert {v.dtype for v in moments} == {torch.float32}


def test_after_training_in_bfloat16_everything_is_float32():
    half, full = fitted(precision="bfloat16"), fitted()
    full.module_.load_state_dict(half.module_.state_dict())
    assert np.array_equal(half.transform(windows()), full.transform(windows()))
    ours, theirs = (net.reconstruct(windows(4), ["C3"]) for net in (half, full))
    assert np.array_equal(ours.reconstruction, theirs.reconstruction)


def test_gradients_of_every_weight_survive_bfloat16():
    """Autocast keeps rounded weights: one made without gradient must not serve."""
    start = pretrainer(max_epochs=0, precision="bfloat16").fit(windows())
    before = {n: v.clone() for n, v in start.module_.named_parameters()}
    still = fitted(max_epochs=1, precision="bfloat16").module_.named_parameters()
    alike = {name for name, v in still if torch.equal(v, before[name])}
    full = fitted(max_epochs=1).module_.named_parameters()
    assert alike == {name for name, v in full if torch.equal(v, before[name])}


def test_bfloat16_gives_the_same_bits_from_the_same_seed():
    one, two = (weights(fitted(precision="bfloat16").module_) for _ in range(2))
    assert torch.equal(one, two)


def test_an_unknown_precision_is_an_error_before_any_step():
    with pytest.raises(ValueError, match="precision must be 'float32' or 'bfloat16'"):
        fitted(precision="float16")


@pytest.mark.parametrize("missing", ["teacher", "student"])
def test_one_density_alone(missing):
    net = fitted(**{missing: None}, max_epochs=1)
    kept = {"teacher", "student"} - {missing}
    assert {n for n in TERMS if n in net.history[-1]} == {
        f"{term}_{name}" for term in ("rec", "contrast") for name in kept
    }
    with pytest.raises(ValueError, match=f"without a {missing}"):
        getattr(net, f"{missing}_")


def test_pretraining_makes_the_reconstruction_better():
    net = fitted(max_epochs=25, lr=1e-2, objective="reconstruction")
    history = net.history[:, "rec_student"]
    assert np.mean(history[-3:]) < 0.8 * history[0]


# ---------------------------------------------------------------------- randomness
def test_the_same_seed_gives_the_same_bits_whatever_the_global_state():
    torch.rand(7)
    one = fitted()
    torch.rand(3)
    two = fitted()
    assert torch.equal(weights(one.module_), weights(two.module_))
    other = fitted(seed=1)
    assert not torch.equal(weights(one.module_), weights(other.module_))


@pytest.mark.parametrize("workers", [2])
def test_the_number_of_workers_changes_no_bit(workers):
    one, two = fitted(), fitted(iterator_train__num_workers=workers)
    for name in TERMS:
        assert one.history[:, name] == two.history[:, name]
    assert torch.equal(weights(one.module_), weights(two.module_))


def test_dropout_too_depends_on_the_seed_alone():
    dropout = {"teacher__drop_prob": 0.5, "student__drop_prob": 0.5}
    one = fitted(**dropout)
    torch.rand(11)
    assert torch.equal(weights(one.module_), weights(fitted(**dropout).module_))


class Listening(GCMAEPretrainer):
    """Notes what it was given."""

    batches: list = []
    groups: list = []

    def train_step(self, batch, **kwargs):
        self.batches.append(batch[0]["index"].tolist())
        return super().train_step(batch, **kwargs)

    def fit(self, X, y=None, *, groups=None):
        self.groups.append(groups)
        return super().fit(X, y, groups=groups)


def listening(**arguments):
    Listening.batches, Listening.groups = [], []
    given = pretrainer(**arguments).get_params(deep=False)
    return Listening(**given)


def test_every_epoch_sees_the_windows_in_another_order():
    net = listening(max_epochs=2).fit(windows(), groups=SUBJECTS)
    first, second = sum(net.batches[:2], []), sum(net.batches[2:], [])
    assert sorted(first) == sorted(second) == list(range(16)) and first != second


@pytest.mark.parametrize("n", [1, 5, 11])
def test_fewer_windows_than_a_batch_and_last_batches_are_learnt_from(n):
    net = fitted(windows(n), np.arange(n), iterator_train__drop_last=False)
    rows = net.history[-1]["batches"]
    assert [row["train_batch_size"] for row in rows] == ([8, 3] if n > 8 else [n])
    assert np.isfinite(net.history[-1]["train_loss"])


def test_all_windows_may_be_one_batch_as_for_any_net_of_skorch():
    whole, counted = (fitted(batch_size=size) for size in (-1, len(windows())))
    assert torch.equal(weights(whole.module_), weights(counted.module_))
    np.testing.assert_array_equal(
        *(net.transform(windows(5)) for net in (whole, counted))
    )


# ------------------------------------------------------------------------- going on
def test_partial_fit_goes_on_where_fit_stopped():
    once = fitted(max_epochs=4)
    twice = fitted(max_epochs=2).partial_fit(windows(), groups=SUBJECTS)
    assert len(twice.history) == 4
    assert torch.equal(weights(once.module_), weights(twice.module_))


def test_a_warm_start_keeps_the_weights_and_a_cold_one_does_not():
    warm = fitted(warm_start=True, max_epochs=2)
    warm.fit(windows(), groups=SUBJECTS)
    assert len(warm.history) == 4
    cold = fitted(max_epochs=2)
    before = weights(cold.module_)
    cold.fit(windows(), groups=SUBJECTS)
    assert len(cold.history) == 2 and torch.equal(before, weights(cold.module_))


def test_a_model_given_as_an_instance_is_left_as_it_is():
    ours = student(), teacher()
    before = [weights(model) for model in ours]
    net = fitted(student=ours[0], teacher=ours[1])
    for model, old, new in zip(ours, before, (net.student_, net.teacher_), strict=True):
        assert torch.equal(weights(model), old)
        assert not torch.equal(weights(new), old)


# -------------------------------------------------------------------------- use
def test_transform_embeds_high_and_low_density_alike():
    net = fitted()
    x = windows(5)
    high = net.transform(x)
    assert high.shape == (5, net.student_.network.n_outputs)
    np.testing.assert_array_equal(high, net.transform(x[:, [2, 3, 4]]))
    assert net.transform_teacher(x).shape[0] == 5
    again = net.student_.eval()(torch.from_numpy(x), return_features=True)["features"]
    np.testing.assert_allclose(high, again.detach().numpy(), atol=1e-6)


def test_transform_does_not_change_the_net():
    net = fitted()
    before = weights(net.module_)
    mode = net.student_.network.training
    net.transform(windows(3))
    assert torch.equal(before, weights(net.module_))
    assert net.student_.network.training is mode


def test_saved_models_come_back_and_another_pretrainer_takes_them(tmp_path):
    net = fitted()
    net.save_pretrained(tmp_path)
    x = windows(3)
    for name, cls in (("student", GCMAEStudent), ("teacher", GCMAETeacher)):
        files = {path.name for path in (tmp_path / name).iterdir()}
        assert {"config.json", "model.safetensors"} <= files
        assert {f.rsplit(".")[-1] for f in files} <= {"json", "safetensors", "md"}
        model = cls.from_pretrained(tmp_path / name, n_outputs=3)
        features = model(torch.from_numpy(x), return_features=True)["features"]
        embed = net.transform if name == "student" else net.transform_teacher
        np.testing.assert_allclose(features.detach().numpy(), embed(x), atol=1e-6)
        assert not any("decoder" in k or "projector" in k for k in model.state_dict())
    other = pretrainer(seed=9).load_pretrained(tmp_path)
    np.testing.assert_array_equal(other.transform(x), net.transform(x))
    other.partial_fit(windows(), groups=SUBJECTS)
    assert other.student is GCMAEStudent
    named = pretrainer(teacher="GCMAETeacher", student="GCMAEStudent")
    named.load_pretrained(tmp_path)
    np.testing.assert_array_equal(named.transform(x), net.transform(x))


def test_saved_models_of_another_rate_are_refused(tmp_path):
    fitted().save_pretrained(tmp_path)
    arguments = {"teacher": GCMAETeacher, "student": GCMAEStudent, "max_epochs": 1}
    with pytest.raises(ValueError, match="sfreq=128.* for 100 Hz"):
        GCMAEPretrainer.from_pretrained(tmp_path, sfreq=128, **arguments)
    loaded = GCMAEPretrainer.from_pretrained(tmp_path, sfreq=100.0, **arguments)
    assert loaded.student_.sfreq == 100


def test_an_empty_folder_is_a_clear_error(tmp_path):
    with pytest.raises(CheckpointError, match="neither"):
        pretrainer().load_pretrained(tmp_path)


@pytest.mark.parametrize(
    "copier", [copy.deepcopy, lambda n: pickle.loads(pickle.dumps(n))]
)
def test_a_copy_embeds_alike_and_goes_on_alike(copier):
    net = fitted()
    other = copier(net)
    np.testing.assert_array_equal(
        net.transform(windows(3)), other.transform(windows(3))
    )
    for each in (net, other):
        each.partial_fit(windows(), groups=SUBJECTS)
    assert torch.equal(weights(net.module_), weights(other.module_))


# ------------------------------------------------------------------------ what comes in
def test_epochs_need_no_other_argument():
    data = epochs(windows(), subject=SUBJECTS)
    net = pretrainer(ch_names=None, sfreq=None).fit(data)
    assert [c["ch_name"] for c in net.student_.node_channels()] == FEW
    assert net.student_.sfreq == SFREQ


def test_mixed_montages_are_pretrained_together():
    net = pretrainer(chs_info=info()["chs"], iterator_train__drop_last=False).fit(
        mixed()
    )
    assert np.isfinite(net.history[-1]["train_loss"])


def test_without_subjects_it_is_said():
    with pytest.warns(UserWarning, match="no subject id"):
        pretrainer(max_epochs=1).fit(windows())


def test_labels_are_said_to_be_ignored():
    x, y = labelled()
    with pytest.warns(UserWarning, match="y is ignored"):
        pretrainer(max_epochs=1).fit(x, y, groups=y)


def test_several_montages_need_to_be_told_which_the_models_are_for():
    with pytest.raises(ValueError, match="different montages.*chs_info= or ch_names="):
        quietly(pretrainer(ch_names=None).fit, mixed())


def test_using_it_unfitted_is_an_error(tmp_path):
    for use, given in (("transform", windows(3)), ("save_pretrained", tmp_path)):
        with pytest.raises(sklearn.exceptions.NotFittedError, match="not initialized"):
            getattr(pretrainer(), use)(given)
    with pytest.raises(RuntimeError, match="call fit"):
        pretrainer().initialize()


# ------------------------------------------------------------------------ scikit-learn
def test_get_params_set_params_and_clone_reach_both_models():
    net = pretrainer(teacher__depth=2)
    assert net.get_params()["teacher__depth"] == 2
    net.set_params(student__emb_dim=4, temperature=0.2, optimizer__weight_decay=0.1)
    twin = clone(net)
    assert twin.get_params()["student__emb_dim"] == 4 and twin.temperature == 0.2
    twin.fit(windows(), groups=SUBJECTS)
    assert twin.student_.network.embed.out_features == 4
    assert len(twin.teacher_.network.encoder.layers) == 2
    assert not hasattr(net, "module_") and not clone(twin).initialized_


def test_it_is_a_transformer_in_front_of_any_classifier():
    x, y = labelled(40)
    pipeline = make_pipeline(pretrainer(max_epochs=3), LogisticRegression(max_iter=500))
    scores = quietly(cross_val_score, pipeline, x, y, cv=2)
    assert scores.shape == (2,) and scores.mean() > 0.5


@pytest.mark.filterwarnings("error:pretraining uses no labels")  # no pipeline without
def test_a_grid_search_reaches_its_arguments():
    x, y = labelled()
    pipeline = make_pipeline(pretrainer(max_epochs=1), LogisticRegression())
    grid = {"gcmaepretrainer__teacher__depth": [1, 2]}
    found = GridSearchCV(pipeline, grid, cv=2, error_score="raise").fit(x, y)
    assert found.best_params_.keys() == grid.keys()
    net = found.best_estimator_[0]
    depth = found.best_params_["gcmaepretrainer__teacher__depth"]
    assert len(net.teacher_.network.encoder.layers) == depth


# ------------------------------------------------------------------------ set_params
@pytest.mark.parametrize(
    ("name", "value"),
    [("objective", "contrast"), ("temperature", 0.2), ("momentum", 0.5), ("seed", 7)],
)
def test_what_the_module_is_built_of_makes_it_anew(name, value):
    changed = fitted().set_params(**{name: value})
    at_once = pretrainer(**{name: value}).fit(windows(), groups=SUBJECTS)
    changed.partial_fit(windows(), groups=SUBJECTS)
    assert torch.equal(weights(changed.joint_), weights(at_once.joint_))


def test_what_is_set_later_is_looked_at_when_it_is_set():
    with pytest.raises(ValueError, match="temperature"):
        fitted().set_params(temperature=-1.0)
    net = fitted()
    before = weights(net.joint_)
    assert torch.equal(weights(net.set_params(lr=1e-5, max_epochs=3).joint_), before)

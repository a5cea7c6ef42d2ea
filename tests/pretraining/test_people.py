"""A person is the same person to the key queue, whatever the call of fit."""

import copy
import pickle

import numpy as np
import pytest
import torch
from sklearn.model_selection import GroupKFold
from skorch.callbacks import Callback
from skorch.dataset import ValidSplit
from skorch.helper import predefined_split
from test_pretrainer import fitted
from tiny import pretrainer, quietly, windows

from braindecode_gcmae.pretraining import UnlabelledWindows
from braindecode_gcmae.pretraining.people import People

FIRST = np.repeat(["anna", "ben"], 8)
NET = {"max_epochs": 1, "queue_size": 256}


def usable(net, windows):
    """Which keys are negatives of which windows; in the order they were pushed."""
    index = torch.arange(len(windows))
    group = torch.as_tensor(net.people_.numbered(windows).groups)
    group = torch.where(group < 0, index + (1 << 40), group)
    return net.joint_.queue.usable(group)[:, : int(net.joint_.queue.fill)]


def owners(net):
    """Code of the subject of each key."""
    return net.joint_.queue.groups[: int(net.joint_.queue.fill)].tolist()


def go_on(net, way, x, groups):
    if way == "warm start":
        return net.set_params(warm_start=True).fit(x, groups=groups)
    return net.partial_fit(x, groups=groups)


# ------------------------------------------------------------------ known people
@pytest.mark.parametrize("way", ["partial fit", "warm start"])
def test_keys_of_the_same_subject_are_no_negatives_whatever_the_call(way):
    net = fitted(groups=FIRST, **NET)
    go_on(net, way, windows(seed=1), FIRST[::-1])
    assert owners(net)[:64] != owners(net)[64:]
    there = UnlabelledWindows(windows(seed=1), FIRST[::-1])
    found = usable(net, there)
    keys = np.array(owners(net))
    for row, name in zip(found.numpy(), FIRST[::-1], strict=True):
        np.testing.assert_array_equal(row, keys != ["anna", "ben"].index(name))


def test_new_people_have_numbers_of_their_own():
    net = fitted(groups=FIRST, **NET)
    net.partial_fit(windows(seed=1), groups=np.repeat(["carl", "anna"], 8))
    assert set(owners(net)[:64]) == {0, 1} and set(owners(net)[64:]) == {2, 0}


def test_a_first_fit_numbers_people_as_its_windows_do():
    net = fitted(groups=FIRST, **NET)
    net.fit(windows(seed=1), groups=FIRST[::-1])  # with a queue of its own
    x = UnlabelledWindows(windows(seed=1), FIRST[::-1])
    assert net.people_.codes == {"ben": 0, "anna": 1}
    assert x.groups.tolist() == net.people_.numbered(x).groups.tolist()


def test_windows_that_are_handed_over_keep_their_own_numbers():
    net, x = fitted(groups=FIRST, **NET), UnlabelledWindows(windows(), FIRST[::-1])
    net.partial_fit(x)
    assert x.groups.tolist() == [0] * 8 + [1] * 8


@pytest.mark.parametrize(
    "copier", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))]
)
def test_a_copy_knows_the_same_people(copier):
    net = copier(fitted(groups=FIRST, **NET))
    net.partial_fit(windows(), groups=FIRST[::-1])
    assert net.people_.codes == {"anna": 0, "ben": 1}


def test_people_to_validate_on_are_known_from_every_call_and_take_no_numbers():
    held_out = UnlabelledWindows(windows(3, seed=1), ["anna", "new", "carl"])
    net = fitted(groups=FIRST, **NET, train_split=predefined_split(held_out))
    later = UnlabelledWindows(windows(), np.repeat(["carl", "dora"], 8))
    net.partial_fit(later)
    _, valid = net.get_split_datasets(later)
    assert valid.groups.tolist() == [0, 4, 2]
    assert net.people_.codes == {"anna": 0, "ben": 1, "carl": 2, "dora": 3}


# ---------------------------------------------------------------- unknown people
def test_windows_of_unknown_people_of_another_call_are_others():
    net = quietly(fitted, groups=None, **NET)
    x = UnlabelledWindows(windows(seed=1))
    assert usable(net, x).all()
    same = usable(net, UnlabelledWindows(windows()))
    assert (~same).sum(1).tolist() == [4] * 16  # the keys of this very window
    quietly(net.partial_fit, windows(seed=1))
    assert int((~usable(net, x)).sum()) == 4 * 16


# --------------------------------------------------------------------- resuming
def test_a_queue_that_is_resumed_knows_its_people():
    here, there = People({"ben": 0, "carl": 1}), People({"anna": 0, "ben": 1})
    groups = torch.tensor([0, 1, -1, 0])
    here.translate(groups, there.state())
    assert here.codes == {"ben": 0, "carl": 1, "anna": 2}
    assert groups.tolist() == [2, 0, -1, 2]


def test_unknown_people_of_a_resumed_queue_are_the_same_windows():
    net = quietly(fitted, groups=None, **NET)
    later = UnlabelledWindows(windows(seed=1))
    quietly(net.partial_fit, later)
    expected, fresh = usable(net, later), People()
    fresh.numbered(later)  # the first windows of another process
    fresh.translate(net.joint_.queue.groups, net.people_.state())
    net.people_ = fresh
    assert torch.equal(usable(net, later), expected)


@pytest.mark.parametrize("old", [False, True])
def test_the_state_of_a_run_tells_its_people_and_old_ones_load(tmp_path, old):
    net = fitted(groups=FIRST, **NET)
    state = net.resume_state()
    assert state["people"] == {"codes": {"anna": 0, "ben": 1}, "first": None}
    torch.save(state, tmp_path / "state.pt")
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    if old:
        del state["people"]
    other = pretrainer(**NET).fit(windows(), groups=FIRST[::-1])
    other.joint_.load_state_dict(net.joint_.state_dict())
    other.resume_from(state)
    expected = np.array(owners(net)) if old else 1 - np.array(owners(net))
    assert owners(other) == expected.tolist()


# -------------------------------------------------------------------- one by one
def test_people_who_come_one_by_one_are_known():
    net = pretrainer(**NET)
    x = windows(8)
    with pytest.warns(UserWarning, match="all windows are of one person"):
        net.partial_fit(x, groups=["anna"] * 8)
    for name in ("ben", "carl", "ben"):
        net.partial_fit(x, groups=[name] * 8)
    n = 8 * 4  # keys of a call
    assert owners(net)[n:] == [1] * n + [2] * n + [1] * n
    assert min(owners(net)[:n]) >= 1 << 40  # negatives of each other
    assert net.people_.codes == {"anna": 0, "ben": 1, "carl": 2}


def test_ids_beside_windows_that_are_ready_count():
    ready = UnlabelledWindows(windows())
    net = pretrainer(**NET).fit(ready, groups=FIRST)
    assert net.people_.codes == {"anna": 0, "ben": 1}


# -------------------------------------------------------------------- by people
def test_a_validation_split_by_people_hears_of_them():
    net = pretrainer(train_split=ValidSplit(GroupKFold(2)), **NET)
    seen = []

    class Look(Callback):
        def on_epoch_begin(self, net, dataset_train=None, dataset_valid=None, **kwargs):
            seen.append([set(d.indices) for d in (dataset_train, dataset_valid)])

    net.set_params(callbacks=[("look", Look())]).fit(windows(), groups=FIRST)
    assert sorted(map(sorted, seen[0])) == [list(range(8)), list(range(8, 16))]
    assert np.isfinite(net.history[-1]["valid_loss"])


def test_a_split_by_people_needs_everybody():
    net = pretrainer(train_split=ValidSplit(GroupKFold(2)), **NET)
    with pytest.raises(ValueError, match="no subject id: pass groups= to fit"):
        quietly(net.fit, windows(), groups=[*FIRST[:-1], None])

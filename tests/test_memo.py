"""What a model keeps between windows is never stale, never shared, never saved."""

import copy
import pickle

import pytest
import torch

from braindecode_gcmae.features import Electrodes
from braindecode_gcmae.features.electrodes import data_mask
from braindecode_gcmae.features.memo import Memo
from tests.tiny import FEW, student, windows

X = torch.as_tensor(windows(3, len(FEW)))


class Counted:
    """A function that counts its calls."""

    def __init__(self):
        self.calls = 0

    def __call__(self, *sources):
        self.calls += 1
        return sum(source.sum() for source in sources)


def test_a_value_is_kept_while_the_numbers_stay():
    memo, function = Memo(), Counted()
    a, b = torch.randn(3), torch.randn(2)
    with torch.no_grad():
        first = memo(function, a, b)
        assert memo(function, a.clone(), b) is first
        assert function.calls == 1
        a.data.add_(1)  # leaves the version as it is
        torch.testing.assert_close(memo(function, a, b), a.sum() + b.sum())
        memo(function, a.double(), b)
        assert function.calls == 3
        memo(function, a[:2], b)
        assert function.calls == 4


def test_nothing_is_kept_where_it_would_be_wrong():
    memo, function = Memo(largest=4), Counted()
    a = torch.randn(3, requires_grad=True)
    assert memo(function, a).requires_grad  # a gradient is wanted
    with torch.no_grad():
        memo(function, torch.zeros(5))  # too large
        memo(function, torch.zeros(2, device="meta"))
        with torch.autocast("cpu"):
            memo(function, a)
    assert memo.kept == ()
    with torch.no_grad():
        nan = torch.tensor([float("nan")])
        memo(function, nan)
        calls = function.calls
        memo(function, nan)
    assert function.calls == calls + 1


def located(network, x):
    return network.locate(x)[1]


def test_a_montage_with_all_its_data_is_one_object_until_it_changes():
    network = student().eval().network
    with torch.no_grad():
        first = located(network, X)
        assert located(network, X + 1) is first
        assert located(network, X[:2]).present.shape == (2, len(FEW))
        for tensor in (network.positions, network.basis):
            before = located(network, X)
            tensor.data.mul_(1.01)  # leaves the version as it is
            after = located(network, X)
            assert after is not before
            assert torch.equal(after.positions[0], network.positions)
            assert torch.equal(after.basis[0], network.basis)
    assert located(network, X) is not located(network, X)  # a gradient is wanted


def test_all_true_masks_and_no_mask_are_the_same_montage():
    network = student().eval().network
    everywhere = torch.ones(X.shape[:2], dtype=torch.bool)
    with torch.no_grad():
        whole = located(network, X)
        assert network.locate(X, ch_mask=everywhere)[1] is whole
        everywhere[1, 0] = False
        assert not network.locate(X, ch_mask=everywhere)[1].present[1, 0]
        assert located(network, X[:0]).present.shape == (0, len(FEW))


def test_electrodes_with_missing_ones_are_known_by_their_contents():
    network, memo = student().eval().network, Memo()
    lost = X.clone()
    lost[0, 1] = float("nan")

    def count(electrodes: Electrodes):
        return electrodes.present.sum()

    with torch.no_grad():
        electrodes = located(network, lost)
        n_present = memo(count, electrodes)
        assert memo(count, located(network, lost)) is n_present
        electrodes.present[0, 0] = False  # the same object, other contents
        assert memo(count, electrodes) == n_present - 1
        assert memo(count, located(network, X)) == n_present + 1


def test_numbers_are_sources_too():
    memo = Memo()
    with torch.no_grad():
        x = torch.ones(2)
        assert memo(torch.mul, x, 2).tolist() == [2, 2]
        assert memo(torch.mul, x, 3).tolist() == [3, 3]
        assert memo(torch.mul, x, 3) is memo.kept[1]


def test_what_is_kept_follows_neither_copies_nor_pickles():
    memo = Memo(7)
    with torch.no_grad():
        memo(Counted(), torch.zeros(2))
    for twin in (copy.deepcopy(memo), pickle.loads(pickle.dumps(memo))):
        assert (twin.kept, twin.largest) == ((), 7)


def fresh(model, x):
    """The answer of a model that has kept nothing."""
    with torch.no_grad():
        return copy.deepcopy(model)(x)


def change_by_data(model):
    for parameter in model.parameters():
        parameter.data.mul_(1.1).add_(0.02)


def change_by_loading(model):
    model.load_state_dict({k: 1.1 * v for k, v in model.state_dict().items()})


def change_by_a_step(model):
    optimiser = torch.optim.SGD(model.parameters(), lr=0.5)
    model.train()(X).square().sum().backward()
    optimiser.step()
    model.eval()


def change_the_tensors(model):
    for parameter in model.parameters():
        parameter.data = 0.9 * parameter.data + 0.02


@pytest.mark.parametrize(
    "change",
    [change_by_data, change_by_loading, change_by_a_step, change_the_tensors],
)
def test_a_changed_model_answers_as_if_it_had_kept_nothing(change):
    model = student().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1)
        before = model(X)
        assert torch.equal(model(X), before)  # kept or not: the same bits
        assert torch.equal(fresh(model, X), before)
    change(model)
    with torch.no_grad():
        after = model(X)
    assert not torch.allclose(after, before)
    assert torch.equal(after, fresh(model, X))


def test_a_whole_window_gives_the_same_bits_whether_or_not_masks_are_left_out():
    model = student().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1)
        _, electrodes = model.network.locate(X)
        assert data_mask(electrodes) is None
        masks_left_out = model(X)
    _, electrodes = model.network.locate(X)
    assert data_mask(electrodes) is electrodes.present  # a gradient is wanted: no look
    assert torch.equal(model(X).detach(), masks_left_out)


def test_a_mask_in_the_place_of_a_whole_one_counts():
    with torch.no_grad():
        _, electrodes = student().network.locate(X)
        lost = electrodes.present.clone()
        lost[0, 1] = False
        replaced = electrodes._replace(present=lost)
        assert data_mask(replaced) is lost
        broken = X.clone()
        broken[0, 1, 0] = float("nan")
        _, electrodes = student().network.locate(broken)
        assert torch.equal(data_mask(electrodes), lost)


def test_masks_that_change_between_windows_are_not_mixed_up():
    model = student().eval()
    lost = X.clone()
    lost[:, 1] = float("nan")
    with torch.no_grad():
        whole, partly = fresh(model, X), fresh(model, lost)
        for _ in range(2):
            assert torch.equal(model(X), whole)
            assert torch.equal(model(lost), partly)


def test_keeping_is_no_state_and_leaves_training_alone():
    model = student().eval()
    names = set(model.state_dict())
    with torch.inference_mode():
        model(X)
    assert set(model.state_dict()) == names
    model.train()(X).sum().backward()  # nothing of inference mode is left in it
    assert all(
        parameter.grad is not None and parameter.grad.isfinite().all()
        for name, parameter in model.named_parameters()
        if "token" not in name
    )
    batched = torch.func.vmap(lambda x: model.eval()(x[None])[0])
    with torch.no_grad():
        torch.testing.assert_close(batched(X), model(X), rtol=1e-4, atol=1e-5)

"""Key encoder and queue: torch's own moving average, and a list as the queue."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from braindecode_gcmae.momentum import KeyQueue, momentum_copy, update_momentum


def network():
    return nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3))


def train_a_step(module):
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    module(torch.randn(8, 4)).square().mean().backward()
    optimizer.step()
    optimizer.zero_grad()


# ---------------------------------------------------------------- momentum


def test_copy_is_equal_shares_nothing_and_never_learns():
    # METHOD B-6: encoder_k = encoder_q was one and the same object
    query = network()
    query(torch.randn(8, 4)).sum().backward()
    key = momentum_copy(query)
    ours, theirs = key.state_dict(), query.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    pointers = {tensor.data_ptr() for tensor in theirs.values()}
    assert not pointers & {tensor.data_ptr() for tensor in ours.values()}
    assert all(not p.requires_grad and p.grad is None for p in key.parameters())
    assert all(p.requires_grad and p.grad is not None for p in query.parameters())
    assert not key(torch.randn(8, 4)).requires_grad


@pytest.mark.parametrize("momentum", [0.0, 0.9, 0.999, 1.0])
def test_momentum_agrees_with_averaged_model_of_torch(momentum):
    query = network()
    key = momentum_copy(query)
    oracle = AveragedModel(query, multi_avg_fn=get_ema_multi_avg_fn(momentum))
    oracle.update_parameters(query)  # its first call only copies
    for _ in range(5):
        train_a_step(query)
        update_momentum(key, query, momentum)
        oracle.update_parameters(query)
    pairs = zip(key.parameters(), oracle.module.parameters(), strict=True)
    for ours, theirs in pairs:
        torch.testing.assert_close(ours, theirs, rtol=0, atol=2e-7)
    for ours, theirs in zip(key.buffers(), query.buffers(), strict=True):
        assert torch.equal(ours, theirs)


def test_momentum_is_the_printed_formula():
    query, key = nn.Linear(1, 1), nn.Linear(1, 1)
    with torch.no_grad():
        for q, k in zip(query.parameters(), key.parameters(), strict=True):
            q.fill_(4.0), k.fill_(8.0)
    update_momentum(key, query, 0.75)
    assert [p.item() for p in key.parameters()] == [7.0, 7.0]
    assert [p.item() for p in query.parameters()] == [4.0, 4.0]


def test_momentum_copies_what_cannot_move():
    query = nn.Module()
    query.count = nn.Parameter(torch.tensor([3]), requires_grad=False)
    query.register_buffer("running", torch.tensor([2.5]))
    key = momentum_copy(query)
    query.count.add_(4), query.running.add_(1.0)
    update_momentum(key, query, 0.999)
    assert key.count.item() == 7 and key.running.item() == 3.5


def test_momentum_of_a_module_without_tensors_does_nothing():
    key = nn.Identity()
    update_momentum(key, nn.Identity(), 0.5)
    assert not key.state_dict()


@pytest.mark.parametrize("momentum", [-0.1, 1.001, float("nan")])
def test_momentum_outside_zero_to_one_is_refused(momentum):
    with pytest.raises(ValueError, match="momentum must lie between 0 and 1"):
        update_momentum(nn.Linear(2, 2), nn.Linear(2, 2), momentum)


def test_modules_that_are_no_twins_are_refused():
    query = nn.Linear(2, 2)
    with pytest.raises(ValueError, match="share the parameter 'weight'"):
        update_momentum(query, query, 0.5)
    with pytest.raises(ValueError, match=r"parameter 'weight' \(3, 2\) against"):
        update_momentum(nn.Linear(2, 3), query, 0.5)
    with pytest.raises(ValueError, match="key has 1 parameters and query 2"):
        update_momentum(nn.Linear(2, 2, bias=False), query, 0.5)
    with pytest.raises(ValueError, match="'weight' .* against 'p'"):
        other = nn.Module()
        other.p = nn.Parameter(torch.zeros(2, 2))
        update_momentum(nn.Linear(2, 2, bias=False), other, 0.5)


# ---------------------------------------------------------------- the queue


def unit(rows):
    return rows / rows.norm(dim=1, keepdim=True)


@settings(max_examples=40, deadline=None)
@given(
    size=st.integers(1, 9),
    pushes=st.lists(st.integers(0, 21), max_size=6),
    with_groups=st.booleans(),
)
def test_queue_holds_the_last_keys_in_order(size, pushes, with_groups):
    # METHOD B-7: any batch size, first in first out, wrap-around
    queue, keys, groups = KeyQueue(size, 3), [], []
    for n in pushes:
        fresh = torch.randn(n, 3)
        ids = torch.randint(-1, 5, (n,)) if with_groups else None
        queue.enqueue(fresh, ids)
        keys += list(unit(fresh))
        groups += ids.tolist() if with_groups else [-1] * n
    held = min(size, len(keys))
    assert queue.fill.item() == held
    assert queue.pointer.item() == len(keys) % size
    last = [(len(keys) - held + i) % size for i in range(held)]
    if held:
        torch.testing.assert_close(queue.keys[last], torch.stack(keys[-held:]))
        assert queue.groups[last].tolist() == groups[-held:]
    assert queue.usable().tolist() == [[i < held for i in range(size)]]


def test_a_ring_uses_every_slot_where_a_cut_off_would_lose_rows():
    # lightly leaves the pointer at 0 here and drops two rows
    queue = KeyQueue(10, 2)
    queue.enqueue(torch.randn(6, 2))
    queue.enqueue(torch.randn(6, 2))
    assert queue.pointer.item() == 2 and queue.fill.item() == 10


def test_queue_starts_empty():
    queue = KeyQueue(4, 3)
    assert queue.keys.eq(0).all() and queue.groups.tolist() == [-1] * 4
    assert queue.pointer.item() == 0 and queue.fill.item() == 0
    assert queue.pointer.dtype == queue.fill.dtype == queue.groups.dtype == torch.int64
    assert not queue.usable().any()
    assert not queue.usable(torch.tensor([0, -1])).any()


def test_state_dict_round_trip_goes_on_as_if_uninterrupted():
    first = KeyQueue(5, 2)
    first.enqueue(torch.randn(7, 2), torch.arange(7))
    assert set(first.state_dict()) == {"keys", "groups", "pointer", "fill"}
    second = KeyQueue(5, 2)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    more = torch.randn(4, 2)
    for queue in (first, second):
        queue.enqueue(more)
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name


def test_keys_are_unit_and_without_history():
    queue = KeyQueue(6, 4)
    source = (100 * torch.randn(6, 4)).requires_grad_()
    queue.enqueue(source * 2)
    assert not queue.keys.requires_grad and not queue.negatives().requires_grad
    torch.testing.assert_close(queue.keys.norm(dim=1), torch.ones(6))
    assert list(queue.parameters()) == []
    queue.enqueue(torch.zeros(2, 4))
    assert torch.isfinite(queue.keys).all()


def test_queue_holds_float32_under_mixed_precision():
    queue = KeyQueue(3, 4)
    queue.enqueue(torch.randn(2, 4, dtype=torch.bfloat16), torch.tensor([1, 2]).int())
    assert queue.keys.dtype == torch.float32
    torch.testing.assert_close(queue.keys[:2].norm(dim=1), torch.ones(2))


@pytest.mark.parametrize("batch", [1, 15, 64, 65, 200])
def test_pushing_before_backward_harms_nothing(batch):
    # METHOD B-7: the public code dies on its third step, or on a batch below 16
    encoder, queue = nn.Linear(5, 3), KeyQueue(64, 3)
    for _ in range(4):
        queries = encoder(torch.randn(batch, 5))
        loss = (queries @ queue.negatives().T).square().sum()
        queue.enqueue(queries)
        loss.backward()
    assert torch.isfinite(encoder.weight.grad).all()


def test_keys_of_the_same_subject_are_not_negatives_and_strangers_are():
    queue = KeyQueue(5, 2)
    queue.enqueue(torch.randn(4, 2), torch.tensor([0, 1, -1, 1]))
    got = queue.usable(torch.tensor([0, 1, 2, -1])).tolist()
    assert got == [
        [False, True, True, True, False],
        [True, False, True, False, False],
        [True, True, True, True, False],
        [True, True, True, True, False],
    ]
    assert queue.usable(None).tolist() == [[True, True, True, True, False]]


def test_queue_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match="size, dim >= 1"):
        KeyQueue(0, 4)
    with pytest.raises(ValueError, match="size, dim >= 1"):
        KeyQueue(4, 0)
    queue = KeyQueue(1, 1)
    with pytest.raises(ValueError, match=r"shape \(M, 1\), got \(2, 5\)"):
        queue.enqueue(torch.randn(2, 5))
    with pytest.raises(ValueError, match=r"shape \(M, 1\), got \(1,\)"):
        queue.enqueue(torch.randn(1))
    with pytest.raises(ValueError, match="each of the 2 keys"):
        queue.enqueue(torch.randn(2, 1), torch.arange(3))

"""The joint objective: what is hidden is hidden, whose keys are whose, what moves."""

import copy

import numpy as np
import pytest
import torch
from tiny import FEW, NAMES, joint, student, teacher, windows
from torch._dynamo.testing import CompileCounterWithBackend
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import braindecode_gcmae.models.joint as module_of_joint
from braindecode_gcmae.features import CombinedFeatures, SpectralFeatures
from braindecode_gcmae.graph import (
    CoherenceGraph,
    FunctionalGraph,
    GeometricGraph,
    LearnedGraph,
    MixedGraph,
)
from braindecode_gcmae.models import FlattenReadout
from braindecode_gcmae.models.branch import _link_isolated

GRAPHS = [MixedGraph, FunctionalGraph, CoherenceGraph, GeometricGraph, LearnedGraph]


def batch(n=6, seed=0):
    x = torch.from_numpy(windows(n, seed=seed))
    return x, torch.arange(n) + 10, torch.arange(n)


def step(net, data, momentum=True):
    out = net(*data)
    loss = sum(out[name] for name in out if name not in ("keys", "groups"))
    loss.backward()
    if momentum:
        net.momentum_step(out.get("keys"), out.get("groups"))
    return out


def capture(monkeypatch):
    """Arguments of every call of info_nce."""
    calls = []
    original = module_of_joint.info_nce

    def listening(*args, **kwargs):
        calls.append((args, kwargs))
        return original(*args, **kwargs)

    monkeypatch.setattr(module_of_joint, "info_nce", listening)
    return calls


# ------------------------------------------------------------------------ masking
@pytest.mark.parametrize("graph", GRAPHS)
@pytest.mark.parametrize("view", [0, 1])
def test_samples_of_a_masked_electrode_reach_no_input_of_the_loss(graph, view):
    net = joint(teacher=teacher(graph=graph), student=None, noise=0.1)
    branch = net.branches["teacher"]
    x, index, _ = batch()
    before = branch.windows(x, False)
    draw = net._draw(branch, before, index, view)
    network = branch.model.network
    seen = branch.view(network, before, draw)
    disturbed = x.clone()
    disturbed[draw.dropped] = 100 * torch.from_numpy(windows(1, 1, seed=9))[0, 0]
    after = branch.windows(disturbed, False)
    assert not torch.equal(before.target, after.target)
    again = branch.view(network, after, draw)
    visible = ~draw.dropped
    assert torch.equal(seen.features[visible], again.features[visible])
    for name in ("adjacency", "masked_adjacency"):
        assert torch.equal(getattr(seen, name), getattr(again, name)), name
    for graph_of in (
        lambda v: (v.features, v.adjacency, v.visible),
        lambda v: (v.features, v.masked_adjacency, v.masked),
    ):
        assert torch.equal(
            network.encode(*graph_of(seen))[visible],
            network.encode(*graph_of(again))[visible],
        )


@pytest.mark.parametrize("graph", GRAPHS)
def test_samples_of_a_masked_electrode_reach_no_rebuilt_graph(graph):
    net = joint(teacher=teacher(graph=graph), student=None)
    branch = net.branches["teacher"]
    x, index, _ = batch()
    before = branch.windows(x, False)
    draw = net._draw(branch, before, index, 0)
    disturbed = x.clone()
    disturbed[draw.dropped] = 100 * torch.from_numpy(windows(1, 1, seed=9))[0, 0]
    rebuilt = torch.randn_like(before.target)
    graphs = [
        module_of_joint._rebuilt_graph(
            branch.model.network, given, rebuilt, draw.dropped
        )[1]
        for given in (before, branch.windows(disturbed, False))
    ]
    assert torch.equal(*graphs) and torch.isfinite(graphs[0]).all()


def test_the_original_edges_of_masked_nodes_are_there_on_request_only():
    data = batch()
    for rule, equal in (("original", True), ("inferred", False)):
        net = joint(student=None, teacher=teacher(graph=FunctionalGraph))
        branch = net.branches["teacher"]
        branch.masked_edges = rule
        graphs = branch.windows(data[0], False)
        draw = net._draw(branch, graphs, data[1], 0)
        view = branch.view(branch.model.network, graphs, draw)
        rows = draw.dropped.nonzero()[:, 0], draw.dropped.nonzero()[:, 1]
        assert torch.equal(view.masked_adjacency[rows], graphs.adjacency[rows]) is equal


def test_an_unknown_rule_for_masked_edges_is_an_error():
    with pytest.raises(ValueError, match="masked_edges.*inferred"):
        joint(masked_edges="some")


@pytest.mark.parametrize("graph", GRAPHS)
def test_a_masked_node_has_edges_and_a_dropped_one_has_none(graph):
    net = joint(teacher=teacher(graph=graph), student=None)
    branch = net.branches["teacher"]
    x, index, _ = batch()
    graphs = branch.windows(x, False)
    draw = net._draw(branch, graphs, index, 0)
    view = branch.view(branch.model.network, graphs, draw)
    dropped = draw.dropped
    assert (view.masked_adjacency.sum(-1)[dropped] > 0).all()
    assert (view.adjacency.sum(-1)[dropped] == 0).all()
    for adjacency in (view.adjacency, view.masked_adjacency):
        torch.testing.assert_close(adjacency, adjacency.mT)
        assert (adjacency.diagonal(dim1=1, dim2=2) == 0).all()
        assert (adjacency >= 0).all()
    assert torch.equal(view.visible.exists, ~dropped)
    assert view.masked.exists.all() and torch.equal(view.masked.present, ~dropped)


def test_the_filled_edge_is_the_mean_of_the_seen_ones():
    rng = np.random.default_rng(0)
    a = rng.random((5, 5))
    a = (a + a.T) / 2
    np.fill_diagonal(a, 0)
    masked = np.array([False, True, False, False, True])
    a[masked] = a[:, masked] = 0
    seen = [0, 2, 3]
    mean = np.mean([a[i, j] for i in seen for j in seen if i != j])
    filled = _link_isolated(
        torch.tensor(a)[None], torch.tensor(masked)[None], torch.tensor(~masked)[None]
    )[0]
    for i in range(5):
        for j in range(5):
            bridge = masked[i] != masked[j]
            assert float(filled[i, j]) == pytest.approx(mean if bridge else a[i, j])


def test_the_token_replaces_exactly_the_dropped_nodes():
    net = joint(student=None).train()
    branch = net.branches["teacher"]
    seen = []
    branch.model.network.token.register_forward_pre_hook(
        lambda m, args: seen.append(args[1])
    )
    x, index, group = batch()
    net(x, index, group)
    graphs = branch.windows(x, False)
    q, k = (net._draw(branch, graphs, index, v).dropped for v in (0, 1))
    # The query's view, both masked graphs in one pass; the rebuilt graph hides nothing.
    assert torch.equal(seen[0], torch.cat([q, q, k]))
    assert not seen[1].any()
    n = x.shape[1]
    assert (q.sum(1) == round(0.5 * n)).all()
    assert not torch.equal(q, k), "the two views hide different electrodes"
    assert len(q.unique(dim=0)) > 1, "windows hide different electrodes"


def test_the_mask_token_learns_from_the_reconstruction_alone():
    net = joint(contrast=False)
    step(net, batch())
    for name, branch in net.branches.items():
        assert branch.model.network.token.token.grad.abs().sum() > 0, name


@pytest.mark.parametrize("features", [SpectralFeatures, CombinedFeatures])
def test_other_features_are_pretrained_too(features):
    net = joint(teacher=teacher(features=features), student=student(features=features))
    out = step(net, batch())
    assert all(torch.isfinite(value).all() for value in out.values())


# ------------------------------------------------------------------ key encoders
def storages(module):
    tensors = [*module.parameters(), *module.buffers()]
    return {t.untyped_storage().data_ptr() for t in tensors if t.numel()}


def test_queries_and_keys_share_no_tensor_and_keys_get_no_gradient():
    net = joint()
    out = step(net, batch())
    for branch in net.branches.values():
        query = storages(branch.model) | storages(branch.projector)
        assert not query & storages(branch.key)
        for parameter in branch.key.parameters():
            assert parameter.grad is None and not parameter.requires_grad
    assert not out["keys"].requires_grad


@pytest.mark.parametrize("detach", [False, True])
def test_the_contrast_of_reconstructions_trains_the_decoder_unless_detached(detach):
    net = joint(student=None, detach_reconstructed=detach)
    step(net, batch())  # fills the queue: a contrast without negatives is zero
    net.zero_grad()
    data = batch(seed=1)
    net(data[0], data[1] + 100, data[2] + 100)["contrast_teacher"].backward()
    branch = net.branches["teacher"]
    reached = {p.grad is not None for p in branch.decoder.parameters()}
    assert reached == {not detach}
    embed = branch.model.network.embed.weight.grad
    assert embed is not None and (embed != 0).any()


def test_no_parameter_of_the_query_makes_a_key():
    # Features, graph, encoder and projector: all have slow twins.
    net = joint(reconstruct=False).eval()
    data = batch()
    before = net(*data)["keys"]
    with torch.no_grad():
        for branch in net.branches.values():
            for parameter in branch.query.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
    assert torch.equal(net(*data)["keys"], before)


def test_key_encoders_are_the_exact_moving_average_of_the_query_encoders():
    net = joint(momentum=0.9)
    reference = {
        name: AveragedModel(copy.deepcopy(branch.query), multi_avg_fn=_ema(0.9))
        for name, branch in net.branches.items()
    }
    for average in reference.values():
        average.n_averaged.fill_(1)  # its first update would be a copy
    optimizer = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], 0.1)
    for n in range(4):
        optimizer.zero_grad()
        out = step(net, batch(seed=n), momentum=False)
        optimizer.step()
        net.momentum_step(out["keys"], out["groups"])
        for name, average in reference.items():
            average.update_parameters(net.branches[name].query)
    for name, average in reference.items():
        start = dict(joint().branches[name].key.named_parameters())
        slow = dict(net.branches[name].key.named_parameters())
        for key, parameter in average.module.named_parameters():
            torch.testing.assert_close(slow[key], parameter, rtol=0, atol=3e-7)
        assert any(not torch.equal(slow[key], start[key]) for key in slow)


def _ema(momentum):
    return get_ema_multi_avg_fn(momentum)


# -------------------------------------------------------------------- the contrast
def test_the_contrast_is_the_formula_written_as_a_loop(monkeypatch):
    net = joint(queue_size=40, temperature=0.3)
    for n in range(2):  # fill the queue
        step(net, batch(4, seed=n))
    calls = capture(monkeypatch)
    x, index, _ = batch(4, seed=5)
    group = torch.tensor([0, 1, -1, 7])
    out = net(x, index, group)
    stored, owners = net.queue.keys[:32].numpy(), net.queue.groups[:32].numpy()
    for name, (args, _) in zip(("teacher", "student"), calls, strict=True):
        queries = args[0].detach().double().numpy().reshape(2, 4, -1)
        keys = out["keys"].double().numpy()
        assert keys.shape == (4, 4, 5)
        total = []
        for query in queries:  # Q and Q~
            for b in range(4):
                q = query[b] / np.linalg.norm(query[b])
                negative = sum(
                    np.exp(q @ stored[i] / 0.3)
                    for i in range(32)
                    if int(group[b]) < 0 or owners[i] != int(group[b])
                )
                for k in keys[b]:
                    e = np.exp(q @ k / 0.3)
                    total.append(-np.log(e / (e + negative)))
        assert float(out[f"contrast_{name}"]) == pytest.approx(np.mean(total), rel=1e-5)


def test_permuting_the_batch_permutes_its_keys_and_changes_no_loss():
    # B-4: each query meets the keys of its own window.
    net = joint().train()
    step(net, batch(8, seed=3))
    twin = copy.deepcopy(net)
    x, index, group = batch()
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    one, two = net(x, index, group), twin(x[order], index[order], group[order])
    torch.testing.assert_close(one["keys"][order], two["keys"], atol=1e-5, rtol=0)
    for name in one.keys() - {"keys", "groups"}:
        torch.testing.assert_close(one[name], two[name], atol=1e-5, rtol=1e-5)


def test_keys_are_unit_vectors_and_four_for_a_window():
    keys = joint()(*batch())["keys"]
    assert keys.shape == (6, 4, 5)
    torch.testing.assert_close(keys.norm(dim=-1), torch.ones(6, 4))


def test_the_same_subject_gives_no_negatives():
    net = joint()
    x, index, _ = batch()
    same = torch.full((6,), 3)
    out = net(x, index, same)
    net.momentum_step(out["keys"], out["groups"])
    out = net(x, index + 100, same)
    assert float(out["contrast_teacher"]) == 0 == float(out["contrast_student"])
    out = net(x, index + 100, same + 1)
    assert float(out["contrast_teacher"]) > 0


def test_keys_of_its_own_past_are_no_negatives_of_a_window_of_unknown_subject():
    net = joint()
    x, index, _ = batch()
    unknown = torch.full((6,), -1)
    out = net(x, index, unknown)
    net.momentum_step(out["keys"], out["groups"])
    usable = net.queue.usable(out["groups"])[:, :24]
    own = torch.eye(6, dtype=torch.bool).repeat_interleave(4, 1)
    assert torch.equal(usable, ~own)


def test_the_queue_holds_the_last_keys_of_both_densities_in_order():
    net = joint(queue_size=30)
    pushed, owners = [], []
    for n in range(4):  # 20 keys a step: the ring wraps twice
        out = step(net, batch(5, seed=n))
        pushed.append(out["keys"].flatten(0, 1))
        owners.append(out["groups"].repeat_interleave(4))
    pushed, owners = torch.cat(pushed), torch.cat(owners)
    order = (int(net.queue.pointer) + torch.arange(30)) % 30
    assert int(net.queue.fill) == 30
    torch.testing.assert_close(net.queue.keys[order], pushed[-30:])
    assert torch.equal(net.queue.groups[order], owners[-30:])


def test_twenty_steps_neither_die_nor_keep_history():
    # B-7: the public code dies on the third step.
    net = joint(queue_size=16)
    for n in range(20):
        step(net, batch(3, seed=n))
    assert not net.queue.keys.requires_grad and net.queue.keys.grad_fn is None


# ------------------------------------------------------------------------ variants
@pytest.mark.parametrize(
    ("arguments", "terms", "n_keys"),
    [
        ({}, "rec_teacher rec_student contrast_teacher contrast_student", 4),
        ({"reconstruct": False}, "contrast_teacher contrast_student", 2),
        ({"contrast": False}, "rec_teacher rec_student", None),
        ({"teacher": None}, "rec_student contrast_student", 2),
        ({"student": None}, "rec_teacher contrast_teacher", 2),
        ({"student": None, "reconstruct": False}, "contrast_teacher", 1),
    ],
)
def test_each_variant_has_its_terms(arguments, terms, n_keys):
    net = joint(**arguments)
    for n in range(2):
        net.zero_grad()
        out = step(net, batch(seed=n))
    assert set(out) - {"keys", "groups"} == set(terms.split())
    assert ("keys" in out) == (n_keys is not None)
    if n_keys:
        assert out["keys"].shape[1] == n_keys
    for branch in net.branches.values():
        assert branch.model.network.embed.weight.grad.abs().sum() > 0


def test_flattened_readouts_pretrain_two_densities():
    net = joint(
        teacher=teacher(readout=FlattenReadout), student=student(readout=FlattenReadout)
    )
    assert step(net, batch())["keys"].shape == (6, 4, 5)


@pytest.mark.parametrize("n", [1, 2, 5])
def test_a_batch_of_any_size_works(n):
    out = step(joint(), batch(n))
    assert all(torch.isfinite(value).all() for value in out.values())


def test_one_electrode_alone_is_never_masked():
    net = joint(student=student(electrodes=["Cz"]))
    out = step(net, batch())
    assert all(torch.isfinite(value).all() for value in out.values())


def test_missing_electrodes_are_neither_target_nor_source():
    net = joint().eval()
    x, index, group = batch()
    x[0, 2] = float("nan")
    out = net(x, index, group)
    assert all(torch.isfinite(value).all() for value in out.values())
    other = x.clone()
    other[0, 2] = float("inf")
    for name, value in net(other, index, group).items():
        assert torch.equal(value, out[name]), name


# ---------------------------------------------------------------------- randomness
def masks(net, index, x):
    branch = net.branches["teacher"]
    graphs = branch.windows(x, False)
    return torch.stack([net._draw(branch, graphs, index, v).dropped for v in (0, 1)])


def test_masks_belong_to_the_window_not_to_the_batch():
    net = joint(student=None)
    x, index, _ = batch(8)
    whole = masks(net, index, x)
    order = torch.tensor([5, 2, 7])
    assert torch.equal(masks(net, index[order], x[order]), whole[:, order])


def test_masks_are_fresh_every_epoch_and_with_every_seed():
    # B-10: the public code seeds itself in every forward.
    net = joint(student=None)
    x, index, _ = batch(8)
    first = masks(net, index, x)
    net.epoch = 1
    second = masks(net, index, x)
    assert not torch.equal(first, second)
    net.epoch, net.seed = 0, 1
    assert not torch.equal(first, masks(net, index, x))
    net.seed = 0
    assert torch.equal(first, masks(net, index, x))


def test_one_program_serves_all_epochs_with_the_masks_of_each():
    net, twin, counter = joint(), joint(), CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(twin, backend=counter)
    programs = []
    for epoch in range(10):
        net.epoch = twin.epoch = epoch
        expected, found = net(*batch()), compiled(*batch())
        programs.append(counter.frame_count)
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value, atol=1e-6, rtol=1e-5)
    assert programs[0] > 0 and len(set(programs)) == 1


def test_the_epoch_is_a_number_outside_and_no_part_of_a_checkpoint():
    net = joint()
    names = set(net.state_dict())
    net.epoch = np.int64(3)
    assert net.epoch == 3 and type(net.epoch) is int
    assert set(net.state_dict()) == names
    assert not any("pass" in name or "epoch" in name for name in names)
    assert copy.deepcopy(net).epoch == 3


def test_teacher_and_student_hide_electrodes_independently():
    net = joint(student=student(electrodes=None))
    x, index, _ = batch(8)
    drawn = [
        net._draw(branch, branch.windows(x, False), index, 0).dropped
        for branch in net.branches.values()
    ]
    assert not torch.equal(*drawn)


def test_the_rebuilt_graph_is_made_of_rebuilt_features():
    net = joint(student=None, teacher=teacher(graph=FunctionalGraph))
    branch = net.branches["teacher"]
    graphs = branch.windows(batch()[0], False)
    rebuilt = torch.randn_like(graphs.target)
    nobody = torch.zeros_like(graphs.electrodes.present)
    _, adjacency, _ = module_of_joint._rebuilt_graph(
        branch.model.network, graphs, rebuilt, nobody
    )
    expected = np.stack([np.abs(np.corrcoef(rows)) for rows in rebuilt.numpy()])
    for matrix in expected:
        np.fill_diagonal(matrix, 0)
    np.testing.assert_allclose(adjacency.numpy(), expected, atol=1e-5)


def test_inpainting_does_not_look_at_what_it_paints():
    net = joint(student=None).eval()
    branch = net.branches["teacher"]
    x = batch()[0]
    hidden = torch.tensor([False, True, False, False, True, False])
    target, rebuilt, present = branch.inpaint(x, hidden)
    assert present.all()
    other = x.clone()
    other[:, hidden] *= -7
    changed, again, _ = branch.inpaint(other, hidden)
    assert torch.equal(rebuilt, again)
    assert not torch.equal(target, changed)


# ------------------------------------------------------------------ who sees nothing
def blind_batch(rows=slice(0, 3)):
    """Windows of which some lack all of the student's electrodes."""
    x, index, group = batch()
    x[rows][:, [NAMES.index(name) for name in FEW]] = float("nan")
    return x, index, group


def test_a_window_that_a_model_does_not_see_moves_nothing_of_it():
    net = joint(teacher=teacher(), student=student())
    step(net, batch(seed=1))  # so that there are negatives
    net.zero_grad()
    out = net(*blind_batch(slice(None)))
    assert float(out["contrast_student"].detach()) == 0
    assert float(out["rec_student"].detach()) == 0
    (out["contrast_student"] + out["rec_student"]).backward()
    moved = [p for p in net.branches["student"].parameters() if p.grad is not None]
    assert not any(bool(p.grad.any()) for p in moved)
    assert float(out["contrast_teacher"].detach()) > 0


def test_the_key_of_nothing_is_no_positive_and_not_in_the_queue():
    net = joint(teacher=teacher(), student=student()).eval()
    keys, whole = net(*blind_batch())["keys"], net(*batch())["keys"]
    teachers, students = keys.chunk(2, 1)
    assert torch.equal(teachers[:3], students[:3])  # the teacher's, twice
    assert len(students[:, 0].unique(dim=0)) == len(keys)
    torch.testing.assert_close(keys[3:], whole[3:])


def test_the_loss_of_those_who_see_is_that_without_the_blind():
    net = joint(teacher=teacher(), student=student()).eval()
    net.queue.enqueue(torch.randn(8, 5, generator=torch.Generator().manual_seed(0)))
    net.queue.groups[:8] = 99
    x, index, group = blind_batch()
    together, alone = net(x, index, group), net(x[3:], index[3:], group[3:])
    expected = float(alone["contrast_student"].detach()) * 3 / 6
    found = float(together["contrast_student"].detach())
    assert found == pytest.approx(expected, rel=1e-5)

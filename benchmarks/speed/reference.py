"""Joint pretraining written straight from its equations, one window at a time.

Slow and plain on purpose: what the batched :class:`JointPretraining` is checked and
timed against. Only the networks themselves, the random numbers and the queue are
shared. Numbers in brackets are METHOD A.5's.
"""

import torch
from torch.nn.functional import normalize

from braindecode_gcmae.masking import counter_uniform, drop_edges, drop_nodes


def reference_losses(joint, x, index, group) -> dict:
    """``rec_<density>``, ``contrast_<density>`` of windows (B, C, T), and keys."""
    n_windows = len(x)
    queries, keys, errors = {}, [[] for _ in range(n_windows)], {}
    for name, branch in joint.branches.items():
        queries[name], errors[name] = [], []
        for b in range(n_windows):
            error, asked, own = _one_window(
                joint, branch, x[b : b + 1], index[b : b + 1]
            )
            errors[name].append(error)
            queries[name].append(asked)
            keys[b] += own
    terms = {}
    for name in joint.branches:
        terms[f"rec_{name}"] = torch.stack(errors[name]).mean()
        terms[f"contrast_{name}"] = _contrast(joint, queries[name], keys, group)
    return {**terms, "keys": torch.stack([torch.stack(own) for own in keys])}


def _one_window(joint, branch, x, index):
    """Reconstruction error, two queries and two keys of one window and density."""
    network, key = branch.model.network, branch.key["network"]
    observed, target, adjacency, electrodes = network.graph_of(x)
    x, _ = network.locate(x)
    n = target.shape[1]
    views, chances = [], []
    for view in (0, 1):  # (1) two views lose nodes and edges
        stream = 16 * branch.stream + 4 * view
        nodes = counter_uniform(joint.seed, joint.epoch, index, stream, (n,))
        edges = counter_uniform(joint.seed, joint.epoch, index, stream + 1, (n, n))
        dropped = drop_nodes(nodes, branch.node_ratio, electrodes.present)
        keep = drop_edges(edges, branch.edge_ratio)
        chances.append((dropped, keep))
        views.append(_view(network, x, observed, electrodes, dropped, keep))
    error, rebuilt = 0.0, []
    for view, (dropped, _) in zip(views, chances, strict=True):
        # (2, 3) the dropped nodes come back as tokens; encode and decode
        h = network.encode(view["features"], view["whole"], view["masked"])
        rebuilt.append(branch.decoder(h, view["whole"], view["masked"].exists))
        error = (
            error + _reconstruction(rebuilt[-1][0], target[0], dropped[0]) / 2
        )  # (4)
    # (5) queries: the first view, and the reconstruction of the first
    asked = [
        _embed(
            branch.query, views[0]["features"], views[0]["graph"], views[0]["visible"]
        ),
        _embed(
            branch.query,
            rebuilt[0],
            network.graph(x, rebuilt[0], electrodes),
            electrodes,
        ),
    ]
    with torch.no_grad():  # (6) keys: the second view, and its reconstruction
        view = _view(key, x, observed, electrodes, *chances[1])
        own = [
            _embed(branch.key, view["features"], view["graph"], view["visible"]),
            _embed(
                branch.key, rebuilt[1], key.graph(x, rebuilt[1], electrodes), electrodes
            ),
        ]
    return error, asked, own


def _view(network, x, observed, electrodes, dropped, keep) -> dict:
    """What is left of the graph of one window, and the same with tokens put back."""
    masked = electrodes._replace(present=electrodes.present & ~dropped)
    visible = masked._replace(exists=electrodes.exists & ~dropped)
    features = network.describe(observed, masked)
    seen = network.graph(x, features, masked)[0]
    lost, here = dropped[0], masked.present[0]
    loops = torch.eye(len(lost), dtype=torch.bool, device=lost.device)
    pairs = here[:, None] & here[None, :] & ~loops
    typical = seen[pairs].mean() if pairs.any() else seen.new_zeros(())
    alone = lost & (seen.sum(1) == 0)
    stay = ~lost
    both = stay[:, None] & stay[None, :]
    graph = seen * (keep[0] & both)
    half = alone[:, None] & here[None, :]
    whole = seen + typical * (half | half.T)
    # an edge of a masked node is never dropped: nothing could be in-painted (D5)
    whole = whole * (keep[0] | lost[:, None] | lost[None, :])
    return {
        "features": features,
        "graph": graph[None],
        "whole": whole[None],
        "visible": visible,
        "masked": masked,
    }


def _embed(encoder, features, adjacency, electrodes):
    network = encoder["network"]
    nodes = network.encode(features, adjacency, electrodes)
    return normalize(encoder["projector"](network.pool(nodes, electrodes))[0], dim=0)


def _reconstruction(rebuilt, target, dropped):
    """Squared cosine error of the masked nodes, and of the correlations (D13)."""
    target = target.detach()
    feature = [
        (1 - normalize(rebuilt[i], dim=0) @ normalize(target[i], dim=0)) ** 2
        for i in range(len(target))
        if dropped[i]
    ]
    gap = torch.corrcoef(rebuilt) - torch.corrcoef(target)
    return torch.stack(feature).mean() + (gap**2).mean()


def _contrast(joint, queries, keys, group):
    """-log of each positive against itself and the usable keys of the queue (D1)."""
    stored, temperature = joint.queue.negatives(), joint.temperature
    losses = []
    for b, asked in enumerate(queries):
        usable = joint.queue.usable(group[b : b + 1])[0]
        for query in asked:
            for positive in keys[b]:
                near = (query @ positive / temperature).exp()
                far = (stored[usable] @ query / temperature).exp().sum()
                losses.append(-(near / (near + far)).log())
    return torch.stack(losses).mean()

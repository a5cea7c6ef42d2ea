"""What the monitors record: closed forms, slow loops, and scikit-learn's own answer."""

import math

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler
from tiny import FEW, NAMES, labelled, pretrainer, weights, windows

from braindecode_gcmae.callbacks import CollapseMonitor, ProbeMonitor
from braindecode_gcmae.callbacks.monitors import effective_rank, uniformity

SUBJECTS = np.repeat(np.arange(4), 4)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# --------------------------------------------------------------------- effective rank
@pytest.mark.parametrize("d", [1, 2, 5, 16])
def test_equal_spread_in_every_direction_has_the_rank_of_the_space(d):
    # +e_i and -e_i: centred, with equal singular values.
    cloud = torch.cat([torch.eye(d), -torch.eye(d)])
    assert float(effective_rank(cloud)) == pytest.approx(d, rel=1e-5)


def test_points_on_a_line_have_rank_one():
    line = torch.arange(9.0).unsqueeze(1) * normal(1, 7) + normal(1, 7, seed=1)
    assert float(effective_rank(line)) == pytest.approx(1.0, abs=1e-3)


def test_the_rank_is_the_exponential_of_an_entropy():
    spread = np.array([4.0, 2.0, 1.0, 1.0])
    cloud = torch.cat(
        [torch.diag(torch.tensor(spread)), -torch.diag(torch.tensor(spread))]
    )
    share = spread / spread.sum()
    expected = math.exp(-sum(p * math.log(p) for p in share))
    assert float(effective_rank(cloud)) == pytest.approx(expected, rel=1e-6)


def test_the_rank_is_that_of_the_covariance_matrix():
    x = normal(40, 6).double() @ normal(6, 6, seed=2).double()
    values = np.sqrt(np.linalg.eigvalsh(np.cov(x.numpy().T)))
    share = values / values.sum()
    expected = np.exp(-(share * np.log(share)).sum())
    assert float(effective_rank(x)) == pytest.approx(expected, rel=1e-8)


def test_scale_shift_and_rotation_change_no_rank():
    x = normal(30, 4).double()
    turn = torch.linalg.qr(normal(4, 4, seed=3).double()).Q
    expected = float(effective_rank(x))
    for other in (5 * x, x + 3, x @ turn):
        assert float(effective_rank(other)) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("n", [1, 2, 10])
def test_a_collapsed_cloud_has_a_finite_rank(n):
    assert 0 <= float(effective_rank(torch.ones(n, 5))) <= 1 + 1e-6


# ------------------------------------------------------------------------- uniformity
def test_uniformity_is_the_mean_over_pairs_written_as_a_loop():
    keys = torch.nn.functional.normalize(normal(12, 5).double())
    total, pairs = 0.0, 0
    for i in range(12):
        for j in range(i):
            total += math.exp(
                -2.0 * sum((keys[i] - keys[j]).tolist()[k] ** 2 for k in range(5))
            )
            pairs += 1
    assert float(uniformity(keys)) == pytest.approx(math.log(total / pairs), rel=1e-9)


def test_collapsed_keys_have_uniformity_zero_and_opposite_ones_minus_eight():
    one = torch.nn.functional.normalize(normal(1, 6))
    assert float(uniformity(one.repeat(5, 1))) == pytest.approx(0.0, abs=1e-6)
    assert float(uniformity(torch.cat([one, -one]))) == pytest.approx(-8.0, rel=1e-5)


def test_even_keys_are_more_uniform_than_a_cone():
    even = torch.nn.functional.normalize(normal(200, 8))
    cone = torch.nn.functional.normalize(normal(200, 8) * 0.2 + 1)
    assert float(uniformity(even)) < float(uniformity(cone)) < 0


class Elsewhere(torch.Tensor):
    """Keys on a device that knows no distances, as those of Apple do not."""

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        if function is torch.Tensor.cpu:
            return args[0].as_subclass(torch.Tensor)
        if function is torch.nn.functional.pdist:
            raise RuntimeError("not implemented for 'MPS'")
        return super().__torch_function__(function, types, args, kwargs or {})


def test_uniformity_needs_nothing_that_only_some_devices_can():
    keys = torch.nn.functional.normalize(normal(12, 5))
    assert float(uniformity(keys.as_subclass(Elsewhere))) == float(uniformity(keys))


# ---------------------------------------------------------------------------- callbacks
def monitored(callback, **arguments):
    net = pretrainer(callbacks=[("monitor", callback)], **arguments)
    return net.fit(windows(), groups=SUBJECTS)


def test_the_collapse_monitor_records_what_pretraining_shapes():
    net = monitored(CollapseMonitor(), max_epochs=1)
    network = net.student_.network
    n_pooled = network.readout.n_outputs
    assert n_pooled < network.n_outputs  # second moments follow
    embeddings = torch.from_numpy(net.transform(windows()))[:, :n_pooled]
    row = net.history[-1]
    spread = embeddings.std(0).mean()
    assert row["embedding_std"] == pytest.approx(float(spread), rel=1e-5)
    rank = float(effective_rank(embeddings))
    assert row["embedding_rank"] == pytest.approx(rank, rel=1e-4)
    queue = net.joint_.queue
    keys = queue.keys[: int(queue.fill)]
    assert row["queue_uniformity"] == pytest.approx(float(uniformity(keys)), rel=1e-5)


def test_the_monitor_tells_a_collapsed_student_from_a_healthy_one():
    class Collapsing(CollapseMonitor):
        def on_epoch_end(self, net, dataset_train=None, **kwargs):
            with torch.no_grad():
                spoil(net.student_.network.embed.weight)
            super().on_epoch_end(net, dataset_train, **kwargs)

    def in_one_direction(weight):
        weight.copy_(weight[:, :1] * weight[:1])

    healthy = monitored(CollapseMonitor(), max_epochs=1).history[-1]
    spoil = torch.Tensor.zero_  # all windows alike
    ill = monitored(Collapsing(), max_epochs=1).history[-1]
    assert ill["embedding_std"] < 0.01 * healthy["embedding_std"]
    spoil = in_one_direction
    ill = monitored(Collapsing(), max_epochs=1).history[-1]
    assert ill["embedding_rank"] < healthy["embedding_rank"]


@pytest.mark.parametrize("every", [1, 2, 3])
def test_monitors_look_every_so_many_epochs(every):
    net = monitored(CollapseMonitor(every=every, n_windows=4), max_epochs=4)
    looked = ["embedding_rank" in row for row in net.history]
    assert looked == [(epoch + 1) % every == 0 for epoch in range(4)]


@pytest.mark.parametrize(
    ("monitor", "name", "told"),
    [
        (CollapseMonitor(np.zeros((4, 2))), "every", "ndarray"),
        (CollapseMonitor(every=0), "every", "0"),
        (CollapseMonitor(every=True), "every", "True"),
        (CollapseMonitor(every="2"), "every", "'2'"),
        (CollapseMonitor(n_windows=2.5), "n_windows", "2.5"),
        (CollapseMonitor(n_windows=-1), "n_windows", "-1"),
        (ProbeMonitor(None, None, None, None, every=0), "every", "0"),
    ],
    ids=lambda part: part if isinstance(part, str) else "",
)
def test_a_monitor_that_cannot_count_is_refused_before_a_step(monitor, name, told):
    net, words = (
        pretrainer(callbacks=[("monitor", monitor)]),
        f"{name} of .*, got {told}",
    )
    with pytest.raises(ValueError, match=words):
        net.fit(windows(), groups=SUBJECTS)
    assert len(net.history) == 0


def test_a_queue_without_keys_has_no_uniformity():
    net = monitored(CollapseMonitor(), max_epochs=1, objective="reconstruction")
    assert "embedding_rank" in net.history[-1]
    assert "queue_uniformity" not in net.history[-1]


@pytest.mark.parametrize("density", ["student", "teacher"])
@pytest.mark.parametrize("probe", ["linear", "knn"])
def test_the_probe_is_what_scikit_learn_makes_of_the_embeddings(probe, density):
    x, y = windows(120), np.arange(120) % 6 == 0  # one class is rare
    x[y, NAMES.index("C3")] *= 1.5
    data = x[:60], y[:60], x[60:], y[60:]
    monitor = ProbeMonitor(*data, probe=probe, n_neighbors=5, density=density)
    net = monitored(monitor)
    embed = net.transform if density == "student" else net.transform_teacher
    train, test = embed(data[0]), embed(data[2])
    if probe == "linear":
        scaler = StandardScaler().fit(train)
        model = LogisticRegression(max_iter=1000, class_weight="balanced")
        model.fit(scaler.transform(train), y[:60])
        answer = model.predict(scaler.transform(test))
    else:
        model = KNeighborsClassifier(5, metric="cosine").fit(train, y[:60])
        answer = model.predict(test)
    expected = balanced_accuracy_score(y[60:], answer)
    assert net.history[-1][f"probe_{probe}"] == pytest.approx(expected)
    assert len(net.history[:, f"probe_{probe}"]) == 2


def test_guessing_the_frequent_class_earns_a_probe_nothing():
    x, rare = windows(48), np.arange(48) % 6 == 0
    x[:] = x[:1]  # all windows alike: there is nothing but to guess
    net = monitored(ProbeMonitor(x[:24], rare[:24], x[24:], rare[24:], probe="knn"))
    assert net.history[-1]["probe_knn"] == 0.5


def test_the_probe_takes_few_neighbours_where_there_are_few_windows():
    x, y = labelled(10)
    net = monitored(ProbeMonitor(x[:4], y[:4], x[4:], y[4:], probe="knn"))
    assert 0 <= net.history[-1]["probe_knn"] <= 1


def test_a_probe_of_low_density_windows_is_the_same():
    x, y = labelled(24)
    kept = [NAMES.index(name) for name in FEW]
    scores = []
    for given in (x, x[:, kept]):
        net = monitored(ProbeMonitor(given[:16], y[:16], given[16:], y[16:]))
        scores.append(net.history[:, "probe_linear"])
    assert scores[0] == scores[1]


def test_an_unknown_probe_is_an_error():
    x, y = labelled(8)
    with pytest.raises(ValueError, match="probe must be 'linear' or 'knn', got 'svm'"):
        monitored(ProbeMonitor(x, y, x, y, probe="svm"))


def test_watching_moves_no_bit_of_the_training():
    x, y = labelled(16)
    dropout = {"teacher__drop_prob": 0.3, "student__drop_prob": 0.3}
    plain = pretrainer(**dropout).fit(windows(), groups=SUBJECTS)
    callbacks = [("c", CollapseMonitor()), ("p", ProbeMonitor(x, y, x, y))]
    watched = pretrainer(callbacks=callbacks, **dropout)
    watched.fit(windows(), groups=SUBJECTS)
    assert torch.equal(weights(plain.module_), weights(watched.module_))

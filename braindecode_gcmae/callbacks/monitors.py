"""Watching pretraining: does the embedding know the task, and has it collapsed?"""

import math
from numbers import Integral, Real

import numpy as np
import torch
from skorch.callbacks import Callback

from .describe import DescribedCallback

__all__ = ["CollapseMonitor", "ProbeMonitor", "effective_rank", "uniformity"]


def effective_rank(embeddings: torch.Tensor) -> torch.Tensor:
    r"""Effective rank of a cloud of embeddings, :math:`e^{H(\sigma / \sum \sigma)}`.

    H is the entropy of the normalised singular values of the centred matrix; d for an
    isotropic cloud, 1 when all embeddings are on a line.

    Parameters
    ----------
    embeddings : Tensor, shape (n, d)

    Returns
    -------
    Tensor, scalar

    References
    ----------
    Roy and Vetterli (2007), The effective rank, EUSIPCO.
    """
    values = torch.linalg.svdvals(embeddings - embeddings.mean(0))
    share = values / values.sum().clamp_min(1e-12)
    entropy = -(share * share.clamp_min(1e-12).log()).sum()
    return entropy.exp()


def uniformity(keys: torch.Tensor, scale: float = 2.0) -> torch.Tensor:
    r"""How evenly unit vectors fill the sphere: :math:`\log E\, e^{-t |u - v|^2}`.

    0 when all are equal (collapse), the more negative the better.

    Parameters
    ----------
    keys : Tensor, shape (n, d)
        Unit vectors, n >= 2.
    scale : float
        t.

    References
    ----------
    Wang and Isola (2020), https://arxiv.org/abs/2005.10242
    """
    distance = torch.nn.functional.pdist(keys.cpu()).square()  # not all GPUs can
    return distance.mul(-scale).exp().mean().log()


class CollapseMonitor(DescribedCallback, Callback):
    """Records how spread out the student's embeddings and the queue's keys are.

    ``embedding_std``, ``embedding_rank`` (effective rank of the pooled nodes of at most
    ``n_windows`` training windows: what pretraining shapes) and ``queue_uniformity`` go
    into the history of a :class:`~braindecode_gcmae.GCMAEPretrainer`.

    Parameters
    ----------
    every : int
        Epochs between looks.
    n_windows : int
        Windows looked at.

    Raises
    ------
    TypeError
        If the net does not pretrain.
    ValueError
        If ``every`` or ``n_windows`` is no whole number from 1 on.
    """

    def __init__(self, every=1, n_windows=256):
        self.every = every
        self.n_windows = n_windows

    def on_train_begin(self, net, **kwargs):
        """Refuse a net that does not pretrain, and what counts nothing."""
        _require_pretrainer(self, net)
        _require_counts(self, "every", "n_windows")

    def on_epoch_end(self, net, dataset_train=None, **kwargs):
        """Look at the embeddings and the queue."""
        if len(net.history) % self.every:
            return
        step = math.ceil(len(dataset_train) / self.n_windows)
        rows = range(0, len(dataset_train), step)
        embeddings = torch.from_numpy(net.pooled_nodes(dataset_train, rows))
        net.history.record("embedding_std", float(embeddings.std(0).mean()))
        net.history.record("embedding_rank", float(effective_rank(embeddings)))
        queue = net.joint_.queue
        filled = queue.keys[: int(queue.fill)]
        if len(filled) > 1:
            keys = filled[:: max(1, len(filled) // 1024)]
            net.history.record("queue_uniformity", float(uniformity(keys)))


class ProbeMonitor(DescribedCallback, Callback):
    """Records how well a simple classifier reads the labels from frozen embeddings.

    A callback of a :class:`~braindecode_gcmae.GCMAEPretrainer`: after each epoch the
    accuracy goes into its history as ``probe_linear`` or ``probe_knn``: the mean of the
    classes' own, so that guessing the frequent one earns nothing. The embeddings are
    those of :meth:`~braindecode_gcmae.GCMAEPretrainer.transform`, second moments among
    them: what is there before training counts, too.

    Parameters
    ----------
    X_train, y_train, X_test, y_test
        Labelled windows in µV: to fit the classifier, and to score it on. Neither may
        hold people of your own test set.
    probe : {"linear", "knn"}
        Logistic regression in which all classes weigh alike, or k nearest neighbours by
        cosine, which rarely vote for a rare class.
    n_neighbors : int
    every : int
        Epochs between looks.
    density : {"student", "teacher"}

    Raises
    ------
    TypeError
        If the net does not pretrain.
    ValueError
        If ``every`` is no whole number from 1 on, or the probe is unknown.

    References
    ----------
    scikit-learn's ``LogisticRegression`` and ``KNeighborsClassifier``.
    """

    def __init__(
        self,
        X_train,
        y_train,
        X_test,
        y_test,
        probe="linear",
        n_neighbors=10,
        every=1,
        density="student",
    ):
        self.X_train = X_train
        self.y_train = y_train
        self.X_test = X_test
        self.y_test = y_test
        self.probe = probe
        self.n_neighbors = n_neighbors
        self.every = every
        self.density = density

    def _classifier(self):
        from sklearn.linear_model import LogisticRegression
        from sklearn.neighbors import KNeighborsClassifier
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        if self.probe == "linear":
            linear = LogisticRegression(max_iter=1000, class_weight="balanced")
            return make_pipeline(StandardScaler(), linear)
        if self.probe == "knn":
            n_neighbors = min(self.n_neighbors, len(self.y_train))
            return KNeighborsClassifier(n_neighbors, metric="cosine")
        raise ValueError(f"probe must be 'linear' or 'knn', got {self.probe!r}")

    def on_train_begin(self, net, **kwargs):
        """Refuse a net that does not pretrain, and what counts nothing."""
        _require_pretrainer(self, net)
        _require_counts(self, "every")

    def on_epoch_end(self, net, **kwargs):
        """Fit the probe and record its balanced accuracy as ``probe_<kind>``."""
        from sklearn.metrics import balanced_accuracy_score

        if len(net.history) % self.every:
            return
        embed = net.transform if self.density == "student" else net.transform_teacher
        train, test = embed(self.X_train), embed(self.X_test)
        probe = self._classifier().fit(train, np.asarray(self.y_train))
        answer = probe.predict(test)
        score = balanced_accuracy_score(np.asarray(self.y_test), answer)
        net.history.record(f"probe_{self.probe}", float(score))


def _require_pretrainer(callback, net) -> None:
    if not hasattr(net, "pooled_nodes"):
        raise TypeError(
            f"{type(callback).__name__} watches a GCMAEPretrainer, this is a "
            f"{type(net).__name__}: hand it over in the arguments of GCMAEPretraining"
        )


def _require_counts(callback, *names: str) -> None:
    for name in names:
        value = getattr(callback, name)
        whole = isinstance(value, Integral) and not isinstance(value, bool)
        if not whole or value < 1:
            brief = isinstance(value, Real | str)
            told = repr(value) if brief else type(value).__name__
            raise ValueError(
                f"{name} of {type(callback).__name__} must be a whole number from 1 "
                f"on, got {told:.60}"
            )

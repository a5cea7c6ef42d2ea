"""Peers and ours behind one interface: ``method(cell) -> Outcome``.

Every method is aligned alike (the cell's view), every network has the cell's
budget alike; what differs is in ``settings``, which enters the cell's key.
"""

from __future__ import annotations

import contextlib
import logging
import warnings
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from benchmarks.ours import ABLATIONS, EVOKED, OURS, PAPER

log = logging.getLogger(__name__)
PEER_NETWORKS = {
    "EEGNet": {},
    "ShallowFBCSPNet": {},
    "EEGConformer": {},
    "CTNet": {},
    "ATCNet": {},
    "DGCNN": {},
}


@dataclass
class Outcome:
    """Class probabilities of the test windows (B, C), and the size of the model."""

    probability: np.ndarray
    n_parameters: int = 0


@dataclass(frozen=True)
class Method:
    """A named function of a cell, with the settings that identify it."""

    name: str
    run: object
    settings: dict = field(default_factory=dict, hash=False)
    network: bool = True
    all_electrodes: bool = True
    pretrains: bool = False
    teaches: bool = False

    def describe(self, budget, device="cpu"):
        """Give the settings, with the budget and the device where they matter.

        A GPU draws other random numbers and rounds otherwise: the same network trained
        there is another cell. A CPU adds nothing.
        """
        if not self.network:
            return dict(self.settings)
        stages = {"pretrains": self.pretrains, "teaches": self.teaches}
        kind = str(device).partition(":")[0]
        where = {} if kind == "cpu" else {"device": kind}
        return {**self.settings, **budget.settings(**stages), **where}


@contextlib.contextmanager
def seeded(seed, device="cpu"):
    """Seed torch for one cell, and give the earlier state back."""
    import torch

    devices = [torch.cuda.current_device()] if device != "cpu" else []
    with torch.random.fork_rng(devices):
        torch.default_generator.manual_seed(seed)
        if devices:
            torch.cuda.manual_seed_all(seed)
        yield


def training_arguments(budget, device, n_epochs=None):
    """Keyword arguments of ``EEGClassifier`` that every network shares."""
    import torch
    from skorch.callbacks import LRScheduler

    epochs = n_epochs or budget.epochs
    schedule = LRScheduler("CosineAnnealingLR", T_max=epochs)
    return {
        "optimizer": torch.optim.AdamW,
        "optimizer__weight_decay": budget.weight_decay,
        "lr": budget.lr,
        "max_epochs": epochs,
        "batch_size": budget.batch_size,
        "iterator_train__drop_last": False,
        "train_split": None,
        "classes": [0, 1],
        "device": device,
        "verbose": 0,
        "callbacks": [("cosine", schedule)],
    }


def count_parameters(module):
    """Count the parameters that are trained."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def run_network(cell, *, model, view="low", model_settings=None):
    """Train one of braindecode's networks on the labelled people."""
    from braindecode import EEGClassifier, models

    X, _, y = cell.labelled(view)
    names = cell.windows.ch_names if view == "interpolated" else cell.kept
    with seeded(cell.random_state, cell.device), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = EEGClassifier(
            getattr(models, model),
            module__n_chans=X.shape[1],
            module__n_times=X.shape[2],
            module__n_outputs=2,
            module__sfreq=cell.windows.task.sfreq,
            module__chs_info=cell.windows.chs_info(names),
            **{f"module__{k}": v for k, v in (model_settings or {}).items()},
            **training_arguments(cell.budget, cell.device),
        )
        net.fit(X, y)
        probability = net.predict_proba(cell.test(view))
    return Outcome(probability, count_parameters(net.module_))


def band_pass(X, sfreq, band, order=4):
    """Butterworth without phase, along the last axis."""
    from scipy.signal import butter, sosfiltfilt

    sos = butter(order, band, "bandpass", fs=sfreq, output="sos")
    return sosfiltfilt(sos, X, axis=-1)


def recentre(matrices, people):
    """Move every person's Riemannian mean to the identity; no labels."""
    from pyriemann.geometry.base import invsqrtm
    from pyriemann.geometry.mean import mean_riemann

    out = np.empty_like(matrices)
    for person in np.unique(people):
        own = people == person
        root = invsqrtm(mean_riemann(matrices[own], tol=1e-5, maxiter=30))
        out[own] = root @ matrices[own] @ root
    return out


def covariances(windows, kept, band, *, centred):
    """Give the covariances of all windows; kept, as no labels and no people mix."""
    from pyriemann.estimation import Covariances

    key = ("covariances", kept, band, centred)
    if key not in windows.memory:
        X = windows.view("raw", kept).astype(np.float64)
        out = Covariances("oas").transform(band_pass(X, windows.task.sfreq, band))
        windows.memory[key] = recentre(out, windows.person) if centred else out
    return windows.memory[key]


def run_tangent_space(cell, *, centred, band=(8.0, 30.0), C=1.0):
    """Tangent space and logistic regression (Barachant 2012; MOABB's TS+LR)."""
    from pyriemann.tangentspace import TangentSpace
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    matrices = covariances(cell.windows, cell.kept, band, centred=centred)
    _, _, y = cell.labelled("raw")
    train = cell.windows.rows(cell.split.labelled)
    test = cell.windows.rows(cell.split.test)
    regression = LogisticRegression(C=C, max_iter=1000)
    # the log-Euclidean mean as reference: the Riemannian one takes minutes at 64
    tangent = TangentSpace({"mean": "logeuclid", "map": "riemann"})
    pipeline = make_pipeline(tangent, regression).fit(matrices[train], y)
    probability = pipeline.predict_proba(matrices[test])
    return Outcome(probability, regression.coef_.size + 1)


def run_log_power(cell, *, C=1.0):
    """Log power spectra averaged per person, and logistic regression."""
    from scipy.signal import welch
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    def features(X):
        n = int(2 * cell.windows.task.sfreq)
        _, power = welch(X, cell.windows.task.sfreq, nperseg=n)
        return np.log(power[:, :, 2:76:4] + 1e-6).reshape(len(X), -1)

    def averaged(X, people):
        if not cell.windows.task.per_person:
            return features(X)
        F = features(X)
        return np.stack([F[people == p].mean(0) for p in people])

    X, person, y = cell.labelled("raw")
    tested = cell.windows.person[cell.windows.rows(cell.split.test)]
    regression = LogisticRegression(C=C, max_iter=2000)
    pipeline = make_pipeline(StandardScaler(), regression)
    pipeline.fit(averaged(X, person), y)
    probability = pipeline.predict_proba(averaged(cell.test("raw"), tested))
    return Outcome(probability, regression.coef_.size + 1)


def run_xdawn(cell, *, view, n_filters=4, C=1.0):
    """Responses filtered by xDAWN, tangent space, logistic regression (as in MOABB)."""
    from pyriemann.estimation import XdawnCovariances
    from pyriemann.tangentspace import TangentSpace
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    regression = LogisticRegression(C=C, max_iter=1000)
    responses = XdawnCovariances(n_filters, estimator="oas")
    pipeline = make_pipeline(responses, TangentSpace(), regression)
    X, _, y = cell.labelled(view)
    pipeline.fit(X.astype(np.float64), y)
    probability = pipeline.predict_proba(cell.test(view).astype(np.float64))
    return Outcome(probability, regression.coef_.size + 1)


def run_interval_means(cell, *, view, per_second=16):
    """Means of time intervals and shrinkage LDA (Blankertz 2011)."""
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    def means(X):
        n_bins = round(X.shape[2] / cell.windows.task.sfreq * per_second)
        parts = np.array_split(X.astype(np.float64), n_bins, axis=2)
        return np.concatenate([part.mean(2) for part in parts], axis=1)

    X, _, y = cell.labelled(view)
    classifier = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")
    classifier.fit(means(X), y)
    probability = classifier.predict_proba(means(cell.test(view)))
    return Outcome(probability, classifier.coef_.size + 1)


def _of_responses():
    """Linear classifiers of what is evoked, on recordings as they are and aligned."""
    xdawn = {"n_filters": 4, "C": 1.0, "covariance": "oas"}
    kinds = (
        ("xDAWN+TS+LR", run_xdawn, xdawn),
        ("means+LDA", run_interval_means, {"per_second": 16}),
    )
    for label, run, settings in kinds:
        for name, view in ((label, "raw"), (f"{label} aligned", "low")):
            how = partial(run, view=view)
            yield Method(name, how, {**settings, "view": view}, network=False)


def _registry():
    tangent = {"band": [8.0, 30.0], "C": 1.0, "covariance": "oas"}
    out = [
        Method(
            "TS+LR",
            partial(run_tangent_space, centred=False),
            {**tangent, "centred": False},
            network=False,
        ),
        Method(
            "TS+LR re-centred",
            partial(run_tangent_space, centred=True),
            {**tangent, "centred": True},
            network=False,
        ),
        Method("log-PSD+LR", run_log_power, {"C": 1.0}, network=False),
        *_of_responses(),
    ]
    for model, settings in PEER_NETWORKS.items():
        run = partial(run_network, model=model, model_settings=settings)
        out.append(Method(model, run, {"model": model, **settings}))
        spline = partial(run, view="interpolated")
        out.append(
            Method(
                f"interpolated {model}",
                spline,
                {"model": model, "view": "interpolated", **settings},
                all_electrodes=False,
            )
        )
    for recipe in OURS + ABLATIONS + PAPER + EVOKED:
        run = partial(run_ours, recipe=recipe)
        stages = {"pretrains": recipe.pretrains, "teaches": recipe.teaches}
        out.append(Method(recipe.name, run, recipe.settings(), **stages))
    found = {method.name: method for method in out}
    for name in (*PEER_NETWORKS, "scratch"):
        plain = f"{name} unaligned"
        settings = {**found[name].settings, "aligned": False}
        run = partial(run_unaligned, method=found[name])
        found[plain] = replace(found[name], name=plain, run=run, settings=settings)
    return found


def run_unaligned(cell, *, method):
    """Run a network on recordings as they are: what alignment gives it."""
    windows = cell.windows
    if "unaligned" not in windows.memory:
        task = replace(windows.task, alignment=False)
        windows.memory["unaligned"] = replace(windows, task=task, memory={}, _views={})
    return method.run(replace(cell, windows=windows.memory["unaligned"]))


def run_ours(cell, *, recipe):
    """Run one of our recipes: pretraining, teacher, distillation."""
    from benchmarks.ours import run_recipe

    probability, n_parameters = run_recipe(cell, recipe)
    return Outcome(probability, n_parameters)


METHODS = _registry()

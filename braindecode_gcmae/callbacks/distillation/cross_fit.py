"""Soft labels of windows from teachers that have not seen whose they are.

A teacher that is asked about the windows it was trained on says little that their
labels do not say. Trained without a part of the people, it says of them what it will
say of anybody (cross-fitting; Dao et al. 2021, https://arxiv.org/abs/2104.09732).
"""

import warnings
from functools import lru_cache
from itertools import islice

import numpy as np
import torch
from braindecode.augmentation import AugmentedDataLoader
from sklearn.model_selection import GroupKFold
from torch import Tensor

from ...models.wrapped import unwrap
from ...pretraining import UnlabelledWindows
from ...pretraining.data import subject_text
from ..checks.inputs import is_regression
from ..checks.split import has_windows, left_after, taken, told_people, training_part
from ..hooks import device_of
from ..randomness import unmoved_randomness
from .answers import TeacherAnswers, inputs_of
from .origin import trained_teacher
from .teachers import trained_head

__all__ = ["CrossFitted", "check_cross_fit", "cross_fitted", "folds_of_people"]


class CrossFitted:
    """Logits of windows, found by their content, on any device without waiting for it.

    Parameters
    ----------
    keys : Tensor of int64, shape (n,)
        :func:`window_keys` of the windows.
    logits : Tensor, shape (n, C)
        What teachers that have not seen their people say of them.
    """

    def __init__(self, keys: Tensor, logits: Tensor):
        self.keys, order = keys.sort(stable=True)
        self.logits = logits[order]

    def to(self, device) -> "CrossFitted":
        """The same on another device."""
        return CrossFitted(self.keys.to(device), self.logits.to(device))

    def __call__(self, x: Tensor, otherwise: Tensor) -> Tensor:
        """Logits (B, C) of windows (B, N, T); ``otherwise`` for those not known."""
        keys = window_keys(x)
        place = torch.searchsorted(self.keys, keys).clamp_max(len(self.keys) - 1)
        known = (self.keys[place] == keys).unsqueeze(-1)
        return torch.where(known, self.logits[place].to(otherwise.dtype), otherwise)


def window_keys(x: Tensor) -> Tensor:
    """A number for the content of each window (B, N, T), (B,), worked out where it is.

    Whole numbers that wrap around add up to the same in any order, on any device.
    """
    # Of 64 bits the lower half may be zeros throughout, and would waste the sum's.
    kind = torch.int16 if x.element_size() == 2 else torch.int32
    words = x.contiguous().flatten(1).view(kind).long()
    return (words * _odd_numbers(words.shape[1], str(words.device))).sum(1)


@lru_cache(maxsize=4)
def _odd_numbers(n: int, device: str) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    numbers = torch.randint(-(2**62), 2**62, (n,), generator=generator)
    return (2 * numbers + 1).to(device)


def folds_of_people(people, n_folds: int, seed: int) -> list[np.ndarray]:
    """Rows of the windows of each fold; a person's are all in one.

    Parameters
    ----------
    people : array (n,)
        Whose each window is.
    n_folds, seed : int
        The seed shuffles the people.
    """
    _, codes = np.unique(
        [subject_text(person) for person in people], return_inverse=True
    )
    folds = GroupKFold(n_folds, shuffle=True, random_state=seed)
    return [rows for _, rows in folds.split(codes, groups=codes)]


def _whose(net, X, rows) -> np.ndarray:
    """The person, as text, of each window (rows) that the net is trained on.

    Raises
    ------
    ValueError
        If that is not known.
    """
    if rows is None or not has_windows(X):
        raise ValueError(
            "cross_fit cannot tell whose the windows are: hand over arrays, Epochs or "
            "a data set, and a train_split that chooses among them (or None)"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the windows, said by who looks at them
        windows = UnlabelledWindows(X, told_people(net))
    if (windows.groups[rows] < 0).any():
        raise ValueError(
            "cross_fit leaves out people and does not know whose the windows are: tell "
            "a GCMAEClassifier by fit(X, y, subjects=...), or hand over Epochs or data "
            "sets with 'subject' in their metadata or descriptions"
        )
    return np.array([subject_text(person) for person in windows.ids[rows]])


def check_cross_fit(members, net, X, y, n_folds, seed) -> np.ndarray | None:
    """Refuse a cross-fitting that cannot be, before anything is trained.

    Parameters
    ----------
    members : list of (NeuralNet, nn.Module or None)
        The teacher and the others of a committee, with the models that they hold; None
        is still to be trained.
    net, X, y
        Who is fitted, and on what; without X, data are not looked at.
    n_folds, seed : int
        No folds are 0.

    Returns
    -------
    ndarray of int or None
        Rows of the largest fold: what teachers have least without.

    Raises
    ------
    ValueError
        Naming what does not fit.
    """
    whole = isinstance(n_folds, int | np.integer) and not isinstance(n_folds, bool)
    if not whole or n_folds < 0 or n_folds == 1:
        raise ValueError(f"cross_fit must be 0 or 2 folds or more, got {n_folds!r}")
    if n_folds == 0:
        return None
    for member, model in members:
        _check_member(member, model)
    if X is None:
        return None
    X_fit, y_fit, rows = training_part(net, X, y)
    people = _whose(net, X, rows)
    n_people = len(set(people))
    if n_people < n_folds:
        raise ValueError(
            f"cross_fit={n_folds}, and the windows are of {n_people} people"
        )
    folds = folds_of_people(people, n_folds, seed)
    windows = net.get_dataset(X_fit, y_fit)
    if not is_regression(net):
        y_fit = _labels(net, windows) if y_fit is None else np.asarray(y_fit)
        if y_fit.ndim == 1:  # else probabilities of classes
            _check_classes(y_fit, folds, people)
    _check_unchanged(net, windows)
    return max(folds, key=len)


def _check_member(member, model) -> None:
    """Refuse a teacher that cannot be trained more than once."""
    if model is not None:
        raise ValueError(
            "cross_fit trains the teacher anew without each part of the people: hand "
            "over an unfitted EEGClassifier"
        )
    given = member.callbacks if isinstance(member.callbacks, list | tuple) else ()
    for one in given:
        callback = one[1] if isinstance(one, list | tuple) else one
        if hasattr(callback, "keep_stage"):
            raise ValueError(
                "cross_fit trains the teacher several times, and its "
                f"{type(callback).__name__} has one folder, which is for one run: give "
                "it to the student's net instead, which keeps each teacher when it is "
                "trained"
            )


def _check_unchanged(net, windows) -> None:
    """Refuse windows that are other ones in training than when they are looked at."""
    loader = net.iterator_train
    changed = isinstance(loader, type) and issubclass(loader, AugmentedDataLoader)
    if not changed:
        looked_at = [
            window_keys(inputs["x"]).cpu() for inputs in inputs_of(net, windows)
        ]
        known = torch.cat(looked_at)
        for inputs in islice(inputs_of(net, windows, training=True), 1):  # one batch
            changed = not torch.isin(window_keys(inputs["x"]).cpu(), known).all()
    if changed:
        raise ValueError(
            "cross_fit knows windows by their content, which the augmentation of "
            f"{getattr(loader, '__name__', loader)} or of the data set changes"
        )


def _labels(net, windows) -> np.ndarray:
    """What a data set tells of its windows' classes."""
    with unmoved_randomness():
        batches = net.get_iterator(windows, training=False)
        return np.concatenate([np.asarray(y) for _, y in batches])


def _check_classes(y, folds, people) -> None:
    """Refuse folds of which one holds all windows of a class."""
    for fold in folds:
        lost = set(y.tolist()) - set(np.delete(y, fold).tolist())
        if lost:
            names = sorted({str(person) for person in people[fold]})
            raise ValueError(
                f"cross_fit: without {names} no window of {sorted(lost)} is left to "
                "train a teacher on; fewer folds, or other people in them"
            )


def cross_fitted(
    members, net, student, X, part: tuple, n_folds: int, seed: int
) -> CrossFitted:
    """Train teachers without each fold of people and ask them about it.

    Parameters
    ----------
    members : list of NeuralNet
        Unfitted; a committee's answer is its members' together.
    net, student, X
        The student's net, its module and the windows that it is fitted on.
    part : tuple
        Those that it is trained on, of :func:`training_part`: asked once for all, as a
        splitter may draw others the next time.
    n_folds, seed : int
    """
    X_fit, y_fit, rows = part
    keys, logits = [], []
    for fold in folds_of_people(_whose(net, X, rows), n_folds, seed):
        models, others = [], left_after(*part, fold)
        for member in members:
            fitted = trained_teacher(member, net, student, others)
            model = trained_head(unwrap(fitted.module_), "the teacher")
            models.append(model.to(device_of(net)).eval())
            models[-1].network.selects = True
        answers = TeacherAnswers(
            models[0], others=models[1:], regression=is_regression(net)
        )
        asked = taken(X_fit, fold), None if y_fit is None else np.asarray(y_fit)[fold]
        for inputs in inputs_of(net, net.get_dataset(*asked)):
            keys.append(window_keys(inputs["x"]).cpu())
            logits.append(answers(inputs)[0].cpu())
    return CrossFitted(torch.cat(keys), torch.cat(logits))

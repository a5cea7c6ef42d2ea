"""Windows without labels, beside those of ``fit``: what may be learnt from them."""

import warnings

import mne
from torch import nn

from ...pretraining import UnlabelledWindows
from ...pretraining.arranged import for_model
from ...pretraining.twins import not_compared, without_twins
from ...warning import warn
from ..checks.inputs import check_unlabelled
from ..checks.split import has_windows, held_out

__all__ = ["unlabelled_pool"]


def unlabelled_pool(given, model: nn.Module, net, X, y) -> UnlabelledWindows | None:
    """The unlabelled windows, without those that a net is validated on.

    Parameters
    ----------
    given : ndarray, Epochs, dataset or list
    model : GCMAEStudent
        What is to see them.
    net, X, y
        Who is fitted, and on what.

    Returns
    -------
    UnlabelledWindows or None
        None if there are no others.

    Warns
    -----
    UserWarning
        If some are left out, if some cannot be compared with those that the net is
        validated on, and if some are those of ``fit``.
    """
    pool = check_unlabelled(UnlabelledWindows(given), model)
    valid = None if X is None else held_out(net, X, y)
    kept = pool if valid is None else _not_validated_on(pool, UnlabelledWindows(valid))
    if kept is None or not has_windows(X):
        return kept
    n_twins = without_twins(kept, _fitted(X, model))[1]
    if n_twins:
        # They stay: to be learnt from with labels and without is no leak by itself.
        warn(
            f"{n_twins} of the unlabelled windows are also among those of fit: a "
            "cross-validation over these would train on windows that it tests on. "
            "Hand over other people's"
        )
    return kept


def _not_validated_on(pool: UnlabelledWindows, valid: UnlabelledWindows):
    """What remains of a pool; None if nothing does."""
    n_unknown = not_compared(pool, valid)
    if n_unknown:
        warn(
            f"{n_unknown} of the unlabelled windows could not be compared with those "
            "that the net is validated on, without reading recordings from disk: see "
            "to it that they are other people's"
        )
    kept, n_twins = without_twins(pool, valid)
    if n_twins:
        warn(
            f"{n_twins} of the unlabelled windows are among those that the net is "
            "validated on, and are left out"
        )
    return kept


def _fitted(X, model: nn.Module) -> UnlabelledWindows:
    """The windows of ``fit``, with the channels in a model's order."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # check_seen has said it
        windows = UnlabelledWindows(X)
        return for_model(windows, model) if isinstance(X, mne.BaseEpochs) else windows

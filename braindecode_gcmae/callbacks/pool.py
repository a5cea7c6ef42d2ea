"""Windows without labels, beside those of ``fit``: what may be learnt from them."""

import warnings

import mne
import numpy as np
from torch import Tensor, nn

from ..pretraining import UnlabelledWindows
from ..pretraining.arranged import for_model
from ..pretraining.twins import without_twins
from .checks import check_unlabelled
from .origin import held_out

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
        If some are left out, and if some are those of ``fit``.
    """
    pool: UnlabelledWindows | None = check_unlabelled(UnlabelledWindows(given), model)
    valid = None if X is None else held_out(net, X, y)
    if valid is not None:
        pool, n_twins = without_twins(pool, UnlabelledWindows(valid))
        if n_twins:
            _warn(
                f"{n_twins} of the unlabelled windows are among those that the net is "
                "validated on, and are left out"
            )
    if pool is None or not isinstance(X, np.ndarray | Tensor | mne.BaseEpochs):
        return pool  # what is read from disk is not compared
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # check_seen has said it
        fitted = for_model(UnlabelledWindows(X), model)
    n_twins = without_twins(pool, fitted)[1]
    if n_twins:
        # They stay: to be learnt from with labels and without is no leak by itself.
        _warn(
            f"{n_twins} of the unlabelled windows are also among those of fit: a "
            "cross-validation over these would train on windows that it tests on. "
            "Hand over other people's"
        )
    return pool


def _warn(message: str) -> None:
    warnings.warn(message, UserWarning, stacklevel=4)

"""What a net's own training would refuse, asked before others train for it.

skorch looks at labels, split and settings when its first epoch begins: after a
pretraining, or the training of a teacher, which may have taken hours.
"""

import inspect

import torch
from braindecode.training.scoring import PostEpochTrainScoring
from sklearn.base import clone
from skorch import NeuralNetClassifier
from skorch.callbacks import LRScheduler
from skorch.dataset import ValidSplit
from torch.optim.lr_scheduler import ReduceLROnPlateau

from ...models.wrapped import unwrap
from .inputs import OF_CLASSES, check_targets, check_values, is_regression
from .split import left_after, parts, told_of_parts, training_part

__all__ = ["check_ahead", "check_batches", "check_teacher_ahead", "is_stock"]

_PACKAGES = {"braindecode", "braindecode_gcmae", "skorch"}


def is_stock(thing) -> bool:
    """Whether a callback or net is as a package made it, and not derived by the user.

    Of others nobody knows what they take and what they record.
    """
    return type(thing).__module__.split(".")[0] in _PACKAGES


def check_ahead(net, X, y) -> None:
    """Refuse labels, a split and settings that the net's own training would refuse.

    No random state is another afterwards.

    Raises
    ------
    TypeError, ValueError
        If labels are none for the net's criterion or its module's outputs, values are
        not finite, there are more or fewer than windows, the validation split cannot
        be drawn, no batch is left to train on, a score needs classes that nobody has
        told, or a callback's arguments are too few or ask for a validation that there
        is not.
    """
    if isinstance(net.criterion_, OF_CLASSES):
        check_targets(net, y, several=False)
        _check_class_weights(net.criterion_, net)
    elif is_regression(net):
        check_values(y)
    _check_data(net, X, y)
    train, valid = _halves(net, X, y)
    _check_batches(net, train)
    _check_scores(net, valid)
    if not valid:
        _check_monitors(net)
    _check_schedules(net)


def check_batches(net, X, y) -> None:
    """Refuse windows too few for one batch: an epoch would be over without a step.

    Raises
    ------
    TypeError, ValueError
        Also if the validation split cannot be drawn.
    """
    _check_batches(net, _halves(net, X, y)[0])


def check_teacher_ahead(teacher, net, X, y, *, without=None) -> None:
    """Refuse an unfitted teacher with no batch, or no split, of the student's windows.

    ``without`` rows of them that are left out.

    Raises
    ------
    TypeError, ValueError
        If its training would have nothing to train on, or cannot be split, or its
        criterion's weights fit no model of the student's classes.
    """
    X, y, rows = left_after(*training_part(net, X, y), without)
    alike = clone(teacher)
    of_criterion = alike.get_params_for("criterion")
    criterion = alike.initialized_instance(alike.criterion, of_criterion)
    if isinstance(criterion, OF_CLASSES):
        _check_class_weights(criterion, net)
    alike.fit_metadata_ = told_of_parts(teacher, net, rows)
    _check_batches(alike, _halves(alike, X, y)[0])


def _check_class_weights(criterion, net) -> None:
    weight, module = criterion.weight, unwrap(net.module_)
    if weight is None:
        return
    n_outputs = getattr(module, "n_outputs", None)
    if n_outputs is not None and len(weight) != n_outputs:
        raise ValueError(
            f"the criterion weighs {len(weight)} classes, the model has {n_outputs} "
            "outputs: pass criterion__weight with one for each"
        )
    # Half precision and single may meet under autocast, no other two kinds ever do.
    if weight.dtype in (torch.float64, torch.int64):
        outputs = next(module.parameters()).dtype
        if weight.dtype != outputs:
            raise TypeError(
                f"criterion__weight is {weight.dtype}, the model's outputs are "
                f"{outputs}: pass criterion__weight.float()"
            )


def _check_data(net, X, y) -> None:
    """Ask skorch, which takes arrays, and of lists and tables some."""
    try:
        net.check_data(X, y)
    except TypeError as error:
        raise TypeError(
            f"{type(net).__name__} cannot take labels as {type(y).__name__} ({error}): "
            "hand over np.asarray(y)"
        ) from error


def _halves(net, X, y) -> tuple:
    """What is trained on, and whether anything is left to validate on.

    None for what is not known.
    """
    if not isinstance(net.train_split, ValidSplit):
        return net.get_dataset(X, y), bool(net.train_split)
    try:
        _, train, valid = parts(net, X, y)
    except (TypeError, ValueError) as error:
        if isinstance(error, TypeError) or _may_hear_of_groups(net):
            return None, True  # such as a generator, of which there is no copy
        raise
    return train, valid is not None


def _may_hear_of_groups(net) -> bool:
    """Whether ``fit`` may have been told what only split and module hear of."""
    if hasattr(net, "fit_metadata_"):  # a GCMAEClassifier hears all
        return False
    known = inspect.signature(unwrap(net.module_).forward).parameters
    kinds = {parameter.kind for parameter in known.values()}
    return "groups" in known or inspect.Parameter.VAR_KEYWORD in kinds


def _check_batches(net, train) -> None:
    """Refuse a net that drops its last batch where that is the only one."""
    given = {"batch_size": net.batch_size, **net.get_params_for("iterator_train")}
    drawn = given.get("sampler") or train
    if drawn is None or not net.max_epochs or not hasattr(drawn, "__len__"):
        return
    if given.get("drop_last") and len(drawn) < given["batch_size"]:
        raise ValueError(
            f"no batch to train on: batch_size={given['batch_size']}, {len(drawn)} "
            f"windows. Lower the batch_size of this {type(net).__name__}, or pass "
            "iterator_train__drop_last=False"
        )


def _check_scores(net, valid: bool) -> None:
    """Refuse scores of scikit-learn where nobody has told the classes.

    skorch finds them in labels, but not in a data set that is read window by window.
    """
    is_classifier = isinstance(net, NeuralNetClassifier)
    if not is_classifier or not net.max_epochs or hasattr(net, "classes_"):
        return
    for name, callback in net.callbacks_:
        scores = isinstance(getattr(callback, "scoring", None), str)
        if scores and (valid or _is_of_training(callback)):
            raise ValueError(
                f"{name!r} scores classes, and the data set does not tell them: pass "
                f"classes=[0, 1, ...] to {type(net).__name__}"
            )


def _check_monitors(net) -> None:
    """Refuse callbacks that wait for a validation, where there is none."""
    callbacks = [callback for _, callback in net.callbacks_]
    if not all(map(is_stock, [net, *callbacks])):
        return  # others may record what they like
    recorded = {getattr(c, "name_", None) for c in callbacks if _is_of_training(c)}
    for name, callback in net.callbacks_:
        key = _monitored(callback)
        if key.startswith("valid_") and key.removesuffix("_best") not in recorded:
            raise ValueError(
                f"{type(callback).__name__} ({name!r}) monitors {key!r}, and there is "
                "no validation: pass a train_split, or monitor what is recorded of the "
                "training"
            )


def _is_of_training(callback) -> bool:
    """Whether a score is recorded without a validation, whatever it is called."""
    after = isinstance(callback, PostEpochTrainScoring)
    return after or bool(getattr(callback, "on_train", False))


def _monitored(callback) -> str:
    """The key of the history that a callback waits for; "" for none."""
    if isinstance(callback, LRScheduler) and callback.policy_ is not ReduceLROnPlateau:
        return ""  # its monitor is not asked for
    key = getattr(callback, "monitor", None)
    return key if isinstance(key, str) else ""


def _check_schedules(net) -> None:
    """Refuse schedules of the learning rate that lack an argument."""
    for name, callback in net.callbacks_:
        if not isinstance(callback, LRScheduler):
            continue
        policy = callback.policy_
        try:
            inspect.signature(policy).bind(None, **callback.kwargs)
        except TypeError as error:
            of = getattr(policy, "__name__", policy)  # a partial has none
            raise TypeError(f"LRScheduler ({name!r}), policy {of}: {error}") from error

"""Looks at windows, labels and settings, before a step is made."""

import mne
import numpy as np
import torch
from skorch import NeuralNet, NeuralNetRegressor
from skorch.helper import SliceDataset
from torch import Tensor, nn
from torch.utils.data import Dataset

from ...features.look import same_rate
from ...graph import binarise
from ...losses import logit_distillation_loss, topology_distillation_loss
from ...models.wrapped import unwrap
from ...montage.recording import kept_epochs
from ...pretraining import UnlabelledWindows
from ...pretraining.arranged import check_rate, for_model
from .channels import check_order, first_item, refuse_others, warn_of_bads

__all__ = [
    "OF_CLASSES",
    "check_labels",
    "check_seen",
    "check_softmax",
    "check_targets",
    "check_terms",
    "check_unlabelled",
    "check_values",
    "is_regression",
    "refuse_cropped",
    "refuse_other_kind",
]


def check_seen(x, model: nn.Module) -> None:
    """Look at the windows of ``fit`` on the host, before a step is made.

    Parameters
    ----------
    x : array (n, n_chans, n_times) in µV, Epochs or dataset
        Of anything else (dicts of inputs) nothing is known.
    model : GCMAEStudent or GCMAETeacher

    Raises
    ------
    TypeError, ValueError
        If they hold no signal, or have another sampling rate than the model.

    Warns
    -----
    UserWarning
        If they look like volts, or some channels are flat or not finite throughout, or
        marked bad and data still.
    """
    x = kept_epochs(x)
    warn_of_bads(x)
    if isinstance(x, mne.BaseEpochs):
        refuse_others(x, model)
    is_dataset = isinstance(x, Dataset | SliceDataset) and len(x)
    item = first_item(x) if is_dataset else ()
    if isinstance(x, np.ndarray | Tensor | mne.BaseEpochs):
        x = x[:: max(1, len(x) // 256)]  # as many as are looked at
    elif not is_dataset or isinstance(item[0], dict):
        return
    windows = UnlabelledWindows(x)
    if len(item) > 3:  # positions come with the windows
        check_rate(windows, model.sfreq)
        return
    check_order(windows, model)


def check_labels(y, n_outputs: int | None = None, several: bool = True) -> None:
    """Refuse what are no labels of classes, before a step is made.

    Parameters
    ----------
    y : array, list or column of a table (n,)
        Of anything else nothing is known.
    n_outputs : int, optional
        Of the model.
    several : bool
        Whether two classes are needed.

    Raises
    ------
    TypeError
        If labels are not numbers.
    ValueError
        If they are not 0, 1, ..., ``n_outputs`` - 1, or all the same.
    """
    labels = _as_array(y)
    if labels is None or not labels.size:
        return
    if labels.dtype.kind not in "biuf":
        raise TypeError(
            f"labels must be numbers from 0, got {labels.flat[0]!r} (dtype "
            f"{labels.dtype}): encode them with sklearn's LabelEncoder"
        )
    found = np.unique(labels)
    if several and len(found) < 2:
        raise ValueError(
            f"all {len(labels)} labels are {found[0]}: training needs two classes"
        )
    if n_outputs is None:
        return
    wrong = found[(found < 0) | (found >= n_outputs) | (found != np.floor(found))]
    if len(wrong):
        raise ValueError(
            f"the label {wrong[0]} is none of the {n_outputs} classes 0 to "
            f"{n_outputs - 1} of the model: encode labels with sklearn's LabelEncoder, "
            "or pass module__n_outputs"
        )


def _as_array(y) -> np.ndarray | None:
    """Labels of any type as an array; None if nothing is known of them."""
    is_table = hasattr(y, "to_numpy")  # pandas
    if not isinstance(y, np.ndarray | Tensor | list) and not is_table:
        return None
    labels = np.asarray(y)
    # Integers of pandas that may be missing, which skorch can train on.
    return np.asarray(labels.tolist()) if labels.dtype == object else labels


OF_CLASSES = (nn.CrossEntropyLoss, nn.NLLLoss)
_OF_VALUES = (nn.MSELoss, nn.L1Loss, nn.SmoothL1Loss, nn.HuberLoss)
_OF_SINGLE_OUTPUTS = (nn.BCELoss, nn.BCEWithLogitsLoss, nn.MultiLabelSoftMarginLoss)


def is_regression(net) -> bool:
    """Whether a net's outputs are values: by its mode, its class or its criterion."""
    told = getattr(net, "mode", None)
    if told is not None:
        return told == "regression"
    criterion = getattr(net, "criterion_", net.criterion)  # of an unfitted net a class
    kind = criterion if isinstance(criterion, type) else type(criterion)
    return isinstance(net, NeuralNetRegressor) or issubclass(kind, _OF_VALUES)


def refuse_other_kind(teachers: list, net) -> None:
    """Refuse a net that decides between classes as teacher of one of values, or back.

    Of models without a net nothing is known.

    Raises
    ------
    TypeError
        Naming both.
    """
    of_values = is_regression(net)
    for teacher in teachers:
        if isinstance(teacher, NeuralNet) and is_regression(teacher) != of_values:
            learns = "values" if of_values else "classes"
            raise TypeError(
                f"the teacher is a {type(teacher).__name__} and the student's net a "
                f"{type(net).__name__}: one tells classes, the other values, and "
                f"neither can teach the other. The student learns {learns}, so hand "
                "over a teacher that did"
            )


def refuse_cropped(net, who: str) -> None:
    """Refuse braindecode's cropped training: models here answer once a window.

    Raises
    ------
    ValueError
    """
    if getattr(net, "cropped", False):
        raise ValueError(
            f"{who} takes whole windows: cropped training is not supported, use "
            "cropped=False"
        )


def check_values(y) -> None:
    """Refuse values to be learnt that are not finite.

    Raises
    ------
    ValueError
    """
    values = _as_array(y)
    if values is None or values.dtype.kind not in "fc":
        return
    lost = np.flatnonzero(~np.isfinite(values.reshape(len(values), -1)).all(1))
    if len(lost):
        raise ValueError(
            f"{len(lost)} of {len(values)} values to be learnt are not finite, the "
            f"first is that of window {lost[0]}: leave these windows out"
        )


def check_targets(net, y, several: bool = True) -> None:
    """Refuse what are no labels for a net's criterion and its module's outputs.

    Parameters
    ----------
    net : NeuralNet, initialised
    y, several : as in :func:`check_labels`

    Raises
    ------
    TypeError, ValueError
        As in :func:`check_labels`, and if there is more than one label a window where
        the criterion takes one.
    """
    n_outputs = _n_outputs(net)
    labels, of_classes = _as_array(y), isinstance(net.criterion_, OF_CLASSES)
    if of_classes and labels is not None:
        if _are_probabilities(net, labels, n_outputs):
            return
        if labels.ndim > 1:
            raise ValueError(
                f"{type(net.criterion_).__name__} takes one label a window, got labels "
                f"of shape {labels.shape}: hand over a vector, such as y.ravel() or "
                "y.argmax(1)"
            )
        y = labels[labels != net.criterion_.ignore_index]
    alone = n_outputs == 1 or isinstance(net.criterion_, _OF_SINGLE_OUTPUTS)
    check_labels(y, None if alone and not of_classes else n_outputs, several)


def _n_outputs(net) -> int | None:
    try:
        return getattr(unwrap(net.module_), "n_outputs", None)
    except ValueError:  # so braindecode's models say that they have none
        raise ValueError(
            "the model has no head (n_outputs is None), its outputs are embeddings: "
            "load it with n_outputs=, as from_pretrained(folder, n_outputs=2)"
        ) from None


def _are_probabilities(net, labels: np.ndarray, n_outputs: int | None) -> bool:
    """Whether each window has one of each class, which braindecode's nets round."""
    floats = labels.dtype.kind == "f" and labels.shape[1:] == (n_outputs,)
    of_braindecode = hasattr(net, "mode")
    return floats and not of_braindecode and isinstance(net.criterion_, OF_CLASSES[0])


def check_softmax(net, model: nn.Module) -> None:
    """Refuse soft labels where there is no softmax over classes to soften.

    Raises
    ------
    ValueError
        If the model has one output, or outputs that decide by themselves.
    """
    alone = isinstance(net.criterion_, _OF_SINGLE_OUTPUTS)
    if model.n_outputs == 1 or alone:
        raise ValueError(
            f"soft labels need one output for each class: the model has "
            f"{model.n_outputs}, the criterion is {type(net.criterion_).__name__}. Use "
            "n_outputs=2 for two classes, an EEGRegressor for values, or kd_weight=0"
        )


def check_terms(callback) -> None:
    """Refuse settings of a distillation before a teacher is trained for it.

    The losses themselves are asked, on one window of two electrodes.
    """
    for name in ("kd_weight", "gtd_weight", "lsp_weight", "gcrd_weight"):
        weight = getattr(callback, name)
        if not callable(weight) and not weight >= 0:
            raise ValueError(f"{name} must be at least 0, got {weight}")
    if callback.cross_fit and callback.kd_weight == 0:
        raise ValueError(
            f"cross_fit={callback.cross_fit} is for soft labels, and kd_weight is 0"
        )
    nodes, pairs = torch.ones(1, 2, 1), torch.ones(2, 2, dtype=torch.bool)
    logit_distillation_loss(nodes[0], nodes[0], temperature=callback.temperature)
    topology_distillation_loss(
        nodes,
        nodes,
        pairs,
        pairs,
        torch.arange(2),
        kernel=callback.kernel,
        temperature=callback.gtd_temperature,
        eps=callback.eps,
        form=callback.form,
    )
    binarise(pairs, density=callback.density, threshold=callback.threshold)


def check_unlabelled(windows: UnlabelledWindows, model: nn.Module) -> UnlabelledWindows:
    """Unlabelled windows in the order of a model's channels.

    Raises
    ------
    ValueError
        If the models cannot see them.
    """
    if windows.sfreq is not None and not same_rate(windows.sfreq, model.sfreq):
        raise ValueError(
            f"unlabelled windows have sfreq {windows.sfreq}, the models expect "
            f"{model.sfreq}"
        )
    if windows.n_times != model.n_times:
        raise ValueError(
            f"unlabelled windows have n_times {windows.n_times}, the models expect "
            f"{model.n_times}"
        )
    arranged = for_model(windows, model)
    if not arranged.mixed and arranged.n_chans != model.n_chans:
        raise ValueError(
            f"unlabelled windows have n_chans {arranged.n_chans}, the models expect "
            f"{model.n_chans}"
        )
    return arranged

"""What a trained model tells about its electrodes: their graph, their importance."""

from textwrap import shorten

import mne
import numpy as np
import torch
from sklearn.exceptions import NotFittedError
from torch import Tensor, nn
from torch.utils.data import Subset

from ..alignment.containers import refuse_uncut
from ..features.look import check_windows, same_rate
from ..graph import EdgeMean
from ..models.base import ElectrodeGraphModel
from ..models.wrapped import evaluating, unwrap
from ..montage import match_electrodes, name_of
from ..montage.recording import (
    kept_epochs,
    marked_bad,
    recording_info,
    recording_rate,
)

__all__ = ["mean_graph", "model_of", "occlusion_importance"]


@torch.no_grad()
def mean_graph(model: nn.Module, windows=None, *, max_windows: int = 128) -> np.ndarray:
    """Mean adjacency of a model's graphs over windows.

    An edge is averaged over the windows that have both of its electrodes, if there are
    any: one that some recordings lack is not taken for an isolated one.

    Parameters
    ----------
    model : GCMAETeacher or GCMAEStudent, or a fitted net around one
    windows : array (B, C, T) in µV, mne.Epochs or windowed dataset, optional
        Without: what the graph is before it has seen data (its geometric and learned
        parts). Channels of Epochs are taken by name; bad ones are missing.
    max_windows : int
        At most so many are used, evenly spaced.

    Returns
    -------
    ndarray, shape (N, N)
        Over the model's nodes, ``model.node_channels()``.

    Raises
    ------
    ValueError
        If the graph has no edge without windows, or Epochs have other channels or
        another sampling rate than the model.
    TypeError
        If ``windows`` are a Raw or an Evoked, which holds none, or a list.
    """
    model, _ = model_of(model)
    network = model.network
    if windows is None:
        x = torch.full((1, network.n_chans, network.n_times), torch.nan)
    else:
        x = _sample(windows, max_windows, model)
    mean = EdgeMean()
    with evaluating(model):
        for part in x.to(network.positions.device).split(64):
            _, _, adjacency, electrodes = network.graph_of(part)
            mean.add(adjacency.cpu().double(), electrodes.present.cpu())
    adjacency = mean.value()
    if windows is None and network.n_nodes > 1 and not adjacency.any():
        raise ValueError(
            f"a {type(network.graph).__name__} has no edge before it sees data: pass "
            "windows="
        )
    return adjacency.numpy()


@torch.no_grad()
def occlusion_importance(
    model: nn.Module, windows, *, max_windows: int = 128
) -> np.ndarray:
    r"""How much the output changes when an electrode goes missing.

    .. math:: I_j = \frac{1}{B_j} \sum_b \lVert z_b - z_{b \setminus j} \rVert^2

    over the :math:`B_j` windows that have it (0 where none has), with the logits z less
    their mean over classes (what softmax sees), or the window embeddings of a model
    without a trained head.

    Parameters
    ----------
    model, windows, max_windows
        As in :func:`mean_graph`; windows are needed.

    Returns
    -------
    ndarray, shape (N,)
    """
    model, trained_head = model_of(model)
    network, total = model.network, np.zeros(model.network.n_nodes)
    n_having = np.zeros_like(total)
    x = _sample(windows, max_windows, model)
    whole_cap = x.shape[1] == network.n_chans
    channels = network.rows.tolist() if whole_cap else range(network.n_nodes)
    with evaluating(model):

        def output(part):
            z = network(part)
            if trained_head and not isinstance(model.final_layer, nn.Identity):
                z = model.final_layer(z)
                z = z - z.mean(1, keepdim=True) if z.shape[1] > 1 else z
            return z.cpu().double()

        for part in x.to(network.positions.device).split(64):
            whole = output(part)
            n_having += network.locate(part)[1].present.cpu().sum(0).numpy()
            for row, channel in enumerate(channels):
                without = part.clone()
                without[:, channel] = torch.nan  # the model's own "missing electrode"
                total[row] += float((whole - output(without)).square().sum())
    return total / n_having.clip(1)


def model_of(teacher) -> tuple[nn.Module, bool]:
    """The model inside whatever a user calls a teacher; is its head trained?"""
    trained_head = True
    if hasattr(type(teacher), "teacher_"):  # GCMAEPretrainer
        teacher, trained_head = teacher.teacher_, False
    elif hasattr(teacher, "get_params") and hasattr(teacher, "module"):  # skorch
        if not hasattr(teacher, "module_"):
            raise NotFittedError(f"this {type(teacher).__name__} is not fitted: fit it")
        teacher = teacher.module_
    if isinstance(teacher, nn.Module):
        teacher = unwrap(teacher)
    if not isinstance(teacher, ElectrodeGraphModel):
        raise TypeError(
            "expected a fitted EEGClassifier around one of our models, a GCMAETeacher, "
            f"a GCMAEStudent or a GCMAEPretrainer, got {type(teacher).__name__}"
        )
    return teacher, trained_head


def _sample(windows, limit: int, model: nn.Module) -> Tensor:
    """At most ``limit`` windows, evenly spaced, as one tensor in µV."""
    refuse_uncut(windows)
    windows = kept_epochs(windows)
    n = len(windows)
    if n == 0:
        raise ValueError("there are no windows")
    rows = np.unique(np.linspace(0, n - 1, min(n, max(1, limit))).round().astype(int))
    names, left_out = None, np.empty(0, dtype=int)
    if isinstance(windows, mne.BaseEpochs):
        picks = _picks(windows.info, windows.info["sfreq"], model)
        x = windows[rows].get_data(units="uV", picks=picks)
        names = [windows.ch_names[pick] for pick in picks]
        bad = marked_bad(windows.info, names)
        x[:, bad] = np.nan  # missing, as in training
        left_out = np.flatnonzero(bad)
    elif isinstance(windows, np.ndarray | Tensor):
        x = windows[rows]
    elif not isinstance(windows[0], tuple | list):  # of arrays each would be one window
        raise TypeError(
            "windows must be an array (n, n_chans, n_times) in µV, mne.Epochs or a "
            f"windowed dataset, got {type(windows).__name__}"
        )
    else:
        read = [_from_dataset(windows, int(row), model) for row in rows]
        x = np.stack([window for window, _ in read])
        left_out = np.flatnonzero(np.all([bad for _, bad in read], axis=0))
    x = torch.as_tensor(x, dtype=torch.float32)
    check_windows(x.numpy(), names, left_out)
    return x


def _from_dataset(windows, row: int, model: nn.Module) -> tuple:
    """One window of a dataset, and which of its channels are marked bad: missing.

    In the order of a model's channels if they have names.
    """
    x, part = np.array(windows[row][0], dtype=np.float32), _recording(windows, row)
    info = recording_info(part)
    if info is None:
        return x, np.zeros(len(x), dtype=bool)
    bad = marked_bad(info, info["ch_names"])
    x[bad] = np.nan
    picks = _picks(info, recording_rate(part), model)
    return x[picks], bad[picks]


def _recording(windows, row: int):
    """The data set in others that holds a window."""
    if isinstance(windows, Subset):
        return _recording(windows.dataset, int(windows.indices[row]))
    for part in getattr(windows, "datasets", ()):
        if row < len(part):
            return _recording(part, row)
        row -= len(part)
    return windows


def _picks(info: mne.Info, sfreq: float, model: nn.Module) -> np.ndarray:
    """Where a recording has the channels of a model, in its order."""
    if not same_rate(sfreq, model.sfreq):
        raise ValueError(
            f"the windows have {sfreq:g} Hz, the {type(model).__name__} was "
            f"built for {model.sfreq:g} Hz: resample them"
        )
    # Bad channels keep their rows: the model waits for each of its own.
    eeg = mne.pick_types(info, eeg=True, exclude=[])
    if not len(eeg):
        raise ValueError(f"none of the channels {info.ch_names} is of type EEG")
    return eeg[_rows([info["chs"][pick] for pick in eeg], model)]


def _rows(channels: list[dict], model: nn.Module) -> list[int]:
    """Rows of a model's channels among others, or of just its electrodes."""
    own = model.input_channels()
    there = [name_of(channel) for channel in channels]
    if own is None or [name_of(channel) for channel in own] == there:
        return list(range(len(there)))
    for wanted in (own, model.node_channels()):
        try:
            return match_electrodes(wanted, channels)
        except ValueError as error:
            problem = error
    raise ValueError(
        f"the windows do not have the channels of the {type(model).__name__}: "
        f"{shorten(str(problem), 300, placeholder=' ...')}"
    ) from problem

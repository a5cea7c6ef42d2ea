"""What a pretrainer is built from: the windows' channels, rate and length."""

import numpy as np
import torch
from torch import nn

from ..features import (
    ConnectivityFeatures,
    EvokedFeatures,
    SpectralFeatures,
    TemporalFeatures,
)
from ..features.look import same_rate
from ..losses import info_nce, reconstruction_loss
from ..montage import canonical_name, electrode_positions, match_electrodes
from ..warning import warn
from .arranged import channel_names
from .data import UnlabelledWindows, subject_text

__all__ = [
    "check_pair",
    "check_seen",
    "check_settings",
    "nodes_to_mask",
    "paper_arguments",
    "refuse_ignored",
    "signal_of",
    "signal_of_model",
    "warn_unlike",
]


def signal_of(windows: UnlabelledWindows, sfreq, chs_info, ch_names) -> dict:
    """Signal arguments of the models, checked against the windows.

    Parameters
    ----------
    windows : UnlabelledWindows
    sfreq, chs_info, ch_names : optional
        As the user gave them; what is None comes from the windows.

    Returns
    -------
    dict
        ``n_times``, ``sfreq`` and one of ``chs_info``, ``ch_names``, ``n_chans``.

    Raises
    ------
    ValueError
        If the rate is not known, montages are mixed without a reference, or the
        channels or rates contradict each other.
    """
    signal = {"n_times": windows.n_times, "sfreq": sfreq or windows.sfreq}
    if signal["sfreq"] is None:
        raise ValueError("sfreq is not known from the data: pass sfreq= in Hz")
    if windows.sfreq is not None and not same_rate(windows.sfreq, signal["sfreq"]):
        raise ValueError(
            f"the windows have {windows.sfreq:.8g} Hz, sfreq={sfreq:.8g} was given"
        )
    if chs_info is not None:
        signal["chs_info"] = chs_info
    elif ch_names is not None:
        signal["ch_names"] = ch_names
    elif windows.channels is not None:
        signal["chs_info"] = windows.channels
    elif windows.mixed:
        raise ValueError(
            "recordings with different montages: pass chs_info= or ch_names= of "
            "the electrodes the models are to be built for"
        )
    else:
        signal["n_chans"] = windows.n_chans
    named = signal.get("chs_info", signal.get("ch_names"))
    by_row = not (windows.mixed or _has_places(windows))
    if by_row and named is not None and len(named) != windows.n_chans:
        raise ValueError(
            f"the windows have {windows.n_chans} channels, chs_info / ch_names "
            f"name {len(named)}"
        )
    return signal


def _has_places(windows: UnlabelledWindows) -> bool:
    """Whether windows of one cap can be placed on another, as :func:`arranged` does."""
    channels = windows.channels
    if channel_names(channels) is None:
        return False
    return bool(np.isfinite(electrode_positions(channels)).all(1).any())


def signal_of_model(model) -> dict:
    """Signal arguments that a model was built with, as :func:`signal_of` has them."""
    signal = {"n_times": model.n_times, "sfreq": model.sfreq}
    names = model._braindecode_init_kwargs.get("ch_names")
    if model._chs_info is not None:
        signal["chs_info"] = model._chs_info
    elif names is not None:
        signal["ch_names"] = names
    else:
        signal["n_chans"] = model.n_chans
    return signal


def refuse_ignored(pretrainer) -> None:
    """Refuse arguments for a model that is there already: it would not hear of them."""
    for name in ("teacher", "student"):
        model = getattr(pretrainer, name)
        if not isinstance(model, nn.Module):
            continue
        given = sorted(pretrainer.get_params_for(name))
        if given:
            raise ValueError(
                f"{name} is a model already, and {name}__{given[0]}= would be ignored: "
                f"build it with {given[0]}=, or pass its class"
            )
    electrodes, student = pretrainer.electrodes, pretrainer.student
    named = isinstance(student, nn.Module) and student.input_channels() is not None
    if electrodes is None or not named:
        return
    kept = [canonical_name(name) for name in map(str, electrodes)]
    own = channel_names(student.node_channels())
    if own != kept:
        raise ValueError(
            f"student is a model already, with the electrodes {own}, and "
            f"electrodes={list(electrodes)} would be ignored: build it with "
            "electrodes=, or leave it out here"
        )


def paper_arguments(cls, name: str) -> dict:
    """The paper's arguments of a model class, prefixed for the pretrainer."""
    return {f"{name}__{key}": value for key, value in cls.paper_arguments().items()}


def check_pair(teacher, student) -> None:
    """Refuse a student with electrodes that the teacher does not have."""
    if teacher is None or student is None:
        return
    t, s = teacher.network, student.network
    if not same_rate(teacher.sfreq, student.sfreq):
        raise ValueError(
            f"teacher and student see the same windows, but were built for "
            f"{teacher.sfreq:g} and {student.sfreq:g} Hz"
        )
    names = [channel_names(model.input_channels()) for model in (teacher, student)]
    if None not in names and names[0] != names[1] and t.n_chans == s.n_chans:
        raise ValueError(
            f"teacher and student see the same windows, but have other channels or "
            f"another order: {names[0]} and {names[1]}"
        )
    if t.n_chans != s.n_chans:
        raise ValueError(
            f"teacher and student see the same windows, but expect {t.n_chans} and "
            f"{s.n_chans} channels"
        )
    missing = sorted(set(s.rows.tolist()) - set(t.rows.tolist()))
    if missing:
        raise ValueError(
            f"the student keeps electrodes that the teacher does not see: channels "
            f"{missing} of the input"
        )
    warn_unlike(teacher, student)


def warn_unlike(teacher, student) -> None:
    """Warn if one of the two sees what is locked to an event, and the other does not.

    Of features of the user's own nothing is known.
    """
    seen = {_sees(model.network.features) for model in (teacher, student)}
    if seen == {_TIME_COURSE, _RHYTHMS}:
        t, s = (type(m.network.features).__name__ for m in (teacher, student))
        warn(
            f"teacher and student see different things: one the time course, the other "
            f"the powers of rhythms (features {t} and {s}). What one of them does not "
            "see is not carried over: give both the same kind of features"
        )


_TIME_COURSE, _RHYTHMS = "time course", "rhythms"


def _sees(features) -> str | None:
    parts = list(features.modules())
    if any(isinstance(part, EvokedFeatures) for part in parts):
        return _TIME_COURSE
    known = SpectralFeatures, TemporalFeatures, ConnectivityFeatures
    return _RHYTHMS if any(isinstance(part, known) for part in parts) else None


def check_settings(pretrainer) -> None:
    """Refuse settings now that training would come to only in some later step.

    The losses themselves are asked, on one window of two electrodes.
    """
    for name, high in (("drop_nodes", 1), ("drop_edges", 1), ("noise", np.inf)):
        value = getattr(pretrainer, name)
        if not 0 <= value <= high:
            raise ValueError(f"{name} must lie between 0 and {high}, got {value}")
    if pretrainer.precision not in ("float32", "bfloat16"):
        raise ValueError(
            f"precision must be 'float32' or 'bfloat16', got {pretrainer.precision!r}"
        )
    x = torch.eye(2).unsqueeze(0)
    reconstruction_loss(x, x, **(pretrainer.reconstruction or {}))
    info_nce(x[0], x[0].unsqueeze(1), x[0], temperature=pretrainer.temperature)


def check_seen(branches: nn.ModuleDict, windows: UnlabelledWindows) -> None:
    """Refuse windows in which a model sees nothing: rebuilding nothing has no error.

    Raises
    ------
    ValueError
        If none of the windows has any of the model's electrodes.

    Warns
    -----
    UserWarning
        If some of them have none.
    """
    for name, branch in branches.items():
        # Else it takes rows, or every electrode that is there.
        if windows.mixed and branch.model.network.selects:
            _check_seen(name, branch.model, windows)


def _check_seen(name: str, model, windows: UnlabelledWindows) -> None:
    caps: dict[bytes, bool] = {}
    for source in windows.sources:
        cap = source.positions.tobytes()
        if cap not in caps:
            caps[cap] = _sees_any(model.network, source.positions)
    blind = [s for s in windows.sources if not caps[s.positions.tobytes()]]
    if not blind:
        return
    n_blind = sum(map(len, blind))
    electrodes = channel_names(model.input_channels() and model.node_channels())
    if n_blind == len(windows):
        raise ValueError(
            f"no window has any of the {name}'s electrodes {electrodes}: there is "
            "nothing that it could learn. Name electrodes of the recordings' caps"
        )
    people = {subject_text(i) for s in blind if s.ids is not None for i in s.ids}
    told = f" (subjects {sorted(people)[:5]})" if people else ""
    warn(
        f"{n_blind} of {len(windows)} windows, of {len(blind)} of "
        f"{len(windows.sources)} recordings{told}, have none of the {name}'s "
        f"electrodes {electrodes}: it learns nothing from them, and its rec_{name} is "
        "smaller for it"
    )


@torch.no_grad()
def _sees_any(network, positions: np.ndarray) -> bool:
    """Whether a cap has any of a network's electrodes; asked of the network itself."""
    where = torch.as_tensor(positions, device=network.positions.device).unsqueeze(0)
    moving = torch.linspace(-1, 1, network.shortest, device=where.device)
    x = moving.expand(1, len(positions), -1)
    return bool(network.locate(x, where)[1].present.any())


def nodes_to_mask(windows, model, masked) -> tuple[list[int], np.ndarray]:
    """Rows of the nodes to hide, and positions (N, 3) of all nodes.

    The nodes are the model's; of windows from another cap, whose positions go with
    them, they are that cap's, unless the model picks its own.
    """
    own = model.network.selects or not windows.mixed
    if own:
        positions = model.network.positions.cpu().numpy()
    else:
        positions = windows.one_cap().positions
    rows = np.asarray(list(masked))
    if rows.dtype.kind == "b":
        if len(rows) != len(positions):
            raise ValueError(
                f"a mask needs one value for each of {len(positions)} electrodes, got "
                f"{len(rows)}"
            )
        rows = np.flatnonzero(rows)
    if rows.dtype.kind in "iu" or not rows.size:
        return rows.tolist(), positions
    channels = model.node_channels() if own else list(windows.one_cap().channels)
    return match_electrodes(list(masked), channels), positions

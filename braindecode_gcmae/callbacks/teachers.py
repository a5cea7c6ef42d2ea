"""Does a teacher fit the student, and the windows both are to see?"""

from torch import nn

from ..montage import canonical_name
from ..pretraining import UnlabelledWindows

__all__ = ["check_fit", "check_unlabelled", "electrode_names", "trained_head"]


def check_unlabelled(windows: UnlabelledWindows, teacher: nn.Module) -> None:
    """Refuse unlabelled windows that the models cannot see, before time is spent."""
    expected = {"n_times": teacher.n_times, "sfreq": teacher.sfreq}
    if not windows.mixed:
        expected["n_chans"] = teacher.n_chans
    for name, value in expected.items():
        given = getattr(windows, name)
        if given is not None and given != value:
            raise ValueError(
                f"unlabelled windows have {name} {given}, the models expect {value}"
            )


def trained_head(model: nn.Module, what) -> nn.Module:
    """The model, or an error if it only makes embeddings."""
    if isinstance(getattr(model, "final_layer", None), nn.Identity):
        raise ValueError(
            f"{what} has no trained head (n_outputs is None): fit it on labels first, "
            "or hand over an unfitted EEGClassifier"
        )
    return model


def check_fit(teacher: nn.Module, student: nn.Module) -> None:
    """Refuse a teacher that cannot see the student's windows.

    Raises
    ------
    TypeError, ValueError
        Naming what differs.
    """
    if not hasattr(teacher, "network"):
        raise TypeError(
            "the teacher must be a GCMAETeacher or GCMAEStudent, got "
            f"{type(teacher).__name__}"
        )
    for name in ("n_chans", "n_times", "sfreq", "n_outputs"):
        t, s = getattr(teacher, name), getattr(student, name)
        if t != s:
            raise ValueError(
                f"teacher and student do not fit: {name} is {t} and {s}. Both see the "
                "same high-density windows; the student picks its electrodes"
            )
    names = [
        [canonical_name(c if isinstance(c, str) else c["ch_name"]) for c in channels]
        for channels in map(_channels, (teacher, student))
        if channels is not None
    ]
    if len(names) == 2 and names[0] != names[1]:
        raise ValueError(
            "teacher and student were built for channels in another order or with "
            f"other names: {names[0][:4]}... and {names[1][:4]}..."
        )


def _channels(model: nn.Module) -> list | None:
    return model._chs_info or model._braindecode_init_kwargs.get("ch_names")


def electrode_names(model: nn.Module, rows: list[int]) -> list:
    """Names of some of a model's channels, or their rows if it has none."""
    channels = _channels(model)
    if channels is None:
        return rows
    chosen = [channels[row] for row in rows]
    return [c if isinstance(c, str) else c["ch_name"] for c in chosen]

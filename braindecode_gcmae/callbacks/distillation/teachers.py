"""Does a teacher fit its student, and is it one?"""

from torch import nn

from ...features.look import same_rate
from ...models.base import ElectrodeGraphModel
from ...montage import canonical_name, name_of
from ...pretraining.inputs import warn_unlike
from ..checks.channels import refuse_sparse

__all__ = [
    "check_committee",
    "check_fit",
    "electrode_names",
    "kept_rows",
    "refuse_foreign",
    "trained_head",
]


def trained_head(model: nn.Module, what) -> nn.Module:
    """The model, or an error if it only makes embeddings or was never trained.

    A new head has a bias of zeros, which the first step of a training moves.
    """
    head = getattr(model, "final_layer", None)
    if isinstance(head, nn.Identity):
        raise ValueError(
            f"{what} has no trained head (n_outputs is None): fit it on labels first, "
            "or hand over an unfitted EEGClassifier"
        )
    bias = getattr(head, "bias", None)
    if bias is not None and not bool(bias.detach().any()):
        raise ValueError(
            f"{what} has no trained head (its bias is 0 throughout: it is new, or its "
            "training made no step, as with fewer windows than batch_size): fit it on "
            "labels first, or hand over an unfitted EEGClassifier"
        )
    return model


def refuse_foreign(cls: type) -> None:
    """Refuse a teacher of another architecture.

    Raises
    ------
    TypeError
        With what to do instead.
    """
    if not issubclass(cls, ElectrodeGraphModel):
        raise TypeError(
            f"the teacher must be a GCMAETeacher or GCMAEStudent, got {cls.__name__}: "
            "distil soft labels of another model by a callbacks.AuxiliaryLoss of your "
            "own"
        )


def check_fit(teacher: nn.Module, student: nn.Module) -> None:
    """Refuse a teacher that cannot see the student's windows.

    Raises
    ------
    TypeError, ValueError
        Naming what differs.
    """
    refuse_foreign(type(teacher))
    for name in ("n_chans", "n_times", "sfreq", "n_outputs"):
        t, s = getattr(teacher, name), getattr(student, name)
        alike = same_rate(t, s) if name == "sfreq" else t == s
        if not alike:
            raise ValueError(
                f"teacher and student do not fit: {name} is {t} and {s}. Both see the "
                "same high-density windows; the student picks its electrodes"
            )
    names = [
        [canonical_name(name_of(channel)) for channel in channels]
        for channels in (teacher.input_channels(), student.input_channels())
        if channels is not None
    ]
    if len(names) == 2 and names[0] != names[1]:
        raise ValueError(
            "teacher and student were built for channels in another order or with "
            f"other names: {names[0][:4]}... and {names[1][:4]}..."
        )


def check_committee(models: list[nn.Module], student: nn.Module, x) -> None:
    """Refuse teachers of which one does not fit, or the first lacks an electrode.

    Also windows ``x`` of the student's electrodes alone, which no teacher of more sees.

    Warns
    -----
    UserWarning
        If one sees the time course and the student powers, or the other way round.
    """
    for model in models:
        check_fit(model, student)
        warn_unlike(model, student)
    kept_rows(models[0], student)
    refuse_sparse(x, student)


def kept_rows(teacher: nn.Module, student: nn.Module) -> list[int]:
    """Row of the teacher's node for each of the student's electrodes.

    Raises
    ------
    ValueError
        Naming the electrodes that the teacher has not.
    """
    here = student.network.rows.tolist()
    there = {row: i for i, row in enumerate(teacher.network.rows.tolist())}
    missing = [row for row in here if row not in there]
    if missing:
        names = electrode_names(student, missing)
        raise ValueError(
            f"the student's electrodes {names} are not among the teacher's"
        )
    return [there[row] for row in here]


def electrode_names(model: nn.Module, rows: list[int]) -> list:
    """Names of some of a model's channels, or their rows if it has none."""
    channels = model.input_channels()
    if channels is None:
        return rows
    chosen = [channels[row] for row in rows]
    return [name_of(channel) for channel in chosen]

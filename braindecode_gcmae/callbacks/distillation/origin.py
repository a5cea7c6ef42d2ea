"""Where a student's teacher comes from: handed over, loaded, or trained in its fold."""

import contextlib
from pathlib import Path
from types import SimpleNamespace

from sklearn.base import clone
from skorch import NeuralNet
from torch import nn

from ...models.wrapped import unwrap
from ...pretraining import GCMAEPretrainer
from ...pretraining.registered import registered
from ..checks.split import told_of_parts
from ..stages.interrupts import interrupts_reach_out
from ..stages.keeping import keep_teacher, kept_teacher
from ..stages.pretraining import GCMAEPretraining
from ..stages.start import StartFrom
from ..stages.states import load_model
from .teachers import refuse_foreign, trained_head

__all__ = ["given_teacher", "planned_teacher", "trained_teacher"]

_CHANNELS = ("chs_info", "ch_names")
_LENGTHS = ("n_times", "input_window_seconds")

# Of the signal, or of training alone: weights go from one to the other.
_NOT_OF_A_NETWORK = (
    *("n_outputs", "n_chans", "chs_info", "ch_names", "n_times", "sfreq"),
    *("input_window_seconds", "drop_prob", "electrode_dropout", "segment_dropout"),
)


def given_teacher(teacher) -> nn.Module | None:
    """The teacher as it was handed over; None if it is still to be trained.

    Raises
    ------
    TypeError
        If it is nothing that can be a teacher.
    ValueError
        If it has no trained head.
    """
    if isinstance(teacher, str | Path):
        return trained_head(load_model(teacher), teacher)
    if isinstance(teacher, nn.Module):
        return trained_head(unwrap(teacher), "the teacher")
    if isinstance(teacher, GCMAEPretrainer):
        raise TypeError(
            "the teacher is a GCMAEPretrainer, which has learnt no classes: save it, "
            "fit EEGClassifier(GCMAETeacher.from_pretrained('FOLDER/teacher', "
            "n_outputs=...)) on labels, and hand that over"
        )
    if isinstance(teacher, type):
        raise TypeError(
            f"teacher is the class {teacher.__name__}: to train one in each fold, wrap "
            f"it in a net, EEGClassifier({teacher.__name__}, ...)"
        )
    if not isinstance(teacher, NeuralNet):
        raise TypeError(
            "teacher must be an EEGClassifier, a module or a folder, got "
            f"{type(teacher).__name__}{_net_within(teacher)}"
        )
    if not teacher.initialized_:
        return None
    return trained_head(unwrap(teacher.module_), "the teacher")


def _net_within(teacher) -> str:
    """What to hand over of a pipeline or a search, as the end of a sentence."""
    if teacher is None:
        return ": braindecode's EEGRegressor.fit returns None, hand over the net itself"
    if hasattr(teacher, "steps"):
        net = "the net in it (pipe[-1])"
    elif hasattr(teacher, "estimator"):
        net = "the net that it found (search.best_estimator_)"
    else:
        return ""
    return (
        f": hand over {net}, and see that the student's windows are preprocessed alike"
    )


def _arguments(teacher, student) -> dict:
    """What an unfitted teacher's module is told beside its own parameters."""
    if isinstance(teacher.module, nn.Module):
        return {}
    given, inherited = teacher.get_params_for("module"), {}
    if given.get("n_outputs") is None:  # a fold may lack a class
        inherited["n_outputs"] = student.n_outputs
    if all(given.get(name) is None for name in _LENGTHS):  # of a dict nobody tells
        inherited["n_times"] = student.n_times
    if all(given.get(name) is None for name in _CHANNELS):
        config = student._braindecode_init_kwargs
        inherited |= {n: config[n] for n in _CHANNELS if config[n] is not None}
    return {**inherited, "sfreq": given.get("sfreq") or student.sfreq}


def planned_teacher(teacher, net, student) -> nn.Module:
    """An unfitted teacher's model, to be looked at before it or any other is trained.

    Raises
    ------
    ValueError
        If it does not fit the model that a pretraining in the same net will make.
    """
    module = teacher.module
    if not isinstance(module, nn.Module):
        given = teacher.get_params_for("module")
        arguments = {**given, **_arguments(teacher, student)}
        if not any(arguments.get(name) is not None for name in _CHANNELS):
            arguments.setdefault("n_chans", student.n_chans)
        module = registered(module)
        if isinstance(module, type):  # before it is built of our arguments
            refuse_foreign(module)
        module = module(**arguments)
    module, stage = unwrap(module), _stage(net)
    pretrained = None if stage is None else stage.planned_teacher(net)
    if pretrained is not None:
        _start(module, pretrained, student, stage)
    return module


def _start(module, teacher, student, stage) -> StartFrom:
    """Weights of a pretraining: of its teacher, or of its student for a like model."""
    first, second = StartFrom(teacher), StartFrom(student)
    try:
        first.network_for(module)
    except ValueError as error:
        with contextlib.suppress(ValueError):
            second.network_for(module)
            return second
        raise _told_apart(error, module, teacher, stage) from error
    return first


def _told_apart(error: ValueError, module, teacher, stage) -> ValueError:
    """The error with what the two teachers differ in, and what to do."""
    mine, theirs = module.get_config(), teacher.get_config()
    off = [n for n in mine if mine[n] != theirs.get(n) and n not in _NOT_OF_A_NETWORK]
    if not off:
        return error
    differ = ", ".join(f"{name} is {mine[name]} and {theirs.get(name)}" for name in off)
    if isinstance(stage.teacher, nn.Module):
        way = "build its teacher= alike"
    else:
        given = ", ".join(f'"teacher__{name}": {_spelt(mine[name])}' for name in off)
        way = f"GCMAEPretraining(arguments={{{given}}}) builds it alike"
    return ValueError(
        "the unfitted teacher of TopologyDistillation starts from the teacher of "
        f"GCMAEPretraining, and they differ in architecture: {differ}. {way}"
    )


def _spelt(value) -> str:
    """A value of a configuration as code; of a class its name."""
    is_class = isinstance(value, str) and "." in value
    return value.rsplit(".", 1)[1] if is_class else repr(value)


def trained_teacher(teacher, net, student, part: tuple):
    """Fit a clone of the unfitted teacher on (a part of) the student's training data.

    ``part`` is what :func:`training_part` gave, or :func:`left_after` of it.

    What the student is validated on stays held out from its teacher, too. A teacher
    that is a GCMAEClassifier hears whose the windows are, if its student did. One that
    was trained before the run was interrupted is not trained again.
    """
    kept = kept_teacher(net, teacher)
    if kept is not None:
        return SimpleNamespace(module_=kept)
    X, y, rows = part
    told = told_of_parts(teacher, net, rows)
    teacher = clone(teacher)
    inherited = _arguments(teacher, student)
    teacher.set_params(**{f"module__{k}": v for k, v in inherited.items()})
    stage = _stage(net)
    if stage is not None and stage.teacher_ is not None:
        planned = planned_teacher(teacher, net, student)
        _begin_with(teacher, _start(planned, stage.teacher_, student, stage))
    with interrupts_reach_out():
        teacher.fit(X, y, **told)
    keep_teacher(net, trained_head(unwrap(teacher.module_), "the teacher"))
    return teacher


def _begin_with(teacher, start: StartFrom) -> None:
    """Put a StartFrom beside the callbacks that an unfitted net has of its own."""
    given, defaults = teacher.callbacks, teacher.get_default_callbacks()
    if isinstance(given, str):  # "disable" is for the default ones, too
        for name, _ in defaults:
            setattr(teacher, f"callbacks__{name}", None)
        given = []
    pairs = [item for item in (given or []) if isinstance(item, tuple | list)]
    taken, free = {name for name, _ in [*pairs, *defaults]}, "start"
    while free in taken:
        free += "_"
    # set_params would look for them among those of a net that is initialised.
    teacher.callbacks = [*(given or []), (free, start)]


def _stage(net) -> GCMAEPretraining | None:
    """The pretraining of the same net."""
    stages = [c for _, c in net.callbacks_ if isinstance(c, GCMAEPretraining)]
    return stages[0] if stages else None

"""GCMAEPretraining: pretraining as the first stage of any fit."""

import copy
import json

import mne
from skorch.callbacks import Callback
from skorch.history import History

from ...models import GCMAETeacher
from ...models.wrapped import unwrap
from ...pretraining import GCMAEPretrainer, UnlabelledWindows
from ...pretraining.arranged import for_model
from ...pretraining.inputs import signal_of_model
from ...pretraining.twins import without_twins
from ...warning import warn
from ..checks.ahead import check_ahead
from ..checks.channels import refuse_others
from ..checks.inputs import refuse_cropped
from ..checks.split import told_people
from ..describe import DescribedCallback
from ..hooks import check_all, device_of
from ..randomness import unmoved_randomness
from .interrupts import interrupts_reach_out
from .keeping import keep_stage
from .marks import OncePerModule
from .states import model_state, rebuild_model

__all__ = ["GCMAEPretraining"]


class GCMAEPretraining(OncePerModule, DescribedCallback, Callback):
    """Pretrains the net's student, and a teacher beside it, before ``fit`` goes on.

    Once for each module that the net makes, on the windows that ``fit`` got (inside a
    cross-validation: the training fold, nothing else) plus ``unlabelled``. Labels are
    not looked at. A state that skorch's ``LoadInitState``, before it in the callbacks,
    has found is left alone; weights that ``load_params`` put into a module that was
    never trained are replaced.

    Parameters
    ----------
    teacher : class, registered name or instance, optional
        Pretrained together with the student; None pretrains the student alone.
    unlabelled : ndarray, Epochs, dataset or list, optional
        More high-density windows in µV, of people who are not among those of ``fit``:
        inside a cross-validation these are tested in their turn. Windows that are there
        twice are left out, with a warning.
    groups : array, optional
        Subjects of the unlabelled arrays; Epochs and data sets carry their own.
    max_epochs, batch_size, lr, objective, seed, verbose
        Of the :class:`~braindecode_gcmae.GCMAEPretrainer`.
    arguments : dict, optional
        Everything else for it, e.g. ``{"teacher__depth": 4, "callbacks": [...]}``.

    Attributes
    ----------
    teacher_ : GCMAETeacher
        Pretrained; :class:`TopologyDistillation` starts an unfitted teacher from it.
        None without one, and where a state was loaded instead.
    history_ : skorch.History
        Of the pretraining.

    Examples
    --------
    >>> from braindecode_gcmae import (
    ...     GCMAEClassifier, GCMAEPretraining, GCMAEStudent, SimulatedEEG
    ... )
    >>> X, y, subject = SimulatedEEG(n_subjects=2, n_trials=8).windows()
    >>> given = dict(module__sfreq=100, batch_size=8, max_epochs=1, verbose=0)
    >>> pretrain = ("pretrain", GCMAEPretraining(teacher=None, max_epochs=1))
    >>> net = GCMAEClassifier(GCMAEStudent, **given, callbacks=[pretrain])
    >>> net.fit(X, y, subjects=subject).predict_proba(X).shape
    (16, 2)
    """

    def __init__(
        self,
        teacher=GCMAETeacher,
        unlabelled=None,
        groups=None,
        max_epochs=50,
        batch_size=128,
        lr=1e-3,
        objective="joint",
        seed=0,
        verbose=0,
        arguments=None,
    ):
        self.teacher = teacher
        self.unlabelled = unlabelled
        self.groups = groups
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.lr = lr
        self.objective = objective
        self.seed = seed
        self.verbose = verbose
        self.arguments = arguments

    looks_at_windows = True  # so that a GCMAEClassifier need not
    resumed_ = done_ = False

    def initialize(self):
        """A newly initialised net is to be pretrained again."""
        self.resumed_ = False
        return super().initialize()

    def is_done(self, net) -> bool:
        """Whether the net's module, as it is now, is not to be pretrained."""
        return (self.done_ and not self.is_new(net)) or self.is_loaded(net)

    def check(self, net, X=None, y=None) -> None:
        """Refuse what cannot be pretrained, and what could not be trained after it."""
        module = unwrap(net.module_)
        if not hasattr(module, "network"):
            raise TypeError(
                "GCMAEPretraining needs a GCMAEStudent as module, got "
                f"{type(module).__name__}"
            )
        refuse_cropped(net, type(self).__name__)
        if isinstance(X, mne.BaseEpochs):
            refuse_others(X, module)
        if not self.is_done(net):
            check_ahead(net, X, y)

    def on_train_begin(self, net, X=None, y=None, **kwargs):
        """Pretrain, and load the student's weights into the net."""
        check_all(self, net, X, y)
        # Of the same module, in a process that was interrupted.
        resumed, self.resumed_ = self.resumed_, False
        if self.is_loaded(net) and not resumed:
            self.teacher_, self.history_, self.done_ = None, History(), True
        if resumed or self.is_done(net):
            self.note(net, anew=self.is_new(net))
            if resumed:
                keep_stage(net, self)
            return
        module = unwrap(net.module_)
        windows = self._windows(net, X)
        pretrainer = self._pretrainer(net)
        # What a loader draws there must not move the training that follows.
        with unmoved_randomness(), interrupts_reach_out():
            pretrainer.fit(windows)
        network = pretrainer.student_.network
        module.network.load_state_dict(network.state_dict())
        self.teacher_ = None if self.teacher is None else pretrainer.teacher_
        self.history_ = pretrainer.history
        self.done_ = True
        self.note(net, anew=True)
        keep_stage(net, self)

    def planned_teacher(self, net):
        """The teacher as it will be before a step is made; pretrained, if it is."""
        if self.teacher is None or (self.is_loaded(net) and not self.resumed_):
            return None
        if self.done_ and (self.resumed_ or self.is_done(net)):
            return self.teacher_
        pretrainer, module = self._pretrainer(net), unwrap(net.module_)
        pretrainer.signal_ = signal_of_model(module)
        with unmoved_randomness():
            return pretrainer.initialize().teacher_

    def _pretrainer(self, net) -> GCMAEPretrainer:
        """What trains the net's student, and a teacher beside it."""
        module = unwrap(net.module_)
        student = copy.deepcopy(module)
        if not any(weight.requires_grad for weight in student.network.parameters()):
            student.network.requires_grad_(True)  # it is frozen for what comes after
        return GCMAEPretrainer(
            teacher=self.teacher,
            student=student,
            chs_info=module._chs_info,
            ch_names=module._braindecode_init_kwargs.get("ch_names"),
            sfreq=module.sfreq,
            **{
                "max_epochs": self.max_epochs,
                "batch_size": self.batch_size,
                "lr": self.lr,
                "objective": self.objective,
                "seed": self.seed,
                "verbose": self.verbose,
                "device": device_of(net),
                **(self.arguments or {}),
            },
        )

    def _windows(self, net, X) -> UnlabelledWindows:
        """The fold's windows and the unlabelled ones, with their subjects."""
        module = unwrap(net.module_)
        parts = [for_model(UnlabelledWindows(X, told_people(net)), module)]
        told = getattr(net, "fit_metadata_", {})  # of a GCMAEClassifier
        target = told.get("X_target_unlabeled")
        if target is not None:
            part = UnlabelledWindows(target)
            if (part.groups < 0).any():  # one person, and none of the fold's
                part = UnlabelledWindows(target, ["X_target_unlabeled"] * len(part))
            parts.append(for_model(part, module))
        if self.unlabelled is not None:
            more = UnlabelledWindows(self.unlabelled, self.groups)
            more = for_model(more, module)
            more, n_twins = without_twins(more, parts[0])
            if n_twins:
                warn(
                    f"{n_twins} of the unlabelled windows are also among those of fit "
                    "and are left out: a cross-validation over these would pretrain on "
                    "windows that it tests on. Hand over other people's"
                )
            parts += [] if more is None else [more]
        return UnlabelledWindows(parts)

    def resume_state(self) -> dict:
        """For :class:`ResumableCheckpoint`: pretraining is not done twice."""
        teacher = getattr(self, "teacher_", None)
        return {
            "done": self.done_,
            "history": json.dumps(_epochs(self)),
            "teacher": None if teacher is None else model_state(teacher),
        }

    def resume_from(self, state: dict) -> None:
        """Skip what was done before the interruption, and have what it made."""
        self.done_ = self.resumed_ = bool(state.get("done"))
        if not self.done_:
            return
        given = state.get("teacher")
        classes = self.teacher, self.arguments
        self.teacher_ = None if given is None else rebuild_model(given, *classes)
        self.history_ = History()
        self.history_.extend(json.loads(state.get("history", "[]")))


def _epochs(callback) -> list:
    """The history of the pretraining, epoch by epoch, as JSON can hold it."""
    rows = getattr(callback, "history_", None) or []
    return [{k: _number(v) for k, v in row.items() if k != "batches"} for row in rows]


def _number(value):
    return value.item() if hasattr(value, "item") else value

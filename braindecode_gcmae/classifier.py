"""GCMAEClassifier: an EEGClassifier that keeps what ``fit`` is told of its windows."""

import inspect
from collections.abc import Mapping
from contextlib import contextmanager

import mne
import numpy as np
from braindecode import EEGClassifier
from sklearn.utils.metadata_routing import MetadataRouter
from skorch.dataset import get_len
from skorch.helper import SliceDataset
from torch import Tensor, nn
from torch.utils.data import Dataset

from .callbacks import GCMAEPretraining
from .callbacks.checks.ahead import check_batches, is_stock
from .callbacks.checks.channels import check_channels, has_other_length, warn_of_windows
from .callbacks.checks.inputs import (
    OF_CLASSES,
    check_labels,
    check_seen,
    check_targets,
    refuse_cropped,
)
from .models.wrapped import unwrap
from .montage.recording import kept_epochs, signal_of_recordings
from .pretraining.people import keeps_people_together

__all__ = ["GCMAEClassifier"]

_OF_SKORCH = {"classes", "epochs"}  # arguments of its fit that forward is not told


class GCMAEClassifier(EEGClassifier):
    """An ``EEGClassifier`` whose ``fit`` also takes whose the windows are.

    It also takes windows of the person to be tested, without labels. Both are kept for
    :class:`~braindecode_gcmae.GCMAEPretraining` (a plain net would hand them to the
    module's ``forward``). All parameters are those of
    :class:`braindecode.EEGClassifier`.

    With MOABB's ``CrossSubjectMode``, or any router of scikit-learn, ask for them by
    ``set_fit_request(X_target_unlabeled=True, subjects=True)``.

    Examples
    --------
    >>> from braindecode_gcmae import GCMAEClassifier, GCMAEStudent, SimulatedEEG
    >>> X, y, subject = SimulatedEEG(n_subjects=2, n_trials=8).windows()
    >>> once = dict(max_epochs=1, batch_size=8, train_split=None, verbose=0)
    >>> clf = GCMAEClassifier(GCMAEStudent, module__sfreq=100, **once)
    >>> clf.fit(X, y, subjects=subject).predict_proba(X).shape
    (16, 2)

    References
    ----------
    https://scikit-learn.org/stable/metadata_routing.html
    """

    def fit(
        self,
        X,
        y=None,
        *,
        subjects=None,
        groups=None,
        X_target_unlabeled=None,
        **fit_params,
    ):
        """Initialise and fit.

        Parameters
        ----------
        X, y, **fit_params
            As in :meth:`braindecode.EEGClassifier.fit`.
        subjects, groups : array (n,), optional
            Who each window is from; ``subjects`` precedes. A ``train_split`` by groups
            splits by ``groups``, or by ``subjects`` without them.
        X_target_unlabeled : array (n', n_chans, n_times) in µV or Epochs, optional
            Windows of the person to be tested, without labels, for
            :class:`~braindecode_gcmae.GCMAEPretraining`.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If ``subjects`` or ``groups`` do not name one subject per window, all labels
            are the same or not among the model's classes, the windows hold no signal
            or have another sampling rate than the model, they do not fill a batch, no
            callback takes ``X_target_unlabeled``, or the net is a cropped one.
        TypeError
            If windows or labels are not numbers, or an argument is not known.
        """
        X, y = kept_epochs(X), _labels(y)
        check_labels(y)
        with self._told(X, subjects, groups, X_target_unlabeled, fit_params):
            return super().fit(X, y, **fit_params)

    def partial_fit(
        self,
        X,
        y=None,
        classes=None,
        *,
        subjects=None,
        groups=None,
        X_target_unlabeled=None,
        **fit_params,
    ):
        """Go on fitting; the arguments are those of :meth:`fit`.

        The labels may be all the same: those of a whole come in parts.
        """
        if getattr(self, "fit_metadata_", None):  # fit has come here
            return super().partial_fit(X, y, classes, **fit_params)
        X, y = kept_epochs(X), _labels(y)
        check_labels(y, several=False)
        with self._told(X, subjects, groups, X_target_unlabeled, fit_params):
            return super().partial_fit(X, y, classes, **fit_params)

    def _set_signal_args(self, X, y, classes):
        """Take channels and sampling rate from the recordings of a data set, too."""
        super()._set_signal_args(X, y, classes)
        known = isinstance(X, Dataset | SliceDataset) and len(X)
        if isinstance(self.module, nn.Module) or not known:
            return
        given, told = self.get_params_for("module"), signal_of_recordings(X)
        for alike in (("chs_info", "ch_names"), ("sfreq", "input_window_seconds")):
            if alike[0] in told and all(given.get(name) is None for name in alike):
                self.set_params(**{f"module__{alike[0]}": told[alike[0]]})

    @contextmanager
    def _told(self, X, subjects, groups, target, others):
        """Check what is told of the windows, and keep it while they are fitted."""
        given = {"subjects": subjects, "groups": groups}
        for name, ids in given.items():
            if ids is None:
                continue
            n_windows = get_len(X) if isinstance(X, Mapping) else len(X)
            if len(ids) != n_windows:
                raise ValueError(
                    f"{name} must name the subject of each of the {n_windows} "
                    f"windows, got {len(ids)}"
                )
        self.fit_metadata_ = {**given, "X_target_unlabeled": target}
        self.others_ = {*others} - _OF_SKORCH
        try:
            yield
        finally:
            self.fit_metadata_, self.others_ = {}, set()  # a fitted net holds no data

    def __getstate__(self):
        """A copy made within ``fit``, as by skorch's Checkpoint, is one made after."""
        state = super().__getstate__()
        for name, empty in (("fit_metadata_", {}), ("others_", set())):
            if name in state:
                state[name] = empty
        return state

    def on_train_begin(self, net, X=None, y=None, **kwargs):
        """Look at windows and labels before anything is trained."""
        super().on_train_begin(net, X, y, **kwargs)
        self._refuse_foreign()
        refuse_cropped(self, type(self).__name__)
        self._check_target()
        module = self._model()
        alone = not any(hasattr(c, "looks_at_windows") for _, c in self.callbacks_)
        if alone:
            check_seen(X, module)
        if has_other_length(X, module):  # on purpose: predict need not ask
            self._said_ = getattr(self, "_said_", frozenset()) | {"length"}
        check_targets(self, y, several=False)
        self._check_others()
        if alone:  # else they ask, after what is theirs
            check_batches(self, X, y)

    def _refuse_foreign(self):
        """Refuse a model that knows nothing of its electrodes."""
        module = self._model()
        if not hasattr(module, "input_channels"):
            raise TypeError(
                f"{type(self).__name__} takes GCMAEStudent and GCMAETeacher, got "
                f"{type(module).__name__}: use braindecode.EEGClassifier for it"
            )

    def _check_others(self):
        """Refuse what skorch hands to ``forward``, which refuses it much later."""
        taken = inspect.signature(self._model().forward).parameters
        several = any(p.kind is p.VAR_KEYWORD for p in taken.values())
        if several or not is_stock(self):  # a net of one's own may take more
            return
        unknown = getattr(self, "others_", set()) - set(taken)
        if unknown:
            raise TypeError(
                f"fit got {sorted(unknown)}, which the model's forward does not take; "
                "of the windows it is told subjects, groups and X_target_unlabeled"
            )

    def _check_target(self):
        """Refuse unlabelled windows of the person to be tested that nobody takes."""
        target = getattr(self, "fit_metadata_", {}).get("X_target_unlabeled")
        callbacks = [callback for _, callback in self.callbacks_]
        taken = any(isinstance(c, GCMAEPretraining) for c in callbacks)
        if target is not None and not taken and all(map(is_stock, [self, *callbacks])):
            raise ValueError(
                "X_target_unlabeled is for GCMAEPretraining, and there is none among "
                "the callbacks: the net would not be adapted to these windows"
            )

    def predict_proba(self, X):
        """Class probabilities of each window.

        Raises
        ------
        ValueError
            If there are no windows, or some of a list differ in shape, or ``X`` is
            Epochs or a data set, and its channels are not those of the model in its
            order, or its sampling rate is another. Windows that were lost are predicted
            like others.

        Warns
        -----
        UserWarning
            Once for each net: if the first windows look like volts or millivolts,
            arrays have another length than those of ``fit``, or channels are marked bad
            and data still.
        """
        self.check_is_fitted()
        X = _stacked(kept_epochs(X))
        of_windows = isinstance(X, mne.BaseEpochs | Dataset | SliceDataset)
        if of_windows or isinstance(X, np.ndarray | Tensor):
            if not len(X):
                raise ValueError("there are no windows to predict: X is empty")
            if of_windows:
                check_channels(X, self._model())
            if not getattr(self, "fit_metadata_", None):  # fit has looked at them
                said = getattr(self, "_said_", frozenset())
                self._said_ = said | warn_of_windows(X, self._model(), said)
        return super().predict_proba(X)

    @property
    def classes_(self):
        """Classes of the model: a part of the windows may not hold all of them."""
        if self.classes is None and self.initialized_:
            n_outputs = getattr(self._model(), "_n_outputs", None) or 0
            if n_outputs > 1 and isinstance(self.criterion_, OF_CLASSES):
                return np.arange(n_outputs)
        return super().classes_

    def _model(self):
        return unwrap(self.module_)

    def get_split_datasets(self, X, y=None, **fit_params):
        """Split off the validation data, by groups where the splitter wants them."""
        told = getattr(self, "fit_metadata_", {})
        groups = told.get("groups")
        groups = told.get("subjects") if groups is None else groups
        if groups is not None and keeps_people_together(self.train_split):
            fit_params["groups"] = groups
        return super().get_split_datasets(X, y, **fit_params)

    def __repr__(self):
        """As of any net, with what it asks for: MOABB knows pipelines by it."""
        router = MetadataRouter(owner=type(self).__name__).add_self_request(self)
        names = ("X_target_unlabeled", "groups", "subjects")
        asked = ", ".join(f"{n}=True" for n in sorted(router.consumes("fit", names)))
        told = super().__repr__()
        return f"{told}.set_fit_request({asked})" if asked else told


def _labels(y):
    """A list of labels as an array: braindecode asks the first one for its shape."""
    return np.asarray(y) if isinstance(y, list | tuple) else y


def _stacked(x):
    """A list of windows as an array; skorch would take each for an input."""
    if not isinstance(x, list | tuple):
        return x
    shapes = sorted({np.shape(window) for window in x})
    if len(shapes) > 1:
        raise ValueError(
            f"windows of one shape are needed, the list has {shapes[0]} and {shapes[1]}"
        )
    return np.asarray(x)

"""RecordingAlignment: the alignment as a step of a scikit-learn pipeline."""

import copy
import warnings

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.metadata_routing import UNUSED

from braindecode_gcmae.alignment.columns import subject_column
from braindecode_gcmae.alignment.formulas import (
    apply_whitening,
    automatic_shrinkage,
    check_options,
    degrees_of_freedom,
    flat_channels,
    mean_covariance,
    window_covariances,
)
from braindecode_gcmae.montage import match_electrodes


class ChannelMap:
    """The alignment of one recording: windows (N, T) or (B, N, T) in, the same out.

    ``kept`` channels are mapped by ``alone``, the map of a cap that has no others: the
    same bits, whatever the others hold.
    """

    def __init__(
        self, covariance, shrinkage, scale, kept=None, alone=None, before=None
    ):
        self.covariance, self.shrinkage, self.scale = covariance, shrinkage, scale
        self.kept, self.alone, self.before = kept, alone, before

    def __call__(self, x):
        x = np.asarray(x if self.before is None else self.before(x))
        x = x if x.dtype.kind == "f" else x.astype(np.float64)
        stacked = x[None] if x.ndim == 2 else x
        out = apply_whitening(
            stacked,
            self.covariance,
            shrinkage=self.shrinkage,
            scale=self.scale,
            kept=self.kept,
        )
        if self.alone is not None:
            out[:, self.kept] = self.alone(stacked[:, self.kept])
        return out.reshape(x.shape)


class RecordingAlignment(TransformerMixin, BaseEstimator):
    r"""Re-centre each recording without labels, as a step before the net.

    Every window of a recording becomes :math:`s M^{-1/2} x`, with :math:`M` the mean
    covariance of the recording's windows (channel means removed): the mean covariance
    of the output is :math:`s^2 I`, for every person and cap alike. The step is
    stateless: ``fit`` learns nothing, ``transform`` aligns what it is given by itself.

    What a recording is: of ``mne.Epochs`` and braindecode datasets, all windows that
    agree in the columns ``groups_from`` of the metadata or descriptions; of an array,
    the whole array of one call, unless ``groups`` tells recordings apart; a list is
    aligned item by item. So a fold that pools people must come as Epochs or with
    ``groups``, and windows are aligned together with those of the same call only.

    Parameters
    ----------
    metric : {"euclid", "riemann"}
        The mean of the covariances: arithmetic, or affine-invariant.
    band : tuple of float, optional
        Hz; M is the covariance of this band, while the whole signal is mapped. None
        takes the signal as it is, slow drifts included.
    sfreq : float, optional
        Hz; needed for a band unless the input is Epochs.
    shrinkage : "auto" or float
        Weight of the scaled identity in M. "auto" is 0 unless a recording has fewer
        than five windows or ten samples a channel, and then says so.
    scale : float or None
        s, root mean square of the output's channels in µV; None keeps each recording's
        own. Epochs come out in volts, as MNE has them.
    groups_from : sequence of str
        Columns that tell recordings apart, as far as they exist; "subject" is also
        found as "subject_id", "participant_id" or "participant".
    electrodes : list of str or of int, optional
        Names (or rows) of electrodes that are whitened by themselves, the others by
        what these leave unexplained: a student that keeps them sees the same numbers
        in high-density windows as on its own cap, while the teacher sees white windows
        of all electrodes. Needs the Euclidean mean.
    ch_names : list of str, optional
        Names of the channels of arrays.

    Notes
    -----
    A channel with a non-finite sample is NaN throughout that window and takes no part
    in the whitening of the others; one that is so in too many windows is left out of
    the whole recording. Flat channels and channels marked bad in Epochs are returned
    as they came. Both are reported by a warning. ``groups`` is a metadata request of
    ``transform``, on by default where scikit-learn's metadata routing is enabled.

    References
    ----------
    He & Wu 2020, DOI 10.1109/TBME.2019.2913914; Zanini et al. 2018,
    DOI 10.1109/TBME.2017.2742541.
    """

    __metadata_request__fit = {"groups": UNUSED}  # only transform needs them
    __metadata_request__transform = {"groups": True}

    def __init__(
        self,
        metric="euclid",
        *,
        band=None,
        sfreq=None,
        shrinkage="auto",
        scale=10.0,
        groups_from=("subject", "session", "run"),
        electrodes=None,
        ch_names=None,
    ):
        self.metric = metric
        self.band = band
        self.sfreq = sfreq
        self.shrinkage = shrinkage
        self.scale = scale
        self.groups_from = groups_from
        self.electrodes = electrodes
        self.ch_names = ch_names

    def fit(self, X=None, y=None, groups=None):
        """Check the arguments; nothing is learnt, neither from X nor from y."""
        self._check_options()
        return self

    def fit_transform(self, X, y=None, groups=None):
        """Align ``X``; the same as ``transform``."""
        return self.fit(X).transform(X, groups=groups)

    def transform(self, X, groups=None):
        """Align each recording in ``X``.

        Parameters
        ----------
        X : array (B, N, T), mne.Epochs, braindecode dataset of windows, or list
            Arrays in µV.
        groups : array-like (B,) or (B, k), optional
            Which recording a window belongs to; for arrays and Epochs.

        Returns
        -------
        Of the type of ``X``: a new array in its floating dtype, EpochsArray, dataset.

        Raises
        ------
        ValueError
            If the shape is not (B, N, T), no window is left, every channel is bad or
            flat, ``groups`` does not fit, or the band does not fit the signal.
        TypeError
            If ``X`` is nothing that holds windows.
        """
        self._check_options()
        if hasattr(X, "get_data") and hasattr(X, "info"):
            return self._epochs(X, groups)
        if hasattr(X, "datasets") and hasattr(X, "description"):
            _no_groups(groups, "a braindecode dataset has them in its descriptions")
            return self._dataset(X)
        if isinstance(X, (list, tuple)) and all(np.ndim(x) != 2 for x in X):
            _no_groups(groups, "the items of a list are the recordings")
            return [self.transform(x) for x in X]
        return self._array(_as_windows(X), groups, self.scale, self.sfreq)

    def set_output(self, *, transform=None):
        """Accept scikit-learn's switch: windows are no table and stay arrays."""
        return self

    def __sklearn_is_fitted__(self):
        """Tell that ``transform`` needs no ``fit``."""
        return True

    def __sklearn_tags__(self):
        """Tell scikit-learn: stateless, 3-D input, NaN allowed."""
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        tags.input_tags.two_d_array = False
        tags.input_tags.three_d_array = True
        tags.input_tags.allow_nan = True
        return tags

    def _check_options(self):
        check_options(
            metric=self.metric,
            band=self.band,
            shrinkage=self.shrinkage,
            scale=self.scale,
        )
        if isinstance(self.groups_from, str):
            raise ValueError(
                f"groups_from must be a sequence of names, got {self.groups_from!r}"
            )
        if self.electrodes is not None and self.metric != "euclid":
            raise ValueError(
                "electrodes= needs metric='euclid': a part of a Riemannian mean is not "
                "the mean of the parts"
            )

    def _kept(self, names):
        """Rows of ``electrodes`` as a mask, None if there are none."""
        if self.electrodes is None:
            return None
        rows = list(self.electrodes)
        if any(isinstance(row, str) for row in rows):
            rows = match_electrodes(rows, names)
        kept = np.zeros(len(names), bool)
        kept[rows] = True
        return kept

    def _array(self, x, groups, scale, sfreq, names=None):
        names = self._channel_names(x.shape[1]) if names is None else names
        out = np.empty_like(x)
        for label, rows in _split(groups, len(x)):
            part = x[rows]
            out[rows] = self._map(part, scale, sfreq, names, label)(part)
        return out

    def _channel_names(self, n_chans):
        if self.ch_names is None:
            return [f"channel {i}" for i in range(n_chans)]
        if len(self.ch_names) != n_chans:
            raise ValueError(
                f"ch_names has {len(self.ch_names)} names, the windows have {n_chans} "
                "channels"
            )
        return list(self.ch_names)

    def _map(self, x, scale, sfreq, names, label):
        """Return the map of one recording (B, N, T)."""
        found = self._plain_map(x, scale, sfreq, names, label)
        kept = self._kept(names)
        if kept is None or kept.all():
            return found
        own = [name for name, keep in zip(names, kept, strict=True) if keep]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # said of all channels already
            try:
                alone = self._plain_map(x[:, kept], scale, sfreq, own, label)
            except ValueError:  # none of them has a signal: nothing to map
                return found
        covariance, shrinkage = found.covariance, found.shrinkage
        return ChannelMap(covariance, shrinkage, scale, kept, alone)

    def _plain_map(self, x, scale, sfreq, names, label):
        """Return the map of one recording (B, N, T), no channels being special."""
        where = "the recording" if label is None else f"recording {label!r}"
        present = np.isfinite(x).all(axis=-1)
        usable, complete = _complete_block(present)
        if not usable.any():
            raise ValueError(f"{where} has no channel that is finite in its windows")
        lost = [names[i] for i in np.flatnonzero(~usable & present.any(axis=0))]
        if lost:
            _warn(f"{where}: {lost} are not finite in many windows and are left out")
        block = x[np.ix_(complete, usable)]
        options = {"sfreq": sfreq, "band": self.band}
        covariances = window_covariances(block, **options)
        per_window = degrees_of_freedom(x.shape[-1], **options)
        flat = flat_channels(covariances.mean(axis=0))
        if flat.all():
            raise ValueError(f"{where}: every channel is flat, there is no signal")
        channels = np.flatnonzero(usable)
        if flat.any():
            still = [names[i] for i in channels[flat]]
            _warn(f"{where}: {still} are flat and are left as they are")
        moving = ~flat
        covariances = covariances[:, moving][:, :, moving]
        full = np.full((x.shape[1],) * 2, np.nan)
        full[channels[flat], channels[flat]] = 0.0  # apply_whitening passes them on
        rows = channels[moving]
        full[np.ix_(rows, rows)] = mean_covariance(covariances, self.metric, per_window)
        shrinkage = self.shrinkage
        if shrinkage == "auto":
            n = len(block)
            shrinkage = automatic_shrinkage(n, n * per_window, len(rows))
            if shrinkage > 0:
                _warn(
                    f"{where} has {n} windows of {x.shape[-1]} samples for {len(rows)} "
                    f"channels, too few to align by alone: shrinkage {shrinkage:.2g}"
                )
        return ChannelMap(full, shrinkage, scale)

    def _epochs(self, epochs, groups):
        import mne

        data = epochs.copy().load_data().get_data(copy=True)
        picks = mne.pick_types(epochs.info, eeg=True, exclude="bads")
        if not len(picks):
            raise ValueError("these Epochs have no good EEG channel to align")
        if groups is None:
            groups = self._columns(epochs.metadata)
        scale = None if self.scale is None else 1e-6 * self.scale  # MNE has volts
        names = [epochs.ch_names[i] for i in picks]
        sfreq = epochs.info["sfreq"]
        data[:, picks] = self._array(
            _as_windows(data[:, picks]), groups, scale, sfreq, names
        )
        return mne.EpochsArray(
            data,
            epochs.info,
            events=epochs.events,
            tmin=epochs.tmin,
            event_id=epochs.event_id,
            metadata=epochs.metadata,
            selection=epochs.selection,
            drop_log=epochs.drop_log,
            proj=False,
            verbose="error",
        )

    def _columns(self, table):
        """Return the grouping columns of a table, None where there are none."""
        names = [] if table is None else list(self.groups_from or ())
        if "subject" in names and "subject" not in table.columns:
            who = subject_column(table.columns)
            names = [who if name == "subject" else name for name in names]
            if who is None and any(name in table.columns for name in names):
                shared = [name for name in names if name in table.columns]
                _warn(
                    f"the columns {list(table.columns)} do not say whose windows these "
                    f"are: those of different people that agree in {shared} are "
                    "aligned together. Name the column in groups_from"
                )
        found = [name for name in names if name in table.columns]
        if not found:
            return None
        # A recording without a run or session is one; without a subject it is nobody's.
        whole = dict.fromkeys(found[1:], "")
        return table[found].astype(object).fillna(whole).to_numpy(dtype=object)

    def _dataset(self, dataset):
        """Return the dataset with each recording's map appended to its transform."""
        parts = list(dataset.datasets)
        if not all(hasattr(part, "crop_inds") for part in parts):
            raise TypeError(
                "a braindecode dataset must be cut into windows before it is aligned "
                "(create_windows_from_events, create_fixed_length_windows)"
            )
        groups = self._columns(dataset.description)
        if groups is None:
            groups = np.arange(len(parts))
        aligned = [copy.copy(part) for part in parts]
        for label, rows in _split(groups, len(parts)):
            windows = [parts[r][i][0] for r in rows for i in range(len(parts[r]))]
            x = _as_windows(np.stack(windows))
            names = self._channel_names(x.shape[1])
            found = self._map(x, self.scale, self.sfreq, names, label)
            for row in rows:
                aligned[row].transform = copy.copy(found)
                aligned[row].transform.before = parts[row].transform
        return type(dataset)(aligned)


def _warn(message):
    warnings.warn(message, UserWarning, stacklevel=2)


def _no_groups(groups, reason):
    if groups is not None:
        raise ValueError(f"groups cannot be given here: {reason}")


def _as_windows(X):
    """Check that X is a real array (B, N, T) and make it floating point."""
    try:
        x = np.asarray(X)
    except ValueError as error:
        raise ValueError(f"windows of different shapes: {error}") from None
    if x.dtype.kind not in "fiu":
        raise TypeError(
            "X must be a real array (n, n_chans, n_times), mne.Epochs, a braindecode "
            f"dataset of windows or a list of them, got {type(X).__name__} ({x.dtype})"
        )
    if x.ndim != 3 or 0 in x.shape:
        raise ValueError(
            "X must have the shape (n, n_chans, n_times), none of them 0, "
            f"got {x.shape}"
        )
    return x if x.dtype.kind == "f" else x.astype(np.float64)


def _split(groups, n_windows):
    """Yield the label and the rows of each recording, in order of appearance."""
    if groups is None:
        yield None, np.arange(n_windows)
        return
    groups = np.asarray(groups)
    if groups.ndim not in (1, 2) or len(groups) != n_windows:
        raise ValueError(
            f"groups must tell the recording of each of {n_windows} windows, got the "
            f"shape {groups.shape}"
        )
    labels = [tuple(row) if groups.ndim == 2 else row for row in groups.tolist()]
    rows = {}
    for row, label in enumerate(labels):
        items = label if isinstance(label, tuple) else (label,)
        if any(item is None or item != item for item in items):
            raise ValueError(f"groups are missing (None or NaN) at window {row}")
        rows.setdefault(label, []).append(row)
    for label, members in rows.items():
        yield label, np.array(members)


def _complete_block(present):
    """Choose channels (N,) and the windows (B,) in which all of them are present.

    The channel that is missing most often is left out until at least half of the
    windows are complete.
    """
    usable = present.any(axis=0)
    while True:
        complete = present[:, usable].all(axis=1)
        if not usable.any() or complete.sum() * 2 >= len(present):
            return usable, complete
        missing = np.where(usable, (~present).sum(axis=0), -1)
        usable[missing.argmax()] = False

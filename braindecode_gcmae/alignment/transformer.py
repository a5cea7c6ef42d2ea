"""RecordingAlignment: the alignment as a step of a scikit-learn pipeline."""

import warnings

import mne
import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.metadata_routing import UNUSED

from braindecode_gcmae.alignment.containers import (
    as_windows,
    map_dataset,
    map_epochs,
    recording_columns,
    refuse_parts,
    refuse_uncut,
    split_recordings,
    warn_of_no_recordings,
)
from braindecode_gcmae.alignment.electrodes import (
    check_named,
    electrode_mask,
    named_channels,
)
from braindecode_gcmae.alignment.formulas import (
    apply_whitening,
    automatic_shrinkage,
    check_options,
    degrees_of_freedom,
    explained_channels,
    mean_covariance,
    window_covariances,
)
from braindecode_gcmae.alignment.signal import (
    carried_by_one,
    flat_channels,
    rounding_floor,
    without_rounding,
)
from braindecode_gcmae.montage import canonical_name
from braindecode_gcmae.montage.evidence import name_of
from braindecode_gcmae.montage.recording import joined_epochs
from braindecode_gcmae.warning import Notes, warn


class ChannelMap:
    """The alignment of one recording: windows (N, T) or (B, N, T) in, the same out.

    ``kept`` channels are mapped by ``alone``, the map of a cap that has no others: the
    same bits, whatever the others hold.
    """

    def __init__(self, covariance, shrinkage, scale, kept=None, alone=None):
        self.covariance, self.shrinkage, self.scale = covariance, shrinkage, scale
        self.kept, self.alone = kept, alone

    def __call__(self, x):
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
    r"""Whiten each recording by its own mean covariance, as a step before the net.

    Every window of a recording becomes :math:`s M^{-1/2} x`, with :math:`M` the mean
    covariance of the recording's windows (channel means removed): the mean covariance
    of the output is :math:`s^2 I`, for every person and cap alike. No labels are used.
    The step is stateless: ``fit`` learns nothing, ``transform`` aligns what it is given
    by itself. Channels of Epochs and datasets that are no EEG stay as they are.

    A recording is

    - of ``mne.Epochs`` and braindecode datasets: all windows that agree in the columns
      ``groups_from`` of the metadata or descriptions, and where no session or run is
      known, in the column ``path``;
    - of an array: all of it, unless ``groups`` tells recordings apart;
    - of a list: each item. (The single windows that scikit-learn's splits make of
      Epochs are Epochs again.)

    Only windows of the same call are aligned together. A fold that pools people must
    come as Epochs or with ``groups``.

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
        found as "subject_id", "participant_id" or "participant", "session" as "ses" or
        "session_id", "run" as "run_id". Without one all windows of Epochs are one
        recording, with a warning if their metadata hold something else.
    electrodes : list of str or of int, optional
        Names (or rows) of electrodes that are whitened by themselves, the others by
        what these leave unexplained: a student that keeps them sees the same numbers
        in high-density windows as on its own cap, while the teacher sees white windows
        of all electrodes. Needs the Euclidean mean.
    ch_names : list of str, optional
        Names of the channels of arrays.
    bads : {"missing", "keep"}
        How channels marked bad in Epochs or in a dataset's recordings come out: as NaN,
        a missing electrode, which our models ignore; or as they came, for what cannot
        have NaN.

    Notes
    -----
    A channel with a non-finite sample is NaN throughout that window and takes no part
    in the whitening of the others; one that is so in too many windows is left out of
    the whole recording. Flat channels are returned as they came: our models take them
    as missing. Both are reported by a warning. Channels marked bad take no part in the
    whitening either, also where ``electrodes`` names them. Directions that hold nothing
    but rounding, of the numbers or of the integers that a file stores, stay empty: what
    an average reference removed does not come back. ``groups`` is a metadata request of
    ``transform``, on by default where scikit-learn's metadata routing is enabled.

    References
    ----------
    He & Wu 2020, DOI 10.1109/TBME.2019.2913914; Zanini et al. 2018,
    DOI 10.1109/TBME.2017.2742541.

    Examples
    --------
    >>> from braindecode_gcmae import RecordingAlignment, SimulatedEEG
    >>> X, _, subject = SimulatedEEG(["C3", "C4"], n_subjects=2, sfreq=100).windows()
    >>> aligned = RecordingAlignment().transform(X, groups=subject)
    >>> aligned.std().round().item()  # µV
    10.0
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
        bads="missing",
    ):
        self.metric = metric
        self.band = band
        self.sfreq = sfreq
        self.shrinkage = shrinkage
        self.scale = scale
        self.groups_from = groups_from
        self.electrodes = electrodes
        self.ch_names = ch_names
        self.bads = bads

    def fit(self, X=None, y=None, groups=None):
        """Check the arguments; nothing is learnt, neither from X nor from y."""
        self._check_options()
        vars(self).pop("had_groups_", None)
        if groups is not None:  # so that transform can say when they are forgotten
            self.had_groups_ = True
        return self

    def fit_transform(self, X, y=None, groups=None):
        """Align ``X``; the same as ``transform``."""
        return self.fit(X, groups=groups).transform(X, groups=groups)

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
            If ``X`` is nothing that holds windows, or ``electrodes`` are no list.
        """
        self._check_options()
        X = joined_epochs(X)
        if isinstance(X, mne.BaseEpochs):
            return self._epochs(X, groups)
        refuse_uncut(X)
        refuse_parts(X, groups)
        if hasattr(X, "datasets") and hasattr(X, "description"):
            _no_groups(groups, "a braindecode dataset has them in its descriptions")
            return self._dataset(X)
        # Rows of a list of windows are arrays; what is no array is a recording.
        if isinstance(X, (list, tuple)) and not any(_is_window(x) for x in X):
            _no_groups(groups, "the items of a list are the recordings")
            return [self.transform(x) for x in X]
        if groups is None and getattr(self, "had_groups_", False):
            warn(
                f"the windows of fit had groups, these {len(X)} have none and are "
                "aligned as one recording. scikit-learn routes groups to what it "
                "scores only with scoring=None: use Epochs, whose metadata tell the "
                "recordings"
            )
        return self._array(as_windows(X), groups, self.scale, self.sfreq)

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
            bads=self.bads,
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

    def _array(self, x, groups, scale, sfreq, channels=None):
        if channels is None:
            check_named(self.electrodes, self.ch_names)
            channels = named_channels(self.ch_names, x.shape[1])
        out, notes = np.empty_like(x), Notes()
        for label, rows in split_recordings(groups, len(x)):
            part = x[rows]
            out[rows] = self._map(part, scale, sfreq, channels, label, notes)(part)
        notes.tell()
        return out

    def _map(self, x, scale, sfreq, channels, label, notes):
        """Return the map of one recording (B, N, T)."""
        names = [name_of(channel) for channel in channels]
        found = self._plain_map(x, scale, sfreq, names, label, notes)
        kept = electrode_mask(self.electrodes, channels)
        if kept is None or kept.all():
            return found
        own = [name for name, keep in zip(names, kept, strict=True) if keep]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # said of all channels already
            try:
                rest = scale, sfreq, own, label, Notes()
                alone = self._plain_map(x[:, kept], *rest)
            except ValueError:  # none of them has a signal: nothing to map
                return found
        covariance, shrinkage = found.covariance, found.shrinkage
        explained = explained_channels(covariance, kept)
        if explained.any():
            names = [names[i] for i in np.flatnonzero(explained)]
            notes.add(
                label,
                f"{names} are sums of the electrodes that are aligned by themselves "
                "(interpolated, or one too many of an average reference): nothing is "
                "left of them, they come out missing",
            )
        return ChannelMap(covariance, shrinkage, scale, kept, alone)

    def _plain_map(self, x, scale, sfreq, names, label, notes):
        """Return the map of one recording (B, N, T), no channels being special."""
        where = "the recording" if label is None else f"recording {label!r}"
        present = np.isfinite(x).all(axis=-1)
        usable, complete = _complete_block(x, present, names)
        if not usable.any():
            raise ValueError(f"{where} has no channel that is finite in its windows")
        lost = [names[i] for i in np.flatnonzero(~usable & present.any(axis=0))]
        if lost:
            notes.add(label, f"{lost} are not finite in many windows and are left out")
        block = x[np.ix_(complete, usable)]
        options = {"sfreq": sfreq, "band": self.band}
        covariances = window_covariances(block, **options)
        per_window = degrees_of_freedom(x.shape[-1], **options)
        flat = flat_channels(covariances.mean(axis=0))
        if flat.all():
            raise ValueError(f"{where}: every channel is flat, there is no signal")
        channels = np.flatnonzero(usable)
        one = carried_by_one(np.diagonal(covariances, axis1=1, axis2=2))
        if one.any() and self.metric == "euclid":
            notes.add(
                label,
                f"{[names[i] for i in channels[one]]} move in one window of "
                f"{len(block)} more than in all others, which come out small: leave "
                "that window out (Epochs.drop_bad), or align with metric='riemann'",
            )
        if flat.any():
            still = [names[i] for i in channels[flat]]
            notes.add(
                label,
                f"{still} are flat and stay so: missing electrodes to our models, to "
                "others zeros",
            )
        moving = ~flat
        covariances = covariances[:, moving][:, :, moving]
        full = np.full((x.shape[1],) * 2, np.nan)
        full[channels[flat], channels[flat]] = 0.0  # apply_whitening passes them on
        rows = channels[moving]
        mean = mean_covariance(covariances, self.metric, per_window)
        share = per_window / x.shape[-1]
        floor = rounding_floor(block[:, moving] if flat.any() else block, share)
        full[np.ix_(rows, rows)] = without_rounding(mean, floor)
        shrinkage = self.shrinkage
        if shrinkage == "auto":
            n = len(block)
            shrinkage = automatic_shrinkage(n, n * per_window, len(rows))
            if shrinkage > 0:
                notes.add(
                    label,
                    f"{n} windows of {x.shape[-1]} samples for {len(rows)} channels "
                    f"are too few to align by alone: shrinkage {shrinkage:.2g}",
                )
        return ChannelMap(full, shrinkage, scale)

    def _epochs(self, epochs, groups):
        epochs = epochs.copy().load_data()  # now bad ones are gone, their rows too
        if groups is None:
            groups = recording_columns(epochs.metadata, self.groups_from)
            if groups is None:
                warn_of_no_recordings(epochs.metadata, self.groups_from)
        scale = None if self.scale is None else 1e-6 * self.scale  # MNE has volts
        return map_epochs(
            epochs,
            lambda x, channels, sfreq: self._array(x, groups, scale, sfreq, channels),
            keep_bads=self.bads == "keep",
        )

    def _dataset(self, dataset):
        """Return the dataset with each recording's map appended to its transform."""

        def find_map(x, label, channels):
            given = named_channels(self.ch_names, x.shape[1])
            if channels is None:
                channels = given
            elif self.ch_names is not None and _spelled(given) != _spelled(channels):
                raise ValueError(
                    f"ch_names={given} are not the channels of the dataset, "
                    f"{[name_of(channel) for channel in channels]}: leave ch_names "
                    "out, a dataset knows its own"
                )
            return self._map(x, self.scale, self.sfreq, channels, label, notes)

        notes = Notes()
        groups = recording_columns(dataset.description, self.groups_from)
        keep_bads = self.bads == "keep"
        aligned = map_dataset(dataset, groups, find_map, keep_bads=keep_bads)
        notes.tell()
        return aligned


def _spelled(channels):
    """The names, spelled in one way."""
    return [canonical_name(name_of(channel)) for channel in channels]


def _is_window(x):
    """Whether an item of a list is one window (N, T), not a recording."""
    holds_windows = any(
        hasattr(x, name) for name in ("get_data", "datasets", "crop_inds")
    )
    return not holds_windows and np.ndim(x) == 2


def _no_groups(groups, reason):
    if groups is not None:
        raise ValueError(f"groups cannot be given here: {reason}")


def _complete_block(x, present, names):
    """Choose channels (N,) and the windows (B,) in which all of them are present.

    The channel that is missing most often is left out until at least half of the
    windows are complete. Of several it is the one with the least signal, in whatever
    order they come.
    """

    def power(row):
        signal = x[present[:, row], row]
        return np.square(signal, dtype=np.float64).sum(), names[row]

    usable = present.any(axis=0)
    while True:
        complete = present[:, usable].all(axis=1)
        if not usable.any() or complete.sum() * 2 >= len(present):
            return usable, complete
        missing = np.where(usable, (~present).sum(axis=0), -1)
        usable[min(np.flatnonzero(missing == missing.max()), key=power)] = False

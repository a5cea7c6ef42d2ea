"""Simulated EEG whose sources, and the couplings between them, are known."""

import zlib

import mne
import numpy as np

from braindecode_gcmae.datasets.moabb_side import moabb_class
from braindecode_gcmae.datasets.sources import (
    COUPLINGS,
    EVENTS,
    N_BACKGROUND,
    N_RHYTHMS,
    SOURCES,
    Noise,
    draw_anatomy,
    draw_traits,
    leadfield,
    slow_gain,
    source_series,
)
from braindecode_gcmae.montage import (
    make_chs_info,
    montage_preset,
    nearest_electrodes,
    require_positions,
    standard_positions,
)

_GAP_SECONDS = 1.0  # rest between two trials
_RAMP_SECONDS = 0.5  # desynchronisation and coupling build up after the cue

_RHYTHM_NAM, _BACKGROUND_NAM, _SENSOR_UV = 12.0, 25.0, 0.8
_DETACHED_UV = 60.0
_ENGAGEMENT = (0.3, 1.0)

# What each random stream is for; the number is part of its seed.
_ANATOMY, _TRAITS, _ACTIVITY, _ORDER, _SENSOR, _BAD = range(6)


class SimulatedEEG:
    r"""Motor imagery of many people from dipoles in MNE's spherical head model.

    :math:`x_i(t) = \sum_s L_{is} a_s(t) + \varepsilon_i(t)` at electrode :math:`i`.
    ``SOURCES`` carry mu, beta, alpha and theta, 16 dipoles alpha that ignores the
    task, 48 the 1/f background. Imagery of a hand weakens mu and beta of the
    *opposite* hand area, and ties parietal, premotor and temporal sources of that
    side to it with a lag of 10 ms and *unchanged power* (``COUPLINGS``): these lie
    between the electrodes of a sparse cap. Dipoles, amplitudes, alpha peak, 1/f
    slope and depth of the effects are each person's own. A seed, subject and
    session give the same bits whatever else is generated, and an intact electrode
    the same signal in every montage.

    Parameters
    ----------
    channels : list of str | list of dict | None
        10-05 or EGI names, or ``chs_info``; None: the 64 of PhysioNet's recordings.
    n_subjects, n_sessions : int
        Subjects are numbered from 1, sessions from 0.
    n_trials : int
        Trials per session, half for each hand.
    sfreq : float
        Sampling rate in Hz, at least 80.
    trial_seconds : float
        Length of a window, from the cue.
    line_freq, line_amplitude : float
        Mains in Hz and µV (median over electrodes); nothing from Nyquist on.
    n_bad_channels : int
        Electrodes per recording that are flat or nothing but noise.
    seed : int
        Seed of everything.

    Raises
    ------
    ValueError
        If an argument is out of range or an electrode has no position.

    References
    ----------
    Mosher, Leahy & Lewis 1999, https://doi.org/10.1109/10.748978 (spherical head).

    Examples
    --------
    >>> from braindecode_gcmae import SimulatedEEG
    >>> recordings = SimulatedEEG(["C3", "C4"], n_subjects=2, n_trials=4, sfreq=100)
    >>> X, y, subject = recordings.windows()
    >>> X.shape, sorted(set(y.tolist()))
    ((8, 2, 300), [0, 1])
    """

    def __init__(
        self,
        channels=None,
        n_subjects=20,
        *,
        n_trials=40,
        n_sessions=1,
        sfreq=160.0,
        trial_seconds=3.0,
        line_freq=50.0,
        line_amplitude=1.0,
        n_bad_channels=0,
        seed=0,
    ):
        self.channels = channels
        self.n_subjects = n_subjects
        self.n_trials = n_trials
        self.n_sessions = n_sessions
        self.sfreq = sfreq
        self.trial_seconds = trial_seconds
        self.line_freq = line_freq
        self.line_amplitude = line_amplitude
        self.n_bad_channels = n_bad_channels
        self.seed = seed
        channels = montage_preset("10-10-64") if channels is None else channels
        self._positions = require_positions(channels, "the simulation")
        named = isinstance(channels[0], str)
        self.chs_info = make_chs_info(channels) if named else list(channels)
        self.ch_names = [ch["ch_name"] for ch in self.chs_info]
        self._check()

    def _check(self):
        for name in ("n_subjects", "n_trials", "n_sessions"):
            if getattr(self, name) < 1:
                raise ValueError(
                    f"{name} must be at least 1, got {getattr(self, name)}."
                )
        if self.sfreq < 80:
            raise ValueError(
                f"sfreq must be at least 80 Hz, got {self.sfreq}: the beta rhythm "
                "lies below 30 Hz."
            )
        if self.trial_seconds < 2 * _RAMP_SECONDS:
            raise ValueError(
                f"trial_seconds must be at least {2 * _RAMP_SECONDS}, got "
                f"{self.trial_seconds}."
            )
        if not 0 <= self.n_bad_channels < len(self.ch_names):
            raise ValueError(
                f"n_bad_channels must lie in [0, {len(self.ch_names)}), got "
                f"{self.n_bad_channels}."
            )

    def __repr__(self):
        return (
            f"SimulatedEEG({len(self.ch_names)} electrodes, n_subjects="
            f"{self.n_subjects}, n_trials={self.n_trials}, n_sessions="
            f"{self.n_sessions}, sfreq={self.sfreq:g}, trial_seconds="
            f"{self.trial_seconds:g}, seed={self.seed})"
        )

    @property
    def subjects(self):
        """Subject numbers, from 1."""
        return list(range(1, self.n_subjects + 1))

    @property
    def n_times(self):
        """Samples of a window."""
        return round(self.trial_seconds * self.sfreq)

    def _rng(self, purpose, *keys):
        return np.random.default_rng([self.seed, purpose, *keys])

    # ------------------------------------------------------------ one person

    def anatomy(self, subject):
        """Dipoles of one person.

        Returns
        -------
        positions, moments : (S, 3) arrays
            Metres in the head frame, and unit vectors: first the dipoles of
            ``SOURCES`` in their order, then rhythms and background.
        """
        return draw_anatomy(self._rng(_ANATOMY, subject))

    def leadfield(self, subject):
        """Leadfield (N, S) of one person's dipoles in µV per nAm."""
        return leadfield(self._positions, *self.anatomy(subject)) * 1e-3

    def traits(self, subject):
        """What else is a person's own: alpha peak (Hz), task depth, gains (S,)."""
        return draw_traits(self._rng(_TRAITS, subject))

    # ---------------------------------------------------------- one recording

    def _cues(self):
        period = self.trial_seconds + _GAP_SECONDS
        onsets = _GAP_SECONDS + period * np.arange(self.n_trials)
        return np.round(onsets * self.sfreq).astype(int)

    def _labels(self, subject, session):
        y = np.arange(self.n_trials) % 2
        return self._rng(_ORDER, subject, session).permutation(y)

    def _task_course(self, cues, y, n_times, rng):
        """How strongly each class is at work at each sample, (2, T) in [0, 1].

        Nobody imagines equally well in every trial: engagement is uniform.
        """
        course = np.zeros((2, n_times))
        ramp = round(_RAMP_SECONDS * self.sfreq)
        shape = np.ones(self.n_times)
        shape[:ramp] = 0.5 - 0.5 * np.cos(np.pi * np.arange(ramp) / ramp)
        engagement = rng.uniform(*_ENGAGEMENT, len(y))
        for cue, label, effort in zip(cues, y, engagement, strict=True):
            course[label, cue : cue + self.n_times] = effort * shape
        return course

    def _recording(self, subject, session, rest):
        """One continuous recording in µV: X (N, T), cues (n,), y (n,)."""
        if subject not in self.subjects:
            raise ValueError(
                f"subject {subject} does not exist: 1 to {self.n_subjects}."
            )
        if session not in range(self.n_sessions):
            raise ValueError(
                f"session {session} does not exist: 0 to {self.n_sessions - 1}."
            )
        cues, y = self._cues(), self._labels(subject, session)
        n_times = cues[-1] + self.n_times + round(_GAP_SECONDS * self.sfreq)
        rng = self._rng(_ACTIVITY, subject, session, int(rest))
        course = self._task_course(cues, y, n_times, rng)
        if rest:
            course, y = np.zeros_like(course), np.full(self.n_trials, -1)
        traits = self.traits(subject)
        noise = Noise(rng, n_times, self.sfreq)
        rhythm = noise.bumps(
            traits["alpha_peak"] * rng.uniform(0.9, 1.1, (N_RHYTHMS, 1)),
            np.ones((N_RHYTHMS, 1)),
        )
        oscillations = np.vstack(
            [
                source_series(noise, traits, course),
                noise.series(noise.spectrum(rhythm)),
            ]
        )
        oscillations *= slow_gain(rng, len(oscillations), n_times, self.sfreq, 0.25)
        slopes = traits["slope"] + rng.normal(0, 0.1, N_BACKGROUND)
        background = noise.pink(slopes)
        moments = np.r_[
            [s.moment for s in SOURCES],
            np.full(N_RHYTHMS, _RHYTHM_NAM),
            np.full(N_BACKGROUND, _BACKGROUND_NAM),
        ]
        gain = self.leadfield(subject) * (moments * traits["gains"])
        gain = gain.astype(np.float32)
        n_osc = len(oscillations)
        X = gain[:, :n_osc] @ oscillations.astype(np.float32)
        X += gain[:, n_osc:] @ background
        self._add_sensor_noise(X, subject, session, rest)
        return X, cues, y

    def _add_sensor_noise(self, X, subject, session, rest):
        """White noise and mains, from a stream of each electrode's own."""
        angle = 2 * np.pi * self.line_freq * np.arange(X.shape[1]) / self.sfreq
        mains = np.stack([np.sin(angle), np.cos(angle)]).astype(np.float32)
        seen = self.line_freq < self.sfreq / 2  # an amplifier filters the rest
        bad = self.bad_channels(subject, session)
        for row, name in enumerate(self.ch_names):
            key = zlib.crc32(name.encode())
            rng = self._rng(_SENSOR, subject, session, int(rest), key)
            size = seen * self.line_amplitude * np.exp(rng.normal(0, 0.5))
            phase = rng.uniform(0, 0.6)
            white = rng.standard_normal(X.shape[1], dtype=np.float32)
            if name in bad:
                X[row] = 0.0 if rng.random() < 0.5 else _DETACHED_UV * white
                continue
            X[row] += _SENSOR_UV * white
            X[row] += np.float32(size * np.cos(phase)) * mains[0]
            X[row] += np.float32(size * np.sin(phase)) * mains[1]

    def bad_channels(self, subject, session=0):
        """Names of the electrodes that are flat or noise in one recording."""
        rng = self._rng(_BAD, subject, session)
        rows = rng.permutation(len(self.ch_names))[: self.n_bad_channels]
        return [self.ch_names[row] for row in sorted(rows)]

    # ------------------------------------------------------------- ways out

    def windows(self, subjects=None, *, rest=False):
        """Labelled windows as plain arrays.

        Parameters
        ----------
        subjects : list of int | int | None
            Subject numbers; None: all.
        rest : bool
            Windows of a resting recording instead, with y = -1 throughout.

        Returns
        -------
        X : (B, N, T) float32 array in µV
        y : (B,) int array
            0 left hand, 1 right hand.
        subject : (B,) int array
        """
        subjects = self.subjects if subjects is None else np.atleast_1d(subjects)
        X, y, ids = [], [], []
        for subject in map(int, subjects):
            for session in range(self.n_sessions):
                data, cues, labels = self._recording(subject, session, rest)
                X.extend(data[:, cue : cue + self.n_times] for cue in cues)
                y.append(labels)
                ids.append(np.full(len(labels), subject))
        return np.stack(X), np.concatenate(y), np.concatenate(ids)

    def raw(self, subject, session=0, *, rest=False):
        """One recording as ``mne.io.RawArray`` in volts, cues as annotations.

        Parameters
        ----------
        subject, session : int
            Subjects are numbered from 1, sessions from 0.
        rest : bool
            A resting recording: all cues are "rest".
        """
        data, cues, y = self._recording(subject, session, rest)
        info = mne.create_info(self.ch_names, self.sfreq, "eeg")
        positions = dict(zip(self.ch_names, self._positions, strict=True))
        info.set_montage(mne.channels.make_dig_montage(positions, coord_frame="head"))
        raw = mne.io.RawArray(data * 1e-6, info, verbose=False)
        names = {code - 1: name for name, code in EVENTS.items()} | {-1: "rest"}
        raw.set_annotations(
            mne.Annotations(
                cues / self.sfreq, self.trial_seconds, [names[label] for label in y]
            )
        )
        return raw

    def to_braindecode(self, subjects=None, *, rest=False):
        """Windows in µV as a braindecode ``BaseConcatDataset``.

        Descriptions carry ``subject`` and ``session``; targets are those of
        ``windows`` (0 left hand, 1 right hand, -1 rest).

        Parameters
        ----------
        subjects, rest
            As in :meth:`windows`.
        """
        from braindecode.datasets import BaseConcatDataset, RawDataset
        from braindecode.preprocessing import create_windows_from_events

        subjects = self.subjects if subjects is None else np.atleast_1d(subjects)
        parts = []
        for subject in map(int, subjects):
            for session in range(self.n_sessions):
                raw = self.raw(subject, session, rest=rest)
                raw.apply_function(lambda x: x * 1e6, verbose=False)
                parts.append(RawDataset(raw, {"subject": subject, "session": session}))
        mapping = {name: code - 1 for name, code in EVENTS.items()}
        return create_windows_from_events(
            BaseConcatDataset(parts),
            window_size_samples=self.n_times,
            window_stride_samples=self.n_times,
            mapping={"rest": -1} if rest else mapping,
            on_last_window="drop",
        )

    def to_moabb(self):
        """The same recordings as a MOABB dataset (paradigm "imagery")."""
        return moabb_class()(self)

    # ------------------------------------------------------------ the truth

    def nearest_electrodes(self):
        """Electrode nearest to each source on average: {source name: electrode}."""
        table = standard_positions()
        anchors = np.array([table[source.anchor] for source in SOURCES])
        rows, _ = nearest_electrodes(anchors, self.chs_info)
        return {s.name: self.ch_names[i] for s, i in zip(SOURCES, rows, strict=True)}

    def topology(self, event=None):
        """True electrode graph: electrodes over coupled sources are linked.

        Parameters
        ----------
        event : "left_hand" | "right_hand" | "rest" | None
            Couplings at work in that state; None: in any.

        Returns
        -------
        adjacency : (N, N) bool array
            Symmetric, nothing on the diagonal: two sources under one electrode
            leave no edge.
        """
        states = (*EVENTS, "rest", None)
        if event not in states:
            raise ValueError(f"event must be one of {states}, got {event!r}.")
        row = {name: i for i, name in enumerate(self.ch_names)}
        nearest = self.nearest_electrodes()
        adjacency = np.zeros((len(row), len(row)), dtype=bool)
        for link in COUPLINGS:
            if event is None or link.event in (None, event):
                i, j = row[nearest[link.driver]], row[nearest[link.follower]]
                adjacency[i, j] = adjacency[j, i] = i != j
        return adjacency

"""From recordings to windows, and from people to training and test sets.

Windows are kept as they were recorded (band-passed, resampled, µV); a person is
aligned when a cell asks for it, on the electrodes that this cell has, because a
device with eight electrodes cannot be aligned with the other fifty-six.
"""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

LABELLED = (1, 2, 3, 4, 5, 9, 13, 15, 17, 20, 29, 37, 39, 46, 59, 61, 66, 84, 90, 99)
POOL = (14, 25, 28, 31, 50, 57, 58, 74, 75, 76, 87, 91, 97, 98)
N_FOLDS = 5
PROTOCOL = 2  # raise it when windows or folds change: old cells are then redone
FEW = 10


@dataclass(frozen=True)
class Task:
    """What is decided, and from which windows.

    ``events`` maps an annotation to a class, ``-1`` where the class comes from
    ``participants.tsv``. ``per_person`` tasks take one decision per person: the
    mean of the window probabilities. ``alignment`` is switched off where the
    question is about the person, whose spatial power alignment would remove;
    ``align_band`` (Hz) aligns by the covariance of that band.
    """

    name: str
    events: dict = field(hash=False)
    runs: tuple = (4, 8, 12)
    tmin: float = 0.5
    tmax: float = 4.0
    band: tuple = (4.0, 38.0)
    sfreq: float = 80.0
    alignment: bool = True
    align_band: tuple | None = None
    per_person: bool = False
    metric: str = "accuracy"


TASKS = {
    "left-right": Task("left-right", {"T1": 0, "T2": 1}),
    "rest-imagery": Task("rest-imagery", {"T0": 0, "T1": 1, "T2": 1}, runs=(4, 8)),
    # The same windows, white in the band that the linear classifier reads.
    "rest-imagery-band": Task(
        "rest-imagery-band",
        {"T0": 0, "T1": 1, "T2": 1},
        runs=(4, 8),
        align_band=(8.0, 30.0),
    ),
    # The target appears or disappears: what the eye sees evokes a response.
    "cue": Task(
        "cue", {"T0": 0, "T1": 1, "T2": 1}, tmin=0.0, tmax=1.0, band=(0.5, 30.0)
    ),
    "sex": Task(
        "sex",
        {"T0": -1},
        runs=(4,),
        band=(1.0, 38.0),
        alignment=False,
        per_person=True,
        metric="auroc",
    ),
}


class Leakage(ValueError):
    """A person of the test set was about to enter a training stage."""


def check_leakage(stage, people, test, *, transductive=False):
    """Refuse a training stage that holds a test person.

    Parameters
    ----------
    stage : str
        The stage's name, for the message.
    people, test : iterable of int
        The people in the stage, and those to be tested.
    transductive : bool
        Warn instead: the unlabelled windows of the test people are used.

    Raises
    ------
    Leakage
        If both sets meet and ``transductive`` is False.
    """
    common = sorted(set(people) & set(test))
    if not common:
        return
    message = f"stage {stage!r} holds the test people {common}"
    if not transductive:
        raise Leakage(f"{message}; leave them out, or ask for transductive=True")
    warnings.warn(f"{message}: a transductive result", stacklevel=2)


@dataclass(frozen=True)
class Split:
    """People of one cell: tested, trained with labels, trained without."""

    test: tuple
    labelled: tuple
    unlabelled: tuple

    def __post_init__(self):
        check_leakage("labelled", self.labelled, self.test)
        check_leakage("unlabelled", self.unlabelled, self.test)
        check_leakage("unlabelled (labelled people)", self.unlabelled, self.labelled)


def person_folds(people, seed, *, strata=None, n_folds=N_FOLDS):
    """Deal people into folds, each person being tested once.

    Parameters
    ----------
    people : sequence of int
        One entry a person.
    seed : int
        Shuffles the people.
    strata : sequence of int, optional
        A class per person, spread evenly over the folds.

    Returns
    -------
    list of tuple of int
        The test people of each fold.
    """
    from sklearn.model_selection import GroupKFold, StratifiedKFold

    people = np.asarray(people)
    if strata is None:
        folds = GroupKFold(n_folds, shuffle=True, random_state=seed)
        parts = folds.split(people, groups=people)
    else:
        folds = StratifiedKFold(n_folds, shuffle=True, random_state=seed)
        parts = folds.split(people, strata)
    return [tuple(int(p) for p in people[test]) for _, test in parts]


def make_split(people, pool, regime, fold, seed, *, strata=None, nested=False):
    """Give the people of one cell.

    Parameters
    ----------
    people, pool : sequence of int
        People with labels, and people whose labels are never read.
    regime : {"few", "many"}
        Ten of the training people labelled, the others joining the pool; or all.
    fold, seed : int
        Which fold of which shuffle. The ten are drawn by both.
    nested : bool
        For tuning: the fold's test people are left out altogether, and the
        training people who were not drawn (few) are tested in their place.
    """
    test = person_folds(people, seed, strata=strata)[fold]
    training = [p for p in people if p not in test]
    if regime == "many":
        labelled = training
    elif regime == "few":
        drawn = np.random.default_rng([seed, fold, FEW]).permutation(training)
        labelled = sorted(int(p) for p in drawn[:FEW])
    else:
        raise ValueError(f"regime is 'few' or 'many', not {regime!r}")
    rest = [p for p in training if p not in labelled]
    if nested:
        if not rest:
            raise ValueError("nested validation needs the regime 'few'")
        return Split(tuple(rest), tuple(labelled), tuple(pool))
    return Split(test, tuple(labelled), tuple(rest) + tuple(pool))


def align(X, people, kept=None, *, band=None, sfreq=None):
    r"""Align every person's windows to a white mean covariance, without labels.

    With ``kept`` these electrodes are aligned on their own, which is what a device
    that has nothing else can do, and the others by what these leave unexplained: one
    window then serves a teacher with all electrodes and a student with few, and the
    student sees the very numbers of its own device.

    Parameters
    ----------
    X : array (B, N, T)
        Windows, µV.
    people : array (B,)
        Whose window it is.
    kept : sequence of int, optional
        Rows of the electrodes kept.
    band : tuple of float, optional
        Hz; the covariance of this band becomes white.
    sfreq : float, optional
        Hz; needed for a band.

    Returns
    -------
    array (B, N, T)
        Float32; the covariance of each person's windows is white.
    """
    from braindecode_gcmae import RecordingAlignment

    rows = None if kept is None else [int(row) for row in kept]
    step = RecordingAlignment(electrodes=rows, band=band, sfreq=sfreq)
    return step.transform(X.astype(np.float32), groups=people)


@dataclass
class Windows:
    """Windows of one task, and the people they belong to.

    ``X`` (B, N, T) half precision µV, ``y`` (B,), ``person`` (B,), ``interpolation``
    the spline matrices (N, n) of the electrode sets, ``positions`` (N, 3) metres.
    """

    X: np.ndarray
    y: np.ndarray
    person: np.ndarray
    ch_names: tuple
    positions: np.ndarray
    task: Task
    interpolation: dict = field(default_factory=dict)
    memory: dict = field(default_factory=dict, repr=False)
    _views: dict = field(default_factory=dict, repr=False)

    def rows(self, people):
        """Rows of these people's windows, in the order recorded."""
        return np.flatnonzero(np.isin(self.person, list(people)))

    def view(self, kind, kept):
        """Give all windows the way a method wants them, float32 (B, N or n, T).

        Parameters
        ----------
        kind : {"raw", "low", "nested", "interpolated"}
            The kept electrodes unaligned; aligned on their own; all electrodes,
            aligned so that the kept rows equal ``low``; all electrodes, splined
            from the kept ones, then aligned.
        kept : tuple of str
            Names of the electrodes kept.
        """
        key = (kind, kept)
        if key not in self._views:
            for old in list(self._views)[:-3]:
                del self._views[old]
            self._views[key] = self._make_view(kind, kept)
        return self._views[key]

    def _make_view(self, kind, kept):
        index = [self.ch_names.index(name) for name in kept]
        if kind == "nested":
            X, inner = self.X, index
        elif kind == "interpolated":
            spline = self.interpolation[",".join(kept)]
            X, inner = spline @ self.X[:, index].astype(np.float32), None
        elif kind in ("raw", "low"):
            X, inner = self.X[:, index], None
        else:
            raise ValueError(f"view {kind!r} is unknown")
        if kind == "raw" or not self.task.alignment:
            return X.astype(np.float32)
        band, sfreq = self.task.align_band, self.task.sfreq
        return align(X, self.person, inner, band=band, sfreq=sfreq)

    def chs_info(self, names=None):
        """Channel dictionaries as braindecode wants them."""
        out = []
        for name in names or self.ch_names:
            loc = np.zeros(12)
            loc[:3] = self.positions[self.ch_names.index(name)]
            out.append({"ch_name": name, "kind": "eeg", "loc": loc})
        return out

    @property
    def people(self):
        """People who may be tested: the labelled ones, or all for a sex task."""
        present = set(self.person.tolist())
        chosen = LABELLED + POOL if self.task.per_person else LABELLED
        return tuple(p for p in sorted(chosen) if p in present)

    @property
    def pool(self):
        """People whose labels are never read."""
        present = set(self.person.tolist()) - set(self.people)
        return tuple(sorted(present))

    def strata(self):
        """Give one class per person for tasks about the person, else None."""
        if not self.task.per_person:
            return None
        return [int(self.y[self.person == p][0]) for p in self.people]

    def save(self, path):
        """Write one compressed file, without pickles."""
        splines = {f"spline:{k}": v for k, v in self.interpolation.items()}
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(
            path,
            X=self.X.astype(np.float16),
            y=self.y.astype(np.int8),
            person=self.person.astype(np.int16),
            ch_names=np.array(self.ch_names),
            positions=self.positions.astype(np.float32),
            task=np.array(self.task.name),
            **splines,
        )

    @classmethod
    def load(cls, path):
        """Read what :meth:`save` wrote."""
        with np.load(path, allow_pickle=False) as file:
            splines = {
                key.split(":", 1)[1]: file[key]
                for key in file.files
                if key.startswith("spline:")
            }
            return cls(
                file["X"],
                file["y"].astype(np.int64),
                file["person"].astype(np.int64),
                tuple(str(name) for name in file["ch_names"]),
                file["positions"].astype(np.float64),
                TASKS[str(file["task"])],
                splines,
            )


def cache_folder():
    """Give the folder of prepared windows: outside the repository."""
    default = Path.home() / ".cache" / "braindecode-gcmae"
    return Path(os.environ.get("GCMAE_CACHE", default))

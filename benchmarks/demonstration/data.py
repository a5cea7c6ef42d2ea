"""Where the demonstration's windows come from, and how people are split."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from benchmarks.electrodes import HEADBAND_8, MOTOR_8, SETS
from benchmarks.protocol import LABELLED, POOL, align

DATA = ("simulated", "physionet")
_FEWEST = 4  # people with labels: two to train on, two to test on


class DataMissing(RuntimeError):
    """The data cannot be had; the message says what to do."""


@dataclass
class Study:
    """Windows (B, N, T) in µV of people with labels, and of a pool without.

    The pool's labels are set to -1 when the study is made: nobody can read them.
    """

    name: str
    title: str
    X: np.ndarray
    y: np.ndarray
    person: np.ndarray
    run: np.ndarray
    chs_info: list
    sfreq: float
    people: list
    few: list = field(default_factory=lambda: list(MOTOR_8))

    def __post_init__(self):
        self.X = self.X.astype(np.float32)
        self.y = np.where(np.isin(self.person, self.people), self.y, -1)
        self.names = [channel["ch_name"] for channel in self.chs_info]
        self.kept = [self.names.index(name) for name in self.few]
        self.recording = 100 * self.person + self.run

    @property
    def pool(self):
        """People whose windows are used without labels."""
        return sorted(set(self.person.tolist()) - set(self.people))

    def rows(self, people):
        """Rows of these people's windows."""
        return np.flatnonzero(np.isin(self.person, list(people)))

    def aligned(self):
        """All windows, each recording aligned by itself, without labels.

        The student's electrodes are aligned on their own: these are the numbers
        that a cap with nothing else would give (see ``protocol.align``).
        """
        return align(self.X, self.recording, self.kept)

    def split(self, seed):
        """Half of the people for training with labels, the others for the test.

        Seeds 2 k and 2 k + 1 share a shuffle and swap the halves, so that after an
        even number of seeds everybody was tested equally often.
        """
        shuffled = np.random.default_rng([seed // 2, 20]).permutation(self.people)
        half = len(shuffled) // 2
        first, second = sorted(shuffled[:half]), sorted(shuffled[half:])
        train, test = (first, second) if seed % 2 == 0 else (second, first)
        return [int(p) for p in train], [int(p) for p in test]


def simulated(few=HEADBAND_8, n_people=20, n_pool=10, n_trials=30, seed=0):
    """Simulated motor imagery: no network, no files, the same for everybody.

    The student's headband lies far from the sources, which the teacher covers. Each
    seed has other people.
    """
    from braindecode_gcmae import SimulatedEEG

    source = SimulatedEEG(
        n_subjects=n_people + n_pool,
        n_trials=n_trials,
        sfreq=80.0,
        trial_seconds=3.0,
        seed=seed,
    )
    X, y, person = source.windows()
    return Study(
        "simulated",
        "simulated EEG (dipoles in a spherical head), left v. right hand",
        X,
        y,
        person,
        np.zeros_like(person),
        source.chs_info,
        source.sfreq,
        people=list(range(1, n_people + 1)),
        few=list(few),
    )


def physionet(few=MOTOR_8, n_people=None, n_pool=None):
    """PhysioNet motor imagery, left v. right fist: people found on this disk.

    Raises
    ------
    DataMissing
        If there are no recordings, and none can be downloaded.
    """
    from braindecode_gcmae.datasets import physionet_subjects, windows_from_physionet

    people = physionet_subjects()
    pool = [p for p in physionet_subjects(runs=(4,)) if p not in people]
    if len(people) < _FEWEST:
        people, pool = list(LABELLED), list(POOL)
    people, pool = people[:n_people], pool[:n_pool]
    try:
        parts = [windows_from_physionet(people, resample=80.0)]
        if pool:
            parts.append(windows_from_physionet(pool, runs=(4,), resample=80.0))
    except FileNotFoundError as error:
        raise DataMissing(
            f"{error}\n\nThe recordings of PhysioNet's EEG Motor Movement/Imagery "
            "data set are neither here nor within reach. Either\n"
            "  - name the folder that holds MNE-eegbci-data:\n"
            "        MNE_DATA=/folder/with/recordings make demo DATA=physionet\n"
            "  - or run it where MNE can download them (about 250 MB),\n"
            "  - or take the simulated recordings, which need no files:\n"
            "        make demo"
        ) from error
    X, y, person, run = (
        np.concatenate([getattr(part, name) for part in parts])
        for name in ("X", "y", "subject", "run")
    )
    return Study(
        "physionet",
        "PhysioNet motor imagery, left v. right fist, 0.5-4 s after the cue",
        X,
        y,
        person,
        run,
        parts[0].chs_info,
        parts[0].sfreq,
        people=people,
        few=list(few),
    )


def load(name, electrodes=None):
    """Give the study of that name.

    Parameters
    ----------
    name : {"simulated", "physionet"}
    electrodes : str, optional
        Of the student, a key of ``benchmarks.electrodes.SETS``.

    Raises
    ------
    DataMissing
        If there is none, or its recordings are missing.
    """
    if name not in DATA:
        raise DataMissing(
            f"DATA={name!r} is unknown. Use one of: "
            + ", ".join(f"make demo DATA={known}" for known in DATA)
        )
    sets = [known for known, names in SETS.items() if names is not None]
    if electrodes is not None and electrodes not in sets:
        raise DataMissing(f"electrodes {electrodes!r} are unknown. Use one of: {sets}")
    chosen = {} if electrodes is None else {"few": SETS[electrodes]}
    return {"simulated": simulated, "physionet": physionet}[name](**chosen)

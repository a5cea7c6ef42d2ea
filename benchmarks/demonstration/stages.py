"""The stages: pretrain, teach, distil, and baselines beside them.

Every network gets the same windows, the same alignment, the same optimiser, the same
number of supervised steps and no early stopping; what differs is what its name says.
"""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass, field
from tempfile import TemporaryDirectory

import numpy as np
from skorch.callbacks import Callback
from tqdm.auto import tqdm

from benchmarks.cells import Budget
from benchmarks.methods import band_pass, count_parameters, seeded, training_arguments


@dataclass(frozen=True)
class Settings:
    """What makes the demonstration short: fewer epochs, a smaller teacher.

    The student is the package's default.
    """

    pretraining_epochs: int = 6
    teacher_epochs: int = 15
    student_epochs: int = 25
    batch_size: int = 64
    lr: float = 1e-3
    queue_size: int = 1024
    teacher: dict = field(default_factory=lambda: {"emb_dim": 64, "depth": 2})


@dataclass(eq=False)
class Score:
    """What one method did on the test people's windows."""

    method: str
    n_electrodes: int
    n_parameters: int
    probability: np.ndarray
    seconds: float


class EpochBar(Callback):
    """One progress bar a net, with the last value of each loss term."""

    def __init__(self, title):
        self.title = title

    def on_train_begin(self, net, **kwargs):
        """Open the bar."""
        self.bar_ = tqdm(total=net.max_epochs, desc=f"    {self.title}", unit="epoch")

    def on_epoch_end(self, net, **kwargs):
        """Move on by one epoch."""
        last = net.history[-1]
        hidden = ("batch_count", "loss_best", "unlabelled", "distil", "_lr")
        self.bar_.set_postfix(
            {
                key.removeprefix("train_"): f"{value:.3f}"
                for key, value in last.items()
                if isinstance(value, float)
                and key != "dur"
                and not key.endswith(hidden)
            }
        )
        self.bar_.update()

    def on_train_end(self, net, **kwargs):
        """Close the bar."""
        self.bar_.close()
        del self.bar_


def say(text):
    """Tell which stage begins."""
    tqdm.write(text)


class Demonstration:
    """One seed: one split of the people, all stages, all methods.

    Attributes
    ----------
    scores : list of Score
    pretrainer, teacher, students
        What was trained, for the figures.
    """

    def __init__(self, study, seed=0, settings=None):
        self.study, self.seed = study, seed
        self.settings = settings or Settings()
        self.train_people, self.test_people = study.split(seed)
        self.X = study.aligned()
        self.labelled = study.rows(self.train_people)
        self.unlabelled = study.rows(study.pool)
        self.test = study.rows(self.test_people)
        self.scores, self.students = [], {}

    # -- what every method shares ---------------------------------------------
    def _signal(self, electrodes=None):
        study = self.study
        chs_info = study.chs_info
        if electrodes is not None:
            chs_info = [chs_info[row] for row in electrodes]
        return {
            "n_outputs": 2,
            "chs_info": chs_info,
            "n_times": study.X.shape[2],
            "sfreq": study.sfreq,
        }

    def _net(self, module, title, epochs, callbacks=(), cls=None):
        from braindecode import EEGClassifier

        s, cls = self.settings, cls or EEGClassifier
        budget = Budget(epochs=epochs, batch_size=s.batch_size, lr=s.lr)
        arguments = training_arguments(budget, "cpu")
        arguments["callbacks"] += [*callbacks, ("bar", EpochBar(title))]
        return cls(module, **arguments)

    def _score(self, method, net, X, begin):
        probability = net.predict_proba(X[self.test])
        n_parameters = count_parameters(net.module_)
        self._keep(method, X.shape[1], n_parameters, probability, begin)

    def _keep(self, method, n_electrodes, n_parameters, probability, begin):
        seconds = time.perf_counter() - begin
        score = Score(method, n_electrodes, n_parameters, probability, seconds)
        self.scores.append(score)
        y = self.study.y[self.test]
        right = 100 * (probability.argmax(1) == y).mean()
        say(f"    {method}: {right:.1f} % right on unseen people")

    # -- stages ------------------------------------------------------------------
    def run(self):
        """All stages in order."""
        study = self.study
        say(
            f"\n{study.title}\nseed {self.seed}: {len(self.train_people)} people with "
            f"labels ({len(self.labelled)} windows), {len(study.pool)} without "
            f"({len(self.unlabelled)} windows), {len(self.test_people)} unseen people "
            f"to test on ({len(self.test)} windows)"
        )
        with warnings.catch_warnings(), TemporaryDirectory() as folder:
            warnings.simplefilter("ignore")
            say("[1/5] linear baselines")
            self.linear(study.kept)
            self.linear(list(range(len(study.names))))
            say("[2/5] pretraining teacher and student together, without labels")
            self.pretrain(folder)
            say("[3/5] the teacher learns from the few labelled people")
            self.teach(folder)
            say(f"[4/5] students with {len(study.few)} electrodes, equal steps each")
            for distilled in (False, True):
                for pretrained in (False, True):
                    self.student(folder, pretrained, distilled)
            say("[5/5] EEGNet on the same electrodes, equal steps")
            self.eegnet()
        return self

    def pretrain(self, folder, **arguments):
        """Teacher and student on the windows of training people and pool."""
        from braindecode_gcmae import GCMAEPretrainer

        s, study = self.settings, self.study
        rows = np.r_[self.labelled, self.unlabelled]
        self.pretrainer = GCMAEPretrainer(
            electrodes=study.few,
            chs_info=study.chs_info,
            sfreq=study.sfreq,
            max_epochs=s.pretraining_epochs,
            batch_size=s.batch_size,
            queue_size=s.queue_size,
            seed=self.seed,
            verbose=0,
            callbacks=[("bar", EpochBar("pretraining"))],
            **{f"teacher__{name}": value for name, value in s.teacher.items()},
            **arguments,
        )
        self.pretrainer.fit(self.X[rows], groups=study.person[rows])
        self.pretrainer.save_pretrained(folder)

    def teach(self, folder):
        """Fine-tune the pretrained teacher on all electrodes."""
        from braindecode_gcmae import GCMAETeacher

        begin, rows = time.perf_counter(), self.labelled
        with seeded(self.seed):
            module = GCMAETeacher.from_pretrained(f"{folder}/teacher", n_outputs=2)
            epochs = self.settings.teacher_epochs
            self.teacher = self._net(module, "teacher", epochs)
            self.teacher.fit(self.X[rows], self.study.y[rows])
        self._score("teacher", self.teacher, self.X, begin)

    def student(self, folder, pretrained, distilled):
        """One of the four students; tested on windows of its own electrodes alone."""
        from braindecode_gcmae import GCMAEStudent, TopologyDistillation

        names = ["scratch", "pretrained", "distilled", "both"]
        name = names[pretrained + 2 * distilled]
        begin, rows, callbacks = time.perf_counter(), self.labelled, []
        if distilled:
            distil = TopologyDistillation(self.teacher, seed=self.seed)
            callbacks = [("distil", distil)]
        with seeded(self.seed):
            if pretrained:
                module = GCMAEStudent.from_pretrained(f"{folder}/student", n_outputs=2)
            else:
                module = GCMAEStudent(electrodes=self.study.few, **self._signal())
            epochs = self.settings.student_epochs
            net = self._net(module, f"student, {name}", epochs, callbacks)
            net.fit(self.X[rows], self.study.y[rows])
        self.students[name] = net
        self._score(f"student, {name}", net, self.X[:, self.study.kept], begin)

    def eegnet(self):
        """braindecode's EEGNet with the student's electrodes, optimiser and steps."""
        from braindecode.models import EEGNet

        begin, rows = time.perf_counter(), self.labelled
        X = np.ascontiguousarray(self.X[:, self.study.kept])
        with seeded(self.seed):
            module = EEGNet(**self._signal(self.study.kept))
            net = self._net(module, "EEGNet", self.settings.student_epochs)
            net.fit(X[rows], self.study.y[rows])
        self._score("EEGNet", net, X, begin)

    def linear(self, electrodes):
        """Log covariances (tangent space at the identity) and logistic regression.

        Windows are band-passed to 8-30 Hz and then aligned as all others are, so
        the identity is everybody's mean.
        """
        from sklearn.linear_model import LogisticRegression

        begin, study = time.perf_counter(), self.study
        F = log_covariances(study, electrodes)
        regression = LogisticRegression(C=1.0, max_iter=1000)
        regression.fit(F[self.labelled], study.y[self.labelled])
        probability = regression.predict_proba(F[self.test])
        size = regression.coef_.size + 1
        self._keep("tangent space + LR", len(electrodes), size, probability, begin)


def log_covariances(study, electrodes, band=(8.0, 30.0), shrinkage=0.05):
    """Upper triangles of the logarithms of the windows' covariances (B, N(N+1)/2)."""
    from braindecode_gcmae import RecordingAlignment

    X = band_pass(study.X[:, electrodes].astype(np.float64), study.sfreq, band)
    X = RecordingAlignment(scale=1.0).transform(X, groups=study.recording)
    C = X @ X.swapaxes(1, 2) / X.shape[2]
    n = C.shape[1]
    trace = np.trace(C, axis1=1, axis2=2)[:, None, None] / n
    values, vectors = np.linalg.eigh(
        (1 - shrinkage) * C + shrinkage * trace * np.eye(n)
    )
    logs = (vectors * np.log(values)[:, None]) @ vectors.swapaxes(1, 2)
    i, j = np.triu_indices(n)
    return logs[:, i, j] * np.where(i == j, 1.0, np.sqrt(2.0))

"""TopologyDistillation: what the missing electrodes knew, as a loss term."""

import copy

import torch
from skorch.utils import to_device
from torch import nn
from torch.utils.data import Subset

from ...graph import binarise, topology_pairs
from ...losses import (
    graph_contrastive_loss,
    local_structure_loss,
    logit_distillation_loss,
    topology_distillation_loss,
)
from ...masking import counter_uniform
from ...models.wrapped import unwrap
from ...pretraining import collate_windows
from ..checks.ahead import check_ahead, check_teacher_ahead
from ..checks.inputs import (
    check_seen,
    check_softmax,
    check_targets,
    check_terms,
    is_regression,
    refuse_other_kind,
)
from ..checks.split import training_part
from ..hooks import INPUTS, AuxiliaryLoss, device_of
from ..randomness import unmoved_randomness
from ..stages.marks import OncePerModule
from ..stages.pretraining import GCMAEPretraining
from ..stages.states import model_state, rebuild_model
from .answers import TeacherAnswers, inputs_of, mean_graph, refuse_unordered
from .cross_fit import CrossFitted, check_cross_fit, cross_fitted
from .origin import given_teacher, planned_teacher, trained_teacher
from .pairs import note_pairs, warn_silent
from .pool import unlabelled_pool
from .teachers import check_committee, check_fit, kept_rows, trained_head

__all__ = ["TopologyDistillation"]


class TopologyDistillation(OncePerModule, AuxiliaryLoss):
    r"""Distils a high-density teacher into the student while the student trains.

    Adds :math:`w_{KD} T^2 KL(t \| s) + w_{GTD} L_{GTD}` to the loss of each training
    batch (Eq. 8-11). Feed the net high-density windows: the student takes its own
    electrodes out of them, the frozen teacher sees them all. ``train_loss`` is with
    these terms, ``valid_loss`` the net's own loss alone.

    Parameters
    ----------
    teacher : EEGClassifier, GCMAETeacher, GCMAEStudent, str, Path, or a list of these
        A fitted net, a model, what ``from_pretrained`` takes (a folder, a shipped name,
        a repository on the Hub) with a trained head, or an unfitted net, which is
        trained on the same data first (starting from the weights of
        :class:`GCMAEPretraining`, if that came before). A list is a committee: soft
        labels are the mean of its members' probabilities, the topology is the first
        one's. Unfitted members differ in their random numbers.
        A search is over models (``net.module_``), folders, unfitted nets or whole
        callbacks: scikit-learn clones candidates, and a fitted net's clone is unfitted.
    kd_weight, gtd_weight : float or callable(epoch) -> float
        Weights of the soft labels and of the topology term. The first epoch is 1, as in
        the history.
    lsp_weight, gcrd_weight : float
        Weights of the baselines LSP and G-CRD. LSP compares an electrode's neighbours:
        where few have two (8 electrodes at the default density), ask for a larger one.
    temperature : float
        Of the soft labels.
    kernel, gtd_temperature, eps, form : optional
        See :func:`~braindecode_gcmae.losses.topology_distillation_loss`; ``eps`` is
        larger here, so that a nearly empty denominator does not rule the gradient.
    density, threshold : float, optional
        See :func:`~braindecode_gcmae.graph.topology_pairs`.
    unlabelled : ndarray, Epochs, dataset or list, optional
        High-density windows without labels: each step the student also learns the
        teacher's terms on as many of them as the batch holds, drawn with replacement.
        Of people who are not among those of ``fit``: inside a cross-validation these
        are tested in their turn.
        Soft labels for what the student's electrodes do not show can do harm: compare
        on people held out.
    cross_fit : int
        Folds of people. A teacher that is asked about windows that it was trained on
        says little more than their labels. With ``cross_fit=5`` an unfitted teacher is
        trained five times more, each time without a fifth of the people, and their soft
        labels are those of the one that has not seen them; topology and ``unlabelled``
        windows stay the whole teacher's. Who the people are is told by ``subjects`` of
        a :class:`~braindecode_gcmae.GCMAEClassifier`, by Epochs or data sets.
    seed : int
        Of the draws from ``unlabelled`` and of the folds.

    Attributes
    ----------
    teacher_ : nn.Module
        The frozen teacher of the last fit.
    positive_, negative_ : Tensor of bool, shape (n, n)
        The pairs of the last epoch. How many they are is in the history
        (``gtd_positive``, ``gtd_negative``): between no negative pair and one, the
        ratio's denominator goes from 1 to a small number, and the term jumps.

    Raises
    ------
    ValueError
        If teacher and student do not fit (channels, sampling rate, window length,
        outputs), the teacher has no trained head, or people cannot be left out.

    Examples
    --------
    >>> from braindecode_gcmae import (
    ...     GCMAEClassifier, GCMAEStudent, GCMAETeacher,
    ...     SimulatedEEG, TopologyDistillation,
    ... )
    >>> X, y, _ = SimulatedEEG(n_subjects=2, n_trials=8).windows()
    >>> given = dict(module__sfreq=100, batch_size=8, max_epochs=1, verbose=0)
    >>> teacher = GCMAEClassifier(GCMAETeacher, **given)
    >>> distil = ("distil", TopologyDistillation(teacher))
    >>> GCMAEClassifier(GCMAEStudent, **given, callbacks=[distil]).fit(X, y).classes_
    array([0, 1])

    References
    ----------
    METHOD A.7-A.8, D6-D12, D18; https://arxiv.org/abs/2411.19230. Cross-fitting:
    Dao et al. 2021, https://arxiv.org/abs/2104.09732
    """

    def __init__(
        self,
        teacher,
        kd_weight=1.0,
        gtd_weight=1.0,
        lsp_weight=0.0,
        gcrd_weight=0.0,
        temperature=4.0,
        kernel="cosine",
        gtd_temperature=0.2,
        eps=1e-2,
        form="ratio",
        density=None,
        threshold=None,
        unlabelled=None,
        cross_fit=0,
        seed=0,
    ):
        self.teacher = teacher
        self.kd_weight = kd_weight
        self.gtd_weight = gtd_weight
        self.lsp_weight = lsp_weight
        self.gcrd_weight = gcrd_weight
        self.temperature = temperature
        self.kernel = kernel
        self.gtd_temperature = gtd_temperature
        self.eps = eps
        self.form = form
        self.density = density
        self.threshold = threshold
        self.unlabelled = unlabelled
        self.cross_fit = cross_fit
        self.seed = seed

    @classmethod
    def paper(cls, teacher, **arguments):
        """The paper's setting: weights 1, raw products, no temperature (Eq. 8-11).

        The divergence stays that of teacher and student in this order, as in the
        published code; the order of Eq. 9 is an argument of
        :func:`~braindecode_gcmae.losses.topology_distillation_loss` (``reverse``).
        """
        preset = {"kernel": "linear", "gtd_temperature": 1.0, "eps": 1e-8}
        return cls(teacher, **{**preset, "temperature": 1.0, **arguments})

    looks_at_windows = True  # so that a GCMAEClassifier need not
    cross_: CrossFitted | None = None
    folds_: tuple | None = None  # that cross_ is of
    step_ = 0  # of draws from the unlabelled windows

    # -- before training -------------------------------------------------------
    @property
    def _members(self) -> list:
        """The teacher, and the others of a committee."""
        several = isinstance(self.teacher, list | tuple)
        members = list(self.teacher) if several else [self.teacher]
        if not members:
            raise ValueError("teacher is an empty list: a committee has members")
        return members

    def check(self, net, X=None, y=None) -> None:
        """Refuse settings, data and a teacher that cannot be."""
        super().check(net, X, y)
        check_terms(self)
        student = unwrap(net.module_)
        refuse_other_kind(self._members, net)
        if not is_regression(net):
            # A part of a whole may be of one class; a GCMAEClassifier knows of parts.
            part = len(net.history) or hasattr(net, "fit_metadata_")
            check_targets(net, y, several=not part)
            if self.kd_weight:
                check_softmax(net, student)
        unfitted, fold = [], None
        if getattr(self, "resumed_", None) is None:
            with unmoved_randomness():
                pairs = [(of, given_teacher(of)) for of in self._members]
                models = [m or planned_teacher(of, net, student) for of, m in pairs]
            check_committee(models, student, X)
            kept = self._trained_before(net)
            unfitted = [of for of, m in pairs if m is None and id(of) not in kept]
            done = not self.is_new(net) and self.folds_ == self._folds
            asked = net, None if done else X, y
            fold = check_cross_fit(pairs, *asked, *self._folds[:2])
        stages = self._stages(net)
        if all(stage.is_done(net) for stage in stages):  # or it looks at them itself
            check_seen(X, student)
            if unfitted:
                check_ahead(net, X, y)
        for member in unfitted if fold is None else self._members:
            check_teacher_ahead(member, net, X, y, without=fold)
        self.windows_ = None
        if self.unlabelled is not None:
            self.windows_ = unlabelled_pool(self.unlabelled, student, net, X, y)

    @property
    def _folds(self) -> tuple:
        """What the answers of :func:`cross_fitted` depend on."""
        return self.cross_fit, self.seed, *self._members

    def _trained_before(self, net) -> set[int]:
        """Which members, by identity, were trained for the net's module already."""
        trained = {} if self.is_new(net) else getattr(self, "trained_teachers_", {})
        return {id(member) for member, _ in trained.values()}

    def _stages(self, net) -> list:
        """The pretraining of the same net, which the teacher starts from."""
        names, callbacks = zip(*net.callbacks_, strict=True)
        stages = [c for c in callbacks if isinstance(c, GCMAEPretraining)]
        for stage in stages:
            if callbacks.index(stage) > callbacks.index(self):
                raise ValueError(
                    f"GCMAEPretraining ({names[callbacks.index(stage)]!r}) must come "
                    "before TopologyDistillation in callbacks: the teacher starts from "
                    "it"
                )
        return stages

    def setup(self, net, X, y):
        """Find, check and freeze the teacher; map its electrodes to the student's."""
        student = unwrap(net.module_)
        # The student's training draws the same numbers, whatever the teacher.
        with unmoved_randomness(device_of(net)):
            found = self._find_teachers(net, student, X, y)
        for model in found:
            check_fit(model, student)
            model.to(device_of(net)).eval().requires_grad_(False)
        self.teacher_, *self.others_ = found
        # With positions, too, its nodes are its electrodes in their order (D10).
        self.teacher_.network.selects = True
        kept = kept_rows(self.teacher_, student)
        self.kept_ = torch.tensor(kept, device=device_of(net))
        self.net_, self.teacher_graph_ = net, None
        self.step_ = self.__dict__.pop("resumed_step_", self.step_)
        self.windows_ = getattr(self, "windows_", None)  # of check
        self.answers_ = TeacherAnswers(
            self.teacher_,
            others=self.others_,
            regression=is_regression(net),
            instead=self.cross_ and self.cross_.to(device_of(net)),
        )

    def _find_teachers(self, net, student, X, y) -> list[nn.Module]:
        """Copies of the members, so that the originals stay as they are."""
        anew = self.is_new(net)  # then it learns from a newly trained teacher
        if anew:
            self.trained_teachers_: dict[int, tuple] = {}
            self.folds_, self.step_ = None, 0
        self.note(net, anew=anew)
        resumed = self.__dict__.pop("resumed_", None)
        if resumed is not None:
            models, numbers = resumed
            for number in numbers:  # a later partial_fit has them, too
                self.trained_teachers_[number] = self._members[number], models[number]
            self.folds_ = self._folds
            return copy.deepcopy(models)
        found, trained = [], self.trained_teachers_
        given = [given_teacher(member) for member in self._members]
        # Asked once, before teachers are trained: a split may draw.
        part = training_part(net, X, y) if None in given else None
        for number, member in enumerate(self._members):
            model = given[number]
            if model is None:
                # Once per module: a warm start goes on with the same teacher.
                if number not in trained or trained[number][0] is not member:
                    fitted = trained_teacher(member, net, student, part)
                    model = trained_head(unwrap(fitted.module_), "the teacher")
                    trained[number] = member, model
                _, model = trained[number]
            found.append(copy.deepcopy(model))
        if self.folds_ != self._folds:
            who = self._members, net, student, X, part, *self._folds[:2]
            self.cross_ = cross_fitted(*who) if self.cross_fit else None
            self.folds_ = self._folds
        return found

    # -- while training --------------------------------------------------------
    def on_epoch_begin(self, net, dataset_train=None, **kwargs):
        """Read the two graphs off a fixed sample of the training windows."""
        super().on_epoch_begin(net, **kwargs)
        if dataset_train is None or not len(dataset_train):
            return
        step = max(1, len(dataset_train) // 128)
        probe = Subset(dataset_train, range(0, len(dataset_train), step))
        student = unwrap(net.module_)
        if self.teacher_graph_ is None:
            self.teacher_graph_ = mean_graph(self.teacher_, net, probe)
            self._ask_teacher(net, dataset_train)
        self.student_graph_ = mean_graph(student, net, probe)
        limits = {"density": self.density, "threshold": self.threshold}
        self.positive_, self.negative_ = topology_pairs(
            self.student_graph_, self.teacher_graph_, self.kept_, **limits
        )
        # As long as its graph: to read a graph's median is to wait for a GPU.
        self.student_edges_ = binarise(self.student_graph_, **limits)
        note_pairs(self, net)

    def on_train_end(self, net, X=None, y=None, **kwargs):
        """Take the hooks off, and say if the topology taught nothing all the time."""
        super().on_train_end(net, X, y, **kwargs)
        key = self._key(net, "train", "gtd")
        terms = [row[key] for row in net.history if key in row]
        linked = getattr(self, "positive_", None)  # not if no epoch was left to do
        if terms and not any(terms) and linked is not None and bool(linked.any()):
            warn_silent(len(self.kept_))

    def _ask_teacher(self, net, dataset_train):
        """Once for all epochs, where the answers are few enough to be kept."""
        n_seen = net.max_epochs * len(dataset_train)
        if self.answers_.pays(len(dataset_train), n_seen):
            self.answers_.learn(inputs_of(net, dataset_train))
        if self.windows_ is None or not self.answers_.pays(len(self.windows_), n_seen):
            return
        order = torch.arange(len(self.windows_)).split(64)
        self.answers_.learn(self._unlabelled(rows.tolist()) for rows in order)

    def _unlabelled(self, rows: list[int]) -> dict:
        """Some of the unlabelled windows as inputs of ``forward``."""
        batch, _ = collate_windows([self.windows_[i] for i in rows])
        batch = to_device(batch, device_of(self.net_))
        return {k: batch[k] for k in INPUTS if k in batch}

    def compute(self, inputs, nodes, electrodes, y_pred, training):
        """KD, GTD and, where weighted, LSP and G-CRD of a batch."""
        terms = self._terms(inputs, nodes, electrodes, y_pred)
        if training and self.windows_ is not None:
            extra = self._unlabelled_terms(len(y_pred))
            terms.update({f"{name}_unlabelled": t for name, t in extra.items()})
        return terms

    def _unlabelled_terms(self, n: int) -> dict:
        """The same terms on windows without labels, drawn by seed and step."""
        slots = self.step_ * n + torch.arange(n)
        self.step_ += 1
        draw = counter_uniform(self.seed, 0, slots, 1 << 21, ()).double()
        index = (draw * len(self.windows_)).long().tolist()
        inputs = self._unlabelled(index)
        with self._heard_alone():
            y_pred = self.net_.module_(**inputs)  # the hooks catch its nodes
        return self._terms(inputs, *self.nodes_, y_pred)

    def _terms(self, inputs, nodes, electrodes, y_pred) -> dict:
        student = unwrap(self.net_.module_).network
        refuse_unordered(student, inputs)
        logits, teacher_nodes = self.answers_(inputs)
        pair, shared = (nodes, teacher_nodes), {"present": electrodes.present}
        losses = {
            "kd": lambda: self._soft_labels(y_pred, logits),
            "gtd": lambda: self._topology(*pair, **shared),
            "lsp": lambda: local_structure_loss(
                *pair, self.student_edges_, self.kept_, **shared
            ),
            "gcrd": lambda: graph_contrastive_loss(*pair, self.kept_, **shared),
        }
        weights = self._weights()
        return {n: (weights[n], loss()) for n, loss in losses.items() if weights[n]}

    def _weights(self) -> dict[str, float]:
        """Weight of each term in this epoch."""
        epoch, given = len(self.net_.history), self.weights_given()
        return {n: w(epoch) if callable(w) else w for n, w in given.items()}

    def weights_given(self) -> dict:
        """Weight of each term, as a number or a function of the epoch."""
        return {n: getattr(self, f"{n}_weight") for n in ("kd", "gtd", "lsp", "gcrd")}

    def _topology(self, nodes, teacher_nodes, **shared):
        return topology_distillation_loss(
            nodes,
            teacher_nodes,
            self.positive_,
            self.negative_,
            self.kept_,
            kernel=self.kernel,
            temperature=self.gtd_temperature,
            eps=self.eps,
            form=self.form,
            **shared,
        )

    def _soft_labels(self, y_pred, logits):
        if is_regression(self.net_):
            return nn.functional.mse_loss(y_pred, logits)
        return logit_distillation_loss(y_pred, logits, temperature=self.temperature)

    # -- resuming --------------------------------------------------------------
    def resume_state(self) -> dict:
        """For :class:`ResumableCheckpoint`: the teacher, and how far the order went."""
        if getattr(self, "teacher_", None) is None:
            return {}
        return {
            "step": self.step_,
            **model_state(self.teacher_),
            "others": [model_state(model) for model in self.others_],
            "trained": list(self.trained_teachers_),
            "cross": self.cross_ and {**vars(self.cross_)},
        }

    def resume_from(self, state: dict) -> None:
        """Take the teacher as it was: one trained on the fold is not trained again."""
        if not state:
            return
        states = [state, *state.get("others", ())]
        models = [rebuild_model(one, self._members) for one in states]
        self.resumed_ = models, state.get("trained", ())  # not in old files
        self.resumed_step_, cross = state["step"], state.get("cross")
        self.cross_ = cross and CrossFitted(**cross)

    def _detach(self):
        super()._detach()
        self.net_ = None

    def __getstate__(self):
        # A teacher that was handed over is the user's to keep: a pickled student stays
        # small. One that was trained here goes with it, so that training can go on.
        state = super().__getstate__()
        gone = dict.fromkeys(("teacher_", "windows_", "net_", "answers_"))
        return {**state, **gone, "others_": []}

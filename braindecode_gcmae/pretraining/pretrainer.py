"""GCMAEPretrainer: joint pretraining as a skorch net and sklearn transformer."""

import copy

import torch
from skorch import NeuralNet
from torch import nn
from torch.utils.data import Subset

from ..masking import own_randomness
from ..models import GCMAEStudent, GCMAETeacher, JointPretraining
from ..warning import warn
from .arranged import arranged, check_rate
from .data import CounterShuffle, UnlabelledWindows, collate_windows
from .inputs import (
    check_pair,
    check_seen,
    check_settings,
    paper_arguments,
    refuse_ignored,
    signal_of,
    signal_of_model,
)
from .loss import TERMS, PretrainingLoss
from .people import People, people_for_split
from .processes import mean_over_processes, n_processes, process_index
from .registered import registered
from .use import PretrainedModels

__all__ = ["GCMAEPretrainer"]

_OBJECTIVES = ("joint", "contrast", "reconstruction", "sequential")
_OF_MODULE = {
    *("teacher", "student", "electrodes", "objective", "projection_dim", "queue_size"),
    *("momentum", "temperature", "drop_nodes", "drop_edges", "noise"),
    *("reconstruction", "seed"),
}


class GCMAEPretrainer(PretrainedModels, NeuralNet):
    """Pretrain a teacher and a student together, without labels.

    Masked reconstruction and contrast on the same electrode graphs (METHOD A.5), with
    one key queue for both densities. A skorch net: history, callbacks, devices and
    checkpoints are skorch's. A scikit-learn transformer: ``transform`` gives the
    student's embeddings.

    Parameters
    ----------
    teacher, student : class, registered name or instance of a model, or None
        ``GCMAETeacher`` sees all channels, ``GCMAEStudent`` the ``electrodes``; None
        pretrains one density alone. Their arguments: ``teacher__depth=4``.
    electrodes : list of str, optional
        The student's electrodes. Default: all.
    chs_info, ch_names, sfreq : optional
        Channels and sampling rate (Hz) of the windows; default from the data.
    objective : {"joint", "contrast", "reconstruction", "sequential"}
        "sequential" contrasts in the first half of ``max_epochs`` epochs, then
        reconstructs; ``partial_fit`` goes on with the latter.
    projection_dim, queue_size, momentum, temperature, drop_nodes, drop_edges, noise
        See :class:`~braindecode_gcmae.models.JointPretraining`.
    reconstruction : dict, optional
        Arguments of :func:`~braindecode_gcmae.losses.reconstruction_loss`.
    seed : int
        Of initial weights, order of the windows, masks and noise.
    precision : {"float32", "bfloat16"}
        Of the matrix products in training (autocast); weights, features, losses and
        everything after training stay float32. On processors with bfloat16
        instructions a step takes about a quarter less time.
    **kwargs
        Everything that :class:`skorch.NeuralNet` takes (``optimizer``, ``lr``,
        ``max_epochs``, ``batch_size``, ``device``, ``callbacks`` ...).

    Attributes
    ----------
    teacher_, student_ : model
        The pretrained models.
    history : skorch.History
        With ``rec_teacher, rec_student, contrast_teacher, contrast_student``. The
        contrast is 0 in the first step, without negatives, and rises while the queue
        fills with them.

    References
    ----------
    Wei et al. (2025), https://arxiv.org/abs/2411.19230; METHOD D1-D5, D13, D17.

    Examples
    --------
    >>> from braindecode_gcmae import GCMAEPretrainer, SimulatedEEG
    >>> people = SimulatedEEG(["C3", "Cz", "C4"], n_subjects=2, n_trials=8, sfreq=100)
    >>> X, _, subject = people.windows()
    >>> pretrainer = GCMAEPretrainer(
    ...     electrodes=["C3", "C4"], chs_info=people.chs_info, sfreq=100, max_epochs=1,
    ...     batch_size=8, verbose=0)
    >>> pretrainer.fit(X, groups=subject).transform(X).shape[0]
    16
    """

    prefixes_ = [*NeuralNet.prefixes_, "teacher", "student"]

    def __init__(
        self,
        teacher=GCMAETeacher,
        student=GCMAEStudent,
        electrodes=None,
        chs_info=None,
        ch_names=None,
        sfreq=None,
        objective="joint",
        projection_dim=128,
        queue_size=4096,
        momentum=0.999,
        temperature=0.07,
        drop_nodes=0.5,
        drop_edges=0.5,
        noise=0.0,
        reconstruction=None,
        seed=0,
        precision="float32",
        module=JointPretraining,
        criterion=PretrainingLoss,
        optimizer=torch.optim.AdamW,
        lr=1e-3,
        max_epochs=200,
        batch_size=128,
        train_split=None,
        **kwargs,
    ):
        self.teacher = teacher
        self.student = student
        self.electrodes = electrodes
        self.chs_info = chs_info
        self.ch_names = ch_names
        self.sfreq = sfreq
        self.objective = objective
        self.projection_dim = projection_dim
        self.queue_size = queue_size
        self.momentum = momentum
        self.temperature = temperature
        self.drop_nodes = drop_nodes
        self.drop_edges = drop_edges
        self.noise = noise
        self.reconstruction = reconstruction
        self.seed = seed
        self.precision = precision
        super().__init__(
            module,
            criterion,
            optimizer=optimizer,
            lr=lr,
            max_epochs=max_epochs,
            batch_size=batch_size,
            train_split=train_split,
            **kwargs,
        )

    @classmethod
    def paper(cls, **arguments):
        """The paper's setting, corrected where it is undefined.

        Large graph transformer and tiny DGCNN on alpha-band spectra, mean squared
        error of all nodes and raw Gram matrices (Eq. 2), original edges
        in the masked graph, Adam, batch 128, 200 epochs. Temperature and queue are not
        in the paper: MoCo's stay. So does the positive in the denominator of the
        contrast, which Eq. 5 as it is printed leaves out.
        """
        preset = {
            "teacher": GCMAETeacher,
            "student": GCMAEStudent,
            "optimizer": torch.optim.Adam,
            "reconstruction": {
                "form": "mse",
                "structure_form": "gram",
                "masked": None,
            },
            "module__masked_edges": "original",
            **paper_arguments(GCMAETeacher, "teacher"),
            **paper_arguments(GCMAEStudent, "student"),
        }
        return cls(**{**preset, **arguments})

    def set_params(self, **kwargs):
        """Set arguments; what the module is built of, like ``module__``'s, anew."""
        models = {k for k in kwargs if k.startswith(("teacher__", "student__"))}
        anew = bool(models or _OF_MODULE & kwargs.keys())
        for name in models:
            setattr(self, name, kwargs.pop(name))
        super().set_params(**kwargs)
        if anew and self.initialized_:
            self.initialize()
        return self

    # -- what is pretrained ------------------------------------------------
    def _model(self, name: str, signal: dict) -> nn.Module | None:
        model = registered(getattr(self, name))
        if model is None or isinstance(model, nn.Module):
            return copy.deepcopy(model)  # constructor arguments are never trained
        arguments = {**signal, **self.get_params_for(name)}
        if name == "student" and self.electrodes is not None:
            arguments.setdefault("electrodes", self.electrodes)
        return model(**arguments)

    def initialize_module(self):
        """Build teacher, student and all that pretraining adds to them."""
        if not hasattr(self, "signal_"):
            raise RuntimeError(
                "the shape of the windows is not known before fit: call fit, or "
                "load_pretrained"
            )
        if self.objective not in _OBJECTIVES:
            raise ValueError(
                f"objective must be one of {_OBJECTIVES}, got {self.objective!r}"
            )
        check_settings(self)
        with own_randomness(self.seed):
            models = {n: self._model(n, self.signal_) for n in ("teacher", "student")}
            check_pair(**models)
            module = self.initialized_instance(
                self.module,
                {
                    **models,
                    "contrast": self.objective != "reconstruction",
                    "reconstruct": self.objective != "contrast",
                    "projection_dim": self.projection_dim,
                    "queue_size": self.queue_size,
                    "momentum": self.momentum,
                    "temperature": self.temperature,
                    "drop_nodes": self.drop_nodes,
                    "drop_edges": self.drop_edges,
                    "noise": self.noise,
                    "reconstruction": self.reconstruction,
                    "seed": self.seed,
                    **self.get_params_for("module"),
                },
            )
        self.module_ = module
        self.people_ = People()  # the queue is empty
        return self

    def initialize_criterion(self):
        """Build the criterion, and keep accelerate from wrapping it."""
        super().initialize_criterion()
        criterion = self.criterion_
        if isinstance(criterion, nn.Module) and not list(criterion.parameters()):
            # DistributedDataParallel refuses what has nothing to learn.
            criterion._is_accelerate_prepared = True
        return self

    # -- training ------------------------------------------------------------
    def fit(self, X, y=None, *, groups=None):
        """Pretrain from scratch.

        Parameters
        ----------
        X : ndarray (n, n_chans, n_times) in µV, mne.Epochs, dataset, or list of these
            Unlabelled high-density windows.
        y : ignored
        groups : array (n,), optional
            Subject of each window: keys of the same subject are not negatives.
            Default from Epochs' metadata or the data set's descriptions.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If a model sees none of its electrodes in any window.

        Warns
        -----
        UserWarning
            If some windows have none of a model's electrodes.
        """
        windows = self._windows(X, y, groups)
        if not self.warm_start or not self.initialized_:
            self._build_for(windows)
        return super().partial_fit(self._ready(windows))

    def partial_fit(self, X, y=None, classes=None, *, groups=None):
        """Go on pretraining, with the weights, queue and epoch as they are.

        The same id in ``groups`` is the same subject as in earlier calls.
        ``classes`` is there for skorch and scikit-learn, and ignored.
        """
        windows = self._windows(X, y, groups)
        if not self.initialized_:
            self._build_for(windows)
        return super().partial_fit(self._ready(windows))

    def _build_for(self, windows: UnlabelledWindows) -> None:
        """Initialise the models for the signal of these windows, or as they are."""
        refuse_ignored(self)
        ready = [m for m in (self.teacher, self.student) if isinstance(m, nn.Module)]
        if ready:
            check_rate(windows, ready[0].sfreq)
            self.signal_ = signal_of_model(ready[0])
        else:
            self.signal_ = signal_of(windows, self.sfreq, self.chs_info, self.ch_names)
        self.initialize()

    def _ready(self, windows: UnlabelledWindows) -> UnlabelledWindows:
        """The windows as this net's modules take them, its people among them."""
        windows = self._arranged(windows)
        check_seen(self.joint_.branches, windows)
        return self.people_.numbered(windows, tell=self.objective != "reconstruction")

    def _arranged(self, windows: UnlabelledWindows) -> UnlabelledWindows:
        """The windows in the order of the models' channels, at their rate."""
        # As they were built: later windows may come in another order.
        model = next(iter(self.joint_.branches.values())).model
        check_rate(windows, model.sfreq)
        return arranged(windows, model.input_channels())

    def _windows(self, x, y, groups) -> UnlabelledWindows:
        if y is not None:
            warn("pretraining uses no labels: y is ignored")
        ready = groups is None and isinstance(x, UnlabelledWindows)
        windows = x if ready else UnlabelledWindows(x, groups)
        if (windows.groups < 0).any() and self.objective != "reconstruction":
            warn(
                "some windows have no subject id: keys of the same person may count "
                "as negatives (pass groups= to fit, subjects= to that of a "
                "GCMAEClassifier, or metadata with 'subject')"
            )
        return windows

    def get_split_datasets(self, X, y=None, **fit_params):
        """Split off windows to validate on; a predefined split may hold any windows."""
        people = people_for_split(self.train_split, X.ids)
        if people is not None:
            fit_params["groups"] = people
        train, valid = super().get_split_datasets(X, y, **fit_params)
        split_off = isinstance(valid, Subset) and valid.dataset is X
        if valid is not None and not split_off:
            valid = self.people_.compared(self._arranged(UnlabelledWindows(valid)))
        return train, valid

    def get_iterator(self, dataset, training=False):
        """Loader of the windows; in training in an order set by seed and epoch."""
        name = "iterator_train" if training else "iterator_valid"
        arguments = {**self.get_params_for(name)}
        arguments.setdefault("collate_fn", collate_windows)
        arguments.setdefault("batch_size", self.batch_size)
        if arguments["batch_size"] == -1:  # skorch's word for all of them
            arguments["batch_size"] = len(dataset)
        if not training:
            return self.iterator_valid(dataset, **arguments)
        step = arguments["batch_size"] * n_processes(self)
        arguments.setdefault("drop_last", len(dataset) >= step)
        for name in ("sampler", "batch_sampler"):
            if arguments.get(name) is not None:
                raise ValueError(
                    f"iterator_train__{name} would be ignored: seed and epoch set the "
                    "order of the windows, so that a run can be resumed. Choose the "
                    "windows that are passed to fit"
                )
        arguments.pop("shuffle", None)
        arguments["sampler"] = CounterShuffle(
            len(dataset),
            self.seed,
            self._epoch,
            lambda: self.seen_,
        )
        return self.iterator_train(dataset, **arguments)

    def _epoch(self) -> int:
        return max(len(self.history) - 1, 0)

    def on_epoch_begin(self, net, dataset_train=None, dataset_valid=None, **kwargs):
        """Tell the module which epoch this is, and which objective is on."""
        super().on_epoch_begin(net, dataset_train, dataset_valid, **kwargs)
        self.joint_.epoch = self._epoch()
        self.terms_: list[dict] = []
        self.position_ = self.seen_ = 0  # steps of this epoch, and their windows
        self.choose_objective()

    def choose_objective(self) -> None:
        """Switch the objectives on that belong to this epoch."""
        joint = self.joint_
        if self.objective == "sequential":
            second = joint.epoch >= (self.max_epochs + 1) // 2
            joint.contrast, joint.reconstruct = not second, second

    def infer(self, x, **fit_params):
        """Forward pass; of a training step in the precision asked for."""
        if self.precision == "float32" or not self.module_.training:
            return super().infer(x, **fit_params)
        with torch.autocast(self.device_of_models().type, torch.bfloat16):
            return super().infer(x, **fit_params)

    def train_step(self, batch, **fit_params):
        """One optimiser step, then the key encoders and the queue."""
        # Dropout included, a step depends on the seed and its number alone.
        key = [self.seed, self._epoch(), self.position_]
        if process_index(self):  # its windows are others
            key.append(process_index(self))
        with own_randomness(*key, device=self.device_of_models()):
            step = super().train_step(batch, **fit_params)
        output = step["y_pred"]
        self.joint_.momentum_step(output.get("keys"), output.get("groups"))
        # Stay on the device: reading a value here would stall the GPU.
        names = [name for name in TERMS if name in output]
        values = torch.stack([step["loss"], *(output[name] for name in names)])
        values = mean_over_processes(self, values.detach())
        step["loss"] = values[0]
        self.terms_.append(dict(zip(names, values[1:], strict=True)))
        self.position_ += 1
        self.seen_ += len(batch[0]["index"]) * n_processes(self)
        return step

    def validation_step(self, batch, **fit_params):
        """Loss of a validation batch, the same in all processes: they stop by it."""
        step = super().validation_step(batch, **fit_params)
        step["loss"] = mean_over_processes(self, step["loss"].detach())
        return step

    def resume_state(self) -> dict:
        """Where inside the epoch training is, and the terms of its steps so far."""
        names = list(self.terms_[0]) if self.terms_ else []
        terms = {n: torch.stack([t[n] for t in self.terms_]).cpu() for n in names}
        place = {"step": self.position_, "seen": self.seen_, "terms": terms}
        return {**place, "people": self.people_.state()}

    def resume_from(self, state: dict) -> None:
        """Go on inside an epoch: the order of the windows is known without a replay."""
        self.position_, self.seen_ = int(state["step"]), int(state["seen"])
        if "people" in state:  # not in old files
            self.people_.translate(self.joint_.queue.groups, state["people"])
        device = self.device_of_models()
        columns = {n: v.to(device) for n, v in state["terms"].items()}
        steps = len(next(iter(columns.values()), ()))
        self.terms_ = [{n: v[i] for n, v in columns.items()} for i in range(steps)]

    def notify(self, method_name, **cb_kwargs):
        """Record the terms before any callback reads the history."""
        if method_name == "on_epoch_end" and self.terms_:
            for name in self.terms_[0]:
                values = torch.stack([terms[name] for terms in self.terms_])
                self.history.record(name, float(values.mean()))
        return super().notify(method_name, **cb_kwargs)

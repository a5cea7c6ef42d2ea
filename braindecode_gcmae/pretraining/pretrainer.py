"""GCMAEPretrainer: joint pretraining as a skorch net and sklearn transformer."""

import copy
import warnings
from pathlib import Path

import numpy as np
import torch
from sklearn.base import TransformerMixin
from skorch import NeuralNet
from skorch.utils import to_device
from torch import nn

from ..masking import own_randomness
from ..models import (
    CheckpointError,
    GCMAEStudent,
    GCMAETeacher,
    JointPretraining,
)
from ..models.network import FlattenReadout
from ..montage import match_electrodes
from .data import CounterShuffle, UnlabelledWindows, collate_windows
from .results import Reconstruction

__all__ = ["GCMAEPretrainer", "PretrainingLoss"]

_OBJECTIVES = ("joint", "contrast", "reconstruction", "sequential")
_TERMS = ("rec_teacher", "rec_student", "contrast_teacher", "contrast_student")


class PretrainingLoss(nn.Module):
    """Weighted sum of the loss terms (Eq. 6-7; the paper's weights are all 1).

    Parameters
    ----------
    reconstruction_weight, contrast_weight : float
    """

    def __init__(
        self, reconstruction_weight: float = 1.0, contrast_weight: float = 1.0
    ):
        super().__init__()
        self.weights = {"rec": reconstruction_weight, "contrast": contrast_weight}

    def forward(self, output: dict, target: torch.Tensor) -> torch.Tensor:
        """Scalar loss of the terms that :class:`JointPretraining` returns."""
        terms = [
            self.weights[name.split("_")[0]] * output[name]
            for name in _TERMS
            if name in output
        ]
        return torch.stack(terms).sum()


class GCMAEPretrainer(TransformerMixin, NeuralNet):
    """Pretrain a teacher and a student together, without labels.

    Masked reconstruction and contrast on the same electrode graphs (METHOD A.5), with
    one key queue for both densities. A skorch net: history, callbacks, devices and
    checkpoints are skorch's. A scikit-learn transformer: ``transform`` gives the
    student's embeddings.

    Parameters
    ----------
    teacher, student : class or instance of a model, or None
        ``GCMAETeacher`` sees all channels, ``GCMAEStudent`` the ``electrodes``; None
        pretrains one density alone. Their arguments: ``teacher__depth=4``.
    electrodes : list of str, optional
        The student's electrodes. Default: all.
    chs_info, ch_names, sfreq : optional
        Channels and sampling rate (Hz) of the windows; default from the data.
    objective : {"joint", "contrast", "reconstruction", "sequential"}
        "sequential" contrasts in the first half of the epochs, then reconstructs.
    projection_dim, queue_size, momentum, temperature, drop_nodes, drop_edges, noise
        See :class:`~braindecode_gcmae.models.JointPretraining`.
    reconstruction : dict, optional
        Arguments of :func:`~braindecode_gcmae.losses.reconstruction_loss`.
    seed : int
        Of initial weights, order of the windows, masks and noise.
    **kwargs
        Everything that :class:`skorch.NeuralNet` takes (``optimizer``, ``lr``,
        ``max_epochs``, ``batch_size``, ``device``, ``callbacks`` ...).

    Attributes
    ----------
    teacher_, student_ : model
        The pretrained models.
    history : skorch.History
        With ``rec_teacher, rec_student, contrast_teacher, contrast_student``.

    References
    ----------
    Wei et al. (2025), https://arxiv.org/abs/2411.19230; METHOD D1-D5, D13, D17.
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
        """The paper's setting to the letter, corrected only where undefined.

        Large graph transformer and tiny DGCNN on alpha-band spectra, mean squared
        error over all nodes and raw Gram matrices (Eq. 2), batch 128, 200 epochs.
        Temperature and queue are not in the paper: MoCo's stay.
        """
        preset = {
            "teacher": GCMAETeacher,
            "student": GCMAEStudent,
            "optimizer": torch.optim.Adam,
            "reconstruction": {"form": "mse", "structure_form": "gram"},
            **_paper_arguments(GCMAETeacher, "teacher"),
            **_paper_arguments(GCMAEStudent, "student"),
        }
        return cls(**{**preset, **arguments})

    # -- what is pretrained ------------------------------------------------
    def _signal(self, windows: UnlabelledWindows) -> dict:
        """Channels, rate and length of the windows, checked against the arguments."""
        signal = {"n_times": windows.n_times, "sfreq": self.sfreq or windows.sfreq}
        if signal["sfreq"] is None:
            raise ValueError("sfreq is not known from the data: pass sfreq= in Hz")
        if windows.sfreq is not None and not np.isclose(windows.sfreq, signal["sfreq"]):
            raise ValueError(
                f"the windows have {windows.sfreq:g} Hz, sfreq={self.sfreq:g} was given"
            )
        if self.chs_info is not None:
            signal["chs_info"] = self.chs_info
        elif self.ch_names is not None:
            signal["ch_names"] = self.ch_names
        elif windows.channels is not None:
            signal["chs_info"] = windows.channels
        elif windows.mixed:
            raise ValueError(
                "recordings with different montages: pass chs_info= or ch_names= of "
                "the electrodes the models are to be built for"
            )
        else:
            signal["n_chans"] = windows.n_chans
        named = signal.get("chs_info", signal.get("ch_names"))
        if not windows.mixed and named is not None and len(named) != windows.n_chans:
            raise ValueError(
                f"the windows have {windows.n_chans} channels, chs_info / ch_names "
                f"name {len(named)}"
            )
        return signal

    def _model(self, name: str, signal: dict) -> nn.Module | None:
        model = getattr(self, name)
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
        with own_randomness(self.seed):
            models = {n: self._model(n, self.signal_) for n in ("teacher", "student")}
            _check_pair(**models)
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
        return self

    @property
    def joint_(self) -> JointPretraining:
        """The module that holds both branches and the queue."""
        module = self.module_
        for wrapper in ("module", "_orig_mod"):  # DDP, torch.compile
            module = getattr(module, wrapper, module)
        return module

    @property
    def student_(self):
        """The student as it is now."""
        return self._branch("student").model

    @property
    def teacher_(self):
        """The teacher as it is now."""
        return self._branch("teacher").model

    def _branch(self, name: str):
        self.check_is_fitted(["module_"])
        branches = self.joint_.branches
        if name not in branches:
            raise ValueError(f"this pretrainer was made without a {name}")
        return branches[name]

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
        """
        windows = self._windows(X, y, groups)
        self.signal_ = self._signal(windows)
        if not self.warm_start or not self.initialized_:
            self.initialize()
        return super().partial_fit(windows)

    def partial_fit(self, X, y=None, *, groups=None):
        """Go on pretraining, with the weights, queue and epoch as they are."""
        windows = self._windows(X, y, groups)
        if not self.initialized_:
            self.signal_ = self._signal(windows)
        return super().partial_fit(windows)

    def _windows(self, x, y, groups) -> UnlabelledWindows:
        if y is not None:
            warnings.warn(
                "pretraining uses no labels: y is ignored", UserWarning, stacklevel=3
            )
        windows = x if isinstance(x, UnlabelledWindows) else UnlabelledWindows(x, groups)
        if (windows.groups < 0).any() and self.objective != "reconstruction":
            warnings.warn(
                "some windows have no subject id: keys of the same person may count "
                "as negatives (pass groups=, or metadata with 'subject')",
                UserWarning,
                stacklevel=3,
            )
        return windows

    def get_iterator(self, dataset, training=False):
        """Loader of the windows; in training in an order set by seed and epoch."""
        if not training:
            return super().get_iterator(dataset, training=False)
        arguments = {**self.get_params_for("iterator_train")}
        arguments.setdefault("collate_fn", collate_windows)
        arguments.setdefault("batch_size", self.batch_size)
        arguments.setdefault("drop_last", len(dataset) >= arguments["batch_size"])
        arguments.pop("shuffle", None)
        arguments["sampler"] = CounterShuffle(
            len(dataset),
            self.seed,
            self._epoch,
            lambda: self.position_ * arguments["batch_size"],
        )
        return self.iterator_train(dataset, **arguments)

    def _epoch(self) -> int:
        return max(len(self.history) - 1, 0)

    def on_epoch_begin(self, net, dataset_train=None, dataset_valid=None, **kwargs):
        """Tell the module which epoch this is, and which objective is on."""
        super().on_epoch_begin(net, dataset_train, dataset_valid, **kwargs)
        joint = self.joint_
        joint.epoch = self._epoch()
        self.terms_: list[dict] = []
        self.position_ = 0  # steps done in this epoch
        if self.objective == "sequential":
            second = joint.epoch >= self.max_epochs // 2
            joint.contrast, joint.reconstruct = not second, second

    def train_step(self, batch, **fit_params):
        """One optimiser step, then the key encoders and the queue."""
        # Dropout included, a step depends on the seed and its number alone.
        key = (self.seed, self._epoch(), self.position_)
        with own_randomness(*key, device=self.device):
            step = super().train_step(batch, **fit_params)
        output = step["y_pred"]
        self.joint_.momentum_step(output.get("keys"), output.get("groups"))
        # Stay on the device: reading a value here would stall the GPU.
        self.terms_.append({k: output[k].detach() for k in _TERMS if k in output})
        self.position_ += 1
        return step

    def resume_state(self) -> dict:
        """Where inside the epoch training is, and the terms of its steps so far."""
        names = list(self.terms_[0]) if self.terms_ else []
        terms = {n: torch.stack([t[n] for t in self.terms_]).cpu() for n in names}
        return {"step": self.position_, "terms": terms}

    def resume_from(self, state: dict) -> None:
        """Go on inside an epoch: the order of the windows is known without a replay."""
        self.position_ = int(state["step"])
        columns = {n: v.to(self.device) for n, v in state["terms"].items()}
        steps = len(next(iter(columns.values()), ()))
        self.terms_ = [{n: v[i] for n, v in columns.items()} for i in range(steps)]

    def notify(self, method_name, **cb_kwargs):
        """Record the terms before any callback reads the history."""
        if method_name == "on_epoch_end" and self.terms_:
            for name in self.terms_[0]:
                values = torch.stack([terms[name] for terms in self.terms_])
                self.history.record(name, float(values.mean()))
        return super().notify(method_name, **cb_kwargs)

    # -- use -----------------------------------------------------------------
    def embed_subset(self, windows, rows) -> np.ndarray:
        """Student embeddings (first branch if there is none) of some windows."""
        name = "student" if "student" in self.joint_.branches else "teacher"
        return self._embed(name, torch.utils.data.Subset(windows, list(rows)))

    @torch.no_grad()
    def _embed(self, name: str, x) -> np.ndarray:
        network = self._branch(name).model.network
        was_training = network.training
        network.eval()
        try:
            parts = [
                network(batch["x"], batch.get("pos"), batch.get("ch_mask")).cpu()
                for batch in self._batches(x)
            ]
        finally:
            network.train(was_training)
        return torch.cat(parts).numpy()

    def _batches(self, x):
        ready = isinstance(x, UnlabelledWindows | torch.utils.data.Subset)
        windows = x if ready else UnlabelledWindows(x)
        loader = torch.utils.data.DataLoader(
            windows, batch_size=self.batch_size, collate_fn=collate_windows
        )
        for batch, _ in loader:
            yield to_device(batch, self.device)

    def transform(self, X):
        """Student embeddings of HD or LD windows, (n, d)."""
        return self._embed("student", X)

    def transform_teacher(self, X):
        """Teacher embeddings of HD windows, (n, d)."""
        return self._embed("teacher", X)

    @torch.no_grad()
    def reconstruct(self, X, masked, density="teacher") -> Reconstruction:
        """In-paint masked electrodes from the others.

        Parameters
        ----------
        X : as in ``fit``
        masked : list of str or of int
            Electrodes to hide, by name (or by row where there are no names).
        density : {"teacher", "student"}

        Returns
        -------
        Reconstruction
            Standardised node features before and after.
        """
        branch = self._branch(density)
        network = branch.model.network
        rows = _masked_rows(branch.model, masked)
        hidden = torch.zeros(network.n_nodes, dtype=torch.bool, device=self.device)
        hidden[rows] = True
        self.joint_.eval()
        targets, rebuilt = [], []
        for batch in self._batches(X):
            where = (batch["x"], batch.get("pos"), batch.get("ch_mask"))
            observed, target, adjacency, electrodes = network.graph_of(*where)
            seen = electrodes._replace(present=electrodes.present & ~hidden)
            features = network.describe(observed, seen)
            nodes = network.encode(features, adjacency, seen)
            output = branch.decoder(nodes, adjacency, electrodes.exists)
            targets.append(target.cpu())
            rebuilt.append(output.cpu())
        return Reconstruction(
            torch.cat(targets).numpy(),
            torch.cat(rebuilt).numpy(),
            hidden.cpu().numpy(),
            network.positions.cpu().numpy(),
        )

    # -- checkpoints ---------------------------------------------------------
    def save_pretrained(self, folder):
        """Write ``folder/teacher`` and ``folder/student``: config.json, safetensors.

        Decoder, projection heads and queue are not part of the models.
        """
        for name, branch in self.joint_.branches.items():
            branch.model.save_pretrained(Path(folder) / name)

    def load_pretrained(self, folder):
        """Replace the models' weights by those of ``save_pretrained``.

        Raises
        ------
        CheckpointError
            If neither a teacher nor a student is found in the folder, or a file is
            damaged or of another model.
        """
        loaded = {}
        for name, default in (("teacher", GCMAETeacher), ("student", GCMAEStudent)):
            model = getattr(self, name)
            if model is None or not (Path(folder) / name).is_dir():
                continue
            cls = type(model) if isinstance(model, nn.Module) else (model or default)
            loaded[name] = cls.from_pretrained(Path(folder) / name)
        if not loaded:
            raise CheckpointError(f"neither {folder}/teacher nor {folder}/student")
        first = next(iter(loaded.values()))
        if not hasattr(self, "signal_"):
            self.signal_ = {"n_times": first.n_times, "sfreq": first.sfreq}
        saved = self.teacher, self.student
        self.teacher, self.student = loaded.get("teacher"), loaded.get("student")
        try:
            self.initialize()
        finally:
            self.teacher, self.student = saved
        return self


def _paper_arguments(cls, name: str) -> dict:
    return {f"{name}__{key}": value for key, value in cls.paper_arguments().items()}


def _check_pair(teacher, student) -> None:
    """Refuse a student with electrodes that the teacher does not have."""
    if teacher is None or student is None:
        return
    t, s = teacher.network, student.network
    if t.n_chans != s.n_chans:
        raise ValueError(
            f"teacher and student see the same windows, but expect {t.n_chans} and "
            f"{s.n_chans} channels"
        )
    readouts = (t.readout, s.readout)
    if any(isinstance(r, FlattenReadout) for r in readouts) and t.n_nodes < s.n_nodes:
        raise ValueError("the student has more electrodes than the teacher")


def _masked_rows(model, masked) -> list[int]:
    """Rows of the nodes to hide."""
    if all(isinstance(m, int | np.integer) for m in masked):
        return [int(m) for m in masked]
    return match_electrodes(list(masked), model.node_channels())

"""What a pretrainer is good for: embeddings, in-painting, checkpoints."""

from pathlib import Path

import numpy as np
import torch
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from skorch.utils import to_device
from torch import nn

from ..features.look import same_rate
from ..models import CheckpointError, JointPretraining
from ..models.checkpoint import read_checkpoint
from ..models.hub import FIGURE, draw_model, locate_part, publish
from ..models.own import classes_within, own_parts
from ..models.wrapped import evaluating, unwrap
from ..warning import warn
from .arranged import for_model
from .data import UnlabelledWindows, collate_windows
from .inputs import nodes_to_mask, signal_of_model
from .registered import registered
from .results import Reconstruction, run_card, run_metrics

__all__ = ["PretrainedModels"]


class PretrainedModels(ClassNamePrefixFeaturesOutMixin, TransformerMixin):
    """The part of :class:`GCMAEPretrainer` that uses its models."""

    @property
    def _n_features_out(self) -> int:
        """Width of the embeddings, for scikit-learn's names of columns."""
        return self._branch("student").model.network.n_outputs

    @property
    def joint_(self) -> JointPretraining:
        """The module that holds both branches and the queue."""
        self.check_is_fitted(["module_"])
        return unwrap(self.module_)

    @property
    def student_(self):
        """The student as it is now."""
        return self._branch("student").model

    @property
    def teacher_(self):
        """The teacher as it is now."""
        return self._branch("teacher").model

    def device_of_models(self) -> torch.device:
        """Where the models are; ``device`` is None under accelerate."""
        return next(self.joint_.parameters()).device

    def _branch(self, name: str):
        branches = self.joint_.branches
        if name not in branches:
            raise ValueError(f"this pretrainer was made without a {name}")
        return branches[name]

    def pooled_nodes(self, windows, rows) -> np.ndarray:
        """Pooled node embeddings of some windows, without the second moments.

        Of the student, or of the first branch if there is none. No objective reaches
        the second moments: they stay spread out while the nodes collapse.
        """
        name = "student" if "student" in self.joint_.branches else "teacher"
        # Of what is trained on, which is arranged already.
        embeddings = self._embed(name, torch.utils.data.Subset(windows, list(rows)))
        return embeddings[:, : self._branch(name).model.network.readout.n_outputs]

    @torch.no_grad()
    def _embed(self, name: str, windows) -> np.ndarray:
        network = self._branch(name).model.network
        with evaluating(network):
            parts = [
                network(batch["x"], batch.get("pos"), batch.get("ch_mask")).cpu()
                for batch in self._batches(windows)
            ]
        return torch.cat(parts).numpy()

    def _arranged_for(self, name: str, x) -> UnlabelledWindows:
        """What a user hands over, in the order of a model's channels."""
        windows = x if isinstance(x, UnlabelledWindows) else UnlabelledWindows(x)
        return for_model(windows, self._branch(name).model)

    def _batches(self, windows):
        size = len(windows) if self.batch_size == -1 else self.batch_size
        loader = torch.utils.data.DataLoader(
            windows, batch_size=size, collate_fn=collate_windows
        )
        for batch, _ in loader:
            yield to_device(batch, self.device_of_models())

    def fit_transform(self, X, y=None, **fit_params):
        """Pretrain, then embed; ``y``, which a pipeline always hands on, is ignored."""
        return super().fit_transform(X, **fit_params)

    def transform(self, X):
        """Student embeddings of HD or LD windows, (n, d).

        Epochs and data sets are taken by the names of their channels: in any order, and
        on another cap by their positions.

        What a head would see: the pooled nodes, then the second moments
        (:class:`~braindecode_gcmae.features.SecondMoments`), if the model has them.
        """
        return self._embed("student", self._arranged_for("student", X))

    def transform_teacher(self, X):
        """Teacher embeddings of HD windows, (n, d); see :meth:`transform`."""
        return self._embed("teacher", self._arranged_for("teacher", X))

    @torch.no_grad()
    def reconstruct(self, X, masked, density="teacher") -> Reconstruction:
        """In-paint masked electrodes from the others.

        Parameters
        ----------
        X : as in ``fit``
        masked : list of str or of int, or bool (N,)
            Electrodes to hide, by name (or by row where there are no names): of the
            model, or of the cap that X is from, if that is another.
        density : {"teacher", "student"}

        Returns
        -------
        Reconstruction
            Standardised node features before and after. They mean nothing, and a
            warning says so, where the decoder was not trained: after
            ``load_pretrained``, which has none, or with ``objective="contrast"``.

        Raises
        ------
        ValueError
            If X is from several caps, none of them the model's.
        """
        branch = self._branch(density)
        if not any(f"rec_{density}" in epoch for epoch in self.history):
            warn(
                f"the history holds no training of the {density}'s decoder: unless its "
                "weights came by load_params, what it paints means nothing. "
                "save_pretrained keeps the models without their decoders: pickle the "
                "pretrainer to keep them, or train with an objective that reconstructs"
            )
        windows = self._arranged_for(density, X)
        rows, positions = nodes_to_mask(windows, branch.model, masked)
        hidden = torch.zeros(len(positions), dtype=torch.bool)
        hidden[rows] = True
        there = hidden.to(self.device_of_models())
        parts = []
        with evaluating(branch):
            for batch in self._batches(windows):
                where = {"pos": batch.get("pos"), "ch_mask": batch.get("ch_mask")}
                before_and_after = branch.inpaint(batch["x"], there, **where)
                parts.append([tensor.cpu() for tensor in before_and_after])
        target, rebuilt, present = (
            torch.cat(tensors).numpy() for tensors in zip(*parts, strict=True)
        )
        return Reconstruction(target, rebuilt, hidden.numpy(), positions, present)

    # -- checkpoints ---------------------------------------------------------
    def save_pretrained(self, folder):
        """Write ``folder/teacher`` and ``folder/student``: config.json, safetensors.

        Decoder, projection heads and queue are not part of the models.
        """
        for name, branch in self.joint_.branches.items():
            branch.model.save_pretrained(Path(folder) / name)

    def push_to_hub(
        self, repo_id: str, *, model_card_kwargs: dict | None = None, **kwargs
    ) -> str:
        """Publish the run: what ``save_pretrained`` writes, a card and a figure.

        The card tells the epochs and the terms of the last one; decoder, projection
        heads and queue are not part of the models.

        Parameters
        ----------
        repo_id : str
            ``"user/name"``; created if needed.
        model_card_kwargs : dict, optional
            ``{"metrics": {...}}`` adds to the card's table; ``title``, ``summary``
            and ``facts`` replace what it says.
        **kwargs
            ``commit_message``, ``private``, ``token``, ``branch``, ``create_pr``, ...
            of :meth:`huggingface_hub.ModelHubMixin.push_to_hub`.

        Returns
        -------
        str
            Address of the commit.
        """
        given = dict(model_card_kwargs or {})
        metrics = {**run_metrics(self.history), **given.pop("metrics", {})}

        def fill(folder: Path, name: str) -> None:
            models = {n: branch.model for n, branch in self.joint_.branches.items()}
            for part, model in models.items():
                model._save_pretrained(folder / part)
                card = model.generate_model_card(repo_id=f"{name}/{part}")
                card.save(folder / part / "README.md")
            one = models.get("student") or models["teacher"]
            card = {
                **run_card(models, name),
                "figure": draw_model(folder / FIGURE, one),
                **given,
            }
            card = one.generate_model_card(metrics=metrics, repo_id=name, **card)
            card.save(folder / "README.md")

        return publish(fill, repo_id, **kwargs)

    @classmethod
    def from_pretrained(cls, folder, *, hub=None, **arguments):
        """A pretrainer with the models of ``save_pretrained`` or ``push_to_hub``.

        Parameters
        ----------
        folder, hub
            As in :meth:`load_pretrained`.
        **arguments
            Of the pretrainer.
        """
        return cls(**arguments).load_pretrained(folder, hub=hub)

    def load_pretrained(self, folder, *, hub=None):
        """Replace the models' weights by those of ``save_pretrained``.

        Parameters
        ----------
        folder : path or str
            Folder of a run, or the id of a repository on the Hub.
        hub : dict, optional
            ``revision``, ``token``, ``cache_dir``, ``local_files_only``,
            ``force_download`` of :func:`huggingface_hub.hf_hub_download`.

        Raises
        ------
        CheckpointError
            If neither a teacher nor a student is found in the folder, or a file is
            damaged or of another model.
        ValueError
            If the models are for another sampling rate than the pretrainer's.
        """
        loaded = {}
        for name in ("teacher", "student"):
            model = getattr(self, name)
            where = None if model is None else locate_part(folder, name, **(hub or {}))
            if where is None:
                continue
            cls = type(model) if isinstance(model, nn.Module) else registered(model)
            config, _ = read_checkpoint(where)
            own = classes_within(model, self.get_params_for(name))
            loaded[name] = cls.from_pretrained(where, **own_parts(config, own))
        if not loaded:
            raise CheckpointError(f"neither {folder}/teacher nor {folder}/student")
        first = next(iter(loaded.values()))
        if self.sfreq is not None and not same_rate(self.sfreq, first.sfreq):
            raise ValueError(
                f"the pretrainer has sfreq={self.sfreq:g}, the models in {folder} are "
                f"for {first.sfreq:g} Hz: resample, or load each with from_pretrained("
                "..., sfreq=) of its class and hand the models to the pretrainer"
            )
        self.signal_ = signal_of_model(first)
        saved = self.teacher, self.student
        self.teacher, self.student = loaded.get("teacher"), loaded.get("student")
        try:
            self.initialize()
        finally:
            self.teacher, self.student = saved
        return self

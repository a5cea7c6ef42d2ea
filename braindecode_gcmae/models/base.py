"""What student and teacher share besides the network: forward, heads, checkpoints.

A plain mixin: a common ``EEGModuleMixin`` base would break ``get_config``.
"""

import inspect
import json
import warnings
from pathlib import Path

import torch
from braindecode.models.base import EEGModuleMixin
from torch import Tensor, nn

from ..montage import canonical_name
from .checkpoint import (
    CheckpointError,
    check_size,
    load_weights,
    read_config,
    resolve_class,
    write_checkpoint,
)
from .network import ElectrodeGraphNetwork

__all__ = ["ElectrodeGraphModel", "shipped_checkpoints"]

_CHANNEL_ARGUMENTS = ("n_chans", "chs_info", "ch_names")
_TIME_ARGUMENTS = ("n_times", "input_window_seconds", "sfreq")
_BOUNDS = {
    "n_chans": (1, 4096),
    "n_outputs": (1, 1_000_000),
    "n_times": (1, 10_000_000),
    "sfreq": (1e-3, 1e6),
    "emb_dim": (1, 4096),
    "depth": (0, 64),
    "n_heads": (1, 256),
    "order": (1, 64),
    "n_bands": (1, 512),
    "n_filters": (1, 256),
    "position_degree": (0, 12),
    "segment_seconds": (1e-3, 3600),
    "drop_prob": (0, 1),
    "electrode_dropout": (0, 1),
}


def shipped_checkpoints() -> dict[str, Path]:
    """Short names and folders of the pretrained weights in the package."""
    root = Path(__file__).parent.parent / "data" / "weights"
    return {path.parent.name: path.parent for path in root.glob("*/config.json")}


class ElectrodeGraphModel:
    """Methods of a braindecode model around one :class:`ElectrodeGraphNetwork`."""

    _HUB_NOTES_TEMPLATE = """
    .. rubric:: Hugging Face Hub

    ``{name}.from_pretrained(folder_or_repo)`` and ``push_to_hub(repo)``; import
    with ``from braindecode_gcmae import {name}``. Loading never runs code.
    """

    network: ElectrodeGraphNetwork
    final_layer: nn.Module

    def _build(self, ch_names: list[str] | None, **arguments) -> None:
        """Create ``network`` and ``final_layer`` from the model's arguments."""
        if self._n_outputs is not None:
            check_size("n_outputs", self._n_outputs, *_BOUNDS["n_outputs"])
        for name in ("n_chans", "n_times", "sfreq"):
            check_size(name, getattr(self, name), *_BOUNDS[name])
        for name in _BOUNDS.keys() & arguments.keys():
            check_size(name, arguments[name], *_BOUNDS[name])
        self.network = ElectrodeGraphNetwork(
            channels=self._channels(ch_names),
            sfreq=float(self.sfreq),
            n_times=int(self.n_times),
            **arguments,
        )
        self.final_layer = self._head()

    def _head(self) -> nn.Module:
        if self._n_outputs is None:
            return nn.Identity()
        head = nn.Linear(self.network.readout.n_outputs, self._n_outputs)
        nn.init.normal_(head.weight, std=0.3 * head.in_features**-0.5)
        nn.init.zeros_(head.bias)
        return head

    def _channels(self, ch_names: list[str] | None) -> list | int:
        """Who the input's channels are, from chs_info or from names."""
        if self._chs_info is None:
            if ch_names is None:
                warnings.warn(
                    f"{type(self).__name__}: no chs_info or ch_names, so the "
                    "electrodes have no positions; edges are functional or learned "
                    "only and every electrode counts alike",
                    UserWarning,
                    stacklevel=5,
                )
                return int(self.n_chans)
            return list(ch_names)
        names = [channel.get("ch_name", "") for channel in self._chs_info]
        if ch_names is not None and [canonical_name(n) for n in names] != [
            canonical_name(n) for n in ch_names
        ]:
            raise ValueError(
                f"ch_names={list(ch_names)} are not the channels of chs_info, "
                f"{names}; give one of the two, or the same names in the same order"
            )
        return self._chs_info

    def forward(
        self,
        x: Tensor,
        pos: Tensor | None = None,
        ch_mask: Tensor | None = None,
        return_features: bool = False,
    ) -> Tensor:
        """Logits of raw windows.

        Parameters
        ----------
        x : Tensor, shape (B, C, T)
            Windows in µV: all channels, or just the electrodes, in order. A channel
            with a non-finite sample is a missing electrode.
        pos : Tensor, shape (B, C, 3), optional
            Positions in metres, head frame, of batches that mix montages.
        ch_mask : Tensor of bool, shape (B, C), optional
            True = real. False with a valid position = missing electrode; False with
            a zero or NaN position = padding.
        return_features : bool
            Return ``{"features": (B, E), "cls_token": None}`` instead.

        Returns
        -------
        Tensor, shape (B, n_outputs)

        Raises
        ------
        ValueError
            If the number of channels or the shape of ``pos`` does not fit.
        """
        embedding = self.network(x, pos, ch_mask)
        logits = self.final_layer(embedding)
        if return_features:
            if torch.jit.is_scripting():
                return logits
            else:
                return {"features": embedding, "cls_token": None}
        return logits

    @classmethod
    def paper(cls, **arguments):
        """The paper's model; arguments supersede the preset ``paper_arguments()``."""
        return cls(**{**cls.paper_arguments(), **arguments})

    def node_channels(self) -> list:
        """Names or ``chs_info`` entries of the nodes, in order.

        Raises
        ------
        ValueError
            If the model was built without names.
        """
        config = self._braindecode_init_kwargs
        channels = self._chs_info or config.get("ch_names")
        if channels is None:
            raise ValueError(
                f"{type(self).__name__} was built without chs_info or ch_names: its "
                "electrodes have no names"
            )
        return [channels[int(row)] for row in self.network.rows]

    def reset_head(self, n_outputs: int) -> None:
        """Replace the head by a new one for ``n_outputs`` classes."""
        self._set_n_outputs(n_outputs)
        reference = next(self.network.parameters())
        self.final_layer = self._head().to(reference.device, reference.dtype)

    # -- checkpoints ---------------------------------------------------------
    @classmethod
    def _with_classes(cls, config: dict) -> dict:
        """Replace dotted paths by classes, allowed ones only."""
        config = dict(config)
        for name in ("braindecode_version", "weights_sha256", "architecture"):
            config.pop(name, None)
        signature = inspect.signature(cls.__init__).parameters
        unknown = sorted(config.keys() - signature.keys())
        if unknown:
            raise CheckpointError(
                f"{cls.__name__} has no argument {', '.join(map(repr, unknown))}: a "
                "checkpoint of another model or version?"
            )
        for name, value in config.items():
            if isinstance(signature[name].default, type) and isinstance(value, str):
                config[name] = resolve_class(value)
        return config

    @classmethod
    def from_config(cls, config: dict):
        """Create a model from ``get_config()``, without weights.

        Raises
        ------
        CheckpointError
            If it names an unknown argument, or a class that is not an ``nn.Module``
            of torch.nn, torch_geometric.nn, braindecode or braindecode_gcmae.
        """
        config = cls._with_classes(config)
        if config.get("chs_info") is not None:
            config["chs_info"] = EEGModuleMixin._deserialize_chs_info(
                config["chs_info"]
            )
        return cls(**config)

    def _save_pretrained(self, save_directory: str | Path) -> None:
        """Write config.json and model.safetensors, nothing that is a pickle."""
        from braindecode import __version__

        config = {
            **json.loads(json.dumps(self.get_config())),
            "braindecode_version": __version__,
            "architecture": type(self).__name__,
        }
        write_checkpoint(save_directory, config, self.state_dict())

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        revision: str | None = None,
        cache_dir: str | Path | None = None,
        force_download: bool = False,
        local_files_only: bool = False,
        token: str | bool | None = None,
        **model_kwargs,
    ):
        """Load a model from a folder, a name shipped with the package, or the Hub.

        Parameters
        ----------
        pretrained_model_name_or_path : str or path
            Folder of ``save_pretrained``, one of ``shipped_checkpoints()``, or the
            id of a repository on the Hub.
        revision, cache_dir, force_download, local_files_only, token
            Handed to :func:`huggingface_hub.hf_hub_download`.
        **model_kwargs
            Arguments that supersede the saved ones. With another ``n_outputs`` the
            head is new; with ``n_outputs=None`` the model returns embeddings. With
            other channels the saved ``electrodes`` are kept where the new montage
            has them all, else all of its channels become nodes.

        Raises
        ------
        CheckpointError
            If files are missing or damaged, name a class that is not allowed, or
            hold no tensor of this model.
        """
        folder = _locate(
            pretrained_model_name_or_path,
            revision=revision,
            cache_dir=cache_dir,
            force_download=force_download,
            local_files_only=local_files_only,
            token=token,
        )
        saved = read_config(folder)
        if saved.get("architecture", cls.__name__) != cls.__name__:
            raise CheckpointError(
                f"{folder} holds a {saved['architecture']}, not a {cls.__name__}"
            )
        config = _supersede(cls._with_classes(saved), cls._with_classes(model_kwargs))
        model = cls.from_config(config)
        same_head = config.get("n_outputs") == saved.get("n_outputs")
        skip = () if same_head else ("final_layer.",)
        digest = saved.get("weights_sha256")
        load_weights(model, folder, digest=digest, skip=skip)
        return model.eval()


def _supersede(saved: dict, given: dict) -> dict:
    """The saved arguments, with those of the caller in their place."""
    config = {**saved, **given}
    if any(given.get(name) is not None for name in _CHANNEL_ARGUMENTS):
        for name in _CHANNEL_ARGUMENTS:
            config[name] = given.get(name)
        kept = saved.get("electrodes")
        if "electrodes" not in given and kept is not None:
            channels = config["chs_info"] or config["ch_names"] or []
            names = [c if isinstance(c, str) else c["ch_name"] for c in channels]
            there = {canonical_name(name) for name in names}
            if not {canonical_name(name) for name in kept} <= there:
                config["electrodes"] = None
    if sum(given.get(name) is not None for name in _TIME_ARGUMENTS) >= 1:
        config.update(_window(saved, given))
    return config


def _window(saved: dict, given: dict) -> dict:
    """Sampling rate and window length; the length in seconds outlives a new rate."""
    time = {name: given.get(name) for name in _TIME_ARGUMENTS}
    if time["sfreq"] is None:
        time["sfreq"] = saved.get("sfreq")
    if time["n_times"] is None and time["input_window_seconds"] is None:
        time["input_window_seconds"] = saved.get("input_window_seconds") or (
            saved["n_times"] / saved["sfreq"]
        )
    return time


def _locate(name: str | Path, **hub_arguments) -> Path:
    """The folder of a checkpoint, downloaded if it is on the Hub."""
    if Path(name).is_dir():
        return Path(name)
    shipped = shipped_checkpoints()
    if str(name) in shipped:
        return shipped[str(name)]
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HFValidationError

    try:
        # Nothing but these two files is ever fetched or read.
        for file in ("config.json", "model.safetensors"):
            path = hf_hub_download(str(name), file, **hub_arguments)
    except (OSError, HFValidationError) as error:
        raise CheckpointError(
            f"{str(name)!r} is no folder, none of the shipped checkpoints "
            f"{sorted(shipped)}, and was not found on the Hub: {error}"
        ) from error
    return Path(path).parent

"""What student and teacher share besides the network: forward, heads, checkpoints.

A plain mixin: a common ``EEGModuleMixin`` base would break ``get_config``.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from braindecode.models.base import EEGModuleMixin
from torch import Tensor, nn

from ..features import FeatureNorm
from ..graph import GeometricGraph
from ..montage import canonical_name, electrode_positions, name_of
from ..montage.evidence import placed
from ..warning import warn
from .arguments import (
    check_arguments,
    check_channel_names,
    check_counts,
    check_known,
    plain,
    plain_arguments,
    refuse_unplaced,
    supersede,
)
from .checkpoint import (
    CheckpointError,
    config_digest,
    load_weights,
    other_head,
    read_checkpoint,
    resolve_class,
    weights_digest,
    write_checkpoint,
)
from .hub import HubModel, is_generated, locate, save_card
from .network import ElectrodeGraphNetwork
from .own import classes_within, own_parts
from .wrapped import evaluating

__all__ = ["ElectrodeGraphModel"]

_CLASSES = ("features", "graph", "encoder", "readout", "activation")
_OURS = ("features", "graph", "readout")  # no other package has any that fits
_ABOUT_THE_FILE = (
    "braindecode_version",
    "weights_sha256",
    "architecture",
    "format_version",
)


class ElectrodeGraphModel(HubModel):
    """Methods of a braindecode model around one :class:`ElectrodeGraphNetwork`."""

    _HUB_NOTES_TEMPLATE = """
    .. rubric:: Hugging Face Hub

    ``{name}.from_pretrained(folder_or_repo)`` and ``push_to_hub(repo)``; import
    with ``from braindecode_gcmae import {name}``. Loading never runs code.
    """

    if TYPE_CHECKING:  # TorchScript cannot read a module's class as an annotation
        network: ElectrodeGraphNetwork
        final_layer: nn.Module

    def _build(self, ch_names: list[str] | None, **arguments) -> None:
        """Create ``network`` and ``final_layer`` from the model's arguments."""
        arguments = plain_arguments({"ch_names": ch_names, **arguments})
        ch_names = arguments.pop("ch_names")
        self._make_plain()
        for name in _CLASSES:
            part = arguments[name]
            if not (isinstance(part, type) and issubclass(part, nn.Module)):
                raise TypeError(
                    f"{name} must be a class of torch.nn.Module, got {part!r:.60}"
                )
        check_arguments(
            n_outputs=self._n_outputs,
            n_chans=self.n_chans,
            n_times=self.n_times,
            sfreq=self.sfreq,
            **{k: v for k, v in arguments.items() if k not in _CLASSES},
        )
        # braindecode's getters are typed, and TorchScript refuses sfreq=160.
        if self._sfreq is not None:
            self._sfreq = float(self._sfreq)
        if self._input_window_seconds is not None:
            self._input_window_seconds = float(self._input_window_seconds)
        channels = self._channels(ch_names)
        if issubclass(arguments["graph"], GeometricGraph):
            refuse_unplaced(channels, arguments["electrodes"])
        self.network = ElectrodeGraphNetwork(
            channels=channels,
            sfreq=float(self.sfreq),
            n_times=int(self.n_times),
            **arguments,
        )
        if not (isinstance(channels, int) or self.network.rows.is_meta):
            self._warn_unplaced(channels)
        self.final_layer = self._head()

    def _make_plain(self) -> None:
        """Have a configuration hold all arguments: numpy's would be left out of it."""
        given = self._braindecode_init_kwargs
        # chs_info braindecode writes by itself
        given |= plain_arguments({k: v for k, v in given.items() if k != "chs_info"})
        for name in ("_n_outputs", "_n_chans", "_n_times"):
            setattr(self, name, plain(getattr(self, name)))

    def _head(self) -> nn.Module:
        if self._n_outputs is None:
            return nn.Identity()
        head = nn.Linear(self.network.n_outputs, self._n_outputs)
        # Nearly zero: with few labels the first steps should not undo a guess.
        nn.init.normal_(head.weight, std=0.01 * head.in_features**-0.5)
        nn.init.zeros_(head.bias)
        return head

    def _channels(self, ch_names: list[str] | None) -> list | int:
        """Who the input's channels are, from chs_info or from names."""
        if self._chs_info is None:
            if ch_names is None:
                warn(
                    f"{type(self).__name__}: no chs_info or ch_names, so the "
                    "electrodes have no positions; edges are functional or learned "
                    "only and every electrode counts alike"
                )
                return int(self.n_chans)
            if len(ch_names) != self.n_chans:
                raise ValueError(
                    f"n_chans={self.n_chans}, but ch_names has {len(ch_names)} names"
                )
            check_channel_names(list(ch_names))
            return list(ch_names)
        names = [channel.get("ch_name", "") for channel in self._chs_info]
        check_channel_names(names)
        if ch_names is not None and [canonical_name(n) for n in names] != [
            canonical_name(n) for n in ch_names
        ]:
            raise ValueError(
                f"ch_names={list(ch_names)} are not the channels of chs_info, "
                f"{names}; give one of the two, or the same names in the same order"
            )
        return self._chs_info

    def _warn_unplaced(self, channels: list) -> None:
        unknown = np.isnan(electrode_positions(channels)).any(1)
        # Not those that the model leaves out: an EOG channel has no edges.
        rows = [row for row in self.network.rows.tolist() if unknown[row]]
        if rows:
            names = [name_of(channels[row]) for row in rows]
            warn(
                f"{type(self).__name__}: no positions for {names}, neither by 10-05 "
                "name nor in 'loc'; their edges are functional or learned only"
                + (
                    ", and nothing tells them from each other, left from right"
                    if len(names) > 1
                    else ""
                )
            )

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
            Windows in µV: all channels in the order of ``chs_info`` (``ch_names``), or,
            where ``electrodes`` are fewer, just these in their own order. A channel
            with a sample that is not finite (or beyond 1e12 µV, whose power is not)
            is a missing electrode, and so is one that moves by less than 1e-7 µV.
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

    def extra_repr(self) -> str:
        """Digests of weights and arguments: MOABB tells pipelines apart by ``repr``."""
        state = self.state_dict()
        if any(getattr(value, "is_meta", False) for value in state.values()):
            return ""
        weights, config = weights_digest(state), config_digest(self)
        return f"weights={weights[:12]}, config={config[:12]}"

    def get_output_shape(self) -> tuple:
        """Shape of the output for one window; the statistics learn nothing of it."""
        with evaluating(self):
            return super().get_output_shape()  # type: ignore[misc]

    def input_channels(self) -> list | None:
        """``chs_info`` entries or names of the input's channels; None without any."""
        return self._chs_info or self._braindecode_init_kwargs.get("ch_names")

    def node_channels(self) -> list:
        """Names or ``chs_info`` entries of the nodes, in order.

        Channels of a net that are placed by its whole list of names (BioSemi's "C3")
        are entries with a ``loc``.

        Raises
        ------
        ValueError
            If the model was built without names.
        """
        channels = self.input_channels()
        if channels is None:
            raise ValueError(
                f"{type(self).__name__} was built without chs_info or ch_names: its "
                "electrodes have no names"
            )
        channels = placed(channels)
        return [channels[int(row)] for row in self.network.rows]

    def reset_head(self, n_outputs: int) -> None:
        """Replace the head by a new one for ``n_outputs`` classes."""
        self._set_n_outputs(n_outputs)
        reference = next(self.network.parameters())
        self.final_layer = self._head().to(reference.device, reference.dtype)

    def reset_statistics(self) -> None:
        """Forget what the features were standardised by; training learns it anew.

        For weights that go to other data: another amplifier, other alignment, another
        task. The statistics of a long pretraining are final and would stay.
        """
        for module in self.modules():
            if isinstance(module, FeatureNorm):
                module.reset()

    # -- checkpoints ---------------------------------------------------------
    @classmethod
    def _with_classes(cls, config: dict) -> dict:
        """Replace dotted paths by classes, allowed ones only."""
        if not isinstance(config, dict):
            raise CheckpointError(f"a configuration is a dict, got {config!r:.60}")
        config = {k: v for k, v in config.items() if k not in _ABOUT_THE_FILE}
        check_known(config, cls)
        config |= own_parts(config, classes_within(cls))  # who calls it has these
        for name, value in config.items():
            if name in _CLASSES and isinstance(value, str):
                config[name] = resolve_class(value, ours=name in _OURS)
        return config

    @classmethod
    def from_config(cls, config: dict):
        """Create a model from ``get_config()``, without weights.

        Raises
        ------
        CheckpointError
            If it names an unknown argument, or a class that is not an ``nn.Module``
            of torch.nn, torch_geometric.nn, braindecode or braindecode_gcmae, or its
            values have types that build no model.
        ValueError
            If a value is out of its range.
        """
        config = cls._with_classes(config)
        check_counts(config)
        try:
            if config.get("chs_info") is not None:
                config["chs_info"] = EEGModuleMixin._deserialize_chs_info(
                    config["chs_info"]
                )
            return cls(**config)
        except ValueError:
            raise
        except Exception as error:  # whatever a hostile value makes a class raise
            raise CheckpointError(
                f"the configuration builds no {cls.__name__}: {error}"
            ) from error

    def save_pretrained(
        self,
        save_directory: str | Path,
        *,
        config: dict | None = None,
        repo_id: str | None = None,
        push_to_hub: bool = False,
        model_card_kwargs: dict | None = None,
        **push_to_hub_kwargs,
    ) -> str | None:
        """Write config.json, model.safetensors and README.md.

        At any moment the folder holds the old checkpoint or the new one. A README.md
        that somebody has edited stays as it is.

        Parameters
        ----------
        save_directory : path
            Created if needed.
        config : dict, optional
            Not used: the configuration is the model's own.
        repo_id, push_to_hub, model_card_kwargs, **push_to_hub_kwargs
            As in :meth:`huggingface_hub.ModelHubMixin.save_pretrained`.

        Raises
        ------
        OSError
            If the folder cannot be written; no partial file is left.
        """
        # The Hub's own method deletes the old config.json before it writes.
        folder = Path(save_directory)
        self._save_pretrained(folder)
        card = folder / "README.md"
        if not card.exists() or is_generated(card):
            save_card(self.generate_model_card(**(model_card_kwargs or {})), card)
        if not push_to_hub:
            return None
        return self.push_to_hub(
            repo_id or folder.name,
            model_card_kwargs=model_card_kwargs,
            **push_to_hub_kwargs,
        )

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
        map_location: str | torch.device | None = None,
        strict: bool = False,
        **model_kwargs,
    ):
        """Load a model from a folder, a name shipped with the package, or the Hub.

        Parameters
        ----------
        pretrained_model_name_or_path : str or path
            Folder of ``save_pretrained``, one of ``shipped_checkpoints()``, the id
            of a repository on the Hub (``"user/name"``), or a folder in one
            (``"user/run1/student"``).
        revision, cache_dir, force_download, local_files_only, token
            Handed to :func:`huggingface_hub.hf_hub_download`.
        map_location : str or torch.device, optional
            Where the model is moved to.
        strict : bool
            Refuse a checkpoint that lacks a tensor, or has one too many; else warn.
        **model_kwargs
            Arguments that supersede the saved ones; parts of your own classes are
            given again (``encoder=MyEncoder``). With another ``n_outputs`` the
            head is new; with ``n_outputs=None`` the model returns embeddings. With
            other channels the saved ``electrodes`` are kept where the new montage
            has them all, else all of its channels become nodes. A model with a
            ``FlattenReadout`` or ``FreeGraph`` keeps the electrodes it has.

        Raises
        ------
        CheckpointError
            If files are missing or damaged, name a class that is not allowed, or hold
            no tensor of this model, or the model is tied to electrodes that are gone.
        TypeError
            If channels or electrodes are a set, or can be read only once.

        Warns
        -----
        UserWarning
            If tensors have no counterpart, or new channels lack some ``electrodes``.
        """
        folder = locate(
            pretrained_model_name_or_path,
            revision=revision,
            cache_dir=cache_dir,
            force_download=force_download,
            local_files_only=local_files_only,
            token=token,
        )
        saved, state = read_checkpoint(folder)
        if saved.get("architecture", cls.__name__) != cls.__name__:
            raise CheckpointError(
                f"{folder} holds a {saved['architecture']!r:.60}, not a {cls.__name__}"
            )
        given = cls._with_classes(plain_arguments(model_kwargs))
        # A class of the caller's own is given again, so its name need not resolve.
        saved = cls._with_classes(
            {k: v for k, v in saved.items() if not isinstance(given.get(k), type)}
        )
        try:
            config = supersede(saved, given)
        except CheckpointError:
            raise
        except (TypeError, KeyError, AttributeError, ValueError) as error:
            raise CheckpointError(
                f"the configuration in {folder} is damaged: {error!r}"
            ) from error
        model = cls.from_config(config)
        skip = other_head(config, saved, folder)
        load_weights(model, state, path=folder, skip=skip, strict=strict)
        return model.to(map_location).eval()

    @classmethod
    def _from_pretrained(cls, *, model_id: str, **arguments):
        # braindecode's reads pickles and imports whatever config.json names.
        return cls.from_pretrained(model_id, **arguments)

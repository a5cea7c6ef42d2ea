"""The Hugging Face Hub: where checkpoints are found, and how they are published."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from huggingface_hub import ModelHubMixin

from ..montage import name_of
from ..montage.head import draw_montage
from .arguments import plain, plain_arguments
from .checkpoint import CheckpointError

__all__ = [
    "CARD",
    "HubModel",
    "is_generated",
    "locate",
    "locate_part",
    "publish",
    "save_card",
    "shipped_checkpoints",
]

FIGURE = "montage.png"
PAPER = "https://arxiv.org/abs/2411.19230"

# Filled in by huggingface_hub (jinja2). No links but those that exist.
CARD = """---
{{ card_data }}
---

# {{ title | default("An electrode-graph network for EEG", true) }}

{{ summary }}
{% if figure %}
![The electrodes on a head, seen from above]({{ figure }})
{% endif %}
{% for name, value in facts.items() -%}
- **{{ name }}**: {{ value }}
{% endfor %}
{% if metrics %}## Metrics

| metric | value |
|---|---:|
{% for name, value in metrics.items() -%}
| {{ name }} | {{ value }} |
{% endfor %}
{% endif %}## Use

With the Python package `braindecode_gcmae`. Loading reads JSON and safetensors and runs
no code of this repository.

```python
{{ example }}
```

The method is that of Wei et al. (2025), *Pre-Training Graph Contrastive Masked
Autoencoders are Strong Distillers for EEG* ([arXiv:2411.19230]({{ paper_url }}));
training loops and data sets are those of [braindecode]({{ repo_url }}).
"""


_GENERATED = "\n<!-- as generated: {} -->\n"


def _mark(text: str) -> str:
    return _GENERATED.format(hashlib.sha256(text.strip().encode()).hexdigest()[:12])


def save_card(card, path: Path) -> None:
    """Write a model card with a mark that tells whether it was edited since."""
    card.save(path)
    text = path.read_text("utf-8").rstrip() + "\n"
    path.write_text(text + _mark(text), "utf-8")


def is_generated(path: Path) -> bool:
    """Whether a card is as :func:`save_card` wrote it: of a model that was here."""
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return False
    start = text.rfind(_GENERATED.partition("{")[0])
    return start >= 0 and text[start:] == _mark(text[:start])


class HubModel:
    """A model's card and its way to the Hub; a mixin in front of braindecode's."""

    def __init_subclass__(cls, **kwargs):
        if issubclass(cls, ModelHubMixin):
            # braindecode's default is a page of its documentation with our name.
            ours = {"docs_url": "", "paper_url": PAPER, "model_card_template": CARD}
            kwargs = {**ours, **kwargs}
        super().__init_subclass__(**kwargs)

    def __new__(cls, *args, **kwargs):
        """A model whose configuration has numpy's arguments, too: of plain ones."""
        return super().__new__(cls, *map(plain, args), **plain_arguments(kwargs))

    def generate_model_card(self, *args, metrics=None, repo_id=None, **kwargs):
        """The README.md of a checkpoint.

        Parameters
        ----------
        metrics : dict, optional
            Names and values of the card's table of metrics.
        repo_id : str, optional
            Named in the example of use.
        **kwargs
            ``title``, ``summary``, ``figure``, ``facts``, ``example`` of the card.

        Returns
        -------
        huggingface_hub.ModelCard
        """
        name = type(self).__name__
        lines = [
            f"from braindecode_gcmae import {name}",
            "",
            f'model = {name}.from_pretrained("{repo_id or "folder or repository"}")',
        ]
        given = {
            "title": name,
            "summary": (
                "A braindecode model that reads raw EEG windows in µV as a graph of "
                "electrodes."
            ),
            "facts": model_facts(self),
            "example": "\n".join(lines),
            **kwargs,
        }
        return super().generate_model_card(
            *args, metrics=readable(metrics), repo_id=repo_id, **given
        )

    def push_to_hub(
        self,
        repo_id: str,
        *,
        config: dict | None = None,
        model_card_kwargs: dict | None = None,
        **push_to_hub_kwargs,
    ) -> str:
        """Publish config.json, model.safetensors, a card and a figure of the montage.

        Parameters
        ----------
        repo_id : str
            ``"user/name"``; created if needed.
        config : dict, optional
            Not used: the configuration is the model's own.
        model_card_kwargs : dict, optional
            Arguments of :meth:`generate_model_card`:
            ``{"metrics": {"accuracy": 0.61}}``.
        **push_to_hub_kwargs
            ``commit_message``, ``private``, ``token``, ``branch``, ``create_pr``,
            ``allow_patterns``, ``ignore_patterns``, ``delete_patterns``, as in
            :meth:`huggingface_hub.ModelHubMixin.push_to_hub`.

        Returns
        -------
        str
            Address of the commit.
        """

        def fill(folder: Path, name: str) -> None:
            self._save_pretrained(folder)
            card = {"repo_id": name, "figure": draw_model(folder / FIGURE, self)}
            card |= model_card_kwargs or {}
            self.generate_model_card(**card).save(folder / "README.md")

        return publish(fill, repo_id, **push_to_hub_kwargs)


def model_facts(model) -> dict:
    """What a model is, for its card."""
    n_nodes = model.network.n_nodes
    try:
        names = [name_of(channel) for channel in model.node_channels()]
        electrodes = f"{n_nodes} ({', '.join(names)})"
    except ValueError:
        electrodes = f"{n_nodes}, without names"
    n_outputs = model._n_outputs
    return {
        "electrodes": electrodes,
        "windows": f"{model.n_times} samples at {model.sfreq:g} Hz, in µV",
        "outputs": "embeddings, no head" if n_outputs is None else n_outputs,
        "parameters": f"{sum(p.numel() for p in model.parameters()):,}",
    }


def readable(metrics: dict | None) -> dict:
    """Numbers to four digits, everything else as it is."""
    return {
        name: f"{value:.4g}" if isinstance(value, float) else value
        for name, value in (metrics or {}).items()
    }


def draw_model(path: Path, model) -> str | None:
    """Draw a model's electrodes among its channels; the file's name, if drawn."""
    channels = model.input_channels()
    if channels is None:
        return None
    return path.name if draw_montage(path, channels, model.network.rows) else None


def publish(
    fill: Callable[[Path, str], None],
    repo_id: str,
    *,
    commit_message: str = "Push model using braindecode_gcmae.",
    private: bool | None = None,
    token: str | None = None,
    branch: str | None = None,
    create_pr: bool | None = None,
    allow_patterns: list | str | None = None,
    ignore_patterns: list | str | None = None,
    delete_patterns: list | str | None = None,
) -> str:
    """Create a repository and commit a folder to it at once.

    Parameters
    ----------
    fill : callable
        Is given a new folder and the full id, and writes what is to be published.
    repo_id : str
    **others
        As in :meth:`huggingface_hub.ModelHubMixin.push_to_hub`.

    Returns
    -------
    str
        Address of the commit.
    """
    from huggingface_hub import HfApi

    api = HfApi(token=token)
    name = api.create_repo(repo_id=repo_id, private=private, exist_ok=True).repo_id
    with TemporaryDirectory() as folder:
        fill(Path(folder), name)
        return api.upload_folder(
            repo_id=name,
            repo_type="model",
            folder_path=folder,
            commit_message=commit_message,
            revision=branch,
            create_pr=create_pr,
            allow_patterns=allow_patterns,
            ignore_patterns=ignore_patterns,
            delete_patterns=delete_patterns,
        )


def shipped_checkpoints() -> dict[str, Path]:
    """Short names and folders of the pretrained weights in the package."""
    root = Path(__file__).parent.parent / "data" / "weights"
    return {path.parent.name: path.parent for path in root.glob("*/config.json")}


def locate(name: str | Path, **hub_arguments) -> Path:
    """The folder of a checkpoint, downloaded if it is on the Hub.

    Parameters
    ----------
    name : str or path
        A folder, one of ``shipped_checkpoints()``, ``"user/repository"``, or
        ``"user/repository/student"`` for a folder of a repository.
    **hub_arguments
        Of :func:`huggingface_hub.hf_hub_download`.

    Raises
    ------
    CheckpointError
        If it is none of these.
    """
    if Path(name).is_dir():
        return Path(name)
    shipped = shipped_checkpoints()
    if str(name) in shipped:
        return shipped[str(name)]
    if "/" not in str(name):
        raise CheckpointError(
            f"{str(name)!r} is no folder, none of the shipped checkpoints "
            f"{sorted(shipped)}, and no repository on the Hub ('user/name')"
        )
    from huggingface_hub.errors import HFValidationError

    try:
        return _download(str(name), **hub_arguments)
    except (OSError, HFValidationError) as error:
        raise CheckpointError(
            f"{str(name)!r} is no folder, none of the shipped checkpoints "
            f"{sorted(shipped)}, and was not found on the Hub: {error}"
        ) from error


def _download(name: str, **hub_arguments) -> Path:
    from huggingface_hub import hf_hub_download

    owner, _, rest = name.partition("/")
    repository, _, inside = rest.partition("/")
    repo_id = f"{owner}/{repository}" if inside else name
    # Nothing but these two files is ever fetched or read.
    for file in ("config.json", "model.safetensors"):
        path = hf_hub_download(repo_id, file, subfolder=inside or None, **hub_arguments)
    return Path(path).parent


def locate_part(name: str | Path, part: str, **hub_arguments) -> Path | None:
    """A folder of a pretraining run, here or on the Hub; None if it has no such part.

    Raises
    ------
    CheckpointError
        If there is neither such a folder nor such a repository.
    """
    if Path(name).is_dir():
        return Path(name, part) if Path(name, part).is_dir() else None
    if str(name) in shipped_checkpoints():
        raise CheckpointError(
            f"{str(name)!r} is one model, not a run of a pretrainer with its parts: "
            "load it with from_pretrained of the model, and hand that to the pretrainer"
        )
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    try:
        return locate(f"{name}/{part}", **hub_arguments)
    except CheckpointError as error:
        reason = error.__cause__
        absent = isinstance(reason, EntryNotFoundError)
        if absent and not isinstance(reason, LocalEntryNotFoundError):
            return None
        raise

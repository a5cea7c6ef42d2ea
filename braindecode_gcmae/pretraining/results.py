"""What pretraining gives back besides models."""

from typing import NamedTuple

import numpy as np

from ..models.hub import model_facts

__all__ = ["Reconstruction", "run_card", "run_metrics"]


class Reconstruction(NamedTuple):
    """Node features before and after in-painting.

    Attributes
    ----------
    target, reconstruction : ndarray, shape (n, N, F)
        Standardised node features.
    masked : ndarray of bool, shape (N,)
        Electrodes that were hidden.
    positions : ndarray, shape (N, 3)
        Metres, head frame.
    present : ndarray of bool, shape (n, N), optional
        Electrodes with data. Of the others the target is 0 and means nothing.
    """

    target: np.ndarray
    reconstruction: np.ndarray
    masked: np.ndarray
    positions: np.ndarray
    present: np.ndarray | None = None


def run_metrics(history) -> dict:
    """Epochs of a run and the terms of its last one, for its card."""
    if not len(history):
        return {}
    last = history[-1]
    terms = [n for n in last if n.startswith(("rec_", "contrast_", "train_loss"))]
    found = {n: float(last[n]) for n in terms if not n.endswith("_best")}
    return {"epochs": len(history), **found}


def run_card(models: dict, repo_id: str) -> dict:
    """What the card of a pretraining run says.

    Parameters
    ----------
    models : dict
        ``teacher`` and ``student``, or one of them.
    repo_id : str
    """
    lines: list[str] = []
    facts: dict = {}
    for part, model in models.items():
        cls = type(model).__name__
        lines += [
            f"from braindecode_gcmae import {cls}",
            "",
            f'{part} = {cls}.from_pretrained("{repo_id}/{part}", n_outputs=2)',
            "",
        ]
        about = model_facts(model)
        facts |= {f"{part}, {name}": value for name, value in about.items()}
    both = " and ".join(models)
    return {
        "title": "A pretraining run on unlabelled EEG",
        "summary": f"Pretrained without labels: {both}, a folder each.",
        "facts": facts,
        "example": "\n".join(lines).strip(),
    }

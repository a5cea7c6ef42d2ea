"""What the links of two graphs can teach, noted and told (D6)."""

import torch

from ...warning import warn

__all__ = ["note_pairs", "warn_silent"]


def note_pairs(distillation, net) -> None:
    """Note in the history how many pairs there are, and say if they teach nothing.

    Parameters
    ----------
    distillation : TopologyDistillation
        With the graphs of an epoch that has just begun.
    net : NeuralNet
        The student's.

    Warns
    -----
    UserWarning
        In the first epoch, if a term that counts has nothing to compare.
    """
    weights = distillation.weights_given()
    weighs = {name: callable(w) or w > 0 for name, w in weights.items()}
    first = len(net.history) <= 1
    if weighs["gtd"]:
        masks = distillation.positive_, distillation.negative_
        # Both orders of a pair are in a mask. One look, which a GPU is waited for.
        counts = (torch.stack([mask.sum() for mask in masks]) // 2).tolist()
        for name, count in zip(("gtd_positive", "gtd_negative"), counts, strict=True):
            net.history.record(name, count)
        if first and not counts[0]:
            _warn_unlinked(len(distillation.kept_))
    if weighs["lsp"] and first:
        _warn_few_neighbours(distillation.student_edges_.sum(1))


def _warn_unlinked(n_kept: int) -> None:
    """Say that the topology of so few electrodes has nothing to teach."""
    warn(
        f"the teacher's graph links no two of the student's {n_kept} electrodes, "
        "neither directly nor through a removed one: the topology term is 0. A larger "
        "density= links more"
    )


def warn_silent(n_kept: int) -> None:
    """Say that the topology taught nothing all the time."""
    why = (
        "the student's graph links no two of its "
        f"{n_kept} electrodes that the teacher's does not. Another density= links "
        "others"
    )
    if n_kept < 3:
        why = "two electrodes have one similarity, and no topology: keep three or more"
    warn(f"the topology term was 0 in every epoch: {why}")


def _warn_few_neighbours(degrees: torch.Tensor) -> None:
    """Say that the local structure of so sparse a graph has nothing to teach."""
    if int(degrees.max()) < 2:
        warn(
            "no electrode has two neighbours in the student's graph, and the local "
            "structure (lsp_weight) of one is always 1: the term is 0. A larger "
            "density= links more"
        )

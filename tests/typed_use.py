"""What a user writes, for ``make typecheck`` to read; nobody runs it.

``assert_type`` fails there when an annotation of the public face is lost.
"""

from pathlib import Path
from typing import assert_type

import numpy as np
import torch
from torch import Tensor

from braindecode_gcmae import (
    GCMAEPretrainer,
    GCMAEStudent,
    GCMAETeacher,
    TopologyDistillation,
    export_onnx,
    match_electrodes,
    montage_preset,
    select_electrodes,
)
from braindecode_gcmae.features import welch_psd
from braindecode_gcmae.graph import chebyshev_basis, scaled_laplacian, topology_pairs
from braindecode_gcmae.losses import (
    graph_contrastive_loss,
    info_nce,
    local_structure_loss,
    logit_distillation_loss,
    reconstruction_loss,
    scaled_cosine_error,
    topology_distillation_loss,
)
from braindecode_gcmae.montage import (
    canonical_name,
    electrode_positions,
    make_chs_info,
    standard_positions,
)

NAMES = montage_preset("10-20-19")


def names() -> None:
    """Electrodes."""
    assert_type(NAMES, list[str])
    assert_type(canonical_name("Fc5."), str)
    assert_type(make_chs_info(NAMES), list[dict])
    assert_type(match_electrodes(["C3"], make_chs_info(NAMES)), list[int])
    assert_type(electrode_positions(NAMES), np.ndarray)
    assert_type(standard_positions()["Cz"], np.ndarray)


def formulas(x: Tensor, nodes: Tensor, adjacency: Tensor, kept: Tensor) -> None:
    """Tensors in, tensors out."""
    freqs, psd = welch_psd(x, 100.0, n_per_seg=50, n_overlap=25)
    assert_type(psd, Tensor)
    assert_type(chebyshev_basis(scaled_laplacian(adjacency), 3), Tensor)
    positive, negative = topology_pairs(adjacency, adjacency, kept)
    given = positive, negative, kept
    assert_type(topology_distillation_loss(nodes, nodes, *given), Tensor)
    assert_type(local_structure_loss(nodes, nodes, positive, kept), Tensor)
    assert_type(graph_contrastive_loss(nodes, nodes, kept), Tensor)
    assert_type(logit_distillation_loss(x[0], x[0], temperature=4.0), Tensor)
    assert_type(info_nce(x[0], x, x[0], temperature=0.07), Tensor)
    assert_type(reconstruction_loss(nodes, nodes), Tensor)
    assert_type(scaled_cosine_error(nodes, nodes), Tensor)


def models(folder: Path) -> None:
    """Models, estimators and callbacks are what they are called."""
    student = GCMAEStudent(ch_names=NAMES, sfreq=100, n_times=200, n_outputs=2)
    teacher = GCMAETeacher(ch_names=NAMES, sfreq=100, n_times=200, n_outputs=2)
    assert_type(student, GCMAEStudent)
    module: torch.nn.Module = teacher
    assert_type(TopologyDistillation(module), TopologyDistillation)
    assert_type(GCMAEPretrainer(electrodes=["C3"]), GCMAEPretrainer)
    assert_type(select_electrodes(teacher, 4), list[str])
    assert_type(export_onnx(student, folder / "student.onnx"), Path)

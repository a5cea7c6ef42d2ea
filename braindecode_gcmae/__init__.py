"""Graph contrastive masked autoencoders for EEG, distilled to few electrodes.

A plugin for braindecode: importing it registers :class:`GCMAEStudent` and
:class:`GCMAETeacher` with braindecode, so that ``EEGClassifier("GCMAEStudent")``
works (in worker processes, which import only what they are handed,
``GCMAEClassifier("GCMAEStudent")``). Everything else is imported when it is first
asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from braindecode.models.util import _init_models_dict, models_dict

from .models import GCMAEStudent, GCMAETeacher

__version__ = "0.1.0"

if not models_dict:
    _init_models_dict()
models_dict.update(GCMAEStudent=GCMAEStudent, GCMAETeacher=GCMAETeacher)

_HOME = {
    "GCMAEPretrainer": "pretraining",
    "GCMAEPretraining": "callbacks",
    "TopologyDistillation": "callbacks",
    "GCMAEClassifier": "classifier",
    "ResumableCheckpoint": "callbacks",
    "StartFrom": "callbacks",
    "CollapseMonitor": "callbacks",
    "ProbeMonitor": "callbacks",
    "CudaGraph": "callbacks",
    "RecordingAlignment": "alignment",
    "SimulatedEEG": "datasets",
    "match_electrodes": "montage",
    "montage_preset": "montage",
    "select_electrodes": "selection",
    "export_onnx": "export",
    "StreamingClassifier": "streaming",
    "plot_electrode_graph": "viz",
    "plot_reconstruction": "viz",
    "plot_density_curve": "viz",
    "plot_topology_gap": "viz",
    "plot_embedding": "viz",
    "plot_training_curves": "viz",
}

__all__ = ["GCMAEStudent", "GCMAETeacher", *_HOME, "__version__"]


if TYPE_CHECKING:  # what __getattr__ gives, for editors and type checkers
    from .alignment import RecordingAlignment as RecordingAlignment
    from .callbacks import CollapseMonitor as CollapseMonitor
    from .callbacks import CudaGraph as CudaGraph
    from .callbacks import GCMAEPretraining as GCMAEPretraining
    from .callbacks import ProbeMonitor as ProbeMonitor
    from .callbacks import ResumableCheckpoint as ResumableCheckpoint
    from .callbacks import StartFrom as StartFrom
    from .callbacks import TopologyDistillation as TopologyDistillation
    from .classifier import GCMAEClassifier as GCMAEClassifier
    from .datasets import SimulatedEEG as SimulatedEEG
    from .export import export_onnx as export_onnx
    from .montage import match_electrodes as match_electrodes
    from .montage import montage_preset as montage_preset
    from .pretraining import GCMAEPretrainer as GCMAEPretrainer
    from .selection import select_electrodes as select_electrodes
    from .streaming import StreamingClassifier as StreamingClassifier
    from .viz import plot_density_curve as plot_density_curve
    from .viz import plot_electrode_graph as plot_electrode_graph
    from .viz import plot_embedding as plot_embedding
    from .viz import plot_reconstruction as plot_reconstruction
    from .viz import plot_topology_gap as plot_topology_gap
    from .viz import plot_training_curves as plot_training_curves


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)

"""Graph contrastive masked autoencoders for EEG, distilled to few electrodes.

A plugin for braindecode: importing it registers :class:`GCMAEStudent` and
:class:`GCMAETeacher` with braindecode, so that ``EEGClassifier("GCMAEStudent")``
works. Everything else is imported when it is first asked for.
"""

from importlib import import_module

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
    "CollapseMonitor": "callbacks",
    "ProbeMonitor": "callbacks",
    "RecordingAlignment": "alignment",
    "SimulatedEEG": "datasets",
    "match_electrodes": "montage",
    "montage_preset": "montage",
    "select_electrodes": "selection",
    "export_onnx": "export",
    "StreamingClassifier": "export",
    "plot_electrode_graph": "viz",
    "plot_reconstruction": "viz",
    "plot_density_curve": "viz",
    "plot_topology_gap": "viz",
    "plot_embedding": "viz",
    "plot_training_curves": "viz",
}

__all__ = ["GCMAEStudent", "GCMAETeacher", *_HOME, "__version__"]


def __getattr__(name):
    if name in _HOME:
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted(__all__)

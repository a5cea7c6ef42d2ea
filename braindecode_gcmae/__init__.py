"""Graph contrastive masked autoencoders for EEG, distilled to few electrodes.

A plugin for braindecode: importing it registers :class:`GCMAEStudent` and
:class:`GCMAETeacher` with braindecode, so that ``EEGClassifier("GCMAEStudent")``
works. Everything else is imported when it is first asked for.
"""

from importlib import import_module

__version__ = "0.1.0"

_HOME = {
    "GCMAEPretrainer": "pretraining",
    "GCMAEPretraining": "callbacks",
    "TopologyDistillation": "callbacks",
    "RecordingAlignment": "alignment",
    "SimulatedEEG": "datasets",
    "match_electrodes": "montage",
    "montage_preset": "montage",
    "select_electrodes": "selection",
    "plot_electrode_graph": "viz",
    "plot_reconstruction": "viz",
    "plot_density_curve": "viz",
    "plot_topology_gap": "viz",
    "plot_embedding": "viz",
    "plot_training_curves": "viz",
}

__all__ = [*_HOME, "__version__"]


def __getattr__(name):
    if name in _HOME:
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted(__all__)

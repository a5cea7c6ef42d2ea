"""Models and windows so small that a whole chain runs in a second."""

import warnings

import mne
import numpy as np
import torch
from braindecode import EEGClassifier
from torch import nn

from braindecode_gcmae import (
    GCMAEPretrainer,
    GCMAEStudent,
    GCMAETeacher,
    TopologyDistillation,
)
from braindecode_gcmae.models import JointPretraining
from braindecode_gcmae.models.wrapped import unwrap

NAMES = ["F3", "F4", "C3", "Cz", "C4", "Pz"]
FEW = ["C3", "Cz", "C4"]
SFREQ, N_TIMES = 100.0, 160
SMALL = {
    "emb_dim": 8,
    "depth": 1,
    "n_heads": 2,
    "n_bands": 3,
    "n_filters": 2,
    "position_degree": 1,
    "drop_prob": 0.0,
    "segment_dropout": 0.0,
}
SIGNAL = {"ch_names": NAMES, "sfreq": SFREQ, "n_times": N_TIMES}


def windows(n=16, n_chans=6, seed=0):
    """Noise of 10 µV, with an alpha wave that differs between windows."""
    rng = np.random.default_rng(seed)
    t = np.arange(N_TIMES) / SFREQ
    wave = np.sin(2 * np.pi * 10 * t) * rng.uniform(0, 20, (n, n_chans, 1))
    return (wave + 10 * rng.normal(size=(n, n_chans, N_TIMES))).astype(np.float32)


def labelled(n=24, seed=0):
    """Windows whose class is the power over C3."""
    x, y = windows(n, seed=seed), np.arange(n) % 2
    x[y == 1, NAMES.index("C3")] *= 3
    return x, y.astype(np.int64)


def info():
    made = mne.create_info(NAMES, SFREQ, "eeg")
    made.set_montage("standard_1020")
    return made


def epochs(x, y=None, **metadata):
    """Epochs of windows in µV."""
    import pandas as pd

    events = np.c_[
        np.arange(len(x)), np.zeros(len(x)), np.zeros(len(x)) if y is None else y
    ]
    table = pd.DataFrame(metadata) if metadata else None
    return mne.EpochsArray(
        x * 1e-6, info(), events=events.astype(int), metadata=table, verbose=False
    )


def windowed(x, names, sfreq=SFREQ, *, bads=(), eog=(), montage=None, **description):
    """A braindecode dataset of windows (B, N, T) that are cut from one recording."""
    from braindecode.datasets import BaseConcatDataset, RawDataset
    from braindecode.preprocessing import create_fixed_length_windows

    made = mne.create_info(list(names), sfreq, "eeg")
    if montage is not None:
        made.set_montage(montage)
    raw = mne.io.RawArray(np.concatenate(list(x), axis=1), made, verbose=False)
    raw.set_channel_types(dict.fromkeys(eog, "eog"), verbose=False)
    raw.info["bads"] = list(bads)
    told = {"subject": 1, **description}
    target = "target" if "target" in told else None
    return create_fixed_length_windows(
        BaseConcatDataset([RawDataset(raw, told, target)]),
        start_offset_samples=0,
        stop_offset_samples=None,
        window_size_samples=x.shape[2],
        window_stride_samples=x.shape[2],
        on_last_window="drop",
    )


def student(seed=0, **arguments):
    return _model(GCMAEStudent, seed, {"electrodes": FEW, **arguments})


def teacher(seed=1, **arguments):
    """A teacher whose head is not new: its bias has moved."""
    model = _model(GCMAETeacher, seed, arguments)
    if isinstance(model.final_layer, nn.Linear):
        nn.init.constant_(model.final_layer.bias, 1e-3)
    return model


def _model(cls, seed, arguments):
    with torch.random.fork_rng():
        torch.default_generator.manual_seed(seed)
        return cls(**{**SIGNAL, "n_outputs": 2, **SMALL, **arguments})


def joint(**arguments):
    pair = {"teacher": teacher(), "student": student()}
    pair = {name: arguments.pop(name, model) for name, model in pair.items()}
    with torch.random.fork_rng():
        torch.default_generator.manual_seed(2)
        return JointPretraining(
            **{**pair, "projection_dim": 5, "queue_size": 64, **arguments}
        )


def small(prefix):
    return {f"{prefix}__{name}": value for name, value in SMALL.items()}


def pretrainer(**arguments):
    """A pretrainer of tiny models."""
    ready = {n for n, given in arguments.items() if isinstance(given, nn.Module)}
    given = {
        **({} if "student" in ready else {"electrodes": FEW}),
        "ch_names": NAMES,
        "sfreq": SFREQ,
        "projection_dim": 5,
        "queue_size": 64,
        "max_epochs": 2,
        "batch_size": 8,
        "verbose": 0,
        **({} if "teacher" in ready else small("teacher")),
        **({} if "student" in ready else small("student")),
        **arguments,
    }
    if "chs_info" in given:
        del given["ch_names"]
    return GCMAEPretrainer(**given)


def quietly(function, *args, **kwargs):
    """Call a function whose warnings another test looks at."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return function(*args, **kwargs)


def weights(module):
    """All parameters and buffers in one vector."""
    state = module.state_dict().values()
    return torch.cat([v.detach().double().flatten() for v in state])


X, Y = labelled()


def classifier(module=GCMAEStudent, seed=3, callbacks=None, cls=EEGClassifier, **given):
    """An EEGClassifier whose training is the same in every call."""
    arguments = {
        "module__ch_names": NAMES,
        "module__sfreq": SFREQ,
        **small("module"),
        "optimizer": torch.optim.AdamW,
        "lr": 1e-2,
        "max_epochs": 2,
        "batch_size": 8,
        "train_split": None,
        "verbose": 0,
        "callbacks": callbacks,
        **given,
    }
    if module is GCMAEStudent:
        arguments.setdefault("module__electrodes", FEW)
    if isinstance(module, torch.nn.Module):
        arguments = {k: v for k, v in arguments.items() if not k.startswith("module__")}
    return cls(module, **arguments)


def fit(net, seed=0, x=X, y=Y):
    with torch.random.fork_rng():
        torch.default_generator.manual_seed(seed)
        net.fit(x, y)
    return net


def distil(t=None, **arguments):
    return [("distil", TopologyDistillation(t or teacher(), **arguments))]


def vector(net):
    return weights(unwrap(net.module_))


def trained(model):
    """Weights of any size: fresh ones hide the graph, the encoder and the head."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.add_(0.2 * noise)
    return model.eval()


def probabilities(model, x):
    """What a model says of windows."""
    with torch.no_grad():
        return model(torch.as_tensor(x)).softmax(-1).numpy()


def exported_answers(path, x):
    """What an exported file says of windows."""
    import onnxruntime

    providers = ["CPUExecutionProvider"]
    session = onnxruntime.InferenceSession(str(path), providers=providers)
    return session.run(None, {"x": np.asarray(x, np.float32)})[0]

"""Small models and windows for the tests of this folder."""

import contextlib
import json
import warnings

import numpy as np
import torch

from braindecode_gcmae import GCMAEStudent, GCMAETeacher
from braindecode_gcmae.montage import make_chs_info, standard_positions

HD = "Fp1 Fp2 F7 F3 Fz F4 F8 T7 C3 Cz C4 T8 P7 P3 Pz P4 P8 O1 O2".split()
LD = ["C4", "Pz", "C3", "Fz", "P4"]
N_HD = len(HD)
KEPT = [HD.index(name) for name in LD]
SFREQ, N_TIMES = 128, 256
SMALL = {"emb_dim": 16, "depth": 1, "n_heads": 2, "n_bands": 4, "n_filters": 2}
BOTH = [GCMAEStudent, GCMAETeacher]
CAP_64 = sorted(standard_positions())[:64]
SENTINEL = "gcmae_sentinel"


@contextlib.contextmanager
def fixed_seed(seed):
    """Random numbers of torch from a seed, and those of before afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def build(cls=GCMAEStudent, names=HD, *, seed=0, **arguments):
    """A small model in eval mode with weights from a seed.

    A fresh head hides the electrodes; a trained one has weights of any size.
    """
    given = {"n_outputs": 3, "n_times": N_TIMES, "sfreq": SFREQ, **SMALL, **arguments}
    if names is not None and "n_chans" not in given:
        given.setdefault("chs_info", make_chs_info(names))
    with fixed_seed(seed), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        model = cls(**given)
        for parameter in model.final_layer.parameters():
            torch.nn.init.normal_(parameter)
    return model.eval()


def windows(n=4, n_chans=N_HD, n_times=N_TIMES, *, seed=0):
    """Correlated noise around 10 µV (n, n_chans, n_times)."""
    generator = torch.Generator().manual_seed(seed)
    own = torch.randn(n, n_chans, n_times, generator=generator)
    shared = torch.randn(n, 3, n_times, generator=generator)
    mixing = torch.randn(n_chans, 3, generator=generator)
    return 8 * own + 5 * torch.einsum("cs,nst->nct", mixing, shared)


def positions(names):
    """Tabulated positions (len(names), 3) in metres."""
    table = standard_positions()
    return torch.tensor(np.stack([table[name] for name in names])).float()


def logits(model, x, **extra):
    with torch.no_grad():
        return model(x, **extra)


def edit(folder, **changes):
    path = folder / "config.json"
    config = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps(config))


def loaders(folder):
    """Every public way from a folder or a configuration to a model."""
    yield lambda: GCMAEStudent.from_pretrained(folder)
    yield lambda: GCMAEStudent.from_pretrained(str(folder))
    yield lambda: GCMAEStudent._from_pretrained(model_id=str(folder))
    try:
        config = json.loads((folder / "config.json").read_text())
    except (ValueError, OSError, RecursionError):
        return
    if isinstance(config, dict):
        yield lambda: GCMAEStudent.from_config(config)


def same_weights(first, second, but=()):
    first, second = first.state_dict(), second.state_dict()
    assert first.keys() == second.keys()
    return all(
        torch.equal(first[name], second[name])
        for name in first
        if not name.startswith(tuple(but))
    )

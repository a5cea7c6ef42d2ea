"""Bad input gets an error of the documented type that names the thing."""

import warnings

import numpy as np
import pytest
import torch
from model_helpers import (
    BOTH,
    HD,
    LD,
    N_HD,
    N_TIMES,
    SFREQ,
    SMALL,
    build,
    logits,
    positions,
    windows,
)
from torch import nn

from braindecode_gcmae import GCMAEStudent
from braindecode_gcmae.encoders import GraphTransformerEncoder
from braindecode_gcmae.features import SpectralFeatures
from braindecode_gcmae.graph import GeometricGraph
from braindecode_gcmae.models import FlattenReadout
from braindecode_gcmae.montage import make_chs_info

NOWHERE = [{"ch_name": f"X{i}", "kind": "eeg", "loc": np.zeros(12)} for i in range(4)]
TOGETHER = [
    {"ch_name": f"X{i}", "kind": "eeg", "loc": np.r_[0.05, 0, 0.1, np.zeros(9)]}
    for i in range(2)
]
BASE = {"n_outputs": 2, "n_times": N_TIMES, "sfreq": SFREQ, **SMALL}

# arguments of the model, type of the error, what the message names
CONSTRUCTION = {
    "no channels at all": ({}, ValueError, "n_chans could not be inferred"),
    "no sampling rate": ({"n_chans": 4, "sfreq": None}, ValueError, "sfreq"),
    "no length": ({"n_chans": 4, "n_times": None}, ValueError, "n_times"),
    "number and names disagree": (
        {"n_chans": 3, "ch_names": LD},
        ValueError,
        "n_chans=3, but ch_names has 5",
    ),
    "chs_info and names disagree": (
        {"chs_info": make_chs_info(LD), "ch_names": LD[::-1]},
        ValueError,
        "are not the channels of chs_info",
    ),
    "unknown electrode": (
        {"ch_names": HD, "electrodes": ["C3", "Cy"]},
        ValueError,
        r"Cy.*similar name",
    ),
    "electrode of another cap": (
        {"ch_names": HD, "electrodes": ["FC3"]},
        ValueError,
        r"FC3.*nearest by position",
    ),
    "duplicate electrode": (
        {"ch_names": HD, "electrodes": ["C3", "Cz", "C3"]},
        ValueError,
        "duplicate.*C3",
    ),
    "duplicate by alias": (
        {"ch_names": HD, "electrodes": ["T3", "T7"]},
        ValueError,
        "duplicate.*T3.*T7",
    ),
    "duplicate channel": (
        {"ch_names": ["C3", "C4", "C3"]},
        ValueError,
        "duplicate channels.*C3",
    ),
    "duplicate channel in chs_info": (
        {"chs_info": [*make_chs_info(["C3"]), *make_chs_info(["C3"])]},
        ValueError,
        "duplicate channels.*C3",
    ),
    "ambiguous electrode": (
        {"ch_names": ["C3-A1", "C3-A2", "Cz"], "electrodes": ["C3"]},
        ValueError,
        "C3.*2 times",
    ),
    "no electrodes": ({"ch_names": HD, "electrodes": []}, ValueError, "empty"),
    "electrodes as one string": (
        {"ch_names": HD, "electrodes": "C3"},
        TypeError,
        "electrodes|names must be a list",
    ),
    "electrodes without names": (
        {"n_chans": 4, "electrodes": ["C3"]},
        ValueError,
        r"electrodes=\['C3'\].*pass chs_info or ch_names",
    ),
    "names that are numbers": ({"ch_names": [1, 2]}, TypeError, "name.*string"),
    "geometric graph without names": (
        {"n_chans": 4, "graph": GeometricGraph},
        ValueError,
        "GeometricGraph needs electrode positions",
    ),
    "geometric graph without positions": (
        {"chs_info": NOWHERE, "graph": GeometricGraph},
        ValueError,
        "GeometricGraph needs electrode positions.*X0.*unknown",
    ),
    "geometric graph on coincident positions": (
        {"chs_info": TOGETHER, "graph": GeometricGraph},
        ValueError,
        "distinct.*X0.*X1",
    ),
    "band above Nyquist": (
        {"ch_names": LD, "f_max": 70.0},
        ValueError,
        "f_max=70 Hz is above the Nyquist frequency 64",
    ),
    "rate of a slow recording": (
        {"ch_names": LD, "sfreq": 64, "f_max": 40.0},
        ValueError,
        "f_max=40 Hz.*Nyquist",
    ),
    "band upside down": (
        {"ch_names": LD, "f_min": 20.0, "f_max": 10.0},
        ValueError,
        "f_min < f_max",
    ),
    "negative frequency": ({"ch_names": LD, "f_min": -1.0}, ValueError, "f_min"),
    "window too short": (
        {"ch_names": LD, "n_times": 40},
        ValueError,
        "40 samples.*too short",
    ),
    "window too short for the PSD": (
        {"ch_names": LD, "n_times": 40, "features": SpectralFeatures},
        ValueError,
        "40 samples.*too short",
    ),
    "segment too short": (
        {"ch_names": LD, "segment_seconds": 0.1},
        ValueError,
        "segment_seconds=0.1",
    ),
    "length and rate disagree": (
        {"ch_names": LD, "input_window_seconds": 7.0},
        ValueError,
        "n_times=256",
    ),
    "no outputs": ({"ch_names": LD, "n_outputs": 0}, ValueError, "n_outputs"),
    "half an output": ({"ch_names": LD, "n_outputs": 2.5}, ValueError, "n_outputs"),
    "width not a multiple of heads": (
        {"ch_names": LD, "emb_dim": 15},
        ValueError,
        "emb_dim=15.*n_heads=2",
    ),
    "no width": ({"ch_names": LD, "emb_dim": 0}, ValueError, "emb_dim"),
    "certain dropout": ({"ch_names": LD, "drop_prob": 1.5}, ValueError, "drop_prob"),
    "negative electrode dropout": (
        {"ch_names": LD, "electrode_dropout": -0.1},
        ValueError,
        "electrode_dropout",
    ),
    "an encoder by name": (
        {"ch_names": LD, "encoder": "GCNConv"},
        TypeError,
        "encoder must be a class.*GCNConv",
    ),
    "an encoder that is an object": (
        {"ch_names": LD, "encoder": GraphTransformerEncoder(16, 1)},
        TypeError,
        "encoder must be a class",
    ),
    "an activation that is a function": (
        {"ch_names": LD, "activation": torch.relu},
        TypeError,
        "activation must be a class",
    ),
    "features that are no module": (
        {"ch_names": LD, "features": dict},
        TypeError,
        "features must be a class",
    ),
}


@pytest.mark.filterwarnings("ignore:.*no positions for:UserWarning")
@pytest.mark.parametrize("cls", BOTH)
@pytest.mark.parametrize("case", CONSTRUCTION)
def test_a_model_that_cannot_be_says_why(cls, case):
    arguments, error, message = CONSTRUCTION[case]
    with pytest.raises(error, match=message):
        cls(**{**BASE, **arguments})


# windows, keywords of forward, type of the error, what the message names
X, POS = windows(), positions(HD).expand(4, -1, -1)
FORWARD = {
    "too many channels": (windows(4, 30), {}, "got 30 channels.*19.*5 electrodes"),
    "too few channels": (windows(4, 4), {}, "got 4 channels.*19.*5 electrodes"),
    "no channels": (windows(4, 0), {}, "got 0 channels"),
    "time before channels": (
        X.transpose(1, 2),
        {},
        r"\[4, 256, 19\] \(batch, channels, times\)",
    ),
    "one window without batch": (X[0], {}, r"batch, channels, times.*\[19, 256\]"),
    "images": (X[:, None], {}, r"batch, channels, times.*\[4, 1, 19, 256\]"),
    "shorter windows": (
        X[:, :, :60],
        {},
        r"\[4, 19, 60\].*built for 256 samples and needs 128",
    ),
    "positions of another number": (
        X,
        {"pos": POS[:, :5]},
        r"pos must be.*\[4, 5, 3\]",
    ),
    "flat positions": (X, {"pos": POS[..., :2]}, r"pos must be.*\[4, 19, 2\]"),
    "positions as a row": (X, {"pos": POS[0, 0]}, r"pos must be.*\[3\]"),
    "positions of another batch": (X, {"pos": POS[:2]}, r"pos must be.*\[2, 19, 3\]"),
    "mask of another number": (
        X,
        {"ch_mask": torch.ones(4, 5, dtype=torch.bool)},
        r"ch_mask must be.*\[4, 5\]",
    ),
    "mask that would broadcast": (
        X,
        {"ch_mask": torch.ones(4, 1, dtype=torch.bool)},
        r"ch_mask must be.*\[4, 1\]",
    ),
    "mask as a row": (
        X,
        {"ch_mask": torch.ones(N_HD, dtype=torch.bool)},
        r"ch_mask must be.*\[19\]",
    ),
}


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("case", FORWARD)
def test_windows_that_do_not_fit_are_refused(case, training):
    x, keywords, message = FORWARD[case]
    model = build(electrodes=LD).train(training)
    with pytest.raises(ValueError, match=message):
        model(x, **keywords)


def test_a_flattened_readout_is_tied_to_its_montage():
    model = build(names=None, n_chans=N_HD, readout=FlattenReadout)
    with pytest.raises(ValueError, match="FlattenReadout is tied to 19"):
        model(windows(2, 7), pos=positions(HD[:7]).expand(2, -1, -1))


# ------------------------------------------------ odd, but no reason to refuse
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize(
    "x",
    [
        torch.full((3, N_HD, N_TIMES), float("nan")),
        torch.full((3, N_HD, N_TIMES), float("inf")),
        torch.zeros(3, N_HD, N_TIMES),
        torch.ones(3, N_HD, N_TIMES) * 1e5,
        windows(3) * 1e-6,
        windows(3) * 1e6,
        windows(3) * 1e11,
        windows(3) * 1e-30,
        windows(1).expand(3, -1, -1),
        windows(3)[:, :1].expand(-1, N_HD, -1),
        torch.where(torch.arange(N_HD)[:, None] == 3, torch.zeros(()), windows(3)),
    ],
    ids="nan inf flat offset volts large huge tiny identical bridged dead".split(),
)
def test_any_values_give_finite_logits_and_gradients(x, training):
    model = build().train(training)
    x = x.clone().requires_grad_()
    out = model(x)
    out.square().mean().backward()
    assert torch.isfinite(out).all() and torch.isfinite(x.grad).all()
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            assert torch.isfinite(parameter.grad).all(), name
    for name, value in model.state_dict().items():
        assert torch.isfinite(value).all(), name


def test_a_mask_of_numbers_is_a_mask():
    mask = torch.ones(4, N_HD)
    mask[:, 3] = 0
    model = build()
    assert torch.equal(
        logits(model, X, ch_mask=mask), logits(model, X, ch_mask=mask.bool())
    )


@pytest.mark.parametrize("n", [1, 2])
def test_a_batch_of_one_trains(n):
    model = build().train()
    model(windows(n)).square().sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.final_layer.parameters())


def test_an_empty_batch_gives_no_logits():
    assert logits(build(), windows(0)).shape == (0, 3)


def test_coincident_positions_are_two_electrodes_where_no_one_asks_for_distance():
    model = build(names=None, chs_info=TOGETHER)
    assert torch.isfinite(logits(model, windows(2, 2))).all()


# ------------------------------------------------------------------- warnings
def test_channels_without_names_are_said_once():
    with pytest.warns(UserWarning, match="no chs_info or ch_names") as caught:
        GCMAEStudent(n_chans=4, **BASE)
    assert len(caught) == 1
    assert caught[0].filename == __file__, "points at the caller"


def test_electrodes_without_positions_are_named_once():
    with pytest.warns(UserWarning, match=r"no positions for \['nasal'\]") as caught:
        GCMAEStudent(ch_names=["C3", "nasal", "C4"], **BASE)
    assert len(caught) == 1
    assert caught[0].filename == __file__, "points at the caller"


def test_channels_that_are_no_electrodes_of_the_model_need_no_position():
    names = ["C3", "EOG left", "nasal", "C4"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        GCMAEStudent(ch_names=names, electrodes=["C4", "C3"], **BASE)
    with pytest.warns(UserWarning, match=r"no positions for \['nasal'\]"):
        GCMAEStudent(ch_names=names, electrodes=["C4", "nasal"], **BASE)


def test_names_are_asked_only_where_there_are_some():
    model = build(names=None, n_chans=4)
    with pytest.raises(ValueError, match="built without chs_info or ch_names"):
        model.node_channels()
    assert build(electrodes=LD, activation=nn.ELU).node_channels()[0]["ch_name"] == "C4"

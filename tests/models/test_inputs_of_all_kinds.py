"""What models are built from and fed with: numpy's numbers, double precision, signs."""

from collections import deque

import numpy as np
import pandas as pd
import pytest
import torch

from braindecode_gcmae import GCMAEStudent, GCMAETeacher
from tests.tiny import FEW, NAMES, info, pretrainer, student, windows

X = torch.as_tensor(windows(5))
SIGNAL = {"n_outputs": 2, "n_times": X.shape[2], "sfreq": 128}
MODELS = [GCMAEStudent, GCMAETeacher]


def shaken(model):
    """A model whose weights are no start: its answers differ from zero."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model.eval()


FROM_A_SEARCH = {
    "n_times": np.int64(X.shape[2]),
    "sfreq": np.float32(128),
    "n_outputs": np.int64(2),
    "ch_names": np.array(NAMES),
    "electrodes": np.array(FEW),
    "depth": np.int64(1),
    "n_heads": np.int32(2),
    "f_min": np.float64(8.0),
    "second_moments": np.False_,
}


@pytest.mark.parametrize("name", FROM_A_SEARCH)
def test_a_saved_model_has_the_arguments_that_numpy_gave_it(name, tmp_path):
    given = {**SIGNAL, "ch_names": NAMES, name: FROM_A_SEARCH[name]}
    model = shaken(GCMAEStudent(**given))
    model.save_pretrained(tmp_path)
    loaded = GCMAEStudent.from_pretrained(tmp_path)
    assert loaded.get_config() == model.get_config()
    assert torch.equal(loaded(X), model(X))


ORDERED = {
    "keys": lambda names: dict.fromkeys(names).keys(),
    "values": lambda names: dict(enumerate(names)).values(),
    "tuple": tuple,
    "deque": deque,
}
UNORDERED = {
    "set": set,
    "frozenset": frozenset,
    "generator": lambda names: (name for name in names),
    "iterator": iter,
}


@pytest.mark.parametrize("kind", ORDERED)
@pytest.mark.parametrize("argument", ["electrodes", "ch_names"])
def test_names_in_any_order_preserving_kind_are_saved(argument, kind, tmp_path):
    given = {**SIGNAL, "ch_names": NAMES, "electrodes": FEW}
    plain = list(given[argument])
    model = shaken(GCMAEStudent(**{**given, argument: ORDERED[kind](plain)}))
    assert model.get_config()[argument] == plain
    model.save_pretrained(tmp_path)
    assert torch.equal(GCMAEStudent.from_pretrained(tmp_path)(X), model(X))
    superseded = {"ch_names": NAMES, argument: ORDERED[kind](plain)}
    again = GCMAEStudent.from_pretrained(tmp_path, **superseded)
    assert torch.equal(again(X), model(X))


@pytest.mark.parametrize("kind", UNORDERED)
@pytest.mark.parametrize("argument", ["electrodes", "ch_names", "chs_info"])
def test_channels_without_an_order_or_read_once_are_refused(argument, kind, tmp_path):
    GCMAEStudent(**SIGNAL, ch_names=NAMES).save_pretrained(tmp_path)
    with pytest.raises(TypeError, match=f"{argument} is a"):
        GCMAEStudent(**{**SIGNAL, "ch_names": NAMES, argument: UNORDERED[kind](FEW)})
    with pytest.raises(TypeError, match=f"{argument} is a"):
        GCMAEStudent.from_pretrained(tmp_path, **{argument: UNORDERED[kind](FEW)})


def test_a_pretrainers_student_is_saved_with_the_electrodes_of_a_dict(tmp_path):
    net = pretrainer(electrodes=dict.fromkeys(FEW).keys(), max_epochs=1)
    net.fit(windows(8), None)
    net.student_.save_pretrained(tmp_path)
    assert GCMAEStudent.from_pretrained(tmp_path).get_config()["electrodes"] == FEW


@pytest.mark.parametrize("cls", MODELS)
@pytest.mark.parametrize("given", [info(), info().ch_names, info().ch_names[0]])
def test_channels_of_another_kind_than_chs_info_are_told_what_to_do(cls, given):
    for more in ({}, {"n_chans": 6}):
        with pytest.raises(TypeError, match=r"info\['chs'\].*ch_names="):
            cls(**SIGNAL, chs_info=given, **more)
    assert cls(**SIGNAL, chs_info=info()["chs"]).n_chans == 6


def test_models_that_differ_in_an_array_are_told_apart():
    few, fewer = (
        GCMAEStudent(**SIGNAL, ch_names=pd.Index(NAMES), electrodes=np.array(FEW[:n]))
        for n in (1, 2)
    )
    fewer.load_state_dict(few.state_dict())
    assert repr(few) != repr(fewer)


@pytest.mark.parametrize("cls", MODELS)
def test_models_are_made_in_the_precision_that_torch_makes_parameters_in(cls):
    torch.manual_seed(0)
    single = shaken(cls(**SIGNAL, ch_names=NAMES))
    torch.set_default_dtype(torch.float64)
    try:
        double = cls(**SIGNAL, ch_names=NAMES).eval()
        double.load_state_dict(single.state_dict())
        for x in (X, X.double()):
            answer = double(x)
            assert answer.dtype == torch.float64
            torch.testing.assert_close(answer.float(), single(X), rtol=1e-4, atol=1e-5)
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("cls", MODELS)
def test_float16_cannot_hold_powers_and_is_refused_before_it_gives_nan(cls):
    model = cls(**SIGNAL, ch_names=NAMES).eval().half()
    with pytest.raises(TypeError, match=r"use model\.bfloat16\(\)"):
        model(X.half())
    assert torch.isfinite(model.bfloat16()(300 * X.bfloat16())).all()


@pytest.mark.parametrize("cls", MODELS)
def test_a_window_and_its_negative_get_the_same_answer(cls):
    model = shaken(cls(**SIGNAL, ch_names=NAMES))
    assert torch.equal(model(X), model(-X))


def learnt(dtype):
    """A model that has seen 900 windows."""
    model = student().to(dtype).train()
    for seed in range(3):
        model(torch.as_tensor(windows(300, seed=seed)))
    return model


def test_statistics_of_a_bfloat16_model_count_every_window():
    half, single = learnt(torch.bfloat16), learnt(torch.float32)
    for name, value in single.network.norm.named_buffers():
        found = half.network.norm.get_buffer(name)
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, value, rtol=1e-2, atol=1e-2)
    assert half.network.norm.windows == 900
    assert half.eval()(X).dtype == torch.bfloat16


def test_statistics_go_where_a_model_goes_and_are_widened_with_it():
    model = learnt(torch.float32)
    learned = model.network.norm.square.clone()
    assert torch.equal(model.bfloat16().network.norm.square, learned)
    assert torch.equal(model.float().network.norm.square, learned)
    assert model.double().network.norm.square.dtype == torch.float64
    assert model.to("meta").network.norm.square.is_meta


@pytest.mark.parametrize("cls", MODELS)
@pytest.mark.parametrize("paper", [False, True])
def test_a_model_of_shapes_alone_can_be_built(cls, paper):
    parts = cls.paper_arguments() if paper else {}
    with torch.device("meta"):
        model = cls(**SIGNAL, ch_names=NAMES, **parts)
    there = cls(**SIGNAL, ch_names=NAMES, **parts)
    shapes = [{k: v.shape for k, v in m.state_dict().items()} for m in (model, there)]
    assert shapes[0] == shapes[1] and next(model.parameters()).is_meta
    assert model.train()(X.to("meta")).shape == (len(X), 2)


def test_a_quantised_model_has_a_repr_that_tells_its_weights():
    model = student().eval()
    quantised = torch.ao.quantization.quantize_dynamic(model)
    with torch.no_grad():
        model.network.embed.weight.mul_(2)
    other = torch.ao.quantization.quantize_dynamic(model)
    assert "weights=" in repr(quantised) and repr(quantised) != repr(other)

"""Student and teacher are ordinary braindecode models, and skorch nets of them."""

import copy
import inspect
import pickle

import mne
import numpy as np
import pytest
import torch
from braindecode import EEGClassifier, EEGRegressor
from braindecode.datasets import (
    BaseConcatDataset,
    RawDataset,
    create_from_X_y,
    pad_channels_collate,
)
from braindecode.models.base import EEGModuleMixin
from braindecode.models.util import models_dict
from braindecode.preprocessing import create_fixed_length_windows
from model_helpers import (
    BOTH,
    HD,
    KEPT,
    LD,
    N_HD,
    N_TIMES,
    SFREQ,
    SMALL,
    build,
    fixed_seed,
    logits,
    positions,
    windows,
)
from sklearn.base import clone
from sklearn.model_selection import cross_val_score
from torch import nn

from braindecode_gcmae import GCMAEStudent
from braindecode_gcmae.montage import make_chs_info

each_model = pytest.mark.parametrize("cls", BOTH)
MODULE = {f"module__{name}": value for name, value in SMALL.items()}
TRAIN = {
    "max_epochs": 2,
    "batch_size": 8,
    "lr": 1e-3,
    "optimizer": torch.optim.AdamW,
    "train_split": None,
    "verbose": 0,
    "iterator_train__drop_last": False,
}
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*no chs_info or ch_names:UserWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


def labelled(n=20, n_chans=N_HD):
    """Two classes that differ in the power of every second electrode."""
    x, y = windows(n, n_chans).numpy(), np.arange(n) % 2
    x[y == 1, ::2] *= 4
    return x, y


# ---------------------------------------------------------------------- model
@each_model
def test_a_model_is_registered_and_typed(cls):
    assert models_dict[cls.__name__] is cls
    assert issubclass(cls, EEGModuleMixin) and issubclass(cls, nn.Module)
    for name, parameter in inspect.signature(cls.__init__).parameters.items():
        if name != "self":
            assert parameter.annotation is not parameter.empty, name
            assert parameter.default is not parameter.empty, name


@each_model
def test_the_head_comes_last_and_can_be_replaced(cls):
    model = build(cls)
    assert [name for name, _ in model.named_children()][-1] == "final_layer"
    body = copy.deepcopy(model.network.state_dict())
    model.reset_head(6)
    assert model.n_outputs == 6 and logits(model, windows()).shape == (4, 6)
    assert all(torch.equal(body[k], v) for k, v in model.network.state_dict().items())
    model.double().reset_head(2)
    assert model.final_layer.weight.dtype == torch.float64
    with pytest.raises(ValueError, match="n_outputs"):
        model.reset_head(0)


@each_model
def test_features_are_what_the_head_sees(cls):
    model = build(cls)
    with torch.no_grad():
        out = model(windows(), return_features=True)
    assert set(out) == {"features", "cls_token"} and out["cls_token"] is None
    assert torch.equal(model.final_layer(out["features"]), logits(model, windows()))


@each_model
def test_a_model_tells_its_shape_and_its_table(cls):
    model = build(cls)
    assert model.get_output_shape() == (1, 3)
    assert "final_layer" in str(model) and model.input_shape == (1, N_HD, N_TIMES)


def test_the_signal_arguments_are_inferred_from_each_other():
    model = build(n_times=None, input_window_seconds=2.0)
    assert model.n_times == N_TIMES
    assert build(sfreq=None, input_window_seconds=2.0).sfreq == SFREQ
    assert model.n_chans == N_HD


@each_model
def test_copies_and_pickles_give_the_same_bits(cls):
    model, x = build(cls, electrodes=LD), windows()
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(logits(twin, x), logits(model, x))
        assert twin.get_config() == model.get_config()
        next(twin.parameters()).data.add_(1)
    assert torch.equal(logits(build(cls, electrodes=LD), x), logits(model, x))


@each_model
def test_a_pydantic_configuration_builds_the_model(cls):
    from braindecode.models.config import make_model_config

    config = make_model_config(cls, ["n_outputs", "n_chans", "n_times", "sfreq"])
    signal = {"n_chans": 4, "n_outputs": 2, "n_times": N_TIMES, "sfreq": SFREQ}
    given = config(**signal, **SMALL, activation="torch.nn.ELU", ch_names=LD[:4])
    again = config.model_validate_json(given.model_dump_json())
    model = again.create_instance()
    assert isinstance(model, cls) and logits(model.eval(), windows(2, 4)).shape == (
        2,
        2,
    )
    assert any(isinstance(module, nn.ELU) for module in model.modules())
    with pytest.raises(ValueError, match="no_such"):
        config(**signal, no_such=1)


@each_model
def test_dropout_acts_in_training_only(cls):
    model, x = build(cls), windows()
    assert torch.equal(logits(model, x), logits(model, x))
    model.train()
    assert not torch.equal(logits(model, x), logits(model, x))


# ------------------------------------------------------------------- compilers
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@each_model
def test_torchscript_gives_the_same_logits(cls, tmp_path):
    model, x = build(cls, electrodes=LD), windows()
    x[1, 3] = float("nan")
    scripted = torch.jit.script(model)
    scripted.save(str(tmp_path / "model.pt"))
    loaded = torch.jit.load(str(tmp_path / "model.pt"))
    pos, mask = positions(HD).expand(4, -1, -1), torch.rand(4, N_HD) > 0.3
    for twin in (scripted, loaded):
        torch.testing.assert_close(twin(x), logits(model, x))
        torch.testing.assert_close(twin(x[:, KEPT]), logits(model, x))
        torch.testing.assert_close(
            twin(x, pos, mask), logits(model, x, pos=pos, ch_mask=mask)
        )


@pytest.mark.slow
def test_an_exported_program_gives_the_same_logits():
    model, x = build(electrodes=LD), windows()
    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(model, (x,), dynamic_shapes={"x": {0: batch}})
    for n in (1, 4, 9):
        given = windows(n, seed=n)
        given[0, 3] = float("nan")
        torch.testing.assert_close(program.module()(given), logits(model, given))


@pytest.mark.slow
@each_model
def test_a_compiled_model_gives_the_same_logits(cls):
    model, x = build(cls, electrodes=LD), windows()
    compiled = torch.compile(model, backend="aot_eager")
    torch.testing.assert_close(compiled(x), model(x), rtol=1e-4, atol=1e-4)
    model.train()
    compiled(x).sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.final_layer.parameters())


# ------------------------------------------------------------------------ nets
@pytest.mark.parametrize("name", ["GCMAEStudent", "GCMAETeacher"])
def test_a_classifier_by_name(name):
    x, y = labelled()
    net = EEGClassifier(
        name, module__ch_names=HD, module__sfreq=SFREQ, **MODULE, **TRAIN
    )
    net.fit(x, y)
    assert net.predict(x).shape == y.shape and net.predict_proba(x).shape == (20, 2)
    assert type(net.module_).__name__ == name


def test_a_classifier_learns_and_reads_both_densities():
    x, y = labelled(48)
    with fixed_seed(0):
        net = EEGClassifier(
            GCMAEStudent,
            module__ch_names=HD,
            module__electrodes=LD,
            module__sfreq=SFREQ,
            **MODULE,
            **{**TRAIN, "max_epochs": 25, "lr": 5e-3},
        ).fit(x, y)
    assert net.score(x, y) > 0.9
    np.testing.assert_array_equal(net.predict_proba(x), net.predict_proba(x[:, KEPT]))
    twin = pickle.loads(pickle.dumps(net))
    np.testing.assert_array_equal(twin.predict_proba(x), net.predict_proba(x))


def test_a_classifier_of_a_built_model():
    x, y = labelled()
    net = EEGClassifier(build(n_outputs=2), **TRAIN).fit(x, y)
    assert net.predict(x.astype(np.float64)).shape == y.shape
    assert net.module_.network.norm.count > 0


def test_a_classifier_of_a_checkpoint(tmp_path):
    x, y = labelled()
    build(n_outputs=5).save_pretrained(tmp_path)
    module = GCMAEStudent.from_pretrained(tmp_path, n_outputs=2)
    before = copy.deepcopy(module.network.state_dict())
    net = EEGClassifier(module, **{**TRAIN, "lr": 0.0}).initialize()
    own = net.module_.network.state_dict()
    assert all(torch.equal(before[name], own[name]) for name in own)
    assert net.fit(x, y).predict(x).shape == y.shape


def test_cross_validation_clones_and_refits():
    x, y = labelled()
    net = EEGClassifier(
        GCMAEStudent, module__ch_names=HD, module__sfreq=SFREQ, **MODULE, **TRAIN
    )
    assert clone(net).get_params()["module__ch_names"] == HD
    scores = cross_val_score(net, x, y, cv=2, error_score="raise")
    assert scores.shape == (2,) and np.isfinite(scores).all()
    assert not hasattr(net, "module_")


def test_a_last_batch_of_one_window_trains():
    x, y = labelled(17)
    net = EEGClassifier(
        GCMAEStudent, module__ch_names=HD, module__sfreq=SFREQ, **MODULE, **TRAIN
    ).fit(x, y)
    assert np.isfinite(net.history[:, "train_loss"]).all()


def test_a_regressor_fits_and_predicts_numbers():
    x, _ = labelled()
    y = np.log(x.var((1, 2)))[:, None].astype(np.float32)
    net = EEGRegressor(
        GCMAEStudent, module__ch_names=HD, module__sfreq=SFREQ, **MODULE, **TRAIN
    )
    net.fit(x, y)  # returns nothing, in braindecode 1.8
    assert net.predict(x).shape == (20, 1) and np.isfinite(net.predict(x)).all()


def epochs(names=HD):
    x, y = labelled(20, len(names))
    info = mne.create_info(list(names), SFREQ, "eeg")
    info.set_montage(mne.channels.make_standard_montage("standard_1005"))
    events = np.c_[np.arange(20) * N_TIMES, np.zeros(20, int), y]
    return mne.EpochsArray(x * 1e-6, info, events, verbose="error"), y


def test_epochs_tell_the_model_who_is_where():
    data, y = epochs()
    net = EEGClassifier(
        GCMAEStudent, module__electrodes=LD, **MODULE, **TRAIN, classes=[0, 1]
    ).fit(data, y)
    assert [c["ch_name"] for c in net.module_.node_channels()] == LD
    assert net.module_.sfreq == SFREQ
    few = data.copy().pick(LD).reorder_channels(LD)
    np.testing.assert_array_equal(net.predict_proba(data), net.predict_proba(few))


def test_a_braindecode_dataset_is_fitted():
    x, y = labelled()
    data = create_from_X_y(
        x,
        y,
        sfreq=SFREQ,
        ch_names=HD,
        window_size_samples=N_TIMES,
        window_stride_samples=N_TIMES,
        drop_last_window=False,
    )
    net = EEGClassifier(
        GCMAEStudent, module__sfreq=SFREQ, **MODULE, **TRAIN, classes=[0, 1]
    )
    net.fit(data, y=None)
    assert net.predict(data).shape == (20,)
    assert net.module_.n_chans == N_HD


# ------------------------------------------------- montages mixed in one batch
def recording(names, label, seed):
    info = mne.create_info(list(names), SFREQ, "eeg")
    data = windows(1, len(names), 8 * N_TIMES, seed=seed)[0].numpy()
    raw = mne.io.RawArray(data * (1 + 3 * label), info, verbose="error")
    raw.set_montage(mne.channels.make_standard_montage("standard_1005"))
    return RawDataset(raw, {"label": label, "subject": seed}, target_name="label")


def mixed_montages():
    caps = [HD, LD, HD[::-1][:7]]
    concat = BaseConcatDataset(
        [recording(cap, i % 2, i) for i, cap in enumerate(caps * 2)]
    )
    data = create_fixed_length_windows(
        concat,
        window_size_samples=N_TIMES,
        window_stride_samples=N_TIMES,
        drop_last_window=True,
        preload=True,
        verbose="error",
    )
    return data.set_return_ch_pos(True)


@pytest.mark.parametrize("electrodes", [None, LD])
def test_a_batch_of_several_montages_end_to_end(electrodes):
    data = mixed_montages()
    module = build(n_outputs=2, electrodes=electrodes)
    net = EEGClassifier(
        module,
        **TRAIN,
        classes=[0, 1],
        iterator_train__collate_fn=pad_channels_collate,
        iterator_valid__collate_fn=pad_channels_collate,
    )
    net.fit(data, y=None)
    assert np.isfinite(net.history[:, "train_loss"]).all()
    together = net.predict_proba(data)
    assert together.shape == (len(data), 2)
    # each window as if it had been alone
    for index in (0, 8, 16):
        x, _, _, pos = data[index]
        with torch.no_grad():
            alone = net.module_.eval()(
                torch.as_tensor(x)[None], pos=torch.as_tensor(pos)[None].float()
            )
        np.testing.assert_allclose(
            alone.softmax(-1)[0], together[index], rtol=1e-3, atol=1e-4
        )


def test_a_montage_in_another_row_order_gives_the_same_prediction():
    """Channel identity comes from the positions, not from the row."""
    chs = make_chs_info(HD)
    model, x = build(chs_info=chs, names=None, electrodes=LD), windows()
    order = np.random.default_rng(3).permutation(N_HD)
    moved = positions([HD[row] for row in order]).expand(4, -1, -1)
    assert torch.equal(logits(model, x[:, order], pos=moved), logits(model, x))

"""Recordings that name their channels are taken by name, never by row."""

import mne
import numpy as np
import pytest
import torch
from skorch.helper import SliceDataset
from tiny import (
    FEW,
    NAMES,
    SFREQ,
    X,
    Y,
    classifier,
    distil,
    epochs,
    fit,
    pretrainer,
    quietly,
    student,
    teacher,
    weights,
    windowed,
    windows,
)

from braindecode_gcmae import (
    GCMAEClassifier,
    GCMAEPretraining,
    RecordingAlignment,
    TopologyDistillation,
)
from braindecode_gcmae.montage import electrode_positions
from braindecode_gcmae.pretraining import UnlabelledWindows
from braindecode_gcmae.pretraining.arranged import arranged, for_model

pytestmark = pytest.mark.filterwarnings("ignore:some windows have no subject")
TURNED = NAMES[::-1]


def named(x, names, sfreq=SFREQ):
    """Epochs of these channels."""
    info = mne.create_info(names, sfreq, "eeg")
    made = mne.EpochsArray(x * 1e-6, info, verbose=False)
    return made.set_montage("standard_1005")


@pytest.fixture(scope="module")
def trained():
    return pretrainer(max_epochs=1).fit(epochs(windows()))


def turned(x):
    return epochs(x).reorder_channels(TURNED)


def test_the_order_of_named_channels_changes_no_bit_of_an_embedding(trained):
    x = windows(5, seed=4)
    for embed in (trained.transform, trained.transform_teacher):
        np.testing.assert_array_equal(embed(turned(x)), embed(epochs(x)))
    few = epochs(x).pick(FEW)
    np.testing.assert_array_equal(trained.transform(few), trained.transform(epochs(x)))
    np.testing.assert_array_equal(
        trained.transform(few.copy().reorder_channels(FEW[::-1])),
        trained.transform(few),
    )


def test_the_order_changes_no_bit_of_pretraining_or_inpainting(trained):
    again = pretrainer(max_epochs=1, chs_info=epochs(windows()).info["chs"])
    again.fit(turned(windows()))
    assert torch.equal(weights(again.joint_), weights(trained.joint_))
    x = windows(3, seed=5)
    ours, theirs = (trained.reconstruct(e, ["C3"]) for e in (turned(x), epochs(x)))
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(one, other)


def test_another_cap_is_taken_by_its_positions(trained):
    x = windows(4, seed=6)
    other = ["O1", "Oz", "O2", "P7", "P8", "POz"]
    elsewhere = trained.transform_teacher(named(x, other))
    assert np.abs(elsewhere - trained.transform_teacher(epochs(x))).max() > 1e-3
    together = UnlabelledWindows([epochs(x), named(x, other)])
    alone = trained.transform_teacher(together)
    np.testing.assert_allclose(alone[4:], elsewhere, rtol=1e-4, atol=1e-5)


def test_names_that_say_nothing_are_taken_on_trust():
    x = windows(2)
    info = mne.create_info([f"EEG {i}" for i in range(len(NAMES))], SFREQ, "eeg")
    given = UnlabelledWindows(mne.EpochsArray(x * 1e-6, info, verbose=False))
    assert arranged(given, [name.lower() for name in NAMES]) is given
    array = UnlabelledWindows(x)
    assert for_model(array, student()) is array


def test_another_rate_is_refused_whenever_windows_are_handed_over(trained):
    fast = named(windows(4), NAMES, sfreq=2 * SFREQ)
    for use in (trained.transform, trained.partial_fit):
        with pytest.raises(ValueError, match="200 Hz.*100 Hz"):
            use(fast)


def test_the_pool_of_a_distillation_is_taken_by_name():
    pool = windows(9, seed=8)
    found = []
    for unlabelled in (epochs(pool), turned(pool)):
        callback = TopologyDistillation(teacher(), unlabelled=unlabelled)
        net = fit(classifier(callbacks=[("distil", callback)]))
        found.append(weights(net.module_))
    assert torch.equal(*found)


def test_more_windows_of_a_pretraining_stage_are_taken_by_name():
    more, found = windows(9, seed=8), []
    for unlabelled in (epochs(more), turned(more)):
        stage = GCMAEPretraining(unlabelled=unlabelled, teacher=None)
        net = classifier(student(), callbacks=[("pretrain", stage)]).initialize()
        parts = stage._windows(net, X)
        found.append(np.stack([parts[i][0]["x"] for i in range(len(parts))]))
    np.testing.assert_array_equal(*found)


def test_a_net_that_takes_channels_by_row_refuses_another_order():
    x = epochs(X, Y)
    wrong = x.copy().reorder_channels(TURNED)
    recorded = windowed(wrong.get_data(units="uV"), TURNED, target=1)
    for net in (
        classifier(student(), callbacks=distil(teacher())),
        classifier(student(), cls=GCMAEClassifier),
    ):
        for what in (wrong, SliceDataset(recorded)):
            with pytest.raises(ValueError, match="reorder_channels"):
                net.fit(what, Y)
    net = classifier(cls=GCMAEClassifier).fit(x, Y)
    assert len(net.predict(x)) == len(X)
    with pytest.raises(ValueError, match="reorder_channels"):
        net.predict(wrong)
    with pytest.raises(ValueError, match="200 Hz"):
        net.predict(named(X, NAMES, sfreq=2 * SFREQ))


# ----------------------------------------------------------------------- one person
def test_windows_of_one_person_are_contrasted_with_each_other():
    x = RecordingAlignment().transform(windows())
    one = pretrainer(max_epochs=2, objective="contrast")
    with pytest.warns(UserWarning, match="all windows are of one person"):
        one.fit(x, groups=np.zeros(len(x)))
    assert one.history[-1]["train_loss"] > 0
    nobody = pretrainer(max_epochs=2, objective="contrast").fit(x)
    assert torch.equal(weights(one.joint_), weights(nobody.joint_))


def on_another_cap(names, n=5, scale=None):
    """Epochs of a cap that shares one electrode with the model's."""
    x = windows(n, len(names))
    for name, factor in (scale or {}).items():
        x[:, names.index(name)] *= factor
    made = mne.create_info(names, SFREQ, "eeg")
    made.set_montage("standard_1020")
    return mne.EpochsArray(1e-6 * x, made, verbose=False)


OTHER = ["F7", "F8", "T7", "T8", "O1", "O2", "C3"]


def test_what_is_hidden_on_another_cap_is_that_caps_electrode():
    trained = quietly(pretrainer(max_epochs=1, student=None).fit, epochs(windows()))
    one = trained.reconstruct(on_another_cap(OTHER), ["C3"])
    assert one.masked.tolist() == [name == "C3" for name in OTHER]
    np.testing.assert_allclose(one.positions, electrode_positions(OTHER), atol=1e-6)
    assert one.target.shape[1] == one.present.shape[1] == len(OTHER)
    louder = trained.reconstruct(on_another_cap(OTHER, scale={"C3": 3.0}), ["C3"])
    moved = np.abs(louder.target - one.target).max((0, 2))
    assert moved[-1] > 0.5 and np.array_equal(louder.masked, one.masked)


def test_windows_of_several_caps_are_in_painted_one_cap_at_a_time():
    trained = quietly(pretrainer(max_epochs=1, student=None).fit, epochs(windows()))
    both = [on_another_cap(OTHER), on_another_cap(OTHER[:4])]
    with pytest.raises(ValueError, match="one at a time"):
        trained.reconstruct(both, ["T7"])


def test_a_reconstruction_says_who_had_data():
    trained = quietly(pretrainer(max_epochs=1, student=None).fit, epochs(windows()))
    marked = epochs(windows(4))
    marked.info["bads"] = ["Cz"]
    found = trained.reconstruct(marked, ["C3"])
    assert (~found.present).any(0).tolist() == [name == "Cz" for name in NAMES]

"""Channels of free names are where they were measured, whatever they are called."""

import warnings

import mne
import numpy as np
import pytest
import torch
from braindecode.datasets import BaseConcatDataset
from test_data import recording
from torch.utils.data import Subset

from braindecode_gcmae.callbacks.checks.inputs import check_unlabelled
from braindecode_gcmae.pretraining import UnlabelledWindows
from tests.tiny import (
    NAMES,
    SFREQ,
    info,
    pretrainer,
    quietly,
    student,
    weights,
    windowed,
    windows,
)

FREE = [f"Ch{i}" for i in range(len(NAMES))]
ELSEWHERE = ["O1", "O2", "P7", "P8", "Oz", "POz"]


def epochs_at(places, names=FREE, n=8):
    """Epochs of channels that are called ``names`` and lie at 10-05 places."""
    info = mne.create_info(places, SFREQ, "eeg")
    info.set_montage("standard_1020")
    mne.rename_channels(info, dict(zip(places, names, strict=True)))
    return mne.EpochsArray(1e-6 * windows(n), info, verbose=False)


def test_one_name_at_two_places_is_two_electrodes():
    mixed = UnlabelledWindows([epochs_at(NAMES), epochs_at(ELSEWHERE)])
    assert mixed.mixed and "pos" in mixed[0][0]
    assert not UnlabelledWindows([epochs_at(NAMES), epochs_at(NAMES)]).mixed


def test_later_windows_of_the_same_names_elsewhere_are_not_taken_by_row():
    net = pretrainer(chs_info=None, electrodes=None, teacher=None, max_epochs=1)
    quietly(net.fit, epochs_at(NAMES))
    called = [f"Else{i}" for i in range(len(NAMES))]
    told, same_names = (
        quietly(net.transform, epochs_at(ELSEWHERE, names)) for names in (called, FREE)
    )
    here = quietly(net.transform, epochs_at(NAMES))
    assert np.allclose(told, same_names, atol=1e-6)
    assert not np.allclose(here, same_names, atol=1e-2)


def test_of_what_is_no_eeg_in_a_data_set_nothing_is_read():
    x = windows(4)
    data = windowed(x, NAMES, eog=["Pz"])
    with pytest.warns(UserWarning, match=r"\['Pz'\] are no EEG"):
        seen = UnlabelledWindows(BaseConcatDataset(data.datasets))
    assert np.isnan(seen[0][0]["x"][NAMES.index("Pz")]).all()
    assert np.isfinite(seen[0][0]["x"][: NAMES.index("Pz")]).all()


def test_a_sampler_that_would_be_ignored_is_refused():
    from torch.utils.data import SubsetRandomSampler

    net = pretrainer(iterator_train__sampler=SubsetRandomSampler(range(4)))
    with pytest.raises(ValueError, match="iterator_train__sampler would be ignored"):
        quietly(net.fit, windows(8))


def test_a_rate_that_was_rounded_is_the_same_rate():
    x = windows(8)
    info = mne.create_info(NAMES, 512 / 3, "eeg").set_montage("standard_1020")
    cut = mne.EpochsArray(1e-6 * x, info, verbose=False)
    quietly(pretrainer(sfreq=170.67, max_epochs=1).fit, cut)
    with pytest.raises(ValueError, match="170.66667 Hz, sfreq=171 was given"):
        quietly(pretrainer(sfreq=171).fit, cut)


def test_a_seed_may_be_an_integer_of_numpy():
    quietly(pretrainer(seed=np.int64(3), max_epochs=1).fit, windows(8))


def test_unlabelled_windows_of_a_rounded_rate_are_taken():
    info = mne.create_info(NAMES, 512 / 3, "eeg").set_montage("standard_1020")
    cut = mne.EpochsArray(1e-6 * windows(8), info, verbose=False)
    seen = check_unlabelled(UnlabelledWindows(cut), student(sfreq=170.67))
    assert len(seen) == 8
    with pytest.raises(ValueError, match="have sfreq 170.6.*expect 171"):
        check_unlabelled(UnlabelledWindows(cut), student(sfreq=171.0))


# ------------------------------------------------------- a cap of other channels
def test_recordings_of_one_smaller_cap_are_placed_as_those_of_two_are():
    cap = ["Pz", "C4", "Cz", "Oz"]
    given = {"chs_info": info()["chs"], "iterator_train__drop_last": False}
    alone = quietly(pretrainer(**given).fit, UnlabelledWindows(recording("A", cap)))
    placed = other_caps(cap, ["Cz", "C3"])
    placed = UnlabelledWindows(Subset(placed, range(4)))  # its positions go with it
    placed.mixed = True
    known = quietly(pretrainer(**given).fit, placed)
    assert torch.equal(weights(alone.joint_), weights(known.joint_))


def test_a_number_of_channels_that_have_no_place_is_refused():
    array = windows(n_chans=4)
    nowhere = mne.EpochsArray(1e-6 * array, mne.create_info(FREE[:4], SFREQ, "eeg"))
    for x in (array, nowhere):
        with pytest.raises(ValueError, match="have 4 channels, .*name 6"):
            quietly(pretrainer().fit, x)


# --------------------------------------------------- caps without the electrodes
def other_caps(*caps):
    return UnlabelledWindows([recording(f"p{i}", cap) for i, cap in enumerate(caps)])


@pytest.mark.parametrize("go_on", [False, True])
def test_a_student_that_would_see_nothing_is_refused_before_training(go_on):
    net = pretrainer(chs_info=info()["chs"])
    if go_on:
        net.fit(windows(), groups=np.repeat([0, 1], 8))
    blind = other_caps(["O1", "Oz", "O2", "Pz"], ["O1", "O2", "F3"])
    with pytest.raises(ValueError, match="no window has any of the student's.*'C3'"):
        (net.partial_fit if go_on else net.fit)(blind)
    assert len(net.history) == (2 if go_on else 0)


def test_windows_in_which_the_student_sees_nothing_are_counted():
    some = other_caps(["O1", "Oz", "O2", "Pz"], ["C3", "O1", "O2"])
    given = {"chs_info": info()["chs"], "iterator_train__drop_last": False}
    told = r"4 of 8 windows, of 1 of 2 recordings \(subjects \['p0'\]\).*student's"
    with pytest.warns(UserWarning, match=told):
        pretrainer(**given, max_epochs=1).fit(some)


def test_windows_that_have_some_of_the_electrodes_warn_of_nothing():
    some = other_caps(["C4", "Oz", "O2", "Pz"], ["C3", "O1", "O2"])
    given = {"chs_info": info()["chs"], "iterator_train__drop_last": False}
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        net = pretrainer(**given, max_epochs=1).fit(some)
    assert net.history[-1, "rec_student"] > 0

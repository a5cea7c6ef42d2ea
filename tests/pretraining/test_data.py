"""Unlabelled windows: every source, whose they are, and nothing read too early."""

import warnings

import mne
import numpy as np
import pandas as pd
import pytest
import torch
from braindecode.datasets import BaseConcatDataset, RawDataset
from braindecode.preprocessing import create_fixed_length_windows
from skorch.helper import SliceDataset
from tiny import N_TIMES, NAMES, SFREQ, epochs, info, quietly, windows
from torch.utils.data import DataLoader, Subset, TensorDataset

from braindecode_gcmae.pretraining import (
    CounterShuffle,
    UnlabelledWindows,
    check_windows,
    collate_windows,
)


def recording(subject, names=NAMES, n=4, seed=0):
    """A lazily windowed braindecode data set of ``n`` windows in µV."""
    signal = np.concatenate(list(windows(n, len(names), seed)), axis=1)
    made = mne.create_info(list(names), SFREQ, "eeg")
    made.set_montage("standard_1020")
    raw = mne.io.RawArray(signal, made, verbose=False)
    described = pd.Series({"subject": subject, "session": 0})
    return create_fixed_length_windows(
        BaseConcatDataset([RawDataset(raw, described)]),
        start_offset_samples=0,
        stop_offset_samples=None,
        window_size_samples=N_TIMES,
        window_stride_samples=N_TIMES,
        drop_last_window=True,
    )


# ------------------------------------------------------------------------ sources
def test_epochs_come_out_in_microvolts_with_channels_rate_and_subjects():
    x = windows(5)
    data = UnlabelledWindows(epochs(x, subject=[3, 3, "b", "b", 9]))
    item, _ = data[2]
    np.testing.assert_allclose(item["x"], x[2], rtol=1e-5)
    assert item["index"] == 2 and item["group"] == 1
    assert data.groups.tolist() == [0, 0, 1, 1, 2]
    assert data.sfreq == SFREQ and (data.n_chans, data.n_times) == x.shape[1:]
    assert [c["ch_name"] for c in data.channels] == NAMES and not data.mixed


def test_a_resampling_transform_tells_the_rate():
    from braindecode_gcmae.datasets import unlabelled_windows

    fast, slow = recording(1).datasets[0].raw, recording(2).datasets[0].raw
    slow = slow.copy().resample(SFREQ / 2, verbose=False)
    parts = BaseConcatDataset(
        [RawDataset(raw, {"subject": i}) for i, raw in enumerate((fast, slow))]
    )
    data = UnlabelledWindows(unlabelled_windows(parts, 1.0, sfreq=SFREQ / 4))
    assert data.sfreq == SFREQ / 4
    assert data.n_times == round(SFREQ / 4)


def test_bad_channels_of_epochs_keep_their_rows_and_are_missing():
    made = epochs(windows(4))
    before = UnlabelledWindows(made)
    made.info["bads"] = ["Cz"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a mark is no surprise
        data = UnlabelledWindows(made)
    assert data.n_chans == len(data.channels) == len(NAMES)
    row = NAMES.index("Cz")
    for i in range(4):
        assert np.isnan(data[i][0]["x"][row]).all()
        rest = np.delete(data[i][0]["x"], row, axis=0)
        np.testing.assert_array_equal(rest, np.delete(before[i][0]["x"], row, axis=0))
    assert np.isfinite(made.get_data(copy=True)).all()


def test_bad_channels_of_a_lazy_recording_are_missing_in_that_recording_alone():
    marked, whole = recording(1), recording(2)
    marked.datasets[0].raw.info["bads"] = ["Cz"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = UnlabelledWindows([marked, whole])
    seen = np.stack([np.isfinite(data[i][0]["x"]).all(-1) for i in range(len(data))])
    row = NAMES.index("Cz")
    assert not seen[:4, row].any() and seen[4:].all()
    assert np.delete(seen[:4], row, axis=1).all()
    assert np.isfinite(marked[0][0]).all()  # the user's own stays as it is


def test_channels_that_are_no_eeg_stay_outside():
    made = epochs(windows(4))
    made.set_channel_types({"Pz": "eog"}, verbose=False)
    data = UnlabelledWindows(made)
    assert data.n_chans == 5 and data[0][0]["x"].shape[0] == 5


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy, np.float64, np.float16])
def test_arrays_and_tensors_of_any_precision_become_float32(kind):
    item, _ = UnlabelledWindows(kind(windows(3)))[1]
    assert item["x"].dtype == np.float32 and item["group"] == -1


def test_subjects_come_from_the_descriptions_of_recordings():
    data = BaseConcatDataset([recording("A"), recording("B"), recording("A", seed=1)])
    made = UnlabelledWindows(data)
    assert made.groups.tolist() == [0] * 4 + [1] * 4 + [0] * 4
    assert [c["ch_name"] for c in made.channels] == NAMES and made.sfreq == SFREQ


@pytest.mark.parametrize("unknown", [None, float("nan"), pd.NA])
def test_an_unknown_subject_is_nobody(unknown):
    ids = np.array(["a", unknown, "a", unknown], dtype=object)
    assert UnlabelledWindows(windows(4), ids).groups.tolist() == [0, -1, 0, -1]


def test_lists_mix_sources_and_an_id_is_the_same_person_everywhere():
    parts = [epochs(windows(3), subject=["A"] * 3), recording("B"), recording("A")]
    made = UnlabelledWindows(parts)
    assert len(made) == 11
    assert made.groups.tolist() == [0] * 3 + [1] * 4 + [0] * 4
    joined = UnlabelledWindows([UnlabelledWindows(part) for part in parts])
    assert joined.groups.tolist() == made.groups.tolist()
    np.testing.assert_array_equal(joined[5][0]["x"], made[5][0]["x"])


@pytest.mark.parametrize("wrap", [Subset, lambda d, rows: SliceDataset(d, 0, rows)])
def test_a_fold_of_a_data_set_keeps_order_channels_and_subjects(wrap):
    data = BaseConcatDataset([recording("A"), recording("B", seed=1)])
    rows = np.array([5, 0, 2, 7, 6])
    fold = UnlabelledWindows(wrap(data, rows))
    assert len(fold) == 5 and fold.sfreq == SFREQ
    assert [fold.ids[i] for i in range(5)] == ["B", "A", "A", "B", "B"]
    for i, row in enumerate(rows):
        np.testing.assert_allclose(fold[i][0]["x"], data[int(row)][0], rtol=1e-6)


def test_what_is_already_unlabelled_windows_may_be_handed_over_again():
    data = UnlabelledWindows(recording("A"))
    assert len(UnlabelledWindows([data, recording("B")])) == 8


def test_subjects_that_were_told_are_known_where_the_windows_are_handed_on():
    told = UnlabelledWindows(windows(4), ["A", "A", "B", None])
    assert UnlabelledWindows(told).groups.tolist() == [0, 0, 1, -1]
    assert UnlabelledWindows(Subset(told, [2, 0])).ids.tolist() == ["B", "A"]
    both = UnlabelledWindows([recording("B"), told])
    assert both.groups.tolist() == [0] * 4 + [1, 1, 0, -1]
    assert UnlabelledWindows(told, [1, 2, 3, 4]).groups.tolist() == [0, 1, 2, 3]
    assert told.groups.tolist() == [0, 0, 1, -1]


# -------------------------------------------------------------------------- laziness
class Counting(torch.utils.data.Dataset):
    """Counts what is read."""

    def __init__(self, n):
        self.x, self.read = windows(n), []

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        self.read.append(i)
        return self.x[i], 0


def test_lazy_data_sets_are_read_window_by_window():
    parts = [Counting(50), Counting(60)]
    data = UnlabelledWindows(parts)
    assert [part.read for part in parts] == [[0], [0]]  # shape and scale, once
    _ = data[70]
    assert parts[1].read == [0, 20] and parts[0].read == [0]


def test_a_memory_map_stays_one(tmp_path):
    path = tmp_path / "x.npy"
    np.save(path, windows(4))
    mapped = np.load(path, mmap_mode="r")
    assert UnlabelledWindows(mapped).sources[0].x is mapped


# ------------------------------------------------------------------ mixed montages
def mixed():
    first = recording("A", NAMES)
    return UnlabelledWindows([first, recording("B", ["Cz", "C3", "O1", "Oz"])])


def test_mixed_montages_carry_positions_and_are_padded():
    data = mixed()
    assert data.mixed and data.channels is None and data.n_chans == 6
    batch, _ = collate_windows([data[0], data[5]])
    assert batch["x"].shape == (2, 6, N_TIMES) and batch["pos"].shape == (2, 6, 3)
    assert batch["ch_mask"].sum(1).tolist() == [6, 4]
    assert (batch["x"][1, 4:] == 0).all() and (batch["pos"][1, 4:] == 0).all()
    cz = batch["pos"][0, NAMES.index("Cz")]
    torch.testing.assert_close(cz, batch["pos"][1, 0])


def test_the_width_of_a_mixed_batch_does_not_depend_on_its_windows():
    # Else an edge's random number would depend on batch-mates.
    data = mixed()
    small, _ = collate_windows([data[4], data[5]])
    assert small["x"].shape[1] == 6 and not small["ch_mask"][:, 4:].any()


def test_mixed_montages_without_names_are_an_error():
    with pytest.raises(ValueError, match="different channels.*arrays without"):
        UnlabelledWindows([windows(3), windows(3, 4)])


def test_recordings_of_another_length_or_rate_are_an_error():
    with pytest.raises(ValueError, match="window length"):
        UnlabelledWindows([windows(3), windows(3)[..., :-1]])
    other = mne.create_info(NAMES, SFREQ / 2, "eeg")
    slow = mne.EpochsArray(windows(3) * 1e-6, other, verbose=False)
    with pytest.raises(ValueError, match=r"50.0, 100.0"):
        UnlabelledWindows([epochs(windows(3)), slow])


# --------------------------------------------------------------------------- errors
@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (windows(3)[0], ValueError, r"\(n_windows, n_chans, n_times\)"),
        (windows(3)[:0], ValueError, "no windows"),
        (windows(3) * np.nan, ValueError, "NaN"),
        (windows(3) * 0, ValueError, "flat"),
        (windows(3).astype(complex), TypeError, "complex"),
        (windows(3).astype(str), TypeError, "real numbers"),
        ("a path", TypeError, "str"),
        ([], ValueError, "no windows"),
        (None, TypeError, "NoneType"),
    ],
)
def test_what_are_no_windows_is_an_error(x, error, message):
    with pytest.raises(error, match=message):
        UnlabelledWindows(x)


def test_groups_name_the_subject_of_every_window():
    with pytest.raises(ValueError, match="each of the 4 windows"):
        UnlabelledWindows(windows(4), [0, 1])


def test_a_window_beyond_the_end_is_an_index_error():
    with pytest.raises(IndexError, match="window 4 of 4"):
        UnlabelledWindows(windows(4))[4]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda x: x * 1e-6, "volts"),
        (lambda x: _set(x, 1, 0), r"\['F4'\] are flat"),
        (lambda x: _set(x, 3, np.nan), r"\['Cz'\] are never finite"),
    ],
)
def test_suspicious_windows_are_named_once(spoil, message):
    with pytest.warns(UserWarning, match=message) as caught:
        check_windows(spoil(windows(4)), NAMES)
    assert len(caught) == 1


def _set(x, channel, value):
    x[:, channel] = value
    return x


# ----------------------------------------------------------------------------- order
def test_the_order_is_a_permutation_set_by_seed_and_epoch():
    epoch = [0]
    sampler = CounterShuffle(100, 3, lambda: epoch[0])
    first = list(sampler)
    assert sorted(first) == list(range(100)) and first != sorted(first)
    torch.rand(3)
    assert list(sampler) == first
    epoch[0] = 1
    assert list(sampler) != first
    assert list(CounterShuffle(100, 4, lambda: 0)) != first
    assert list(CounterShuffle(100, 3, lambda: 0, lambda: 40)) == first[40:]


@pytest.mark.parametrize("workers", [0, 2])
def test_workers_change_no_window(workers):
    data = UnlabelledWindows(recording("A", n=6))
    loader = DataLoader(data, 4, collate_fn=collate_windows, num_workers=workers)
    found = torch.cat([batch["x"] for batch, _ in loader])
    np.testing.assert_array_equal(found, np.stack([data[i][0]["x"] for i in range(6)]))


def test_a_plain_torch_data_set_will_do():
    x = torch.from_numpy(windows(4))
    data = quietly(UnlabelledWindows, TensorDataset(x, torch.zeros(4)))
    assert data.channels is None and len(data) == 4 and info()["nchan"] == data.n_chans


def test_half_precision_windows_of_usual_size_warn_of_nothing():
    x = 10 * np.random.default_rng(0).standard_normal((4, len(NAMES), 1000))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_windows(x.astype(np.float16))

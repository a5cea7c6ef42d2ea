"""Recordings of every format come back window by window, with whose they are."""

import pickle

import edfio
import mne
import mne_bids
import numpy as np
import pandas as pd
import pytest
import torch
from braindecode.datasets import (
    BaseConcatDataset,
    BIDSDataset,
    MOABBDataset,
    RawDataset,
    pad_channels_collate,
)
from scipy.io import savemat

from braindecode_gcmae import SimulatedEEG
from braindecode_gcmae.datasets import (
    ToMicrovolts,
    read_embarc,
    read_hbn,
    read_recordings,
    unlabelled_windows,
)
from braindecode_gcmae.montage import make_chs_info, montage_preset

NAMES = ["Fp1", "Fz", "C3", "Cz", "C4", "Pz"]


def make_raw(names=NAMES, sfreq=128.0, seconds=12, seed=0, positions=True):
    rng = np.random.default_rng(seed)
    t = np.arange(int(seconds * sfreq)) / sfreq
    data = 20e-6 * np.sin(2 * np.pi * (8 + rng.uniform(0, 4, (len(names), 1))) * t)
    info = mne.create_info(list(names), sfreq, "eeg")
    raw = mne.io.RawArray(
        data + 1e-6 * rng.normal(size=data.shape), info, verbose=False
    )
    raw.info["line_freq"] = 50
    if positions:
        places = {ch["ch_name"]: ch["loc"][:3] for ch in make_chs_info(list(names))}
        raw.set_montage(mne.channels.make_dig_montage(places, coord_frame="head"))
    return raw


def write_edf(raw, path):
    mne.export.export_raw(path, raw, physical_range=(-200, 200), verbose=False)


def write_bdf(raw, path):
    signals = [
        edfio.BdfSignal(
            row,
            raw.info["sfreq"],
            label=name,
            physical_dimension="uV",
            physical_range=(-200, 200),
        )
        for row, name in zip(raw.get_data(units="µV"), raw.ch_names, strict=True)
    ]
    edfio.Bdf(signals).write(path)


def write_vhdr(raw, path):
    mne.export.export_raw(path, raw, verbose=False)


def write_set(raw, path):
    """What EEGLAB saves, data inside."""
    labels = np.array([(name,) for name in raw.ch_names], dtype=[("labels", object)])
    eeg = {
        "setname": "x",
        "nbchan": len(raw.ch_names),
        "trials": 1,
        "pnts": raw.n_times,
        "srate": raw.info["sfreq"],
        "xmin": 0.0,
        "xmax": raw.times[-1],
        "data": raw.get_data(units="µV").astype("float32"),
        "chanlocs": labels,
        "event": np.array([]),
        "epoch": np.array([]),
        "icawinv": np.array([]),
        "icasphere": np.array([]),
        "icaweights": np.array([]),
        "icaact": np.array([]),
    }
    savemat(path, {"EEG": eeg}, appendmat=False)


def write_fif(raw, path):
    raw.save(path, verbose=False)


WRITERS = {
    "sub-07_eeg.edf": write_edf,
    "sub-07_eeg.bdf": write_bdf,
    "sub-07_eeg.vhdr": write_vhdr,
    "sub-07_eeg.set": write_set,
    "sub-07_eeg.fif": write_fif,
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_comes_back_lazily_with_its_subject(tmp_path, name):
    raw = make_raw()
    WRITERS[name](raw, tmp_path / name)
    if name.endswith(".set"):
        with pytest.warns(UserWarning, match="1 of 1 recordings.*cache="):
            dataset = unlabelled_windows(tmp_path, 4.0, 2.0)
    else:
        dataset = unlabelled_windows(tmp_path, 4.0, 2.0)
    assert len(dataset) == 5
    (part,) = dataset.datasets
    assert part.raw.preload is name.endswith(".set")  # read whole, and said so
    assert part.description["subject"] == "07"
    data = raw.get_data(units="µV")
    for i in (0, 4):
        X, y, (_, start, stop), positions = dataset[i]
        assert (start, stop) == (i * 256, i * 256 + 512)
        assert X.shape == (6, 512) and X.dtype == np.float32 and y == -1
        np.testing.assert_allclose(X, data[:, start:stop], atol=0.02)
        expected = [ch["loc"][:3] for ch in make_chs_info(NAMES)]
        np.testing.assert_allclose(positions, expected, atol=1e-4)


def test_recordings_that_must_be_read_whole_are_copied_once_and_read_lazily(tmp_path):
    (tmp_path / "data").mkdir()
    raw, cache = make_raw(), tmp_path / "cache"
    write_set(raw, tmp_path / "data" / "sub-07_eeg.set")
    for _ in range(2):
        dataset = read_recordings(tmp_path / "data", cache=cache)
        assert not dataset.datasets[0].raw.preload
        assert list(dataset.description["subject"]) == ["07"]
    (copy,) = cache.iterdir()
    assert copy.name.startswith("sub-07_eeg_")
    X = unlabelled_windows(dataset, 4.0)[1][0]
    np.testing.assert_allclose(X, raw.get_data(units="µV")[:, 512:1024], atol=0.02)


def test_reading_a_window_loads_nothing_else(tmp_path, monkeypatch):
    write_edf(make_raw(seconds=60), tmp_path / "sub-1_eeg.edf")
    read = []
    original = mne.io.edf.edf.RawEDF._read_segment_file

    def spy(self, data, idx, fi, start, stop, cals, mult):
        read.append((len(data), stop - start))
        return original(self, data, idx, fi, start, stop, cals, mult)

    monkeypatch.setattr(mne.io.edf.edf.RawEDF, "_read_segment_file", spy)
    dataset = unlabelled_windows(tmp_path, 2.0)
    # EDF+ annotations, and the last sample of a channel: that the file is whole.
    assert [found for found in read if found[0]] == [(1, 1)]
    read.clear()
    dataset[3]
    assert read == [(len(NAMES), 256)]


def test_a_bids_root_keeps_subject_session_and_task(tmp_path):
    for subject, seed in (("01", 1), ("02", 2)):
        mne_bids.write_raw_bids(
            make_raw(seed=seed),
            mne_bids.BIDSPath(
                subject=subject, session="a", task="rest", root=tmp_path, datatype="eeg"
            ),
            allow_preload=True,
            format="BrainVision",
            verbose="ERROR",
        )
    derived = tmp_path / "derivatives" / "clean" / "sub-01"
    derived.mkdir(parents=True)
    write_edf(make_raw(), derived / "sub-01_eeg.edf")
    assert list(read_recordings(tmp_path).description["subject"]) == ["01", "02"]
    for data in (tmp_path, BIDSDataset(tmp_path, datatypes="eeg")):
        dataset = unlabelled_windows(data, 4.0)
        assert list(dataset.description["subject"]) == ["01", "02"]
        assert set(dataset.description["task"]) == {"rest"}
        assert not dataset.datasets[0].raw.preload
        np.testing.assert_allclose(
            dataset[3][0], make_raw(seed=2).get_data(units="µV")[:, :512], atol=0.1
        )


def test_hbn_keeps_tasks_subjects_and_the_128_electrodes(tmp_path):
    names = [*montage_preset("egi-128"), "Cz"]
    for subject in ("NDARAA111", "NDARBB222"):
        for task in ("RestingState", "surroundSupp"):
            path = tmp_path / f"sub-{subject}" / "eeg"
            path.mkdir(parents=True, exist_ok=True)
            raw = make_raw(names, 100.0, 4, positions=False)
            write_bdf(raw, path / f"sub-{subject}_task-{task}_eeg.bdf")
    rest = read_hbn(tmp_path)
    assert list(rest.description["subject"]) == ["NDARAA111", "NDARBB222"]
    assert set(rest.description["task"]) == {"RestingState"}
    assert len(read_hbn(tmp_path, tasks=None).datasets) == 4
    one = unlabelled_windows(read_hbn(tmp_path, None, subjects=["NDARBB222"]), 2.0)
    X, _, _, positions = one[0]
    assert X.shape == (128, 200) and np.isfinite(positions).all()
    few = read_hbn(tmp_path, channels=["F3", "F4"])
    assert all(len(part.raw.ch_names) == 2 for part in few.datasets)
    with pytest.raises(FileNotFoundError, match="symbolSearch"):
        read_hbn(tmp_path, tasks=["symbolSearch"])


def test_embarc_sites_give_the_same_electrodes(tmp_path):
    (tmp_path / "TX0003").mkdir()
    write_edf(make_raw(), tmp_path / "TX0003" / "rest.edf")
    write_vhdr(make_raw(NAMES[::-1]), tmp_path / "CU0011_eyes_open.vhdr")
    dataset = read_embarc(tmp_path, channels=["C3", "Cz", "C4"])
    description = dataset.description.set_index("subject")["site"]
    assert description.to_dict() == {"CU0011": "CU", "TX0003": "TX"}
    assert [p.raw.ch_names for p in dataset.datasets] == 2 * [["C3", "Cz", "C4"]]


def test_rates_are_brought_together_and_montages_mixed(tmp_path):
    raws = [make_raw(sfreq=128.0), make_raw(NAMES[:4], 250.0, seed=1)]
    parts = [RawDataset(raw, {"subject": i}) for i, raw in enumerate(raws)]
    with pytest.raises(ValueError, match="different sampling rates"):
        unlabelled_windows(BaseConcatDataset(parts), 3.0)
    dataset = unlabelled_windows(BaseConcatDataset(parts), 3.0, sfreq=100.0)
    assert {dataset[i][0].shape for i in range(8)} == {(6, 300), (4, 300)}
    batch = pad_channels_collate([dataset[0], dataset[7]])
    assert torch.is_tensor(batch[0]) and batch[0].shape == (2, 6, 300)
    copy = pickle.loads(pickle.dumps(dataset.datasets[0].transform))
    assert repr(copy) == "ToMicrovolts(128 Hz -> 100 Hz, 300 samples)"


@pytest.mark.parametrize(("source", "target"), [(250, 100), (500, 128), (100, 160)])
def test_a_resampled_window_is_the_same_signal_at_the_new_instants(source, target):
    def wave(rate):
        return np.sin(2 * np.pi * 10 * np.arange(4 * rate) / rate + 0.3)[None]

    X = ToMicrovolts(source, target, 4 * target)(wave(source) * 1e-6)
    inner = slice(target // 2, -target // 2)
    np.testing.assert_allclose(X[:, inner], wave(target)[:, inner], atol=5e-3)
    fast = np.sin(2 * np.pi * 0.9 * source / 2 * np.arange(4 * source) / source)[None]
    if target < source:  # above the new Nyquist frequency: gone, not folded
        folded = ToMicrovolts(source, target, 4 * target)(fast * 1e-6)
        assert abs(folded[:, inner]).max() < 0.01


def test_lost_fractions_of_a_sample_do_not_change_the_length():
    for source, target in ((128.0, 100.0), (512.0, 250.0), (1000.0, 256.0)):
        for seconds in (1.0, 1.337, 2.503):
            n_times = round(seconds * target)
            X = np.ones((2, round(seconds * source)))
            assert ToMicrovolts(source, target, n_times)(X).shape == (2, n_times)


@pytest.mark.parametrize("preload", [True, False])
def test_epochs_give_windows_with_the_subjects_of_their_metadata(tmp_path, preload):
    make_raw(seconds=20).save(tmp_path / "x_raw.fif", verbose=False)
    raw = mne.io.read_raw_fif(tmp_path / "x_raw.fif", verbose=False)
    epochs = mne.make_fixed_length_epochs(raw, 4.0, preload=preload, verbose=False)
    epochs.metadata = pd.DataFrame({"subject": ["a", "a", "b", "b", "b"]})
    dataset = unlabelled_windows(epochs, 2.0, sfreq=64.0)
    assert len(dataset) == 10
    assert sorted(dataset.description["subject"]) == ["a", "a", "b", "b"]
    full = unlabelled_windows(epochs, 4.0)
    np.testing.assert_allclose(
        full[2][0], raw.get_data(units="µV")[:, 1024:1536], atol=1e-3
    )
    late = [p for p in unlabelled_windows(epochs, 2.0).datasets if p.transform.span[0]]
    np.testing.assert_allclose(
        late[0][1][0], raw.get_data(units="µV")[:, 768:1024], atol=1e-3
    )


def test_a_moabb_dataset_is_cut_with_its_subjects():
    simulated = SimulatedEEG(["C3", "Cz", "C4"], 2, n_trials=4, trial_seconds=2.0)
    source = simulated.to_moabb()
    dataset = unlabelled_windows(MOABBDataset(source, subject_ids=[1, 2]), 2.0)
    assert list(dataset.description["subject"]) == [1, 2]
    data = simulated.raw(1).get_data(units="µV")
    np.testing.assert_allclose(dataset[1][0], data[:, 320:640], atol=1e-2)


def test_the_users_recording_stays_as_it_was():
    raw = make_raw([*NAMES, "EKG"], positions=False)
    raw.set_channel_types({"EKG": "ecg"})
    dataset = unlabelled_windows(raw, 4.0)
    assert dataset[0][0].shape[0] == 6 and np.isfinite(dataset[0][3]).all()
    assert len(raw.ch_names) == 7 and raw.get_montage() is None
    assert (
        not raw.info["chs"][0]["loc"][:3].any()
        or np.isnan(raw.info["chs"][0]["loc"][:3]).all()
    )


def test_split_fif_files_are_one_recording_and_numbered_ones_are_not(tmp_path):
    long = make_raw(seconds=1000)
    long.save(tmp_path / "a_raw.fif", split_size="2MB", verbose=False)
    assert len(list(tmp_path.iterdir())) > 1
    make_raw().save(tmp_path / "night-1.fif", verbose="ERROR")
    make_raw().save(tmp_path / "night-2.fif", verbose="ERROR")
    assert len(read_recordings(tmp_path).datasets) == 3


@pytest.mark.parametrize("share", [0.3, 0.9])
def test_a_recording_that_is_cut_off_is_found_before_its_end_is_needed(tmp_path, share):
    make_raw().save(tmp_path / "whole_raw.fif", verbose="ERROR")
    data = (tmp_path / "whole_raw.fif").read_bytes()
    broken = tmp_path / "copied_raw.fif"
    broken.write_bytes(data[: int(share * len(data))])
    with pytest.warns(
        UserWarning, match="1 of 2 files.*copied_raw.fif .it ends in the"
    ):
        assert len(read_recordings(tmp_path).datasets) == 1
    with pytest.raises(ValueError, match="copied_raw.fif cannot be read: it ends in"):
        read_recordings(broken)


def test_a_damaged_recording_does_not_stop_a_release(tmp_path):
    for subject in ("NDARAA111", "NDARBB222", "NDARCC333"):
        raw = make_raw(["E1", "E2"], 100.0, 4, positions=False)
        write_edf(raw, tmp_path / f"sub-{subject}_task-RestingState_eeg.edf")
    (tmp_path / "sub-NDARBB222_task-RestingState_eeg.edf").write_bytes(b"")
    with pytest.warns(UserWarning, match="1 of 3 files cannot be read.*NDARBB222"):
        found = read_hbn(tmp_path)
    assert list(found.description["subject"]) == ["NDARAA111", "NDARCC333"]
    assert set(found.description["task"]) == {"RestingState"}


def test_errors_and_warnings_say_what_is_wrong(tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        read_recordings(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="no recording"):
        read_recordings(tmp_path)
    with pytest.raises(ValueError, match="overlap_seconds"):
        unlabelled_windows(make_raw(), 2.0, 2.0)
    with pytest.raises(ValueError, match="no recording is 60.0 s long"):
        unlabelled_windows(make_raw(), 60.0)
    with pytest.raises(TypeError, match="int"):
        unlabelled_windows(3)
    with pytest.raises(TypeError, match="already cut"):
        unlabelled_windows(unlabelled_windows(make_raw(), 2.0), 2.0)
    with pytest.warns(UserWarning, match="1 of 2 recordings are shorter"):
        dataset = unlabelled_windows([make_raw(), make_raw(seconds=3)], 4.0)
    assert len(dataset) == 3


def test_windows_on_a_bad_stretch_are_left_out_as_by_mne():
    info = mne.create_info(["Fp1", "Fz", "C3"], 100.0, "eeg")
    signal = np.random.default_rng(0).normal(size=(3, 2500))
    raw = mne.io.RawArray(1e-5 * signal, info, first_samp=700, verbose=False)
    marks = mne.Annotations(
        [3.2, 12.0, 20.0],
        [5.0, 4.0, 3.0],
        ["BAD_movement", "bad boundary", "blink"],
    )
    raw.set_annotations(marks)
    ours = unlabelled_windows(raw, 1.0)
    theirs = mne.make_fixed_length_epochs(raw, 1.0, preload=True, verbose=False)
    expected = theirs.get_data(units="uV")
    assert len(ours) == len(expected) == 25 - 6 - 4
    found = np.stack([ours[i][0] for i in range(len(ours))])
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("cut", ["boundary", "New Segment/"])
def test_no_window_spans_a_cut_however_long_what_was_cut_out(cut):
    info = mne.create_info(["Fp1", "Fz", "C3"], 100.0, "eeg")
    signal = np.random.default_rng(0).normal(size=(3, 1000))
    raw = mne.io.RawArray(1e-5 * signal, info, first_samp=700, verbose=False)
    # EEGLAB counts from one and cuts at halves: the first new samples are 0, 300, 550.
    onsets = np.array([-0.5, 299.5, 549.5]) / 100
    raw.set_annotations(mne.Annotations(onsets.clip(0), 60.0, cut))
    starts = unlabelled_windows(raw, 1.0).datasets[0].metadata["i_start_in_trial"]
    assert list(starts) == [0, 100, 200, 300, 400, 600, 700, 800, 900]


def test_epochs_keep_sessions_and_those_without_subjects_are_one_recording():
    from braindecode_gcmae import RecordingAlignment

    info = mne.create_info(["Fp1", "Fz", "C3"], 100.0, "eeg")
    x = 1e-5 * np.random.default_rng(0).normal(size=(12, 3, 200))
    x[6:] *= 3
    table = pd.DataFrame({"subject": 1, "session": np.repeat(["a", "b"], 6)})
    told = mne.EpochsArray(x, info, metadata=table, verbose=False)
    cut = unlabelled_windows(told, 1.0)
    assert sorted(set(cut.description["session"])) == ["a", "b"]
    untold = unlabelled_windows(mne.EpochsArray(x, info, verbose=False), 1.0)
    aligned = RecordingAlignment().transform(untold)
    maps = {id(part.transform.found) for part in aligned.datasets}
    assert len(aligned.datasets) == 2 and len(maps) == 1


@pytest.mark.parametrize("kind", ["mag", "seeg", "csd"])
def test_a_recording_without_eeg_is_refused_by_its_types(kind):
    info = mne.create_info(["1", "2", "STI"], 100.0, [kind, kind, "stim"])
    raw = mne.io.RawArray(np.zeros((3, 800)), info, verbose=False)
    epochs = mne.make_fixed_length_epochs(raw, 4.0, verbose=False)
    for data in (raw, [make_raw(), raw], RawDataset(raw, {}), epochs):
        with pytest.raises(ValueError, match=f"type EEG, only {kind}, stim"):
            unlabelled_windows(data, 2.0)


def test_a_file_without_eeg_does_not_stop_a_bids_root(tmp_path):
    for subject in ("01", "02"):
        path = mne_bids.BIDSPath(
            subject=subject, task="rest", root=tmp_path, datatype="eeg"
        )
        mne_bids.write_raw_bids(
            make_raw(),
            path,
            allow_preload=True,
            format="BrainVision",
            verbose="ERROR",
        )
    table = tmp_path / "sub-02/eeg/sub-02_task-rest_channels.tsv"
    table.write_text(table.read_text("utf-8-sig").replace("EEG", "MISC"))
    with pytest.warns(UserWarning, match="1 of 2 files.*sub-02_task-rest_eeg"):
        dataset = unlabelled_windows(tmp_path, 4.0)
    assert list(dataset.description["subject"]) == ["01"]


@pytest.mark.parametrize("epoched", [False, True])
@pytest.mark.parametrize("cathodes", [["Cz", "Pz"], ["Cz", "Pz", "Cz", "Pz"]])
def test_a_bipolar_channel_has_no_place(epoched, cathodes):
    anodes = ["C3", "C4", "Fp1", "Fz"][: len(cathodes)]
    data = mne.set_bipolar_reference(make_raw(), anodes, cathodes, verbose=False)
    if epoched:
        data = mne.make_fixed_length_epochs(data, 4.0, verbose=False)
    positions = unlabelled_windows(data, 4.0)[0][3]
    bipolar = np.array(["-" in name for name in data.ch_names])
    assert bipolar.sum() == len(cathodes)
    np.testing.assert_array_equal(np.isnan(positions).all(1), bipolar)


def test_epochs_have_the_places_of_their_names_and_no_eyes():
    raw = make_raw([*NAMES, "HEOG"], positions=False)
    epochs = mne.make_fixed_length_epochs(raw, 4.0, verbose=False)
    with pytest.warns(UserWarning, match="'HEOG'.*left out"):
        X, _, _, positions = unlabelled_windows(epochs, 4.0)[0]
    expected = [ch["loc"][:3] for ch in make_chs_info(NAMES)]
    np.testing.assert_allclose(positions, expected, atol=1e-6)
    assert X.shape == (len(NAMES), 512)
    assert epochs.ch_names == raw.ch_names


def test_rates_that_are_one_rate_are_pooled_at_the_first():
    first, second = make_raw(sfreq=250.0, seconds=130), make_raw(seconds=130)
    second = mne.io.RawArray(
        np.resize(second.get_data(), (len(NAMES), 32510)),
        mne.create_info(NAMES, 250.02, "eeg"),
        verbose=False,
    )
    for raws in ([first, second], [second, first]):
        dataset = unlabelled_windows(raws, 60.0)
        assert len({dataset[i][0].shape for i in range(len(dataset))}) == 1
        rates = {part.transform.target_rate for part in dataset.datasets}
        assert rates == {raws[0].info["sfreq"]}
    with pytest.raises(ValueError, match="different sampling rates"):
        unlabelled_windows([first, make_raw(sfreq=250.1)], 4.0)

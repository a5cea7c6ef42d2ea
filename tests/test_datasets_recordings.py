"""PhysioNet's recordings come out as they went in."""

import warnings

import edfio
import numpy as np
import pytest

from braindecode_gcmae.datasets import physionet_subjects, windows_from_physionet
from braindecode_gcmae.datasets import recordings as module

FOLDER = "MNE-eegbci-data/files/eegmmidb/1.0.0"
NAMES = ["Fc5.", "C3..", "Cz..", "C4..", "Fp1.", "T7.."]


def write_run(root, subject, run, sfreq=160, seconds=40, zeros=0.8):
    """An EDF+ file of the data set's layout; returns its samples in µV."""
    rng = np.random.default_rng(subject * 100 + run)
    data = rng.normal(0, 20, (len(NAMES), seconds * sfreq))
    t = np.arange(data.shape[1]) / sfreq
    data += 15 * np.sin(2 * np.pi * 10 * t)
    data[:, data.shape[1] - int(zeros * sfreq) :] = 0.0
    signals = [
        edfio.EdfSignal(
            row,
            sfreq,
            label=name,
            physical_dimension="uV",
            physical_range=(-8092, 8092),
            digital_range=(-8092, 8092),
        )
        for row, name in zip(data, NAMES, strict=True)
    ]
    cues = [
        edfio.EdfAnnotation(onset, 4.1, text)
        for onset, text in zip(
            np.arange(4.2, seconds - 1, 8.2), "T1 T2 T2 T1 T2".split(), strict=False
        )
    ]
    path = root / FOLDER / f"S{subject:03d}" / f"S{subject:03d}R{run:02d}.edf"
    path.parent.mkdir(parents=True, exist_ok=True)
    edfio.Edf(signals, annotations=cues).write(path)
    return np.round(data)


@pytest.fixture
def root(tmp_path):
    for subject, run in ((1, 4), (1, 8), (2, 4)):
        write_run(tmp_path, subject, run)
    return tmp_path


def test_unfiltered_windows_are_the_samples_after_the_cue(root):
    data = write_run(root, 1, 4)
    cut = windows_from_physionet(1, [4], fmin=None, fmax=None, root=root)
    assert cut.X.shape == (4, 6, 560) and cut.X.dtype == np.float32
    assert cut.y.tolist() == [0, 1, 1, 0]  # the fifth window would end in the zeros
    for window, onset in zip(cut.X, np.arange(4.2, 37, 8.2), strict=False):
        start = round((onset + 0.5) * 160)
        np.testing.assert_allclose(window, data[:, start : start + 560], atol=0.01)
    assert [ch["ch_name"] for ch in cut.chs_info] == "FC5 C3 Cz C4 Fp1 T7".split()
    assert all(np.isfinite(ch["loc"][:3]).all() for ch in cut.chs_info)


def test_ids_follow_subjects_and_runs(root):
    cut = windows_from_physionet([2, 1], [4], root=root)
    assert cut.subject.tolist() == [2] * 4 + [1] * 4
    cut = windows_from_physionet(1, [4, 8], root=root, resample=80)
    assert cut.run.tolist() == [4] * 4 + [8] * 4
    assert cut.X.shape[-1] == 280 and cut.sfreq == 80.0


def test_band_pass_removes_what_lies_outside(root):
    def power(fmin, fmax):
        X = windows_from_physionet(1, [4], fmin=fmin, fmax=fmax, root=root).X
        spectrum = abs(np.fft.rfft(X, axis=-1)) ** 2
        freqs = np.fft.rfftfreq(X.shape[-1], 1 / 160)
        return spectrum[..., freqs > 45].mean() / spectrum[..., freqs < 35].mean()

    assert power(4.0, 38.0) < 1e-3 < 0.1 < power(None, None)


def test_another_sampling_rate_is_refused_unless_resampled(root):
    write_run(root, 88, 4, sfreq=128)
    with pytest.raises(ValueError, match="subject 88 was recorded at 128 Hz"):
        windows_from_physionet([1, 88], [4], root=root)
    cut = windows_from_physionet([1, 88], [4], root=root, resample=128)
    assert cut.X.shape[-1] == 448 and set(cut.subject) == {1, 88}
    assert physionet_subjects([4], root=root) == [1, 2]


def test_missing_files_say_what_to_do(root, monkeypatch):
    def offline(*args, **kwargs):
        raise ConnectionError("no network")

    monkeypatch.setattr(module.mne.datasets.eegbci, "load_data", offline)
    with pytest.raises(FileNotFoundError, match="S002R08.edf.*MNE_DATA"):
        windows_from_physionet(2, [4, 8], root=root)
    monkeypatch.delenv("MNE_DATASETS_EEGBCI_PATH", raising=False)
    monkeypatch.setenv("MNE_DATA", str(root))
    assert physionet_subjects([4]) == [1, 2]
    assert physionet_subjects([4, 8]) == [1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"runs": [4, 6]}, "mixture"),
        ({"runs": [1]}, "runs"),
        ({"tmin": 4.0}, "tmin"),
        ({"fmin": 40.0}, "fmin"),
        ({"resample": 64}, "resample"),
        ({"tmax": 60.0}, "no complete window"),
        ({"subjects": [0]}, "subjects"),
    ],
)
def test_errors_name_the_argument(root, arguments, message):
    with pytest.raises(ValueError, match=message):
        windows_from_physionet(**({"subjects": 1, "root": root} | arguments))


def test_real_recordings_match_another_reader(physionet_root):
    cut = windows_from_physionet(3, [4], fmin=None, fmax=None, root=physionet_root)
    assert cut.X.shape[1:] == (64, 560) and len(cut.X) == 15
    edf = edfio.read_edf(physionet_root / FOLDER / "S003" / "S003R04.edf")
    onsets = [a for a in edf.annotations if a.text in ("T1", "T2")]
    assert [a.text == "T2" for a in onsets] == cut.y.astype(bool).tolist()
    data = np.stack([signal.data for signal in edf.signals])
    start = round((onsets[0].onset + 0.5) * 160)
    np.testing.assert_allclose(cut.X[0], data[:, start : start + 560], atol=0.01)


def test_the_real_subject_88_is_refused(physionet_root):
    with pytest.raises(ValueError, match="subject 88 was recorded at 128 Hz"):
        windows_from_physionet(88, [4], root=physionet_root)
    assert 88 not in physionet_subjects([4], root=physionet_root)


def recorded(path, names=("Fp1", "Fz", "C3"), his_id=None, kinds="eeg"):
    import mne

    info = mne.create_info(list(names), 100.0, kinds)
    signal = 1e-5 * np.random.default_rng(0).normal(size=(len(names), 400))
    raw = mne.io.RawArray(signal, info, verbose=False)
    if his_id is not None:
        raw.info["subject_info"] = {"his_id": his_id}
    path.parent.mkdir(parents=True, exist_ok=True)
    raw.save(path, verbose=False)


@pytest.mark.filterwarnings("ignore:This filename")
def test_placeholders_of_anonymised_files_are_nobody(tmp_path):
    from braindecode_gcmae.datasets import read_recordings

    for name, his_id in (("a", "X"), ("b", "0"), ("c", "S7"), ("d", "Anonymous")):
        recorded(tmp_path / f"{name}_raw.fif", his_id=his_id)
    found = read_recordings(tmp_path).description.get("subject")
    assert found.fillna("").tolist() == ["", "", "S7", ""]


@pytest.mark.filterwarnings("ignore:This filename")
def test_sessions_and_runs_come_from_the_paths(tmp_path):
    from braindecode_gcmae.datasets import read_recordings

    for session in ("01", "02"):
        recorded(tmp_path / f"sub-5/ses-{session}/sub-5_ses-{session}_run-3_raw.fif")
    told = read_recordings(tmp_path).description
    assert told[["subject", "session", "run"]].to_numpy().tolist() == [
        ["5", "01", "3"],
        ["5", "02", "3"],
    ]


@pytest.mark.filterwarnings("ignore:This filename")
def test_eeg_channels_with_the_names_of_something_else_are_left_out(tmp_path):
    from braindecode_gcmae.datasets import read_recordings

    recorded(tmp_path / "a_raw.fif", ["Fp1", "Fz", "C3", "EOG horizontal", "ECG"])
    with pytest.warns(UserWarning, match="'EOG horizontal', 'ECG'.*left out"):
        (part,) = read_recordings(tmp_path).datasets
    assert part.raw.ch_names == ["Fp1", "Fz", "C3"]


@pytest.mark.filterwarnings("ignore:This filename")
def test_a_file_that_cannot_be_read_is_named_and_does_not_stop_a_folder(tmp_path):
    from braindecode_gcmae.datasets import read_recordings

    recorded(tmp_path / "good_raw.fif")
    (tmp_path / "damaged.edf").write_bytes(b"0" * 300)
    (tmp_path / "sub-01-epo.fif").write_bytes(b"no recording")
    with pytest.warns(UserWarning, match="1 of 2 files.*damaged.edf"):
        assert len(read_recordings(tmp_path).datasets) == 1
    with pytest.raises(ValueError, match="damaged.edf cannot be read"):
        read_recordings(tmp_path / "damaged.edf")


@pytest.mark.filterwarnings("ignore:This filename")
def test_only_files_that_end_like_derived_ones_are_no_recordings(tmp_path):
    from braindecode_gcmae.datasets import read_recordings

    for name in ("P1_rest_ica_raw", "P2_eve_raw", "P3_src_eeg"):
        recorded(tmp_path / f"{name}.fif")
    for name in ("P1-ica", "P1_epo", "P1-epo-1"):
        (tmp_path / f"{name}.fif").write_bytes(b"no recording")
    found = read_recordings(tmp_path).description["path"]
    assert [path.rpartition("P")[2][0] for path in found] == ["1", "2", "3"]


@pytest.mark.filterwarnings("ignore:This filename")
def test_the_eyes_of_a_sleep_recording_are_no_electrodes(tmp_path):
    from braindecode_gcmae.datasets import read_recordings

    recorded(tmp_path / "a_raw.fif", ["C3-M2", "C4-M1", "E1-M2", "E2-M1"])
    with pytest.warns(UserWarning, match="'E1-M2', 'E2-M1'.*left out"):
        (part,) = read_recordings(tmp_path).datasets
    assert part.raw.ch_names == ["C3-M2", "C4-M1"]


@pytest.mark.filterwarnings("ignore:This filename")
def test_a_sleep_recording_keeps_its_scalp_alone(tmp_path):
    from braindecode_gcmae.datasets import read_recordings

    scalp = ["F3", "F4", "C3", "C4", "O1", "O2", "M1", "M2"]
    others = ["E1", "E2", "L_EOG", "LOC", "Chin1", "Leg/L", "SpO2", "Temp rectal"]
    recorded(tmp_path / "a_raw.fif", [*scalp[:4], *others, *scalp[4:]])
    with pytest.warns(UserWarning, match="'E1', 'E2', 'L_EOG', 'LOC'.*left out"):
        (part,) = read_recordings(tmp_path).datasets
    assert part.raw.ch_names == scalp


@pytest.mark.filterwarnings("ignore:This filename")
def test_kept_channels_without_a_place_are_named(tmp_path):
    from braindecode_gcmae.datasets import read_recordings

    recorded(tmp_path / "a_raw.fif", ["Fp1", "Fz", "C3", "A1-A2", "left ear"])
    with pytest.warns(UserWarning, match="'A1-A2', 'left ear'.*without a place"):
        (part,) = read_recordings(tmp_path).datasets
    assert len(part.raw.ch_names) == 5
    free = tmp_path / "free_raw.fif"
    recorded(free, ["x1", "x2", "C3"])
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        read_recordings(free)  # names tell nothing here
        read_recordings(free, channels=["x1", "C3"])


def write_without_eeg(path, kind):
    """A file that holds annotations alone, or channels of one type only."""
    path = path.with_suffix(".edf" if kind == "annotations" else ".fif")
    if kind == "annotations":
        stages = [edfio.EdfAnnotation(30 * i, 30, "Sleep stage W") for i in range(3)]
        edfio.Edf([], annotations=stages).write(path)
    else:
        recorded(path, ["1", "2"], kinds=kind)
    return path


@pytest.mark.filterwarnings("ignore:This filename")
@pytest.mark.parametrize("kind", ["annotations", "mag", "seeg", "csd"])
def test_a_file_without_eeg_is_named_and_does_not_stop_a_folder(tmp_path, kind):
    from braindecode_gcmae.datasets import read_recordings, unlabelled_windows

    recorded(tmp_path / "good_raw.fif")
    other = write_without_eeg(tmp_path / "other_raw", kind)
    held = "nor any other" if kind == "annotations" else f"only {kind}"
    said = rf"{other.name}.*no channel of type EEG, {held}"
    with pytest.warns(UserWarning, match=f"1 of 2 files.*{said}"):
        assert len(read_recordings(tmp_path).datasets) == 1
    with pytest.warns(UserWarning, match=f"1 of 2 files.*{said}"):
        assert len(unlabelled_windows(tmp_path, 2.0)) == 2
    for call in (read_recordings, unlabelled_windows):
        with pytest.raises(ValueError, match=said):
            call(other)


@pytest.mark.filterwarnings("ignore:This filename")
def test_compressed_recordings_are_found_and_derived_ones_are_not(tmp_path):
    from braindecode_gcmae.datasets import read_recordings, unlabelled_windows

    recorded(tmp_path / "sub-1_raw.fif.gz")
    recorded(tmp_path / "sub-1_raw-1.fif.gz")  # as MNE names what goes on
    (tmp_path / "sub-1-epo.fif.gz").write_bytes(b"no recording")
    assert read_recordings(tmp_path).description["subject"].tolist() == ["1"]
    assert len(unlabelled_windows(tmp_path, 2.0)) == 2

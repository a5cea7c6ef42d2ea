"""The simulated people are who they claim to be."""

import pickle

import mne
import numpy as np
import pytest
from scipy.signal import butter, csd, sosfiltfilt, welch
from scipy.special import eval_legendre
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from braindecode_gcmae import SimulatedEEG
from braindecode_gcmae.datasets import COUPLINGS, EVENTS, SOURCES
from braindecode_gcmae.datasets.sources import (
    CENTRE,
    HEAD_RADIUS,
    LAG_SECONDS,
    Noise,
    leadfield,
    source_series,
)
from braindecode_gcmae.montage import make_chs_info, montage_preset

MOTOR = ["F3", "F4", "C3", "Cz", "C4", "P3", "Pz", "P4"]
ROW = {source.name: i for i, source in enumerate(SOURCES)}


@pytest.fixture(scope="module")
def small():
    return SimulatedEEG(MOTOR, n_subjects=3, n_trials=6, trial_seconds=2.0, seed=5)


# ------------------------------------------------------------------ head model


def radial_dipole_on_shells(radius, cosines, terms=120):
    """Surface potential of a radial unit dipole in MNE's four shells, per Am.

    Solves the continuity of potential and current at every interface for each
    Legendre order, in units of the head radius.
    """
    shells, sigma = [0.90, 0.92, 0.97, 1.0], [0.33, 1.0, 0.004, 0.33]
    b = radius / HEAD_RADIUS
    total = np.zeros_like(cosines)
    for n in range(1, terms):
        # unknowns A_j, B_j: V_j = A_j (r/r_j)^n + B_j (r_j-1/r)^(n+1); B_1 is given
        given = n * b ** (n - 1) / (4 * np.pi * sigma[0] * HEAD_RADIUS**2)
        M, rhs = np.zeros((7, 7)), np.zeros(7)  # A1, A2, B2, A3, B3, A4, B4

        def terms_of(j, r, n=n):
            grow = (r / shells[j]) ** n
            inner = shells[j - 1] if j else 1.0
            decay = (inner / r) ** (n + 1)
            return (grow, decay), (n * grow / r, -(n + 1) * decay / r)

        for j in range(3):
            r = shells[j]
            for k, line in ((0, 2 * j), (1, 2 * j + 1)):
                for side, sign in ((j, 1.0), (j + 1, -1.0)):
                    grow, decay = terms_of(side, r)[k]
                    weight = sign * (sigma[side] if k else 1.0)
                    column = 0 if side == 0 else 2 * side - 1
                    M[line, column] += weight * grow
                    if side == 0:
                        rhs[line] -= weight * decay * given
                    else:
                        M[line, column + 1] += weight * decay
        grow, decay = terms_of(3, 1.0)[1]
        M[6, 5], M[6, 6] = grow, decay
        solution = np.linalg.solve(M, rhs)
        value, _ = terms_of(3, 1.0)
        surface = solution[5] * value[0] + solution[6] * value[1]
        total += surface * eval_legendre(n, cosines)
    return total


def test_leadfield_is_that_of_four_concentric_shells():
    angles = np.linspace(0.05, 2.5, 9)
    electrodes = HEAD_RADIUS * np.c_[np.sin(angles), np.zeros(9), np.cos(angles)]
    up = np.array([[0.0, 0.0, 1.0]])
    for radius in (0.05, 0.07):
        ours = leadfield(electrodes + CENTRE, CENTRE + radius * up, up)[:, 0]
        exact = radial_dipole_on_shells(radius, np.cos(angles))
        # MNE replaces the series by three dipoles (Berg & Scherg)
        np.testing.assert_allclose(ours, exact, atol=0.02 * abs(exact).max())


# --------------------------------------------------------------- determinism


def test_windows_have_the_promised_shape_unit_and_balance(small):
    X, y, subject = small.windows()
    assert X.shape == (18, 8, 320) and X.dtype == np.float32
    assert (np.bincount(y) == 9).all()
    assert (np.bincount(subject)[1:] == 6).all()
    assert 3 < X.std() < 40  # µV


def test_a_subject_does_not_depend_on_who_else_is_generated(small):
    X, y, subject = small.windows()
    alone, labels, ids = small.windows([2])
    assert np.array_equal(alone, X[subject == 2])
    assert np.array_equal(labels, y[subject == 2]) and set(ids) == {2}
    more = SimulatedEEG(MOTOR, 50, n_trials=6, trial_seconds=2.0, seed=5)
    assert np.array_equal(more.windows(2)[0], alone)
    other = SimulatedEEG(MOTOR, 50, n_trials=6, trial_seconds=2.0, seed=6)
    assert not np.allclose(other.windows(2)[0], alone)


def test_an_electrode_carries_the_same_signal_in_every_montage(small):
    dense = SimulatedEEG(n_subjects=3, n_trials=6, trial_seconds=2.0, seed=5)
    rows = [dense.ch_names.index(name) for name in MOTOR]
    np.testing.assert_allclose(
        dense.windows(1)[0][:, rows], small.windows(1)[0], atol=1e-3
    )


def test_any_montage_serves():
    egi = SimulatedEEG(montage_preset("egi-128"), 1, n_trials=2, trial_seconds=1.0)
    assert egi.windows()[0].shape == (2, 128, 160)
    moved = make_chs_info(["C3", "C4"])
    moved[0]["ch_name"] = "left lead"
    described = SimulatedEEG(moved, 1, n_trials=2, trial_seconds=1.0)
    assert described.nearest_electrodes()["hand_left"] == "left lead"


def test_sessions_and_rest_are_other_recordings_of_the_same_person():
    sim = SimulatedEEG(MOTOR, 1, n_sessions=2, n_trials=4, trial_seconds=1.0)
    X, y, _ = sim.windows()
    assert X.shape[0] == 8 and not np.allclose(X[:4], X[4:])
    rest, labels, _ = sim.windows(rest=True)
    assert (labels == -1).all() and not np.allclose(rest, X)


# ------------------------------------------------------- what the classes are


@pytest.fixture(scope="module")
def hours():
    """Twenty minutes of source activity: rest, and imagery of the left hand."""
    traits = {"alpha_peak": 10.0, "desynchronisation": 0.5, "coupling": 0.8}
    n_times, series = 160 * 1200, {}
    for state, left in (("rest", 0.0), ("left_hand", 1.0)):
        noise = Noise(np.random.default_rng(3), n_times, 160.0)
        course = np.stack([np.full(n_times, left), np.zeros(n_times)])
        series[state] = source_series(noise, traits, course)
    return series


def test_imagery_halves_the_opposite_hand_area_and_no_other_power(hours):
    ratio = hours["left_hand"].std(1) / hours["rest"].std(1)
    expected = np.ones(len(SOURCES))
    expected[ROW["hand_right"]], expected[ROW["hand_left"]] = 0.5, 0.85
    np.testing.assert_allclose(ratio, expected, atol=0.03)
    np.testing.assert_allclose(hours["rest"].std(1), 1.0, atol=0.05)


@pytest.mark.parametrize("link", COUPLINGS, ids=lambda c: f"{c.driver}-{c.follower}")
@pytest.mark.parametrize("state", ["rest", "left_hand"])
def test_coherence_of_two_sources_is_the_square_of_their_coupling(hours, link, state):
    x, y = hours[state][ROW[link.driver]], hours[state][ROW[link.follower]]
    freqs, cross = csd(x, y, fs=160.0, nperseg=320)
    power = welch(x, 160.0, nperseg=320)[1] * welch(y, 160.0, nperseg=320)[1]
    peak = welch(x, 160.0, nperseg=320)[1].argmax()
    share = 0.8 * link.strength if link.event in (None, state) else 0.0
    coherence = abs(cross[peak]) ** 2 / power[peak]
    assert coherence == pytest.approx(share**2, abs=0.06)
    if share:
        lag = -np.angle(cross[peak]) / (2 * np.pi * freqs[peak])
        assert lag == pytest.approx(LAG_SECONDS, abs=0.002)


def test_true_topology_links_the_electrodes_over_coupled_sources():
    dense = SimulatedEEG(n_subjects=1)
    names = np.array(dense.ch_names)

    def edges(event=None):
        rows, columns = np.nonzero(np.triu(dense.topology(event)))
        return {
            frozenset((str(names[i]), str(names[j])))
            for i, j in zip(rows, columns, strict=True)
        }

    always = {frozenset(("PO3", "PO4")), frozenset(("AFz", "POz"))}
    left = {frozenset(("C4", name)) for name in ("CP2", "FC2", "TP8")}
    right = {frozenset(("C3", name)) for name in ("CP1", "FC1", "TP7")}
    assert edges("rest") == always
    assert edges("left_hand") == always | left
    assert edges("right_hand") == always | right
    assert edges() == always | left | right
    sparse = SimulatedEEG(MOTOR, n_subjects=1).topology()
    assert sparse.shape == (8, 8) and (sparse == sparse.T).all()
    assert not sparse.diagonal().any()


def aligned_tangent_accuracy(X, y, subject, train):
    """Log-Euclidean tangent space of 8-30 Hz, each person re-centred."""
    X = sosfiltfilt(butter(4, [8, 30], "bandpass", fs=160, output="sos"), X)
    C = np.einsum("bit,bjt->bij", X, X) / X.shape[-1]

    def spectral(matrices, function):
        values, vectors = np.linalg.eigh(matrices)
        scaled = vectors * function(values)[..., None, :]
        return scaled @ np.swapaxes(vectors, -1, -2)

    logs = np.empty_like(C)
    for one in np.unique(subject):
        mine = subject == one
        white = spectral(C[mine].mean(0), lambda v: v**-0.5)
        logs[mine] = spectral(white @ C[mine] @ white, np.log)
    upper = np.triu_indices(C.shape[1])
    features = logs[:, upper[0], upper[1]]
    model = make_pipeline(StandardScaler(), LogisticRegression(C=1e-3))
    model.fit(features[train], y[train])
    return model.score(features[~train], y[~train])


def test_unseen_people_are_above_chance_below_ceiling_and_better_seen_densely():
    sim = SimulatedEEG(n_subjects=20, seed=11)
    X, y, subject = sim.windows()
    rows = [sim.ch_names.index(name) for name in MOTOR]
    dense = aligned_tangent_accuracy(X, y, subject, subject <= 10)
    sparse = aligned_tangent_accuracy(X[:, rows], y, subject, subject <= 10)
    assert 0.62 < sparse < 0.82
    assert sparse + 0.02 < dense < 0.92


# ------------------------------------------------------------------- defects


def test_line_noise_is_a_peak_that_can_be_switched_off():
    def mains(amplitude):
        sim = SimulatedEEG(MOTOR, 1, n_trials=8, line_amplitude=amplitude)
        freqs, power = welch(sim.windows()[0], 160.0, nperseg=160)
        power = power.mean((0, 1))
        return power[freqs == 50][0] / power[freqs == 45][0]

    assert mains(3.0) > 3 and mains(0.0) < 1.5


def test_bad_channels_are_flat_or_far_too_loud_and_known():
    sim = SimulatedEEG(MOTOR, 4, n_trials=4, n_bad_channels=2)
    clean = SimulatedEEG(MOTOR, 4, n_trials=4)
    for subject in sim.subjects:
        X, reference = sim.windows(subject)[0], clean.windows(subject)[0]
        changed = [n for i, n in enumerate(MOTOR) if not (X == reference)[:, i].all()]
        assert changed == sim.bad_channels(subject) and len(changed) == 2
        spread = X[:, [MOTOR.index(name) for name in changed]].std((0, 2))
        assert ((spread == 0) | (spread > 50)).all()
    assert clean.bad_channels(1) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"channels": ["C3", "Nowhere"]}, "Nowhere"),
        ({"channels": ["C3", "C3"]}, "C3"),
        ({"n_subjects": 0}, "n_subjects"),
        ({"sfreq": 50.0}, "sfreq"),
        ({"trial_seconds": 0.5}, "trial_seconds"),
        ({"channels": MOTOR, "n_bad_channels": 8}, "n_bad_channels"),
    ],
)
def test_errors_name_the_argument_or_the_electrode(arguments, message):
    with pytest.raises(ValueError, match=message):
        SimulatedEEG(**arguments)


def test_unknown_subjects_sessions_and_states_are_refused(small):
    with pytest.raises(ValueError, match="subject 4"):
        small.windows(4)
    with pytest.raises(ValueError, match="session 1"):
        small.raw(1, session=1)
    with pytest.raises(ValueError, match="event"):
        small.topology("feet")


# ------------------------------------------------------------- other libraries


def test_raw_holds_the_same_windows_in_volts(small):
    raw = small.raw(2)
    events, codes = mne.events_from_annotations(raw, EVENTS, verbose=False)
    X, y, _ = small.windows(2)
    assert np.array_equal(events[:, 2] - 1, y) and codes == EVENTS
    first = raw.get_data(start=events[0, 0], stop=events[0, 0] + small.n_times)
    np.testing.assert_allclose(first * 1e6, X[0], rtol=1e-5, atol=1e-6)


def test_braindecode_dataset_is_the_same_data_with_subjects(small):
    dataset = small.to_braindecode([1, 3])
    X, y, subject = small.windows([1, 3])
    assert len(dataset) == len(X)
    assert list(dataset.description["subject"]) == [1, 3]
    for i in (0, 7, 11):
        window, target, _ = dataset[i]
        np.testing.assert_allclose(window, X[i], rtol=1e-4, atol=1e-4)
        assert target == y[i]
    assert (small.to_braindecode([1], rest=True).get_metadata()["target"] == -1).all()
    dataset.set_return_ch_pos(True)
    assert np.isfinite(dataset[0][3]).all()


def test_moabb_reads_the_same_trials_and_tells_generators_apart(small):
    from moabb.paradigms import LeftRightImagery

    dataset = small.to_moabb()
    paradigm = LeftRightImagery(fmin=1, fmax=40, resample=None)
    X, labels, meta = paradigm.get_data(dataset, subjects=[1, 2])
    expected, y, subject = small.windows([1, 2])
    assert list(meta["subject"]) == list(subject)
    assert [EVENTS[label] - 1 for label in labels] == list(y)
    for trial, window in zip(X, expected, strict=True):
        assert np.corrcoef(trial[2, : small.n_times], window[2])[0, 1] > 0.8
    twin = SimulatedEEG(MOTOR, 3, n_trials=6, trial_seconds=2.0, seed=5).to_moabb()
    other = SimulatedEEG(MOTOR, 3, n_trials=6, trial_seconds=2.0, seed=6).to_moabb()
    assert dataset.code == twin.code != other.code
    copy = pickle.loads(pickle.dumps(dataset))
    assert copy.code == dataset.code and copy.subject_list == dataset.subject_list

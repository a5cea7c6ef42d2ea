"""GCMAEClassifier.predict: it warns of windows as fit does, once for each net."""

import pickle
import warnings

import numpy as np
import pytest
import torch
from braindecode.datasets import BaseConcatDataset
from sklearn.model_selection import cross_val_score
from skorch.helper import SliceDataset
from tiny import (
    FEW,
    NAMES,
    SFREQ,
    X,
    Y,
    classifier,
    epochs,
    fit,
    labelled,
    windowed,
    windows,
)

from braindecode_gcmae import GCMAEClassifier


@pytest.fixture
def net():
    return fit(classifier(cls=GCMAEClassifier))


def told(function, *given):
    """Messages of the warnings of a call."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        function(*given)
    assert {w.category for w in caught} <= {UserWarning}
    return [str(w.message) for w in caught]


VOLTS = {
    "array": lambda: 1e-6 * X,
    "tensor": lambda: torch.as_tensor(1e-6 * X),
    "list": lambda: list(1e-6 * X),
    "data set": lambda: windowed(1e-6 * X, NAMES, target=1),
    "slice": lambda: SliceDataset(windowed(1e-6 * X, NAMES, target=1)),
    "epochs": lambda: epochs(1e-6 * X),
}


@pytest.mark.parametrize("kind", VOLTS)
def test_volts_are_said_once_for_each_net_whatever_holds_them(net, kind):
    lost = X.copy()
    lost[:3], lost[3:6], lost[6:, 0] = 0, np.nan, np.inf
    assert not told(net.predict, X) + told(net.predict, lost), "microvolts"
    (message,) = told(net.predict, VOLTS[kind]())
    assert "are they in volts" in message
    again = pickle.loads(pickle.dumps(net))
    for same in (net, again):
        assert not told(same.predict_proba, VOLTS[kind]())
    (message,) = told(fit(classifier(cls=GCMAEClassifier)).score, 1e-6 * X, Y)
    assert "are they in volts" in message


def test_windows_on_disk_are_looked_at_by_the_first_few(net):
    class Counting(torch.utils.data.Dataset):
        read: list = []

        def __len__(self):
            return len(X)

        def __getitem__(self, i):
            self.read.append(i)
            return X[i], 0

    net.predict(Counting())
    assert len(Counting.read) <= len(X) + 6
    assert set(Counting.read[: -len(X)]) <= {0, 1, 2, 3}


def test_arrays_of_another_length_are_said_once_and_predicted(net):
    longer = np.concatenate([X, X[..., :60]], axis=2)
    assert not told(net.predict, X)
    (message,) = told(net.predict, longer)
    assert "have 220 samples" in message and "160 (1.6 s at 100 Hz)" in message
    assert "another sampling rate" in message
    assert not told(net.predict, longer)
    # Of a net that was trained on others than its model's they are meant.
    other = classifier(cls=GCMAEClassifier, module__n_times=160)
    assert not told(fit(other, x=longer).predict, longer)


def test_a_bad_channel_that_is_data_still_is_said_once_where_it_is_predicted(net):
    made = epochs(X)
    assert not told(net.predict, made)
    made.info["bads"] = ["Cz"]
    (message,) = told(net.predict, made)
    assert "['Cz'] are marked bad" in message
    assert not told(net.predict, made)
    other = fit(classifier(cls=GCMAEClassifier))
    (message,) = told(other.predict, windowed(X, NAMES, bads=["C3"], target=1))
    assert "['C3'] are marked bad" in message
    made._data[:, NAMES.index("Cz")] = np.nan
    assert not told(fit(classifier(cls=GCMAEClassifier)).predict, made)


def test_a_validation_says_nothing_that_fit_has_said():
    given = {"cls": GCMAEClassifier, "max_epochs": 2}
    alone = told(fit, classifier(**given), 0, 1e-6 * X)
    split = told(fit, classifier(train_split=_halves, **given), 0, 1e-6 * X)
    assert split == alone != []


def _halves(dataset, y=None, **given):
    """A split that needs no random numbers."""
    rows = np.arange(len(dataset))
    subset = torch.utils.data.Subset
    return subset(dataset, rows[:16]), subset(dataset, rows[16:])


def test_a_list_of_windows_is_their_array(net):
    expected = net.predict_proba(X)
    for listed in (list(X), tuple(X), X.tolist()):
        np.testing.assert_array_equal(net.predict_proba(listed), expected)
    with pytest.raises(ValueError, match=r"has \(6, 100\) and \(6, 160\)"):
        net.predict_proba([*X, X[0, :, :100]])


@pytest.mark.parametrize(
    "nothing", [X[:0], [], torch.empty(0, 6, 160), epochs(X)[:0]], ids=type
)
def test_no_windows_are_refused(net, nothing):
    with pytest.raises(ValueError, match="no windows to predict"):
        net.predict(nothing)


def test_other_sampling_rates_are_refused_as_before(net):
    with pytest.raises(ValueError, match="128 Hz, the model was built for 100 Hz"):
        net.predict(windowed(windows(4), NAMES, sfreq=1.28 * SFREQ, target=1))


# ----------------------------------------------------------- what a data set tells
def recordings(**given):
    """Two recordings, whose windows have classes."""
    made = [windowed(windows(8, seed=i), NAMES, target=i, **given) for i in (0, 1)]
    return BaseConcatDataset(made)


def of_recordings(**arguments):
    given = {"module__ch_names": None, "module__sfreq": None, "module__n_outputs": 2}
    return classifier(cls=GCMAEClassifier, **{**given, **arguments})


@pytest.mark.parametrize("wrapped", [False, True], ids=["data set", "slices"])
def test_a_data_set_tells_channels_and_rate(wrapped):
    data = recordings(montage="standard_1020")
    y = np.repeat([0, 1], 8)
    net = of_recordings().fit(*((SliceDataset(data), y) if wrapped else (data, None)))
    assert net.module_.sfreq == SFREQ
    assert [c["ch_name"] for c in net.module_.node_channels()] == FEW
    assert net.predict(data).shape == (16,)


def test_what_the_user_says_of_the_signal_goes_before_what_a_data_set_tells():
    names = [name.lower() for name in NAMES]
    net = of_recordings(module__ch_names=names, module__electrodes=None)
    assert net.fit(recordings(), None).module_.input_channels() == names
    with pytest.raises(ValueError, match="Hz"):
        of_recordings(module__sfreq=2 * SFREQ).fit(recordings(), None)


def test_a_data_set_is_cross_validated_as_slices():
    data, y = recordings(montage="standard_1020"), np.tile([0, 1], 8)
    scores = cross_val_score(of_recordings(), SliceDataset(data), y, cv=2)
    assert np.isfinite(scores).all()


# ------------------------------------------------------------------ channels by row
@pytest.mark.parametrize(
    ("names", "told"),
    [
        (FEW[::-1], r"reorder_channels\(\['C3', 'Cz', 'C4'\]\)"),
        (["C3", "C4"], "there is no Cz. Add what is missing as channels.*NaN"),
        (NAMES[::-1], r"reorder_channels\(\['F3', "),
        (["C3", "Cz", "O1"], "first difference 'O1', expected 'C4'"),
    ],
)
def test_channels_in_another_order_are_told_what_to_do(names, told):
    net = classifier(cls=GCMAEClassifier).fit(epochs(*labelled()), labelled()[1])
    with pytest.raises(ValueError, match=told):
        net.predict(windowed(windows(2, len(names)), names, montage="standard_1020"))

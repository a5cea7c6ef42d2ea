"""A warning points at the line of the user, whatever is between."""

import threading
import warnings

import numpy as np
import pytest
from tiny import X, Y, classifier, pretrainer, windows

from braindecode_gcmae import GCMAEClassifier, RecordingAlignment
from braindecode_gcmae.warning import Notes, warn


def told(function, *given, match=""):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        function(*given)
    found = [w for w in caught if match in str(w.message)]
    assert found
    return {w.filename for w in found}


def test_the_line_is_the_callers():
    with pytest.warns(FutureWarning, match="soon") as caught:
        warn("soon", FutureWarning)
    assert caught[0].filename == __file__


@pytest.mark.parametrize(
    ("function", "match"),
    [
        (
            lambda: RecordingAlignment().transform(np.ones((6, 3, 50)) * _one_flat()),
            "flat",
        ),
        (lambda: pretrainer().fit(windows() * 1e-6), "volts"),
        (lambda: classifier(cls=GCMAEClassifier).fit(X * 1e-6, Y), "volts"),
    ],
    ids=["transformer", "pretrainer", "net within skorch"],
)
def test_no_frame_of_a_library_is_named(function, match):
    assert told(function, match=match) == {__file__}


def _one_flat():
    moving = np.random.default_rng(0).normal(size=(6, 3, 50))
    moving[:, 1] = 0
    return moving


def test_recordings_that_are_alike_are_told_in_the_same_words():
    def words(scale):
        with pytest.warns(UserWarning, match="volts") as caught:
            classifier(cls=GCMAEClassifier).fit(X * scale, Y)
        return {str(w.message) for w in caught if "volts" in str(w.message)}

    assert words(1e-6) == words(1.3e-6)


def test_where_no_line_is_the_users_it_is_told_all_the_same():
    library = {"__name__": "skorch.net", "warn": warn}
    exec("def run(): warn('deep')", library)
    thread = threading.Thread(target=library["run"])
    with pytest.warns(UserWarning, match="deep"):
        thread.start()
        thread.join()


def test_a_text_of_many_recordings_is_told_once():
    notes = Notes()
    for label in "abcde":
        notes.add(label, "too short")
    notes.add("a", "flat")
    with pytest.warns(UserWarning) as caught:
        notes.tell()
    assert [str(w.message) for w in caught] == [
        "5 recordings ('a', 'b', 'c', ...): too short",
        "recording 'a': flat",
    ]


def test_recordings_that_are_too_short_are_told_together():
    x = np.random.default_rng(0).normal(size=(12, 3, 50))
    with pytest.warns(UserWarning, match="too few") as caught:
        RecordingAlignment().transform(x, groups=np.arange(12) // 3)
    (message,) = (str(w.message) for w in caught)
    assert message.startswith("4 recordings (0, 1, 2, ...): 3 windows of 50 samples")

"""Runs that another one may or may not go on with."""

import numpy as np
import pytest
from tiny import X, Y, classifier, pretrainer, quietly

from braindecode_gcmae.callbacks import ResumableCheckpoint
from braindecode_gcmae.models import CheckpointError

WHO = np.arange(len(X)) // 6
SUBJECTS = np.repeat(np.arange(4), 4)


def run(folder, *more, **arguments):
    callbacks = [("resume", ResumableCheckpoint(folder)), *more]
    return classifier(callbacks=callbacks, **{"max_epochs": 1, **arguments})


def pretraining(folder, **arguments):
    callbacks = [("resume", ResumableCheckpoint(folder))]
    return pretrainer(callbacks=callbacks, **{"max_epochs": 1, **arguments})


def refused(net, words, x=X, y=Y, **more):
    """Nothing is trained and the file is as it was."""
    file = dict(net.callbacks)["resume"].file
    before = file.read_bytes()
    with pytest.raises(CheckpointError, match=f"They differ in {words}.*one folder is"):
        quietly(net.fit, x, y, **more)
    assert not len(net.history) and file.read_bytes() == before


def accepted(net, x=X, y=Y, **more):
    """What was finished is not done again."""
    told = dict(net.callbacks)["resume"].file.read_bytes()
    net.fit(x, y, **more)
    assert len(net.history) == 1
    assert dict(net.callbacks)["resume"].file.read_bytes() == told


def another(window):
    """The same windows, but for one sample of one of them."""
    x = X.copy()
    x[window, 2, 50] += 1
    return x

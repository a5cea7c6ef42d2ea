"""Epochs whose channels are marked bad, or hold no EEG, in a net that distils."""

import warnings

import mne
import numpy as np
import pytest
from tiny import NAMES, X, Y, classifier, distil, epochs, fit

from braindecode_gcmae import GCMAEClassifier


def told_of_bads(x, y=None):
    """Messages about bad channels that a fit gives."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit(classifier(callbacks=distil()), x=x, y=y)
    texts = [str(warning.message) for warning in caught]
    assert not [text for text in texts if "never finite" in text and "'Cz'" in text]
    return [text for text in texts if "marked bad" in text and "'Cz'" in text]


def test_a_bad_channel_of_epochs_that_is_data_still_is_said_to_be_so():
    made = epochs(X, Y)
    assert not told_of_bads(made, Y)
    made.info["bads"] = ["Cz"]
    assert told_of_bads(made, Y)
    made._data[:, NAMES.index("Cz")] = np.nan
    assert not told_of_bads(made, Y)


def test_epochs_of_current_source_densities_say_that_nets_take_microvolts():
    made = mne.preprocessing.compute_current_source_density(epochs(X, Y))
    net = classifier(cls=GCMAEClassifier, callbacks=distil())
    with pytest.raises(ValueError, match=r"no channel of type EEG, but \['csd'\]"):
        net.fit(made, Y)

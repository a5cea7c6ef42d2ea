"""GCMAEPretrainer in scikit-learn's hands, and what it paints."""

import warnings

import numpy as np
import pytest
import sklearn
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from test_pretrainer import SUBJECTS, fitted, listening
from tiny import NAMES, labelled, pretrainer, quietly, windows

pytestmark = pytest.mark.filterwarnings("ignore:some windows have no subject")


def test_reconstruct_hides_what_it_is_asked_to_hide():
    net = fitted()
    x = windows(4)
    made = net.reconstruct(x, ["Cz", "pz"])
    assert made.masked.tolist() == [n in ("Cz", "Pz") for n in NAMES]
    assert made.target.shape == made.reconstruction.shape
    other = x.copy()
    other[:, made.masked] = windows(1, 1, seed=5)[0]
    again = net.reconstruct(other, [NAMES.index("Cz"), NAMES.index("Pz")])
    np.testing.assert_array_equal(made.reconstruction, again.reconstruction)
    assert not np.array_equal(made.target, again.target)
    rows = np.flatnonzero(made.masked)
    for mask in (made.masked, made.masked.tolist(), set(rows), rows.astype(object)):
        np.testing.assert_array_equal(net.reconstruct(x, mask).masked, made.masked)
    with pytest.raises(ValueError, match=f"each of {len(NAMES)} electrodes, got 2"):
        net.reconstruct(x, [True, False])


def test_a_decoder_that_was_not_trained_says_that_it_paints_nothing(tmp_path):
    net, x = fitted(), windows(4)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        net.reconstruct(x, ["Cz"])
        net.reconstruct(x, ["Cz"], density="student")
    net.save_pretrained(tmp_path)
    loaded = pretrainer().load_pretrained(tmp_path)
    for without in (loaded, fitted(objective="contrast")):
        with pytest.warns(UserWarning, match="no training of the teacher's decoder"):
            without.reconstruct(x, ["Cz"])
    loaded.partial_fit(windows(), groups=SUBJECTS)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        loaded.reconstruct(x, ["Cz"])


def test_set_params_on_a_fitted_net_takes_effect_at_the_next_fit():
    net = fitted()
    net.set_params(student__emb_dim=4)
    net.fit(windows(), groups=SUBJECTS)
    assert net.student_.network.embed.out_features == 4


def test_groups_are_routed_to_it_through_a_pipeline():
    x, y = labelled(16)
    with sklearn.config_context(enable_metadata_routing=True):
        net = listening(max_epochs=1).set_fit_request(groups=True)
        scores = quietly(
            cross_val_score,
            make_pipeline(net, LogisticRegression()),
            x,
            y,
            cv=GroupKFold(2),
            params={"groups": SUBJECTS},
            error_score="raise",
        )
    assert len(scores) == 2 == len(net.groups)
    assert all(len(groups) == 8 for groups in net.groups)

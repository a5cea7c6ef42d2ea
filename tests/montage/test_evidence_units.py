"""Positions in other units than metres are known to be none."""

import numpy as np
import pytest

from braindecode_gcmae.montage import electrode_positions

NAMES = ["X0", "X1", "X2"]
METRES = 0.095 * np.array([[0.6, 0.0, 0.8], [0.0, 0.6, 0.8], [-0.6, 0.0, 0.8]])


def entries(positions):
    return [
        {"ch_name": name, "kind": "eeg", "loc": np.r_[place, np.zeros(9)]}
        for name, place in zip(NAMES, positions, strict=True)
    ]


@pytest.mark.parametrize("scale", [1e3, 1 / 0.095])
def test_positions_in_millimetres_or_on_a_unit_sphere_are_unknown_and_said_to_be(scale):
    with pytest.warns(UserWarning, match=r"\['X0', 'X1', 'X2'\] are no metres"):
        assert np.isnan(electrode_positions(entries(scale * METRES))).all()


def test_what_is_asked_by_measurement_is_told_about_its_units_too():
    far = [{"ch_name": "Cz", "kind": "eeg", "loc": np.r_[0.0, 15.0, 120.0]}]
    with pytest.warns(UserWarning, match=r"\['Cz'\] are no metres"):
        place = electrode_positions(far, prefer="loc")
    np.testing.assert_array_equal(place, electrode_positions(["Cz"]))


def test_metres_are_metres(recwarn):
    np.testing.assert_array_equal(electrode_positions(entries(METRES)), METRES)
    assert not recwarn.list

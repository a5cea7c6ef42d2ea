"""Labels of clinical recordings."""

import pytest

from braindecode_gcmae.montage import canonical_name


@pytest.mark.parametrize(
    "label, name",
    [
        ("EEG T3-LER", "T7"),
        ("EEG F3-CLE", "F3"),
        ("EEG F3-AVE", "F3"),
        ("C3-Average", "C3"),
        ("POL Fp1", "Fp1"),
        ("EEG C3-A1/A2", "C3"),
        ("C3-(A1+A2)/2", "C3"),
        ("C3-M2", "C3"),
        ("E36-REF", "E36"),
        ("VertexReference", "Cz"),
    ],
)
def test_a_common_reference_and_a_prefix_are_no_part_of_a_name(label, name):
    assert canonical_name(label) == name


@pytest.mark.parametrize("label", ["E1-M2", "E2-A1", "Fp1-F7", "C3-P3", "Polar"])
def test_eyes_and_bipolar_derivations_are_no_electrodes(label):
    assert canonical_name(label) == label

"""Laws of names that only their whole list tells, and of channels beside the scalp."""

import make_nets
import numpy as np
import pytest

from braindecode_gcmae.montage import (
    electrode_positions,
    make_chs_info,
    match_electrodes,
    montage_preset,
    standard_positions,
)
from braindecode_gcmae.montage.names import table
from braindecode_gcmae.montage.nets import beside_the_scalp

TABLES = ("ten_five", *make_nets.HYDROCEL, *make_nets.BIOSEMI)
SLEEP = ["F3", "F4", "C3", "C4", "O1", "O2", "E1", "E2", "M1", "M2"]
DEPTH = ["EEG C3-Ref", "EEG C4-Ref", "EEG F3-Ref", *(f"POL F{i}" for i in range(1, 11))]
BESIDE = """
EOG EOG(L) L_EOG R_EOG LEOG REOG HEOG VEOGL HEO VEO HEOL LOC ROC LOC-M2 E1-M2 E2-(A1)
ECG EKG1 ECG_II EMG EMG1-EMG2 Chin1 CHIN2 Chin LLEG RLEG Leg/L LEG2 Resp RESP1 Thor
Thorax Abdo ABDOMEN Flow AirFlow Snore SpO2 SaO2 HR H.R. Pulse Pleth Plet PPG GSR1 EDA
EXG1 EXG8 Erg1 Ana1 Temp AUX1 Status STI014 Trigger Photic IBI BURSTS SUPPR
""".split()
BESIDE += ["EOG horizontal", "Resp oro-nasal", "EMG submental", "Temp rectal"]
BESIDE += ["Event marker", "Right AUX", "STI 014", "EEG LOC-REF", "EEG ROC-REF"]
BESIDE += ["PHOTIC-REF", "EEG EKG1-REF", "RESP ABDOMEN-REF", "PULSE RATE", "POL EMG1"]


# Beside the scalp ---------------------------------------------------------------------


@pytest.mark.parametrize("stem", TABLES)
def test_no_electrode_of_a_table_has_the_name_of_something_else(stem):
    for form in ("{}", "EEG {}-REF", "POL {}"):
        names = [form.format(name) for name in table(stem)]
        names += [name.upper() for name in names]
        assert not beside_the_scalp(names).any()
        assert not any(beside_the_scalp([name]).any() for name in names)


@pytest.mark.parametrize("name", BESIDE)
def test_eyes_muscles_breath_and_other_inputs_are_told_by_their_names(name):
    for spelling in (name, name.upper(), name.lower()):
        assert beside_the_scalp(["Fz", spelling, "temporal left"]).tolist() == [
            False,
            True,
            False,
        ]


# Eyes ---------------------------------------------------------------------------------


def test_e1_and_e2_beside_names_of_the_10_05_system_are_eyes(silent):
    for names in (SLEEP, [f"EEG {name}-REF" for name in SLEEP]):
        for channels in (names, make_chs_info(names)):
            unknown = np.isnan(electrode_positions(channels)).any(1)
            assert [SLEEP[row] for row in np.flatnonzero(unknown)] == ["E1", "E2"]
            for place in ("AF8", "AF10"):
                with pytest.raises(ValueError, match="unknown electrodes"):
                    match_electrodes([place], channels)
            assert match_electrodes(["C3"], channels) == [2]
            assert match_electrodes(names[6:8], channels) == [6, 7]
            assert match_electrodes(names[5:8], channels) == [5, 6, 7]
        assert beside_the_scalp(names).tolist() == [n in ("E1", "E2") for n in SLEEP]


@pytest.mark.parametrize(
    "names",
    [
        ["E1", "E2"],
        ["E1", "E2", "Cz"],
        ["E2", "VREF"],
        ["E1", "E2", "E36", "F3"],
        [*montage_preset("egi-128"), "VREF", "Fp1"],
    ],
)
def test_numbers_of_a_net_are_no_eyes(names, silent):
    assert np.isfinite(electrode_positions(names)).all()
    assert not beside_the_scalp(names).any()
    place = table("hydrocel")[names[0]]
    np.testing.assert_array_equal(electrode_positions(names)[0], place)


@pytest.mark.parametrize("reference", [[], ["Cz"], ["VREF"]])
def test_numbers_asked_of_a_net_are_its_own_whatever_else_is_asked(reference, silent):
    net = montage_preset("egi-128") + reference
    for cap in (net, make_chs_info(net)):
        assert match_electrodes(["E1", "E2"], cap) == [0, 1]
        assert match_electrodes(["C3", "E2", "E1"], cap) == [35, 1, 0]


def test_labels_of_biosemi_are_no_eyes(silent):
    names = list(table("biosemi160"))
    assert not beside_the_scalp(names).any()
    assert not beside_the_scalp(["A1", "C3", "D19", "E1", "E2"]).any()


# Contacts within the brain ------------------------------------------------------------


def test_pol_beside_eeg_is_no_electrode_of_the_scalp(silent):
    for names in (DEPTH, [*DEPTH, *(f"POL A{i}" for i in range(1, 9))]):
        for channels in (names, make_chs_info(names)):
            known = np.isfinite(electrode_positions(channels)).all(1)
            assert known.tolist() == [name.startswith("EEG") for name in names]
            assert match_electrodes(["C3", "F3"], channels) == [0, 2]
            assert match_electrodes(["POL F3", "POL F7"], channels) == [5, 9]
            for lost in (["F1"], ["F7"], ["A1"]):
                with pytest.raises(ValueError, match="unknown electrodes"):
                    match_electrodes(lost, channels)


def test_pol_throughout_a_list_is_a_prefix(silent):
    names = [f"POL {name}" for name in montage_preset(19)] + ["POL DC01"]
    expected = [standard_positions()[name] for name in montage_preset(19)]
    np.testing.assert_array_equal(electrode_positions(names)[:-1], expected)
    assert match_electrodes(["C3", "Pz"], names) == match_electrodes(
        ["POL C3", "POL Pz"], names
    )

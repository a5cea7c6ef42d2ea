"""Laws of electrode matching: by name or by position, never by row."""

import re
import subprocess
import sys
import warnings

import mne
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from braindecode_gcmae import GCMAEStudent
from braindecode_gcmae.montage import (
    PRESETS,
    canonical_name,
    electrode_positions,
    make_chs_info,
    match_electrodes,
    montage_preset,
    nearest_electrodes,
    require_positions,
    retained_and_removed,
    standard_positions,
)
from braindecode_gcmae.montage.evidence import CENTRE, angles
from braindecode_gcmae.montage.names import table

# Luu & Ferree 2005: sites of the HydroCel net and their 10-10 equivalents. The first
# row are landmarks of the warp, the second row is not and checks it.
LANDMARKS = {
    "Fp1": 22,
    "Fp2": 9,
    "Fz": 11,
    "F3": 24,
    "F4": 124,
    "F7": 33,
    "F8": 122,
    "C3": 36,
    "C4": 104,
}
LANDMARKS |= {
    "T7": 45,
    "T8": 108,
    "P3": 52,
    "P4": 92,
    "Pz": 62,
    "P7": 58,
    "P8": 96,
    "O1": 70,
    "O2": 83,
    "Oz": 75,
}
OTHERS = {
    "FCz": 6,
    "AFz": 16,
    "AF3": 23,
    "AF4": 3,
    "F1": 19,
    "F2": 4,
    "F5": 27,
    "F6": 123,
    "FC3": 29,
    "FC4": 111,
}
OTHERS |= {"C1": 30, "C2": 105, "PO7": 65, "PO8": 90, "POz": 72}


def _template():
    try:
        return mne.channels.make_standard_montage("colin27_1005")
    except ValueError:  # before MNE 1.13
        return mne.channels.make_standard_montage("standard_1005")


def _unnamed(names):
    """The same electrodes under names that say nothing: only ``loc`` is left."""
    chs_info = make_chs_info(names)
    return [dict(ch, ch_name=f"sensor {i}") for i, ch in enumerate(chs_info)]


@pytest.mark.parametrize(
    "name, expected",
    [
        ("Fc5.", "FC5"),
        ("Cz..", "Cz"),
        ("FP1", "Fp1"),
        (" fp1 ", "Fp1"),
        ("AFPZ", "AFpz"),
        ("t3", "T7"),
        ("T4", "T8"),
        ("T5", "P7"),
        ("T6", "P8"),
        ("EEG FP1-REF", "Fp1"),
        ("EEG T3-LE", "T7"),
        ("EEG-Fz", "Fz"),
        ("EEG:C3", "C3"),
        ("C4-M1", "C4"),
        ("e036", "E36"),
        ("EEG E36", "E36"),
        ("VREF", "Cz"),
        ("E129", "Cz"),
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
        ("EEG A1-REF", "A1"),
        ("O9", "I1"),
        ("EEG O10-M1", "I2"),
        # Eyes, bipolar derivations, other words
        ("E1-M2", "E1-M2"),
        ("E2-A1", "E2-A1"),
        ("C3-P3", "C3-P3"),
        ("Polar", "Polar"),
        ("Fp1-F7", "Fp1-F7"),
        # A derivation between the ears is none of them
        ("A1-A2", "A1-A2"),
        ("M1-M2", "M1-M2"),
        ("EEG A2-A1", "EEG A2-A1"),
        ("M1-(A1+A2)/2", "M1-(A1+A2)/2"),
        ("EEG 001", "EEG 001"),
        ("E300", "E300"),
        ("M1", "M1"),
        ("", ""),
    ],
)
def test_names_are_spelled_the_ten_five_way(name, expected):
    assert canonical_name(name) == expected


def test_canonical_name_is_idempotent_and_ignores_case():
    for name in [*standard_positions(), *montage_preset("egi-128")]:
        for spelling in (name, name.upper(), name.lower() + ".", f"EEG {name}-Ref"):
            assert canonical_name(spelling) == name


@given(st.text(max_size=12))
def test_canonical_name_of_any_text_is_a_fixed_point_or_known(text):
    once = canonical_name(text)
    known = {*standard_positions(), *montage_preset("egi-128")}
    assert once in known or (once in text and once.strip() == once)
    assert canonical_name(once) == once


def test_a_name_is_a_string():
    with pytest.raises(TypeError, match="7"):
        canonical_name(7)
    with pytest.raises(TypeError, match="ch_name"):
        match_electrodes([{"name": "C3"}], ["C3"])


def test_standard_positions_are_mne_template_in_the_head_frame():
    montage = _template()
    info = mne.create_info(montage.ch_names, 100.0, "eeg")
    info.set_montage(montage)
    ours = standard_positions()
    theirs = {canonical_name(ch["ch_name"]): ch["loc"][:3] for ch in info["chs"]}
    assert set(ours) == set(theirs) and len(ours) == 339
    for name, position in theirs.items():
        np.testing.assert_allclose(ours[name], position, atol=1e-6)
    assert ours["C4"][0] > 0 > ours["C3"][0] and ours["Fz"][1] > 0 > ours["Oz"][1]


@pytest.mark.filterwarnings("ignore:Montage name")
@pytest.mark.parametrize("other, name", [("O9", "I1"), ("O10", "I2")])
def test_two_names_of_a_site_are_one_place_in_mne(other, name):
    ten_twenty = mne.channels.make_standard_montage("standard_1020")
    place = ten_twenty.get_positions()["ch_pos"][other]
    np.testing.assert_array_equal(place, _template().get_positions()["ch_pos"][name])
    np.testing.assert_array_equal(
        electrode_positions([other]), electrode_positions([name])
    )


def test_nobody_can_change_the_shared_table():
    with pytest.raises(ValueError, match="read-only"):
        standard_positions()["Cz"][0] = 1.0
    standard_positions().pop("Cz")
    assert "Cz" in standard_positions()
    montage_preset("motor-8").pop()
    assert len(montage_preset("motor-8")) == 8
    with pytest.raises(TypeError):
        PRESETS["motor-8"] = ()


@pytest.mark.parametrize("name, number", [*LANDMARKS.items(), *OTHERS.items()])
def test_egi_numbers_match_by_position_both_ways(name, number):
    net = make_chs_info([f"E{i}" for i in range(1, 129)] + ["VREF"])
    assert match_electrodes([name], net) == [number - 1]
    assert match_electrodes([f"E{number}"], make_chs_info([name, "Iz"])) == [0]
    assert match_electrodes(["Cz"], net) == [128]


def test_egi_numbers_keep_their_own_names():
    net = [f"E{i}" for i in range(1, 129)]
    order = np.random.default_rng(0).permutation(128)
    shuffled = [net[i] for i in order]
    assert [shuffled[r] for r in match_electrodes(net, shuffled)] == net


def test_the_warped_net_stays_a_left_right_symmetric_head():
    mne_net = mne.channels.make_standard_montage("GSN-HydroCel-128")
    raw = np.array(list(mne_net.get_positions()["ch_pos"].values()))
    ours = electrode_positions(mne_net.ch_names)
    # mirror partners of the manufacturer's net are mirror partners of ours
    partner = np.linalg.norm(raw[:, None] - raw * [-1, 1, 1], axis=-1).argmin(1)
    np.testing.assert_allclose(ours[partner] * [-1, 1, 1], ours, atol=0.008)
    gaps = np.linalg.norm(ours[:, None] - ours, axis=-1) + np.eye(128)
    assert gaps.min() > 0.015


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 60))
def test_rows_follow_names_and_positions_in_any_order(seed, n_kept):
    rng = np.random.default_rng(seed)
    names = montage_preset(64)
    shuffled = [names[i] for i in rng.permutation(64)]
    kept = [names[i] for i in rng.permutation(64)[:n_kept]]
    expected = [shuffled.index(name) for name in kept]
    assert match_electrodes(kept, make_chs_info(shuffled)) == expected
    assert match_electrodes(kept, _unnamed(shuffled)) == expected
    spelled = [f"EEG {name.upper()}-REF" for name in shuffled]
    assert match_electrodes(kept, spelled) == expected
    retained, removed = retained_and_removed(kept, shuffled)
    assert retained == expected and removed == sorted(set(range(64)) - set(expected))


def test_names_win_over_meaningless_positions():
    rng = np.random.default_rng(0)
    chs = [
        {"ch_name": f"C{i}", "kind": "eeg", "loc": 0.15 + 0.1 * rng.random(12)}
        for i in (3, 1, 2)
    ]  # too far away to tell a direction, and metres nevertheless
    assert match_electrodes(["C1", "C2", "C3"], chs) == [1, 2, 0]
    np.testing.assert_array_equal(
        electrode_positions(chs), electrode_positions(["C3", "C1", "C2"])
    )
    measured = electrode_positions(chs, prefer="loc")
    np.testing.assert_array_equal(measured, [ch["loc"][:3] for ch in chs])
    with pytest.raises(ValueError, match="prefer"):
        electrode_positions(chs, prefer="row")


# Caps whose names are not, or not all, those of our tables though some look like it.
OTHER_SYSTEMS = {
    *("GSN-HydroCel-32", "colin27_alphabetic", "colin27_prefixed"),
    *("standard_alphabetic", "standard_prefixed"),  # before MNE 1.13
}
# Caps that are told by all of their names or measurements, and the tables of those.
NETS = {
    "biosemi128": "biosemi128",
    "biosemi160": "biosemi160",
    "biosemi256": "biosemi256",
    "EGI_256": "hydrocel256",
    "GSN-HydroCel-64_1.0": "hydrocel64",
    "GSN-HydroCel-65_1.0": "hydrocel64",
    "GSN-HydroCel-256": "hydrocel256",
    "GSN-HydroCel-257": "hydrocel256",
}
every_cap_of_mne = pytest.mark.parametrize("name", mne.channels.get_builtin_montages())


def _cap_of_mne(name):
    montage = mne.channels.make_standard_montage(name)
    info = mne.create_info(montage.ch_names, 100.0, "eeg").set_montage(montage)
    return list(info["chs"])


def _in_own_frame(name):
    """The same cap as its file has it, before it is moved to the head frame."""
    places = mne.channels.make_standard_montage(name).get_positions()["ch_pos"]
    return [{"ch_name": n, "kind": "eeg", "loc": p} for n, p in places.items()]


@every_cap_of_mne
def test_names_of_the_tables_count_whatever_the_head_and_frame_measured(name):
    for chs in (_cap_of_mne(name), _in_own_frame(name), _cap_of_mne(name)[::9]):
        names = [ch["ch_name"] for ch in chs]
        if name in NETS:  # a part of a net is told by its measurements alone
            known = [{**standard_positions(), **table(NETS[name])}[n] for n in names]
            by_name = np.array(known)
        else:
            by_name = electrode_positions(names)
        known = np.isfinite(by_name).all(1)
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            positions = electrode_positions(chs)
        if name in OTHER_SYSTEMS:
            assert len(said) <= 1  # none for the few names that happen to agree
        else:
            assert not said
            np.testing.assert_array_equal(positions[known], by_name[known])
        measured = [ch["loc"][:3] for ch in chs]
        np.testing.assert_array_equal(positions[~known], np.array(measured)[~known])


@every_cap_of_mne
def test_an_electrode_is_never_taken_from_where_it_is_not(name):
    chs = _cap_of_mne(name)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for wanted in montage_preset(19):
            try:
                rows = match_electrodes([wanted], chs)
            except ValueError:
                continue
            measured = np.array([chs[row]["loc"][:3] for row in rows])
            assert angles(electrode_positions([wanted]), measured).max() < 30
    assert bool(said) == (name in OTHER_SYSTEMS)


@every_cap_of_mne
@pytest.mark.filterwarnings("ignore:.*not measured where")
def test_a_number_of_the_cap_is_its_own_channel(name):
    chs = _cap_of_mne(name)
    numbers = [ch["ch_name"] for ch in chs if re.fullmatch(r"E\d+", ch["ch_name"])]
    rows = match_electrodes(numbers, chs) if numbers else []
    assert [chs[row]["ch_name"] for row in rows] == numbers


@pytest.mark.parametrize(
    "name, expected",
    [
        ("EGI_256", ["E59", "E183"]),
        ("GSN-HydroCel-256", ["E59", "E183"]),
        # the channels of MNE's template that are at C3 and C4 of its cap of 64
        ("biosemi256", ["G16", "C23"]),
        ("biosemi128", ["D19", "B22"]),
    ],
)
def test_dense_nets_have_c3_and_c4_where_their_tables_say(name, expected):
    chs = _cap_of_mne(name)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rows = match_electrodes(["C3", "C4"], chs)
        positions = electrode_positions(chs)
    assert [chs[row]["ch_name"] for row in rows] == expected
    places = table(NETS[name])
    np.testing.assert_array_equal(positions, [places[ch["ch_name"]] for ch in chs])
    unmeasured = [{"ch_name": ch["ch_name"]} for ch in chs]
    names = [ch["ch_name"] for ch in chs]
    np.testing.assert_array_equal(
        electrode_positions(unmeasured), electrode_positions(names)
    )


def test_a_net_that_we_have_no_table_of_is_where_it_was_measured():
    chs = [ch for ch in _cap_of_mne("GSN-HydroCel-32") if ch["ch_name"] != "Cz"]
    with pytest.warns(UserWarning, match="not measured where their names") as said:
        rows = match_electrodes(["C3", "C4"], chs, tolerance=0.025)
    assert len(said) == 1
    assert [chs[row]["ch_name"] for row in rows] == ["E5", "E6"]
    with pytest.warns(UserWarning, match=r"\['E1', 'E2', 'E3'\] and \d+ more"):
        positions = electrode_positions(chs)
    np.testing.assert_array_equal(positions, [ch["loc"][:3] for ch in chs])


def test_a_channel_of_another_system_is_found_by_its_own_entry():
    chs = _cap_of_mne("biosemi128")
    kept = [row for row, ch in enumerate(chs) if ch["ch_name"] in ("A1", "C3", "C4")]
    assert match_electrodes([chs[row] for row in kept], chs) == kept
    with pytest.raises(ValueError, match="'A1'.*another place.*nearest"):
        match_electrodes(["A1"], chs)
    chs = _cap_of_mne("GSN-HydroCel-32")
    with pytest.warns(UserWarning, match="32 of 33 channels"):
        assert match_electrodes([chs[row] for row in (4, 6, 30)], chs) == [4, 6, 30]


def test_one_misplaced_channel_is_placed_and_found_where_it_was_measured():
    chs = make_chs_info(montage_preset(19))
    names = [ch["ch_name"] for ch in chs]
    chs[names.index("F3")]["loc"] = make_chs_info(["PO8"])[0]["loc"]
    with pytest.warns(UserWarning, match=r"^1 of 19 channels.*: \['F3'\]\. What"):
        positions = electrode_positions(chs)
    names[names.index("F3")] = "PO8"
    np.testing.assert_array_equal(positions, electrode_positions(names))
    with pytest.warns(UserWarning, match="1 of 19"):
        assert match_electrodes(["PO8", "Cz"], chs) == match_electrodes(
            ["PO8", "Cz"], names
        )
        with pytest.raises(ValueError, match="unknown electrodes.*'F3'"):
            match_electrodes(["F3"], chs)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(8, 64))
def test_names_count_in_whatever_frame_a_cap_was_measured(seed, n):
    rng = np.random.default_rng(seed)
    chs = make_chs_info(rng.permutation(montage_preset(64))[:n].tolist())
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    turn[0] *= np.linalg.det(turn)  # no mirror
    for channel in chs:
        about_centre = channel["loc"][:3] - CENTRE
        channel["loc"][:3] = rng.uniform(0.8, 1.1) * turn @ about_centre + CENTRE
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        positions = electrode_positions(chs)
    expected = electrode_positions([ch["ch_name"] for ch in chs])
    np.testing.assert_array_equal(positions, expected)


def test_left_and_right_exchanged_is_no_other_frame():
    chs = make_chs_info(montage_preset(64))
    for channel in chs:
        channel["loc"][0] *= -1
    with pytest.warns(UserWarning, match="64 of 64"):
        positions = electrode_positions(chs)
    np.testing.assert_array_equal(positions, [ch["loc"][:3] for ch in chs])


def test_the_nearer_of_two_channels_is_taken_however_alike_their_distances():
    chs = _unnamed(["C3", "C4"])
    for channel, gap in zip(chs, (0.01, -0.00999), strict=True):
        channel["loc"][:3] = standard_positions()["C3"] + [gap, 0, 0]
    assert match_electrodes(["C3"], chs) == [1]


def test_a_model_warns_once_and_stands_where_its_channels_were_measured():
    chs = _cap_of_mne("GSN-HydroCel-32")
    sizes = {"n_outputs": 2, "sfreq": 100, "n_times": 200}
    with pytest.warns(UserWarning, match="32 of 33 channels") as said:
        model = GCMAEStudent(chs_info=chs, electrodes=["C3", "C4"], **sizes)
    assert len([w for w in said if w.category is UserWarning]) == 1
    assert [ch["ch_name"] for ch in model.node_channels()] == ["E5", "E6"]
    measured = [chs[row]["loc"][:3] for row in (4, 5)]
    np.testing.assert_allclose(model.network.positions, measured, atol=1e-7)


def test_small_errors_of_digitisation_do_not_matter_but_large_ones_do():
    chs = _unnamed(montage_preset(19))
    for channel in chs:
        channel["loc"][:3] += 0.008 * np.array([0.6, 0.0, 0.8])
    assert match_electrodes(["Cz", "O1"], chs) == [9, 17]
    with pytest.raises(ValueError, match="'sensor 9', 8 mm away.*tolerance of 5 mm"):
        match_electrodes(["Cz"], chs, tolerance=0.005)


def test_two_different_ten_five_names_are_never_the_same_electrode():
    neighbours = make_chs_info(["AFpz"])  # 6 mm from AFp1h
    with pytest.raises(ValueError, match=r"AFp1h.*'AFpz', 6 mm"):
        match_electrodes(["AFp1h"], neighbours)


def test_unknown_electrodes_are_named_with_the_nearest():
    with pytest.raises(ValueError, match="'Cx'.*similar name 'Cz'") as error:
        match_electrodes(["C3", "Cx", "FCz"], make_chs_info(montage_preset(19)))
    assert "'FCz'" in str(error.value) and "'C3'" not in str(error.value)
    assert "nearest by position" in str(error.value)
    with pytest.raises(ValueError, match="nothing similar, position unknown"):
        match_electrodes(["qqq"], ["a1b2"])
    with pytest.raises(ValueError, match="unknown"):
        match_electrodes(["C3"], [])


def test_free_names_match_as_they_are_spelled():
    assert match_electrodes(["b", "ch0"], ["ch0", "a", "b"]) == [2, 0]
    assert match_electrodes(["Fp1-A2"], ["Fp1-A1", "Fp1-A2"]) == [1]
    assert match_electrodes(["CH0"], ["x", "ch0"]) == [1]


@pytest.mark.parametrize(
    "names", [["C3", "c3."], ["T3", "T7"], ["E129", "Cz"], ["x", "x"]]
)
def test_duplicates_are_named(names):
    with pytest.raises(ValueError, match=f"duplicate.*{names[0]}"):
        match_electrodes(names, ["C3", "T7", "Cz", "x"])
    with pytest.raises(ValueError, match=f"duplicate.*{names[0]}"):
        make_chs_info(names)


def test_ambiguous_channels_are_named():
    with pytest.raises(ValueError, match="'P7'.*'EEG T5'.*'p7'"):
        match_electrodes(["P7"], ["EEG T5", "p7", "C3"])
    assert match_electrodes(["C3"], ["EEG T5", "p7", "C3"]) == [2]
    twins = _unnamed(["C3", "C4"]) + _unnamed(["C3"])
    twins[2]["ch_name"] = "twin"
    with pytest.raises(ValueError, match="'C3'.*coincide.*'sensor 0', 'twin'"):
        match_electrodes(["C3"], twins)
    with pytest.raises(ValueError, match="'C3', 'E36'.*one channel"):
        match_electrodes(["C3", "E36"], make_chs_info(["C3", "C4"]))


def test_an_eye_channel_is_not_taken_for_an_electrode():
    chs = _unnamed(["Fp1", "C3"])
    for kind in ("eog", 202):
        chs[0]["kind"] = kind
        with pytest.raises(ValueError, match="Fp1"):
            match_electrodes(["Fp1"], chs)
    for kind in ("eeg", "EEG", 2):
        chs[0]["kind"] = kind
        assert match_electrodes(["Fp1"], chs) == [0]


def test_mne_info_is_understood():
    info = mne.create_info(["O2", "T3", "Fp1"], 100.0, "eeg")
    assert match_electrodes(["Fp1", "T7"], info["chs"]) == [2, 1]
    info.set_montage(_template())
    measured = electrode_positions(info["chs"], prefer="loc")
    np.testing.assert_allclose(measured, electrode_positions(info["chs"]), atol=1e-6)


@pytest.mark.parametrize("loc", [None, np.zeros(12), np.full(12, np.nan), []])
def test_an_empty_loc_means_an_unknown_position(loc):
    chs = [{"ch_name": "mystery", "kind": "eeg", "loc": loc}, {"ch_name": "Cz"}]
    positions = electrode_positions(chs)
    assert np.isnan(positions[0]).all()
    np.testing.assert_array_equal(positions[1], standard_positions()["Cz"])
    with pytest.raises(ValueError, match="geometric graph.*'mystery'"):
        require_positions(chs, "a geometric graph")


def test_positions_are_required_only_to_be_known_and_distinct():
    names = montage_preset(64)
    np.testing.assert_array_equal(
        require_positions(names, "a figure"), electrode_positions(make_chs_info(names))
    )
    with pytest.raises(ValueError, match="coincide.*T3.*T7"):
        require_positions(["Cz", "T3", "T7"], "a figure")
    assert electrode_positions([]).shape == (0, 3)


def test_nearest_electrodes_equals_a_slow_search():
    rng = np.random.default_rng(1)
    chs = make_chs_info(montage_preset(32) + ["nowhere"])
    points = np.r_[rng.normal(size=(20, 3)) * 0.1, [[np.nan] * 3]]
    rows, gaps = nearest_electrodes(points, chs)
    for point, row, gap in zip(points[:-1], rows, gaps, strict=False):
        slow = [np.sqrt(((ch["loc"][:3] - point) ** 2).sum()) for ch in chs[:-1]]
        assert row == int(np.argmin(slow)) and gap == pytest.approx(min(slow))
    assert rows[-1] == -1 and np.isinf(gaps[-1])
    assert nearest_electrodes(points, [])[0].tolist() == [-1] * 21


def test_chs_info_has_what_braindecode_reads():
    chs = make_chs_info(["Fc5.", "who"])
    assert [ch["ch_name"] for ch in chs] == ["Fc5.", "who"]
    assert {ch["kind"] for ch in chs} == {"eeg"}
    np.testing.assert_array_equal(chs[0]["loc"][:3], standard_positions()["FC5"])
    assert chs[0]["loc"].shape == (12,) and np.isnan(chs[1]["loc"]).all()


@pytest.mark.parametrize("argument", ["C3", {"ch_name": "C3"}])
def test_one_electrode_is_not_a_list(argument):
    with pytest.raises(TypeError, match="montage_preset"):
        match_electrodes(argument, ["C3"])
    with pytest.raises(TypeError, match="list"):
        electrode_positions(argument)


def test_no_electrode_at_all_and_bad_tolerance_are_errors():
    with pytest.raises(ValueError, match="names is empty"):
        match_electrodes([], ["C3"])
    for tolerance in (-1.0, float("nan")):
        with pytest.raises(ValueError, match="tolerance"):
            match_electrodes(["C3"], ["C3"], tolerance=tolerance)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_holds_as_many_known_electrodes_as_its_name_says(name):
    names = montage_preset(name)
    assert len(names) == len(set(names)) == int(name.rsplit("-", 1)[1])
    assert [canonical_name(n) for n in names] == names
    assert np.isfinite(require_positions(names, "a preset")).all()


def test_generic_presets_are_nested_and_physionet_holds_all_motor_ones():
    generic = [set(montage_preset(k)) for k in (4, 8, 16, 19, 64)]
    assert all(a < b for a, b in zip(generic, generic[1:], strict=False))
    assert generic[2] < set(montage_preset("32")) < generic[-1]
    for name in ("motor-8", "headband-8", "no-central-16", "rim-4"):
        assert set(montage_preset(name)) < generic[-1]
    embarc = {n: set(montage_preset(f"embarc-{n}")) for n in (54, 31, 24, 12, 8)}
    for number in (24, 12, 8):
        assert embarc[number] < embarc[31]
    assert embarc[31] < embarc[54] < generic[-1]
    assert "Cz" not in embarc[54]


def test_stride_presets_follow_the_file_order():
    net = montage_preset(128)
    assert net == [f"E{i}" for i in range(1, 129)]
    assert match_electrodes(montage_preset("hbn-64"), net) == list(range(1, 128, 2))
    assert match_electrodes(montage_preset("hbn-32"), net) == list(range(1, 126, 4))


def test_an_unknown_preset_lists_the_presets():
    with pytest.raises(ValueError, match="'motor8'.*'motor-8'.*headband-8"):
        montage_preset("motor8")
    assert montage_preset(" Motor-8 ") == montage_preset("motor-8")


def test_montage_needs_no_library_but_numpy():
    code = """
import importlib.util, sys, types
spec = importlib.util.find_spec("braindecode_gcmae")
package = types.ModuleType(spec.name)  # the package without its public face
package.__path__, package.__spec__ = spec.submodule_search_locations, spec
sys.modules[spec.name] = package
import braindecode_gcmae.montage as montage
assert montage.match_electrodes(["C3"], ["E36"]) == [0]
assert not {"mne", "torch", "braindecode", "scipy"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_bipolar_channel_is_not_the_electrode_that_it_stands_at():
    names = ["C3", "Cz", "C4", "F3"]
    info = mne.create_info(names, 100.0, "eeg").set_montage("standard_1005")
    raw = mne.io.RawArray(np.random.default_rng(0).normal(size=(4, 50)), info)
    bipolar = mne.set_bipolar_reference(raw, ["C3", "C4"], ["Cz", "F3"], verbose=False)
    with pytest.raises(ValueError, match="unknown electrodes.*'C3'.*'C4'"):
        match_electrodes(["C3", "C4"], bipolar.info["chs"])
    assert match_electrodes(["C3-Cz"], bipolar.info["chs"]) == [
        bipolar.ch_names.index("C3-Cz")
    ]

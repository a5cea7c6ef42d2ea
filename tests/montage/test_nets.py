"""Laws of caps whose names are no 10-05 names: BioSemi's, and EGI's HydroCel nets."""

import warnings
from functools import cache

import make_nets
import mne
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from braindecode_gcmae import GCMAEStudent
from braindecode_gcmae.montage import (
    MATCH_TOLERANCE,
    electrode_positions,
    make_chs_info,
    match_electrodes,
    montage_preset,
    nearest_electrodes,
    standard_positions,
)
from braindecode_gcmae.montage.evidence import CENTRE, placed
from braindecode_gcmae.montage.names import table
from braindecode_gcmae.montage.nets import net_of

# Templates of MNE and the table of the net that they show
TEMPLATES = {
    "biosemi128": "biosemi128",
    "biosemi160": "biosemi160",
    "biosemi256": "biosemi256",
    "GSN-HydroCel-64_1.0": "hydrocel64",
    "GSN-HydroCel-65_1.0": "hydrocel64",
    "GSN-HydroCel-128": "hydrocel",
    "GSN-HydroCel-129": "hydrocel",
    "GSN-HydroCel-256": "hydrocel256",
    "GSN-HydroCel-257": "hydrocel256",
    "EGI_256": "hydrocel256",
}
TABLES = {stem: name for name, stem in reversed(TEMPLATES.items())}
every_template = pytest.mark.parametrize("name", TEMPLATES)
every_biosemi = pytest.mark.parametrize("name", make_nets.BIOSEMI)

# EGI's table of 10-10 equivalents ("HydroCelGSN_10-10.pdf", after Luu & Ferree 2005)
# for the net of 256, without the 20 sites of the warp. It names one electrode for each
# site, however far it is, so a neighbour may be as near.
EQUIVALENTS_256 = """
AF3 34 AF4 12 AF7 46 AF8 10 AFz 20 C1 44 C2 185 C5 64 C6 194 CP1 79 CP2 143 CP3 66
CP4 164 CP5 76 CP6 172 F1 29 F2 5 F5 48 F6 222 FC1 24 FC2 207 FC3 42 FC4 206 FC5 49
FC6 213 FCz 15 Fpz 26 FT7 62 FT8 211 P1 88 P2 142 P5 86 P6 162 P9 106 P10 169 PO3 109
PO4 140 PO7 97 PO8 161 POz 119 CPz 81 TP7 84 TP8 179
""".split()


def names_of(name):
    return list(make_nets.template(name))


@cache
def cap_of(name):
    """Channels as MNE has them after ``set_montage``."""
    montage = mne.channels.make_standard_montage(name)
    info = mne.create_info(montage.ch_names, 100.0, "eeg").set_montage(montage)
    return list(info["chs"])


def bare(names):
    return [{"ch_name": name, "kind": "eeg"} for name in names]


def template_angles(name):
    """Degrees on BioSemi's sphere from each 10-05 name of its 64 to each channel."""
    sites = make_nets.template("biosemi64")
    sphere = np.array(list(make_nets.template(name).values()))
    cosines = np.array(list(sites.values())) @ sphere.T / 0.095**2
    return list(sites), np.rad2deg(np.arccos(np.clip(cosines, -1, 1)))


# The tables ---------------------------------------------------------------------------


@pytest.mark.parametrize("stem", TABLES)
def test_a_table_is_what_its_script_makes(stem):
    made = make_nets.make(stem)
    assert list(table(stem)) == list(made)
    for name, position in made.items():
        np.testing.assert_allclose(table(stem)[name], position, atol=2e-6)


@pytest.mark.parametrize("stem", TABLES)
def test_a_net_lies_on_a_head_that_is_the_same_left_and_right(stem):
    ours = np.array(list(table(stem).values()))
    template = np.array([make_nets.template(TABLES[stem])[n] for n in table(stem)])
    partner = np.linalg.norm(template[:, None] - template * [-1, 1, 1], axis=-1)
    partner = partner.argmin(1)
    np.testing.assert_allclose(ours[partner] * [-1, 1, 1], ours, atol=0.008)
    gaps = np.linalg.norm(ours[:, None] - ours, axis=-1) + np.eye(len(ours))
    assert gaps.min() > 0.012
    radius = np.linalg.norm(ours - CENTRE, axis=1)
    reach = 0.11 if stem in make_nets.BIOSEMI else 0.152  # EGI's reach the cheeks
    assert 0.07 < radius.min() and radius.max() < reach


# BioSemi: "C3" is a place, D19 is a channel -------------------------------------------


@every_biosemi
@pytest.mark.parametrize("measured", [True, False])
def test_a_name_of_the_cap_of_64_is_the_channel_at_its_place(name, measured, silent):
    names = names_of(name)
    chs = cap_of(name) if measured else names
    refused = []
    for site, off in zip(*template_angles(name), strict=True):
        try:
            (row,) = match_electrodes([site], chs)
        except ValueError:
            refused.append(site)
            continue
        if off.min() < 0.1:
            assert row == off.argmin(), site
        # A head is no sphere: of two channels that are nearly as near, either
        assert off[row] < off.min() + 1, site
    # BioSemi's P9 and P10 have no channel near: 12 degrees on 128, 8 on 160
    assert set(refused) <= {"P9", "P10"}
    for site in refused:
        gaps = np.linalg.norm(electrode_positions(chs) - standard_positions()[site])
        assert gaps.min() > MATCH_TOLERANCE


@pytest.mark.parametrize(
    "name, expected",
    [
        ("biosemi128", ["A1", "D19", "B22", "A19", "A23", "C21", "C17"]),
        ("biosemi160", ["A1", "E4", "C7", "A19", "A23", "D4", "D8"]),
        ("biosemi256", ["A1", "G16", "C23", "A6", "A19", "E17", "E12"]),
    ],
)
def test_landmarks_of_biosemi(name, expected, silent):
    sites = ["Cz", "C3", "C4", "Pz", "Oz", "Fz", "Fpz"]
    for chs in (cap_of(name), names_of(name), make_chs_info(names_of(name))):
        rows = match_electrodes(sites, chs)
        assert [names_of(name)[row] for row in rows] == expected


def test_the_20_sites_of_the_10_20_system_are_where_egi_says(silent):
    for stem, (name, numbers) in make_nets.HYDROCEL.items():
        net = [n for n in names_of(name) if n != "Cz"]
        for chs in (net, [ch for ch in cap_of(name) if ch["ch_name"] != "Cz"]):
            rows = match_electrodes(make_nets.SITES, chs)
            assert [net[row] for row in rows] == [f"E{n}" for n in numbers], stem


@pytest.mark.parametrize("name", ["GSN-HydroCel-256", "EGI_256"])
def test_other_equivalents_of_egi_are_the_channel_or_a_neighbour(name, silent):
    chs, net = cap_of(name), names_of(name)
    positions = electrode_positions(chs)
    sites, numbers = EQUIVALENTS_256[::2], EQUIVALENTS_256[1::2]
    right = 0
    for site, number in zip(sites, numbers, strict=True):
        (row,) = match_electrodes([site], chs)
        right += net[row] == f"E{number}"
        said = positions[net.index(f"E{number}")]
        assert np.linalg.norm(said - positions[row]) < 0.03, site
    assert right >= 28  # of 43


# Which net it is ----------------------------------------------------------------------


@every_template
def test_a_net_has_its_table_with_or_without_a_measurement(name, silent):
    chs, stem = cap_of(name), TEMPLATES[name]
    expected = [table(stem).get(n, standard_positions().get(n)) for n in names_of(name)]
    for channels in (chs, names_of(name), bare(names_of(name))):
        np.testing.assert_array_equal(electrode_positions(channels), expected)
    measured = np.array([ch["loc"][:3] for ch in chs])
    np.testing.assert_array_equal(electrode_positions(chs, prefer="loc"), measured)
    np.testing.assert_array_equal(
        electrode_positions(bare(names_of(name)), prefer="loc"), expected
    )


@every_template
def test_every_channel_of_a_net_is_itself(name, silent):
    chs, names = cap_of(name), names_of(name)
    everyone = list(range(len(names)))
    rows = np.random.default_rng(0).permutation(len(names)).tolist()
    forms = (chs, names, bare(names), make_chs_info(names))
    for cap in forms:
        for wanted in forms:
            assert match_electrodes(wanted, cap) == everyone
            assert match_electrodes([wanted[row] for row in rows], cap) == rows


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(sorted(TEMPLATES)),
    st.integers(0, 2**32 - 1),
    st.integers(16, 60),
    st.floats(0, 0.003),
)
def test_a_part_of_a_net_is_recognised_where_it_was_measured(name, seed, n, noise):
    rng = np.random.default_rng(seed)
    chs = [cap_of(name)[row] for row in rng.permutation(len(names_of(name)))[:n]]
    names = [ch["ch_name"] for ch in chs]
    measured = np.array([ch["loc"][:3] for ch in chs])
    measured += noise * rng.normal(size=measured.shape)
    assert net_of(names, measured) == TEMPLATES[name]


def test_twenty_channels_of_biosemi_keep_their_places(silent):
    chs = cap_of("biosemi128")
    rows = np.random.default_rng(3).permutation(128)[:20].tolist()
    picks = [chs[row] for row in rows]
    expected = electrode_positions(chs)[rows]
    np.testing.assert_array_equal(electrode_positions(picks), expected)
    assert match_electrodes(picks, chs) == rows
    assert match_electrodes(picks, picks) == list(range(20))
    # By position on another cap, whatever its channels are called
    sites = montage_preset(64)
    near, gaps = nearest_electrodes(expected, sites)
    there = np.flatnonzero(gaps <= MATCH_TOLERANCE)
    there = there[[list(near[there]).count(n) == 1 for n in near[there]]]
    assert there.size > 8
    found = match_electrodes([picks[i] for i in there], sites)
    np.testing.assert_array_equal(found, near[there])


@every_template
def test_a_few_channels_keep_the_places_that_the_list_gave_them(name, silent):
    names = names_of(name)
    for channels in (names, bare(names)):
        few = placed(channels)[5::50]
        rows = list(range(len(names)))[5::50]
        expected = electrode_positions(channels)[rows]
        np.testing.assert_array_equal(electrode_positions(few), expected)
        assert match_electrodes(few, channels) == rows
    assert placed(montage_preset(19)) == montage_preset(19)


@pytest.mark.parametrize("name", ["biosemi128", "biosemi160", "biosemi256"])
def test_bad_channels_left_out_and_others_beside_do_not_hide_a_cap(name, silent):
    names = [n for n in names_of(name) if n not in ("A7", "B12", "D5", "C3")]
    names += [f"EXG{i}" for i in range(1, 9)] + ["Status"]
    expected = [table(name).get(n, np.full(3, np.nan)) for n in names]
    np.testing.assert_array_equal(electrode_positions(names), expected)
    assert match_electrodes(names, names) == list(range(len(names)))


def test_numbers_tell_the_nets_of_egi_apart(silent):
    def positions(*numbers):
        return electrode_positions([f"E{n}" for n in numbers])

    np.testing.assert_array_equal(positions(*range(1, 257))[58], positions(59, 130)[0])
    for more in ([], ["E65"], ["Cz"], ["VREF"]):
        found = electrode_positions([f"E{n}" for n in range(1, 65)] + more)
        np.testing.assert_array_equal(found[19], table("hydrocel64")["E20"])
        for place in found[64:]:
            np.testing.assert_array_equal(place, standard_positions()["Cz"])
    for numbers in (range(1, 129), range(1, 130), range(2, 65), (36, 104)):
        place = electrode_positions([f"E{n}" for n in numbers])[numbers.index(36)]
        np.testing.assert_array_equal(place, table("hydrocel")["E36"])


def test_the_reference_and_electrode_129_of_the_net_of_256_are_two(silent):
    for reference in ("Cz", "VREF", "E257"):
        chs = make_chs_info([f"E{n}" for n in range(1, 257)] + [reference])
        assert match_electrodes(["E129", "Cz"], chs) == [128, 256]


def test_lists_of_the_10_20_system_stay_what_they_are(silent):
    for names in (
        ["A1", "A2"],
        [f"C{i}" for i in range(1, 7)] + ["A1", "A2"],
        montage_preset(19) + ["A1", "A2"],
        montage_preset(64) + ["A1", "A2", "F9", "F10"],
        montage_preset(19) + ["D1", "D2", "B1", "A1"],
    ):
        known = {n: p for n, p in standard_positions().items() if n in names}
        for channels in (names, make_chs_info(names)):
            for name, place in zip(names, electrode_positions(channels), strict=True):
                np.testing.assert_array_equal(
                    place, known.get(name, np.full(3, np.nan))
                )
        assert match_electrodes(["A1"], names) == [names.index("A1")]


@pytest.mark.parametrize("letters", ["A", "AB", "ABC"])
def test_small_biosemi_lists_have_no_place_and_say_so(letters):
    names = [f"{letter}{i}" for letter in letters for i in range(1, 33)]
    with pytest.warns(UserWarning, match=r"BioSemi.*\['A1', 'A2', 'A3'\].*montage"):
        assert np.isnan(electrode_positions(names)).all()
    with pytest.warns(UserWarning, match="BioSemi"):
        make_chs_info(names)
    with pytest.warns(UserWarning, match="BioSemi"):
        assert match_electrodes(["A5", "A1"], names) == [4, 0]
        for place in ("C3", "Cz"):
            with pytest.raises(ValueError, match="unknown electrodes"):
                match_electrodes([place], names)


def test_a_few_measured_channels_of_biosemi_are_where_they_were_measured(silent):
    chs = cap_of("biosemi128")
    picks = [chs[names_of("biosemi128").index(n)] for n in ("A1", "C3", "D19", "D23")]
    np.testing.assert_array_equal(
        electrode_positions(picks), [ch["loc"][:3] for ch in picks]
    )
    rows = [names_of("biosemi128").index(pick["ch_name"]) for pick in picks]
    assert match_electrodes(picks, chs) == rows
    assert match_electrodes(picks, names_of("biosemi128")) == rows
    with pytest.raises(ValueError, match="'A1'.*another place"):
        match_electrodes(["A1"], chs)


# Whose language -----------------------------------------------------------------------


def test_labels_of_the_cap_find_its_channels_and_places_find_places(silent):
    for chs in (cap_of("biosemi128"), names_of("biosemi128")):
        names = names_of("biosemi128")

        def found(*wanted, chs=chs, names=names):
            return [names[row] for row in match_electrodes(list(wanted), chs)]

        assert found("D19", "A5") == ["D19", "A5"]
        assert found("C3") == found("C3", "Pz")[:1] == ["D19"]
        assert found("A1", "A19", "D19") == ["A1", "A19", "D19"]
        assert found("C3", "D19") == ["C3", "D19"]
        assert found("C4", "Fz", "A5") == ["B22", "C21", "A5"]
    for chs in (cap_of("GSN-HydroCel-256"), names_of("GSN-HydroCel-256")):
        assert match_electrodes(["E39", "E7"], chs) == [38, 6]
        assert match_electrodes(["E129", "E200"], chs) == [128, 199]


def test_a_number_that_a_cap_lacks_is_a_place_of_its_own_net(silent):
    net = [n for n in names_of("GSN-HydroCel-256") if n != "E59"]
    with pytest.raises(ValueError, match="'E59'"):  # not that of the net of 128
        match_electrodes(["E59", "E60"], net)
    assert match_electrodes(["E59", "E183"], ["C3", "C4"]) == [0, 1]


@pytest.mark.parametrize("made", [True, False])
def test_channels_of_a_net_of_128_are_found_on_one_of_256_by_position(made, silent):
    small = names_of("GSN-HydroCel-128")
    wanted = make_chs_info(small) if made else cap_of("GSN-HydroCel-128")
    for cap in (cap_of("GSN-HydroCel-256"), names_of("GSN-HydroCel-256")):
        places = electrode_positions(cap)
        rows, gaps = nearest_electrodes(electrode_positions(wanted), cap)
        assert (gaps <= MATCH_TOLERANCE).mean() > 0.8
        for few in ([35, 103, 61], np.flatnonzero(gaps <= MATCH_TOLERANCE)):
            if len(set(rows[few])) == len(few):
                found = match_electrodes([wanted[i] for i in few], cap)
                np.testing.assert_array_equal(found, rows[few])
        # C3, C4 and Pz of both nets
        assert match_electrodes([wanted[i] for i in (35, 103, 61)], cap) == [
            58,
            182,
            100,
        ]
        assert len(places) == 256


def test_one_misplaced_channel_of_a_net_is_where_it_was_measured():
    chs = make_chs_info(names_of("biosemi128"))
    names = [ch["ch_name"] for ch in chs]
    chs[names.index("D19")]["loc"] = make_chs_info(["PO8"])[0]["loc"]
    with pytest.warns(
        UserWarning, match=r"^1 of 128 .*BioSemi's cap of 128: \['D19'\]"
    ):
        positions = electrode_positions(chs)
    np.testing.assert_array_equal(
        positions[names.index("D19")], standard_positions()["PO8"]
    )


def test_a_free_name_that_looks_like_biosemi_is_found_as_it_is_spelled(silent):
    optodes = ["S1", "S2", "S3", "D1", "D2"]
    assert match_electrodes(["D1", "S2"], optodes) == [3, 1]
    assert match_electrodes(["D1"], optodes) == [3]
    assert match_electrodes(["C3", "D1"], ["Cz", "C3", "D1", "O1", "O2"]) == [1, 2]


# Through a model ----------------------------------------------------------------------


@pytest.mark.parametrize("name, expected", [("biosemi128", "D19"), ("EGI_256", "E59")])
@pytest.mark.parametrize("measured", [True, False])
def test_a_model_stands_where_the_table_has_its_channels(name, expected, measured):
    chs = cap_of(name) if measured else bare(names_of(name))
    sizes = {"n_outputs": 2, "sfreq": 100, "n_times": 200}
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        model = GCMAEStudent(chs_info=chs, electrodes=["C3", "Pz"], **sizes)
        nodes = model.node_channels()
        assert nodes[0]["ch_name"] == expected
        rows = match_electrodes(["C3", "Pz"], chs)
        expected = electrode_positions(chs)[rows]
        np.testing.assert_allclose(model.network.positions, expected, atol=1e-7)
        if not measured:  # a few of the channels have the places of the whole list
            np.testing.assert_array_equal(electrode_positions(nodes), expected)

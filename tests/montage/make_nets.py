"""Make ``braindecode_gcmae/data`` 's tables of nets anew, from MNE's templates.

A template has its own head: EGI's is an average of digitised ones, BioSemi's a sphere.
Each is warped to the head of ``ten_five.csv`` by the thin-plate spline through sites
whose 10-20 names are known:

- HydroCel, each size of net by its own: the 20 sites of the international 10-20 system,
  of which the manufacturer says which electrodes they are (Luu & Ferree 2005,
  "Determination of the HydroCel Geodesic Sensor Nets' average electrode positions and
  their 10-10 international equivalents"). One warp for all sizes would not do: the
  templates of MNE sit differently on their heads, and with the warp of the net of 128
  ten of the 20 sites of the net of 256 come to lie nearer to another electrode.
- BioSemi: the 64 names that the template of the cap of 64 shares with the 10-05 system.
  Those of 128, 160 and 256 are electrodes of the same sphere.

Run with a folder it writes the tables there; ``test_nets.py`` compares those of the
package with them. ``hydrocel.csv`` is older than this file and agrees to 2 micrometres.
Needs SciPy and MNE, as the tests do; the package reads the tables alone.
"""

import sys
from pathlib import Path

import mne
import numpy as np
from scipy.interpolate import RBFInterpolator

from braindecode_gcmae.montage import standard_positions

SITES = "Fp1 Fp2 Fz F3 F4 F7 F8 C3 C4 T7 T8 P3 P4 Pz P7 P8 O1 O2 Oz".split()
# Luu & Ferree 2005: numbers of the electrodes at SITES; the reference is at Cz.
HYDROCEL = {
    "hydrocel64": (
        "GSN-HydroCel-65_1.0",
        [10, 5, 6, 12, 60, 18, 58, 20, 50, 24, 52, 28, 42, 34, 30, 44, 35, 39, 37],
    ),
    "hydrocel": (
        "GSN-HydroCel-129",
        [22, 9, 11, 24, 124, 33, 122, 36, 104, 45, 108, 52, 92, 62, 58, 96, 70, 83, 75],
    ),
    "hydrocel256": (
        "GSN-HydroCel-257",
        "37 18 21 36 224 47 2 59 183 69 202 87 153 101 96 170 116 150 126".split(),
    ),
}
BIOSEMI = ("biosemi128", "biosemi160", "biosemi256")


def template(name):
    """Name to position, metres in the template's own frame."""
    return mne.channels.make_standard_montage(name).get_positions()["ch_pos"]


def make(stem):
    """Name to position of one net, metres in the head frame of ``ten_five.csv``."""
    if stem in HYDROCEL:
        name, numbers = HYDROCEL[stem]
        net = template(name)
        anchors = {"Cz": net.pop("Cz")}
        anchors |= {s: net[f"E{n}"] for s, n in zip(SITES, numbers, strict=True)}
    else:
        net, anchors = template(stem), template("biosemi64")
    table = standard_positions()
    head = np.array([table[site] for site in anchors])
    warp = RBFInterpolator(
        np.array(list(anchors.values())), head, kernel="thin_plate_spline"
    )
    return dict(zip(net, warp(np.array(list(net.values()))), strict=True))


def write(stem, folder):
    """Write one table the way ``ten_five.csv`` is written."""
    lines = ["name,x,y,z"]
    lines += [
        f"{name},{x:.6f},{y:.6f},{z:.6f}" for name, (x, y, z) in make(stem).items()
    ]
    Path(folder, f"{stem}.csv").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    for stem in ("hydrocel64", "hydrocel256", *BIOSEMI):
        write(stem, sys.argv[1])

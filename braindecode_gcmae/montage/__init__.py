"""Who is which electrode: names, aliases, positions, subsets and presets.

Electrodes are matched by name or by position, never by row. A name counts unless its
channel was measured elsewhere on the head. What it means depends on the list that it
is in: BioSemi-128 has a C3, too, which is no 10-05 name (``nets.py``). Positions are
metres in MNE's head frame and ship with the package as tables in ``data/``:

- ``ten_five.csv``: the 10-05 system, from MNE's template on its own fiducials;
- ``hydrocel.csv``: E1..E128 of the EGI HydroCel net, from MNE's template, warped to
  the 10-05 head by the thin-plate spline through the 20 sites whose 10-20 names the
  manufacturer gives (Luu & Ferree 2005: E11 is Fz, E36 is C3, ...). The two templates
  are heads of different shape: unwarped, E11 would come out 22 mm away from Fz;
- ``hydrocel64.csv``, ``hydrocel256.csv``: the nets of 64 and 256, each in the same way
  through its own 20 sites (E59 of 256 is C3);
- ``biosemi128.csv``, ``biosemi160.csv``, ``biosemi256.csv``: BioSemi's caps, from MNE's
  spherical templates, warped by the spline through the 64 names that the template of
  the cap of 64, the same sphere, shares with 10-05.

``tests/montage/make_nets.py`` makes all but the first.
"""

from braindecode_gcmae.montage.evidence import name_of
from braindecode_gcmae.montage.matching import (
    MATCH_TOLERANCE,
    electrode_positions,
    make_chs_info,
    match_electrodes,
    nearest_electrodes,
    require_positions,
    retained_and_removed,
)
from braindecode_gcmae.montage.names import (
    PRESETS,
    canonical_name,
    montage_preset,
    standard_positions,
)

__all__ = [
    "MATCH_TOLERANCE",
    "PRESETS",
    "canonical_name",
    "electrode_positions",
    "make_chs_info",
    "match_electrodes",
    "montage_preset",
    "name_of",
    "nearest_electrodes",
    "require_positions",
    "retained_and_removed",
    "standard_positions",
]

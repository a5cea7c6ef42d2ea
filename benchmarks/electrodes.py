"""The electrode sets of the density curve, nested from 4 to 64."""

MOTOR_4 = ("C3", "C4", "P3", "P4")
RIM_4 = ("AF7", "AF8", "TP7", "TP8")
MOTOR_8 = ("F3", "F4", "C3", "Cz", "C4", "P3", "Pz", "P4")
HEADBAND_8 = ("Fp1", "Fp2", "F7", "F8", "T7", "T8", "O1", "O2")
BOTH_16 = MOTOR_8 + HEADBAND_8
WIDE_32 = BOTH_16 + tuple(
    "FC1 FC2 FC5 FC6 CP1 CP2 CP5 CP6 P7 P8 PO3 PO4 AF3 AF4 Fz Oz".split()
)

SETS = {
    "motor-4": MOTOR_4,
    "rim-4": RIM_4,
    "motor-8": MOTOR_8,
    "headband-8": HEADBAND_8,
    "both-16": BOTH_16,
    "wide-32": WIDE_32,
    "all-64": None,
}


def electrode_set(name, ch_names):
    """Give the electrodes of a set, by name, out of those that were recorded.

    Raises
    ------
    KeyError
        If the set is unknown, or an electrode of it was not recorded.
    """
    if name not in SETS:
        raise KeyError(f"electrode set {name!r} is unknown; choose from {list(SETS)}")
    kept = SETS[name]
    if kept is None:
        return tuple(ch_names)
    missing = [electrode for electrode in kept if electrode not in ch_names]
    if missing:
        raise KeyError(f"electrode set {name!r} asks for {missing}, not recorded here")
    return kept

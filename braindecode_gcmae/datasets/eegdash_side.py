"""The Healthy Brain Network through EEGDash, which finds it on NEMAR or OpenNeuro."""

from pathlib import Path

from braindecode.datasets import BaseConcatDataset, RawDataset

from braindecode_gcmae.datasets.reading import eeg_only, lazily, without_reference
from braindecode_gcmae.warning import warn


def fetch_hbn(
    folder,
    release="R1",
    tasks=("RestingState",),
    *,
    subjects=None,
    challenge=False,
    mini=False,
    download=True,
    channels=None,
    cache=None,
    **options,
):
    """Healthy Brain Network, 128-channel EGI, by EEGDash: downloaded once, then local.

    Parameters
    ----------
    folder : path
        Where EEGDash keeps its files, a folder for each data set.
    release : str
        ``"R1"`` to ``"R11"``, or an id of OpenNeuro (``"ds005505"``) or NEMAR
        (``"nm..."``).
    tasks : sequence of str | None
        ``"RestingState"``, ``"surroundSupp"``, ``"contrastChangeDetection"``, ...;
        None: all.
    subjects : sequence of str | None
        ``"NDARAC904DMU"``, ...; None: all.
    challenge, mini : bool
        The files of the 2025 EEG Foundation Challenge (100 Hz, 0.5-50 Hz), and its
        small part.
    download : bool
        False: only what lies in ``folder``; nothing is asked of any server.
    channels : list of str | None
        Electrodes to keep, as in :func:`read_hbn`.
    cache : path | None
        Folder for copies of recordings that MNE can only read whole, as in
        :func:`read_recordings`.
    **options
        Everything else that ``EEGDashDataset`` takes (``n_jobs``, ``query``, ...).

    Returns
    -------
    BaseConcatDataset of RawDataset
        ``description`` keeps what EEGDash knows: ``subject``, ``task``, ``age``, ....

    Raises
    ------
    ImportError
        If eegdash is not installed.
    ValueError
        If the release is unknown, or no file can be read; others are left out with a
        warning.
    FileNotFoundError
        If nothing fits.

    References
    ----------
    Alexander et al. 2017, https://doi.org/10.1038/sdata.2017.181.
    """
    try:
        from eegdash import EEGChallengeDataset, EEGDashDataset
        from eegdash.const import RELEASE_TO_OPENNEURO_DATASET_MAP
    except ImportError as error:
        raise ImportError(
            "fetch_hbn needs eegdash: pip install 'braindecode-gcmae[hbn]', or give "
            "files that are on this disk to read_hbn"
        ) from error
    known = RELEASE_TO_OPENNEURO_DATASET_MAP
    if release not in known and (challenge or not release.startswith(("ds", "nm"))):
        others = "" if challenge else ", or an id of OpenNeuro or NEMAR"
        raise ValueError(
            f"release must be one of {sorted(known, key=lambda r: int(r[1:]))}"
            f"{others}, got {release!r}"
        )
    given = {"cache_dir": folder, "download": download, **options}
    for entity, wanted in (("task", tasks), ("subject", subjects)):
        if wanted is not None:
            given[entity] = [wanted] if isinstance(wanted, str) else list(wanted)
    try:
        if challenge:
            found = EEGChallengeDataset(release=release, mini=mini, **given)
        else:
            found = EEGDashDataset(dataset=known.get(release, release), **given)
    except ValueError as error:
        if "empty iterable" not in str(error):
            raise
        raise FileNotFoundError(
            f"{folder} holds no recording of {release}, tasks {tasks} and subjects "
            f"{subjects}{'' if download else ' (download=False)'}."
        ) from error
    parts, damaged = [], []
    for part in found.datasets:
        try:
            raw = part.raw  # downloaded here, if need be
        except Exception as error:
            if not Path(part.filecache).is_file():  # no damage, but no network
                raise
            damaged.append(f"{part.filecache} ({error})")
            continue
        parts.append(_plain(part, raw, channels, cache))
    if damaged:
        warn(
            f"{len(damaged)} of {len(found.datasets)} files cannot be read and are "
            f"left out: {'; '.join(damaged[:3])}"
        )
    if not parts:
        raise ValueError("none of the files can be read")
    return BaseConcatDataset(parts)


def _plain(part, raw, channels, cache):
    """A recording of EEGDash's as a plain one: its electrodes, and whose they are."""
    raw = lazily(raw, Path(raw.filenames[0]), cache)
    raw = without_reference(eeg_only(raw, channels), channels)
    return RawDataset(raw, part.description.dropna().to_dict())

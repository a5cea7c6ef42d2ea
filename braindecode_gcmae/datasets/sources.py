"""The people behind the simulated data: sources, head model, coloured noise."""

from dataclasses import dataclass
from functools import cache

import mne
import numpy as np
from scipy.fft import irfft, next_fast_len

from braindecode_gcmae.montage import standard_positions

EVENTS = {"left_hand": 1, "right_hand": 2}  # y is the code minus one

# Sphere through the 10-05 positions of the head frame (least squares), metres.
CENTRE = np.array([0.0, 0.015, 0.040])
HEAD_RADIUS = 0.098
CORTEX_RADIUS = 0.080
LAG_SECONDS = 0.010

N_BACKGROUND = 48
N_RHYTHMS = 16  # alpha generators that know nothing of the task
ERD = (0.5, 0.15)  # mean and spread of the loss of amplitude over people


@dataclass(frozen=True)
class Source:
    """A cortical source: its name and the 10-05 position it lies under on average."""

    name: str
    anchor: str
    rhythms: tuple  # ((multiple of the alpha peak, relative amplitude), ...)
    moment: float  # nAm, root mean square


@dataclass(frozen=True)
class Coupling:
    """``follower`` repeats ``driver`` after a lag; ``event`` None means always."""

    driver: str
    follower: str
    event: str | None
    strength: float


_MU = ((1.0, 1.0), (2.1, 0.5))
SOURCES = (
    Source("hand_left", "C3", _MU, 40.0),
    Source("hand_right", "C4", _MU, 40.0),
    Source("parietal_left", "CP1", _MU, 24.0),
    Source("parietal_right", "CP2", _MU, 24.0),
    Source("premotor_left", "FC1", _MU, 20.0),
    Source("premotor_right", "FC2", _MU, 20.0),
    Source("temporal_left", "TP7", _MU, 20.0),
    Source("temporal_right", "TP8", _MU, 20.0),
    Source("occipital_left", "PO3", ((1.05, 1.0),), 40.0),
    Source("occipital_right", "PO4", ((1.05, 1.0),), 40.0),
    Source("frontal_mid", "AFz", ((0.6, 1.0),), 24.0),
    Source("parietal_mid", "POz", ((0.6, 1.0),), 20.0),
)
COUPLINGS = (
    Coupling("hand_right", "parietal_right", "left_hand", 0.88),
    Coupling("hand_right", "premotor_right", "left_hand", 0.88),
    Coupling("hand_right", "temporal_right", "left_hand", 0.88),
    Coupling("hand_left", "parietal_left", "right_hand", 0.88),
    Coupling("hand_left", "premotor_left", "right_hand", 0.88),
    Coupling("hand_left", "temporal_left", "right_hand", 0.88),
    Coupling("occipital_left", "occipital_right", None, 0.7),
    Coupling("frontal_mid", "parietal_mid", None, 0.7),
)
ROW = {source.name: row for row, source in enumerate(SOURCES)}


@cache
def _sphere():
    """MNE's three-layer conductor with the centre and radius of the 10-05 head."""
    return mne.make_sphere_model(
        r0=tuple(CENTRE), head_radius=HEAD_RADIUS, info=None, verbose=False
    )


def leadfield(positions, dipoles, moments):
    """Potential in V per Am at (N, 3) positions of (S, 3) dipoles with unit moments."""
    names = [str(i) for i in range(len(positions))]
    info = mne.create_info(names, 100.0, "eeg")
    info.set_montage(
        mne.channels.make_dig_montage(
            dict(zip(names, positions, strict=True)), coord_frame="head"
        )
    )
    src = mne.setup_volume_source_space(
        pos={"rr": dipoles, "nn": moments}, sphere_units="m", verbose=False
    )
    forward = mne.make_forward_solution(
        info, None, src, _sphere(), meg=False, eeg=True, mindist=0, verbose=False
    )
    free = forward["sol"]["data"].reshape(len(positions), len(dipoles), 3)
    return np.einsum("nsk,sk->ns", free, moments)


def unit_vectors(vectors):
    """Scale the last axis to length one."""
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def slow_gain(rng, n_rows, n_times, sfreq, spread):
    """Log-normal amplitude that wanders within seconds, (n_rows, n_times)."""
    knots = np.arange(0, n_times / sfreq + 2.0, 2.0)
    values = np.exp(spread * rng.standard_normal((n_rows, len(knots))))
    times = np.arange(n_times) / sfreq
    return np.stack([np.interp(times, knots, row) for row in values])


class Noise:
    """Gaussian series of unit power drawn in the frequency domain."""

    def __init__(self, rng, n_times, sfreq):
        self.rng, self.n_times = rng, n_times
        self.length = next_fast_len(n_times, real=True)
        self.freqs = np.fft.rfftfreq(self.length, 1 / sfreq)

    def spectrum(self, amplitude):
        """Random spectrum with the (..., F) amplitude shape, unit variance in time."""
        shape = amplitude.shape
        draws = self.rng.standard_normal((*shape, 2), dtype=np.float32)
        power = (amplitude**2).sum(-1, keepdims=True)
        scale = amplitude * (self.length / 2 / np.sqrt(power))
        return draws.view(np.complex64)[..., 0] * scale.astype(np.float32)

    def series(self, spectrum):
        """Back to the time domain, (..., F) -> (..., T)."""
        return irfft(spectrum, self.length)[..., : self.n_times]

    def delayed(self, spectrum, seconds):
        """The same series, later by so many seconds."""
        phase = np.exp(-2j * np.pi * self.freqs * seconds).astype(np.complex64)
        return self.series(spectrum * phase)

    def pink(self, exponents):
        """Series (S, T) whose power falls as ``f^-exponent`` above 0.5 Hz."""
        floor = np.maximum(self.freqs, 0.5)
        shape = floor ** (-exponents[:, None] / 2) * (self.freqs > 0.1)
        return self.series(self.spectrum(shape))

    def bumps(self, centres, weights, width=0.9):
        """Spectra of sums of Gaussian bumps: (R, bumps) Hz and weights -> (R, F)."""
        distance = (self.freqs - centres[..., None]) / width
        peaks = np.exp(-0.5 * distance**2) / np.sqrt(width)
        return np.sqrt((weights[..., None] ** 2 * peaks**2).sum(1))


def draw_anatomy(rng):
    """Positions (m) and unit moments (S, 3) of one person's dipoles."""
    table = standard_positions()
    anchors = unit_vectors(np.array([table[s.anchor] for s in SOURCES]) - CENTRE)
    tilt, shift = 0.35, 0.008 / CORTEX_RADIUS
    known = unit_vectors(anchors + shift * rng.standard_normal(anchors.shape))
    known_moments = unit_vectors(known + tilt * rng.standard_normal(known.shape))
    n_free = N_RHYTHMS + N_BACKGROUND
    free = unit_vectors(rng.standard_normal((n_free, 3)))
    free[:, 2] = np.where(free[:, 2] < -0.4, -free[:, 2], free[:, 2])
    radii = CORTEX_RADIUS * rng.uniform(0.75, 1.0, (n_free, 1))
    moments = unit_vectors(rng.standard_normal((n_free, 3)))
    positions = np.vstack([CORTEX_RADIUS * known, radii * free]) + CENTRE
    return positions, np.vstack([known_moments, moments])


def draw_traits(rng):
    """What else is a person's own: alpha peak (Hz), task depth, slope, gains (S,)."""
    n_sources = len(SOURCES) + N_RHYTHMS + N_BACKGROUND
    return {
        "alpha_peak": float(np.clip(rng.normal(10.0, 0.9), 8.0, 12.5)),
        "desynchronisation": float(np.clip(rng.normal(*ERD), 0.0, 0.8)),
        "coupling": float(rng.uniform(0.6, 1.0)),
        "slope": float(rng.uniform(1.0, 1.8)),
        "gains": np.exp(rng.normal(0, 0.2) + rng.normal(0, 0.3, n_sources)),
    }


def source_series(noise, traits, course):
    """Series (S, T) of ``SOURCES``, unit power at rest; course (2, T) of the task."""
    centres = np.full((len(SOURCES), 2), 10.0)
    weights = np.zeros((len(SOURCES), 2))
    for row, source in enumerate(SOURCES):
        for k, (ratio, weight) in enumerate(source.rhythms):
            centres[row, k] = ratio * traits["alpha_peak"]
            weights[row, k] = weight
    spectra = noise.spectrum(noise.bumps(centres, weights))
    series = noise.series(spectra)
    for link in COUPLINGS:
        driver, follower = ROW[link.driver], ROW[link.follower]
        now = 1.0 if link.event is None else course[EVENTS[link.event] - 1]
        share = link.strength * traits["coupling"] * now
        lagged = noise.delayed(spectra[driver], LAG_SECONDS)
        # Unit variance whatever the share: the power tells nothing.
        series[follower] = share * lagged + np.sqrt(1 - share**2) * series[follower]
    left, right = course
    depth = traits["desynchronisation"]
    series[ROW["hand_right"]] *= 1 - depth * (left + 0.3 * right)
    series[ROW["hand_left"]] *= 1 - depth * (right + 0.3 * left)
    return series

"""Window -> node features: Welch spectra, band power, learned temporal filters.

Everything a node knows about its window comes from one place, the co-spectrum

.. math:: C_{ij}(f) = \\mathrm{Re}\\, \\langle X_i(f)\\, X_j^*(f) \\rangle,

the real part of Welch's cross-spectral density. Its diagonal is the power
spectral density (:class:`SpectralFeatures`); its quadratic forms are the powers
of filtered and spatially mixed signals (:class:`TemporalFeatures`). Frequencies
are in Hz and powers in µV²/Hz, so the same weights serve at any sampling rate.
"""

from .electrodes import Electrodes, spherical_harmonics
from .nodes import CombinedFeatures, FeatureNorm, SpectralFeatures, TemporalFeatures
from .spectrum import WelchSpectrum, band_power, welch_psd

__all__ = [
    "CombinedFeatures",
    "Electrodes",
    "FeatureNorm",
    "SpectralFeatures",
    "TemporalFeatures",
    "WelchSpectrum",
    "band_power",
    "spherical_harmonics",
    "welch_psd",
]

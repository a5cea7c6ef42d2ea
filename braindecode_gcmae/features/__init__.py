"""Window -> node features: Welch spectra, band power, learned temporal filters.

What a node knows about its window comes from the Fourier coefficients of its
segments (:class:`WelchSpectrum`): their mean square is the power spectral density
(:class:`SpectralFeatures`), their squares after mixing electrodes and weighting
frequencies are the powers of filtered signals (:class:`TemporalFeatures`), and their
products between electrodes say who goes along with whom
(:class:`~braindecode_gcmae.features.SecondMoments`). What is locked to an event is in
the time course alone (:class:`EvokedFeatures`).
Frequencies are in Hz and powers in µV²/Hz, so the same weights serve at any sampling
rate.
"""

from .connectivity import ConnectivityFeatures, nearest_sites
from .electrodes import Electrodes, spherical_harmonics
from .evoked import EvokedFeatures
from .moments import SecondMoments, position_moments, signed_topology
from .nodes import CombinedFeatures, FeatureNorm, SpectralFeatures, TemporalFeatures
from .spectrum import WelchSpectrum, band_power, welch_psd

__all__ = [
    "CombinedFeatures",
    "ConnectivityFeatures",
    "Electrodes",
    "EvokedFeatures",
    "FeatureNorm",
    "SecondMoments",
    "SpectralFeatures",
    "TemporalFeatures",
    "WelchSpectrum",
    "band_power",
    "nearest_sites",
    "position_moments",
    "signed_topology",
    "spherical_harmonics",
    "welch_psd",
]

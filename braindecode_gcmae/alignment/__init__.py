"""Re-centring of recordings without labels, before the net.

Electrodes, caps and people differ in how sources mix into channels; the mean covariance
of a recording carries most of that difference. Dividing it out needs no label, and on
PhysioNet's motor imagery it helped more than adding electrodes did.
"""

from braindecode_gcmae.alignment.formulas import (
    riemannian_mean,
    whitening_matrix,
    window_covariances,
)
from braindecode_gcmae.alignment.streaming import StreamingAlignment
from braindecode_gcmae.alignment.transformer import RecordingAlignment

__all__ = [
    "RecordingAlignment",
    "StreamingAlignment",
    "riemannian_mean",
    "whitening_matrix",
    "window_covariances",
]

"""SimulatedEEG as MOABB sees it."""

import zlib
from functools import cache

from braindecode_gcmae.datasets.sources import EVENTS


@cache
def moabb_class():
    """MOABB's side, built when first asked for: moabb is an optional dependency."""
    from moabb.datasets.base import BaseDataset

    class SimulatedEEGMoabb(BaseDataset):
        """Its code digests all arguments: MOABB stores results by code."""

        def __init__(self, simulated):
            self.simulated = simulated
            arguments = [
                f"{name}={getattr(simulated, name)!r}"
                for name in sorted(vars(simulated))
                if name not in ("channels", "chs_info", "_positions")
            ] + [simulated._positions.tobytes().hex()]
            digest = zlib.crc32(" ".join(arguments).encode())
            super().__init__(
                subjects=simulated.subjects,
                sessions_per_subject=simulated.n_sessions,
                events=dict(EVENTS),
                code=f"SimulatedEEGMoabb-{digest:08x}",
                interval=[0, simulated.trial_seconds],
                paradigm="imagery",
            )

        def __reduce__(self):
            return type(self.simulated).to_moabb, (self.simulated,), vars(self)

        def _get_single_subject_data(self, subject):
            return {
                str(session): {"0": self.simulated.raw(subject, session)}
                for session in range(self.simulated.n_sessions)
            }

        def data_path(self, subject, *args, **kwargs):
            """Nothing lies on disk."""
            return []

    return SimulatedEEGMoabb

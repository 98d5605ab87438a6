"""Drift of conductances after programming, as a device card gives it."""

import math
from dataclasses import dataclass
from typing import Self

from circuits.parameters import Device


@dataclass(frozen=True)
class Drift:
    """Change of every conductance since it was verified: normal, the same law for all.

    Parameters
    ----------
    shift, spread : float
        Mean and standard deviation [S].

    References
    ----------
    The form is that of Falcone et al. for CMO/HfOx cells (IBM's aihwkit): both linear in the
    logarithm of the time, whatever the conductance.
    """

    shift: float
    spread: float

    @classmethod
    def of(cls, device: Device) -> Self:
        """Return the drift of a device card; none below one second."""
        if device.drift_time_s < 1.0:
            return cls(0.0, 0.0)
        log_time = math.log(device.drift_time_s)
        return cls(
            device.drift_shift_s * log_time,
            device.drift_spread_s + device.drift_spread_growth_s * log_time,
        )

"""What every test of this repository shares: Hypothesis profiles.

`ci` is fixed (the same examples in every run); `long` draws afresh and ten times as many:
HYPOTHESIS_PROFILE=long. Devices, goldens and the gpu_device marker come from fidelity's own
pytest plugin, as they do for its users.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

_RELAXED = [HealthCheck.too_slow, HealthCheck.data_too_large]
settings.register_profile(
    "ci", max_examples=25, deadline=None, derandomize=True, database=None, suppress_health_check=_RELAXED
)
settings.register_profile("long", max_examples=400, deadline=None, suppress_health_check=_RELAXED)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))

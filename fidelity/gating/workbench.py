"""What the stages of one gate share."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from fidelity.arithmetic.profile import Profile
from fidelity.cache import Cache
from fidelity.comparison.policy import Policy
from fidelity.gating.config import RunPlan
from fidelity.gating.execution import Execution
from fidelity.models.label_set import LabelSet
from fidelity.progress import Reporter


@dataclass
class Bench:
    """What the stages of one gate share: where to work, what to tell, what was done so far."""

    folder: Path
    cache: Cache
    reporter: Reporter
    policy: Policy
    profile: Profile | None = None  # given by hand; None: that of the device, where it is known
    labels: LabelSet | None = None  # what the embeddings choose among, where it was given
    executions: dict[str, Execution] = field(default_factory=dict)
    plans: dict[str, RunPlan] = field(default_factory=dict)

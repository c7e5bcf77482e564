"""What an experiment showed: for every field of a profile, why it has its value.

`Revealed` is what `fidelity reveal` gives. Nothing is filled in: what no experiment told is in `untold`.
"""

from __future__ import annotations

from fidelity.arithmetic.profile import Profile
from fidelity.record import Record


class Evidence(Record):
    """One field, found: by which experiment, what was seen, and what that excludes."""

    field: str
    experiment: str
    seen: str
    excludes: str


class Revealed(Record):
    """A device's profile, the evidence for it, and what the experiments could not tell."""

    profile: Profile
    evidence: tuple[Evidence, ...]
    untold: tuple[str, ...]


class Findings:
    """Evidence and gaps as they are gathered; each inquiry writes into its own."""

    def __init__(self) -> None:
        self.evidence: list[Evidence] = []
        self.untold: list[str] = []

    def found(self, field: str, experiment: str, seen: str, excludes: str) -> None:
        """One field is known."""
        self.evidence.append(Evidence(field=field, experiment=experiment, seen=seen, excludes=excludes))

    def gap(self, line: str) -> None:
        """One thing that could not be told, said once."""
        if line not in self.untold:
            self.untold.append(line)

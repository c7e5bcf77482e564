"""`gate`: the verdict on a whole conversion."""

from __future__ import annotations

from pathlib import Path

from fidelity.api.artefacts import given_policy, given_profile
from fidelity.api.given import StrPath
from fidelity.arithmetic.profile import Profile
from fidelity.cache import Cache
from fidelity.comparison.policy import Policy
from fidelity.gating.config import GateConfig, load_config
from fidelity.gating.whole import gate_whole
from fidelity.progress import Reporter, quiet
from fidelity.report.document import GateReport

REPORTS = Path("reports")


def gate(
    config: StrPath | GateConfig | None = None,
    *,
    policy: str | Policy = "default",
    profile: str | Profile | None = None,
    reports: StrPath = REPORTS,
    cache: StrPath | None = None,
    reporter: Reporter | None = None,
) -> GateReport:
    """May this artefact be released? Proves, converts, audits, runs, judges, locates what fails, and reports.

    Args:
        config: a TOML file or a `GateConfig`; None is the built-in PE-Core B/16.
        policy: `default`, a policy's TOML file, or a `Policy`.
        profile: the devices' arithmetic; None is the measured one of each device's driver.
        reports: the run's folder is made in it, `latest` points to it when it is whole, and its name is
            `report.run.name`: report.json, index.html, junit.xml, artefacts, jobs with raw outputs and logs.
        cache: folder of cached results; None is the user's.

    Returns:
        `GateReport`: `.passed`, `.headline`, `.reasons`, `.proof`, `.artefacts`, `.runs`, `.not_tested`, `.located`.

    Raises:
        BadInput: a configuration that is wrong. EnvironmentMissing: an extra is not installed. A device that is not
        here raises nothing: it is in `.not_tested`, and the gate does not pass.
    """
    chosen = config if isinstance(config, GateConfig) else load_config(None if config is None else Path(config))
    kept = Cache(None if cache is None else Path(cache))
    arithmetic = None if profile is None else given_profile(profile)
    report, _ = gate_whole(
        chosen, given_policy(policy), Path(reports), kept, reporter or quiet(), ablate=False, profile=arithmetic
    )
    return report

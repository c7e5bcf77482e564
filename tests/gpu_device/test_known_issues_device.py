"""Each reported delegate bug on the device: told in the summary, and a failure with --known-issues fail."""

from __future__ import annotations

import pytest

from fidelity.devices.known_issues import ISSUES, KnownIssueResult
from fidelity.pytest_plugin import KnownIssueTeller

pytestmark = pytest.mark.gpu_device


@pytest.mark.parametrize("number", [issue.number for issue in ISSUES])
def test_reported_bug(
    number: str, known_issues: tuple[KnownIssueResult, ...], tell_known_issue: KnownIssueTeller
) -> None:
    (result,) = (result for result in known_issues if result.number == number)
    tell_known_issue(result)

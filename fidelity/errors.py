"""Errors that a person reads: one line each, with the exit code that the command line gives them.

Exit codes are part of the contract (0 pass, 1 the gate fails, 2 usage or bad input, 3 the
environment or a device is missing), so the code is a property of the kind of error.
"""

from __future__ import annotations

EXIT_PASS = 0
EXIT_FAIL = 1
EXIT_BAD_INPUT = 2
EXIT_ENVIRONMENT = 3


class FidelityError(Exception):
    """Base of every error that fidelity raises on purpose; `str(error)` is one line for a person."""

    exit_code: int = EXIT_BAD_INPUT


class BadInput(FidelityError):
    """A file, name or value given by the user is wrong; says what, where, and what to do."""

    exit_code = EXIT_BAD_INPUT


class EnvironmentMissing(FidelityError):
    """A device, driver, package, network or disk that is needed is not there; says how to get it."""

    exit_code = EXIT_ENVIRONMENT

"""`python -m fidelity` is the command line."""

from fidelity.cli import main

main()

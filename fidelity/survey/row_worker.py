"""The process that makes one row: `python -m fidelity.survey.row_worker FOLDER`.

FOLDER holds asked.json; it gets stage.txt (the stage that has begun last) and row.json. A process of its
own, since a model that nobody has tried may crash or hang torch, or take all memory.
"""

from __future__ import annotations

import sys
from pathlib import Path

from fidelity.record import write_text
from fidelity.survey.make_row import Asked, make_row

ASKED, STAGE, ROW = "asked.json", "stage.txt", "row.json"


def main() -> None:
    """Make the row that the folder asks for."""
    folder = Path(sys.argv[1])
    asked = Asked.read(folder / ASKED)
    row = make_row(asked, lambda stage: write_text(folder / STAGE, stage))
    row.write(folder / ROW)


if __name__ == "__main__":
    main()

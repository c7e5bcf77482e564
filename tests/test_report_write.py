"""The three forms are written whole, the same bytes each time, without torch and without pyplot."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from test_report_examples import EXAMPLES, passing

from fidelity.errors import EnvironmentMissing
from fidelity.report.document import GateReport
from fidelity.report.write import JUNIT_FILE, PAGE_FILE, REPORT_FILE, write_report

FORMS = (REPORT_FILE, JUNIT_FILE, PAGE_FILE)


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_same_report_gives_the_same_bytes(name: str, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    write_report(first, EXAMPLES[name]())
    write_report(second, GateReport.read(first / REPORT_FILE))
    assert sorted(path.name for path in first.iterdir()) == sorted(FORMS)
    for form in FORMS:
        assert (first / form).read_bytes() == (second / form).read_bytes()


def test_the_bytes_are_the_same_in_another_process(tmp_path: Path) -> None:
    write_report(tmp_path / "here", passing())
    script = (
        "import sys\n"
        "sys.modules['torch'] = sys.modules['timm'] = None\n"  # importing either is an error now
        "from pathlib import Path\n"
        "from fidelity.report.document import GateReport\n"
        "from fidelity.report.write import write_report\n"
        "here, there = map(Path, sys.argv[1:])\n"
        "write_report(there, GateReport.read(here / 'report.json'))\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
        "runtime = [name for name in sys.modules if name.startswith('ai_edge_litert.')]\n"
        "assert runtime in ([], ['ai_edge_litert.schema_py_generated']), runtime\n"  # the file format alone
    )
    command = [sys.executable, "-c", script, str(tmp_path / "here"), str(tmp_path / "there")]
    subprocess.run(command, check=True, timeout=120, env={"PYTHONHASHSEED": "1", "HOME": str(tmp_path)})
    for form in FORMS:
        assert (tmp_path / "here" / form).read_bytes() == (tmp_path / "there" / form).read_bytes()


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / PAGE_FILE).mkdir()
    with pytest.raises(EnvironmentMissing, match="cannot be written") as caught:
        write_report(tmp_path, passing())
    assert "\n" not in str(caught.value)

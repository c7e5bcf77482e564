"""`fidelity report`: one run's page again, two runs side by side, and one line for what is no run."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_report_examples import broken, collapsed, hostile, passing
from test_report_html import page_of

from fidelity.cli import app
from fidelity.errors import BadInput
from fidelity.report.document import GateReport
from fidelity.report.side_by_side import RunComparison


def stored(folder: Path, report: GateReport) -> Path:
    report.write(folder / "report.json")
    return folder


def call(*arguments: str | Path) -> object:
    return app([str(argument) for argument in arguments], standalone_mode=False)


def test_the_page_of_one_run_is_written_again_in_its_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = stored(tmp_path / "run", broken())
    assert call("report", folder) == 0
    assert (folder / "index.html").read_text("utf-8") == page_of("broken")
    printed = capsys.readouterr().out
    assert printed.startswith("FAIL: ")
    assert f"report: {folder / 'index.html'}" in printed


def test_two_runs_make_a_page_under_reports(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = stored(tmp_path / "one", collapsed()), stored(tmp_path / "two", passing())
    monkeypatch.chdir(tmp_path)
    assert call("report", a, b) == 0
    assert "Two runs side by side" in (tmp_path / "reports/compare-one-two.html").read_text("utf-8")
    printed = capsys.readouterr().out
    assert "A -0.0404 (FAIL), B 0.9999844 (pass)" in printed
    assert "A not run, B 0.999999598 (pass)" in printed
    assert call("report", a, b, "--json", "-o", tmp_path / "c.html") == 0
    assert RunComparison.model_validate_json(capsys.readouterr().out).b.passed
    assert (tmp_path / "c.html").is_file()


def test_what_is_no_run_is_one_line_with_exit_code_2(tmp_path: Path) -> None:
    good = stored(tmp_path / "good", hostile())
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad/report.json").write_text("{}", "utf-8")
    for arguments in ([tmp_path], [good, tmp_path / "bad"], [good, good, good]):
        with pytest.raises(BadInput) as caught:
            call("report", *arguments)
        assert "\n" not in str(caught.value)
        assert caught.value.exit_code == 2

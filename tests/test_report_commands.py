"""`ethos report` and `ethos ui`, changes since a commit, and what DVC shows of the same numbers."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from conftest import ROOT
from registry_run import MODEL, new_project
from report_project import VARIANTS, add_version, evidence_of, give_aliases

from ethos.cli import main
from ethos.errors import SpecError, StoreError
from ethos.files import read_json
from ethos.registry.store import open_store
from ethos.reporting.serve import HOST, mlflow_ui, served, wait
from ethos.reporting.since import changes, moment
from ethos.reporting.text_catalog import Texts

if TYPE_CHECKING:
    from collections.abc import Callable

DATE = "2026-01-01"


@pytest.fixture
def ethos(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Return a function that runs the command line in this process."""

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["ethos", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    return call


# --- ethos report ----------------------------------------------------------------------------------------------------


def test_report_writes_verifies_and_tells_what_is_missing(
    report_project: Path, ethos: Callable[..., tuple[int, str, str]]
) -> None:
    code, out, _ = ethos("report", "--json")
    assert code == 0
    assert json.loads(out)["pages"] == []
    code, out, _ = ethos("report", "--verify", "--json")
    answer = json.loads(out)
    assert (code, answer["ok"], answer["findings"]) == (0, True, [])
    assert answer["numbers"] > 400
    # there are no images to show detections on
    code, out, err = ethos("report", "--strict")
    assert code == 1
    assert "outputs/dataset" in err
    page = report_project / "outputs" / "report" / "accuracy.html"
    page.write_text(page.read_text(encoding="utf-8").replace(">0.900</data>", ">0.910</data>", 1), encoding="utf-8")
    code, out, err = ethos("report", "--verify")
    assert code == 1
    assert "recorded as 0.900" in err
    # the file, the number in it, and the cell of the Markdown page beside it
    assert "3 do not hold" in out


def test_report_writes_before_it_verifies_where_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ethos: Callable[..., tuple[int, str, str]]
) -> None:
    root = new_project(tmp_path / "empty")
    monkeypatch.chdir(root)
    code, out, _ = ethos("report", "--verify", "--lang", "ko", "--json")
    assert code == 0
    assert (root / "outputs" / "report-ko" / "index.html").is_file()
    assert json.loads(out)["findings"] == []


def test_the_first_page_is_opened(
    report_project: Path, ethos: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    assert ethos("report", "--open")[0] == 0
    assert opened == [(report_project / "outputs/report/index.html").resolve().as_uri()]


@pytest.mark.usefixtures("report_project")
@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--lang", "xx"), 2, "unknown language 'xx'"),
        (("--since", DATE, "--verify"), 2, "--since excludes --verify"),
        (("--since", "yesterday"), 2, "'yesterday' is neither a commit nor a date"),
    ],
)
def test_mistakes_of_report_get_one_line(
    arguments: tuple[str, ...], code: int, words: str, ethos: Callable[..., tuple[int, str, str]]
) -> None:
    found, _, err = ethos("report", *arguments)
    assert found == code
    assert words in err
    assert len(err.strip().splitlines()) <= 2


def test_an_audit_reads_the_reports_too(report_project: Path, ethos: Callable[..., tuple[int, str, str]]) -> None:
    assert ethos("audit")[0] == 0
    page = report_project / "outputs" / "report" / "accuracy.html"
    page.write_text(page.read_text(encoding="utf-8").replace(">0.900</data>", ">0.910</data>", 1), encoding="utf-8")
    code, out, _ = ethos("audit", "--json")
    found = json.loads(out)["findings"]
    assert (code, {row["kind"] for row in found}) == (1, {"report"})
    details = [row["detail"] for row in found]
    assert details[0] == "report/accuracy.html: the file was altered after it was written"
    assert "report/accuracy.html: 0.910: recorded as 0.900 (0.9)" in details
    # one version alone, without the reports
    assert ethos("audit", "--version", "1")[0] == 0


# --- changes ---------------------------------------------------------------------------------------------------------


def since(root: Path, text: str) -> str:
    with evidence_of(root) as evidence:
        return changes(evidence, Texts(), moment(root, text))


def test_everything_is_new_since_long_ago_and_nothing_since_later(report_project: Path) -> None:
    text = since(report_project, DATE)
    assert text.startswith("# Changes since 2026-01-01T00:00+00:00\n")
    assert all(
        f"| v{number} | {variant.replace('_', chr(92) + '_')} |" in text for number, variant in enumerate(VARIANTS, 1)
    )
    assert "| realtime | - | v1 level2\\_relu | level2\\_relu is pinned" in text
    later = since(report_project, "2999-01-01")
    assert "No version was registered." in later
    assert "No scenario changed." in later


def test_changes_since_a_commit_compare_versions_and_selections(report_project: Path) -> None:
    for command in (
        ["init", "-q"],
        ["-c", "user.name=t", "-c", "user.email=t@t", "commit", "-q", "--allow-empty", "-m", "x"],
    ):
        subprocess.run(["git", *command], cwd=report_project, check=True)
    # commits and ledger events are told apart by the second
    time.sleep(1.1)
    newer = add_version(report_project, "level2_relu", run="b", map50=0.93, latency_ms=24.0)
    give_aliases(report_project, [newer])
    text = since(report_project, "HEAD")
    assert re.match(r"# Changes since [0-9a-f]{7,} \(20", text)
    assert "level2\\_relu: v1 -\\> v4" in text
    assert "Images: drawn by hand" in text
    assert "| INT8 mAP50 | 0.900 | 0.930 | +3.00 points |" in text
    assert "| ethos-u65-512, ms | 30.00 | 24.00 | -20.0 % |" in text
    assert "| realtime | v1 level2\\_relu | v4 level2\\_relu |" in text
    assert "level4" not in text.partition("## Scores")[2].partition("## Selections")[0]


def test_scores_of_unlike_protocols_are_not_compared(report_project: Path) -> None:
    at = moment(report_project, "2999-01-01")
    add_version(report_project, "level2_relu", run="b", map50=0.93, conf=0.25)
    with evidence_of(report_project) as evidence:
        evidence.created = {**evidence.created, 4: at.at.replace(year=3000)}
        text = changes(evidence, Texts(), at)
    assert "not comparable: " in text
    assert "conf is 0.001 in one and 0.25 in the other" in text
    assert "| INT8 mAP50 |" not in text
    assert "| INT8, KiB |" in text


def test_a_time_may_have_a_zone(report_project: Path) -> None:
    assert moment(report_project, "2026-01-31T12:00+09:00").at.isoformat() == "2026-01-31T12:00:00+09:00"
    with pytest.raises(SpecError):
        moment(report_project, "--output=x")


# --- DVC -------------------------------------------------------------------------------------------------------------


def test_dvc_shows_the_same_numbers(report_project: Path) -> None:
    for name in ("dvc.yaml",):
        shutil.copyfile(ROOT / name, report_project / name)
    (report_project / ".dvc").mkdir()
    (report_project / ".dvc" / "config").write_text("[core]\n    analytics = false\n    no_scm = true\n")
    variants = list(VARIANTS)

    def dvc(*arguments: str) -> Any:
        binary = shutil.which("dvc", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
        assert binary
        environment = {**os.environ, "DVC_NO_ANALYTICS": "1"}
        done = subprocess.run(
            [binary, *arguments], cwd=report_project, capture_output=True, text=True, check=True, env=environment
        )
        return json.loads(done.stdout)

    metrics = dvc("metrics", "show", "--json")[""]["data"]["outputs/report/metrics.json"]["data"]
    store = open_store(report_project)
    for number, variant in enumerate(variants, start=1):
        assert metrics[variant] == {"version": number, **store.version(MODEL, number).figures}
    plots = dvc("plots", "show", "--json")["data"]
    points = plots["accuracy against latency"][0]["content"]["data"]["values"]
    shown = {(point["candidate"], point["target"]): (point["latency_ms"], point["int8_map50"]) for point in points}
    for variant in variants:
        figures = metrics[variant]
        expected = (repr(figures["npu.ethos-u65-512.latency_ms"]), repr(figures["int8.map50"]))
        assert shown[variant, "ethos-u65-512"] == expected


# --- ethos ui --------------------------------------------------------------------------------------------------------


def fetched(address: str) -> str:
    with urllib.request.urlopen(address, timeout=20) as answer:
        text: str = answer.read().decode()
        return text


def listening(address: str) -> bool:
    port = int(address.rstrip("/").rpartition(":")[2])
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0


def test_ui_serves_both_and_stops_cleanly(report_project: Path) -> None:
    code = "from ethos.cli import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, "ui", "--port", "0", "--mlflow-port", "0"],
        cwd=report_project,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout
        addresses = [process.stdout.readline().split()[1] for _ in range(2)]
        assert "<title>Overview</title>" in fetched(addresses[0])
        assert "MLflow" in fetched(addresses[1])
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 0
    assert out.strip().endswith("stopped")
    assert err == ""
    assert not any(map(listening, addresses))


@pytest.mark.usefixtures("report_project")
def test_ui_needs_a_report(ethos: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    code, _, err = ethos("ui", "--out", str(tmp_path))
    assert code == 1
    assert "holds no report" in err


def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    with served(tmp_path, 0) as address:
        port = int(address.rstrip("/").rpartition(":")[2])
        with pytest.raises(StoreError, match=f"{HOST}:{port}: cannot be listened on"), served(tmp_path, port):
            pass
        with pytest.raises(StoreError, match=f"{HOST}:{port}"), mlflow_ui("sqlite://", None, port):
            pass


def test_waiting_ends_on_sigterm_and_when_the_server_dies() -> None:
    server = subprocess.Popen(["sleep", "60"])
    try:
        timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGTERM))
        timer.start()
        before = signal.getsignal(signal.SIGTERM)
        wait(server)
        assert signal.getsignal(signal.SIGTERM) is before
    finally:
        server.kill()
        server.wait()
    with pytest.raises(StoreError, match="ended with exit code"):
        wait(server)


def test_the_metrics_hold_the_present_candidates_alone(report_project: Path) -> None:
    metrics = read_json(report_project / "outputs" / "report" / "metrics.json")
    assert list(metrics) == [*VARIANTS, "level4_leaky (pruned)"]

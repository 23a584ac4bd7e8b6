"""What is seen of a training: the table, the machine's load, warnings, and the message at its end."""

from __future__ import annotations

import io
import json
import sys
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from pydantic import ValidationError
from registry_run import new_project

from ethos.registry.runs import open_tracking
from ethos.registry.training import Follower
from ethos.specs import Notify
from ethos.training.environment import code_sha256, hardware, versions
from ethos.training.epoch import Epoch, epoch_row
from ethos.training.monitor import EpochLines, monitor
from ethos.training.notify import NotNotified, announced, notify
from ethos.training.system import kills_for_memory, memory, sample
from ethos.training.watch import PLATEAU_EPOCHS, SPIKE_EPOCHS, Watch

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MIB = 2**20
FIRST = Epoch(
    epoch=1,
    train_box_loss=1.5,
    train_cls_loss=2.25,
    train_dfl_loss=0.9994,
    val_box_loss=1.0,
    val_cls_loss=1.0,
    val_dfl_loss=1.0,
    precision=0.5,
    recall=0.5,
    map50=0.12345,
    map50_95=0.06,
    lr=0.001,
    images_per_second=41.26,
    seconds=60.0,
    memory_mib=800.0,
)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


# --- the table -------------------------------------------------------------------------------------------------------


def test_lines_where_there_is_no_terminal() -> None:
    stream = io.StringIO()
    with monitor("train level2_relu", 3, stream) as lines:
        lines(FIRST)
        lines.tell("out of memory with batch 8")
        lines(replace(FIRST, epoch=2, seconds=120.0, map50=1.0))
    assert stream.getvalue() == (
        "train level2_relu\n"
        "    epoch     box   class     dfl   mAP50  mAP50-95       lr  images/s  RAM MiB     left\n"
        "      1/3   1.500   2.250   0.999   0.123     0.060    0.001      41.3      800  0:02:00\n"
        "note: out of memory with batch 8\n"
        "      2/3   1.500   2.250   0.999   1.000     0.060    0.001      41.3      800  0:01:30\n"
    )


def test_columns_of_a_gpu_and_a_teacher() -> None:
    stream = io.StringIO()
    EpochLines("title", 1, stream)(replace(FIRST, gpu_memory_mib=2048.0, train_distill_loss=0.25))
    heading, row = (line.split() for line in stream.getvalue().splitlines()[1:])
    assert heading[heading.index("dfl") + 1] == "distill"
    assert row[4] == "0.250"
    assert row[-2:] == ["2048", "0:00:00"]


def test_a_live_table_in_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    stream = Terminal()
    with monitor("train level2_relu", 3, stream) as table:
        table(FIRST)
        table.tell("out of memory with batch 8")
        table(replace(FIRST, epoch=2, map50=0.75))
    text = stream.getvalue()
    assert "note: out of memory with batch 8" in text
    assert all(part in text for part in ("train level2_relu", "images/s", "0.750", "2/3", "epoch 3/3 since 0:00:0"))


def test_a_long_live_table_shows_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("LINES", "12")
    stream = Terminal()
    with monitor("train level2_relu", 20, stream) as table:
        for number in range(1, 20):
            table(replace(FIRST, epoch=number))
        before = len(stream.getvalue())
        table.tell("now")
        drawn = stream.getvalue()[before:]
        assert "19/20" in drawn
        assert "15/20" not in drawn
    assert all(f"{number}/20" in stream.getvalue()[before:] for number in range(1, 20))


def test_a_row_leaves_out_what_there_is_not() -> None:
    assert "train_distill_loss" not in epoch_row(FIRST)
    assert epoch_row(replace(FIRST, train_distill_loss=0.5))["train_distill_loss"] == 0.5
    assert FIRST.train_loss == pytest.approx(1.5 + 2.25 + 0.9994)


# --- the machine -----------------------------------------------------------------------------------------------------


def control_groups(folder: Path, **files: str) -> tuple[Path, Path]:
    """Write a tree of control groups in which this process is two levels down; `files` are those of its parent."""
    inner = folder / "groups/outer/inner"
    inner.mkdir(parents=True)
    for name, text in files.items():
        (inner.parent / name.replace("_", ".", 1)).write_text(text)
    (inner / "memory.max").write_text("max\n")
    (inner / "memory.events").write_text("low 0\noom 3\noom_kill 2\n")
    (folder / "own").write_text("0::/outer/inner\n")
    return folder / "groups", folder / "own"


def test_memory_is_that_of_the_tightest_limit(tmp_path: Path) -> None:
    groups = control_groups(
        tmp_path,
        memory_max=f"{100 * MIB}\n",
        memory_current=f"{99 * MIB}\n",
        memory_stat=f"anon 1\ninactive_file {4 * MIB}\n",
    )
    assert memory(*groups) == (95 * MIB, 100 * MIB)
    assert kills_for_memory(*groups) == 2


def test_memory_without_a_limit_is_the_machines(tmp_path: Path) -> None:
    groups = control_groups(tmp_path)
    used, limit = memory(*groups)
    assert limit == psutil.virtual_memory().total
    assert 0 < used < limit
    assert kills_for_memory(tmp_path / "none", tmp_path / "none") == 0


def test_load_has_the_names_that_mlflow_gives(tmp_path: Path) -> None:
    load = sample(tmp_path)
    assert set(load) >= {
        "cpu_utilization_percentage",
        "system_memory_usage_megabytes",
        "system_memory_usage_percentage",
        "disk_usage_percentage",
        "disk_available_megabytes",
    }
    assert all(0 <= value <= 100 for name, value in load.items() if name.endswith("percentage"))


def test_what_a_training_ran_on() -> None:
    assert set(hardware()) == {"cpu", "cores", "memory_mib", "gpu", "torch_threads"}
    assert all(hardware().values())
    assert set(versions()) == {"python", "torch", "ultralytics", "numpy", "opencv-python"}
    assert len(code_sha256()) == 64


# --- warnings --------------------------------------------------------------------------------------------------------


def test_a_loss_spike() -> None:
    watch = Watch()
    for number in range(1, SPIKE_EPOCHS + 1):
        # a loss that begins high is no spike
        assert watch(replace(FIRST, epoch=number, train_box_loss=100.0 / number, map50_95=number / 10), {}) == []
    usual = replace(FIRST, epoch=6, train_box_loss=100.0 / 3, map50_95=0.7)
    assert watch(usual, {}) == []
    (warning,) = watch(replace(usual, epoch=7, train_box_loss=60.0, map50_95=0.8), {})
    assert warning == "loss spike: 63.2, the median of 5 epochs before is 36.6"


def test_a_plateau_is_told_once() -> None:
    watch = Watch()
    told = [watch(replace(FIRST, epoch=number), {}) for number in range(1, 2 * PLATEAU_EPOCHS + 1)]
    assert [number for number, warnings in enumerate(told, 1) if warnings] == [PLATEAU_EPOCHS + 1]
    assert told[PLATEAU_EPOCHS] == ["plateau: mAP50-95 has not risen by 0.002 for 10 epochs"]
    assert watch(replace(FIRST, epoch=50, map50_95=0.5), {}) == []
    assert watch(replace(FIRST, epoch=50 + PLATEAU_EPOCHS, map50_95=0.5), {})


def test_memory_near_its_limit_is_told_once() -> None:
    watch = Watch()
    tight = {"system_memory_usage_percentage": 93.2, "gpu_0_memory_usage_percentage": 50.0}
    assert watch(FIRST, tight) == ["memory is near its limit: 93 % in use"]
    assert watch(replace(FIRST, epoch=2), tight) == []
    watch(replace(FIRST, epoch=3), {"system_memory_usage_percentage": 50.0})
    assert watch(replace(FIRST, epoch=4), {"gpu_0_memory_usage_percentage": 91.0, **tight}) == [
        "memory is near its limit: 93 % in use"
    ]
    assert watch(replace(FIRST, epoch=5), {"gpu_0_memory_usage_percentage": 95.0}) == [
        "GPU memory is near its limit: 95 % in use"
    ]


# --- the run ---------------------------------------------------------------------------------------------------------


def test_a_training_is_followed_in_its_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    tracking = open_tracking("ethos", new_project(tmp_path))
    stream = io.StringIO()
    flat = [replace(FIRST, epoch=number) for number in range(1, PLATEAU_EPOCHS + 2)]
    with tracking.run("train") as run:
        before = Follower(run, EpochLines("train", 20, stream), tmp_path)
        for epoch in flat[:3]:
            before.epoch(epoch)
        before.tell("out of memory")
        # as in a process that goes on: what is there is shown, and not logged again
        after = Follower(run, EpochLines("train", 20, stream), tmp_path)
        for epoch in flat:
            after.epoch(epoch)
        for metric in ("map50", "memory_mib", "system/system_memory_usage_percentage"):
            assert [measured.step for measured in run.history(metric)] == [epoch.epoch for epoch in flat]
        tags = run.tags()
    plateau = "epoch 11: plateau: mAP50-95 has not risen by 0.002 for 10 epochs"
    assert [tags[f"note.{number}"] for number in (1, 2)] == ["out of memory", plateau]
    assert f"note: {plateau}\n" in stream.getvalue()
    assert stream.getvalue().count(" 1/20 ") == 2
    assert (tags["version.python"], tags["hardware.cores"]) == (versions()["python"], hardware()["cores"])


# --- the message -----------------------------------------------------------------------------------------------------


class Answering(BaseHTTPRequestHandler):
    """Keeps what is posted to it, and answers 200, or 500 below /broken."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.got.append(json.loads(body))  # type: ignore[attr-defined]
        self.send_response(500 if self.path.startswith("/broken") else 200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@pytest.fixture
def server() -> Iterator[HTTPServer]:
    made = HTTPServer(("127.0.0.1", 0), Answering)
    made.got = []  # type: ignore[attr-defined]
    thread = threading.Thread(target=made.serve_forever)
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


def address(server: HTTPServer, path: str = "/secret") -> str:
    return f"http://127.0.0.1:{server.server_port}{path}"


def test_a_command_gets_the_message(tmp_path: Path) -> None:
    file = tmp_path / "told.json"
    hook = Notify(command=("tee", str(file)))
    told: list[str] = []
    message: dict[str, Any] = {"variant": "level2_relu"}
    with announced(hook, message, told.append):
        message["epochs"] = 4
    assert json.loads(file.read_text()) == {"variant": "level2_relu", "event": "finished", "epochs": 4}
    with pytest.raises(RuntimeError), announced(hook, {}, told.append):
        raise RuntimeError("no more\nand so on")
    assert json.loads(file.read_text()) == {"event": "failed", "error": "RuntimeError: no more"}
    assert told == []


def test_an_address_gets_the_message(server: HTTPServer, monkeypatch: pytest.MonkeyPatch) -> None:
    notify(Notify(url=address(server)), {"event": "finished"})
    monkeypatch.setenv("WHERE_TO", address(server))
    notify(Notify(url_env="WHERE_TO"), {"event": "failed"})
    assert server.got == [{"event": "finished"}, {"event": "failed"}]  # type: ignore[attr-defined]


def test_a_message_that_cannot_be_delivered_fails_nothing(server: HTTPServer) -> None:
    told: list[str] = []
    with announced(Notify(url=address(server, "/broken/secret")), {}, told.append):
        pass
    assert told == ["notify: 127.0.0.1 answered 500\n  fix: check the address"]


@pytest.mark.parametrize(
    ("hook", "message"),
    [
        (Notify(command=("no-such-program", "secret")), "notify: no-such-program: No such file or directory"),
        (Notify(command=(sys.executable, "-c", "exit(3)")), f"notify: {sys.executable} failed with 3"),
        (Notify(url="http://127.0.0.1:9/secret"), "notify: 127.0.0.1: ConnectionError"),
        (Notify(url_env="NOT_SET_HERE"), "notify: environment variable NOT_SET_HERE is not set"),
    ],
    ids=["missing", "failing", "nobody", "unset"],
)
def test_why_a_message_was_not_delivered_holds_no_secret(hook: Notify, message: str) -> None:
    with pytest.raises(NotNotified) as caught:
        notify(hook, {})
    assert caught.value.message == message
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "given",
    [{}, {"command": ("true",), "url": "http://localhost"}, {"url": "file:///etc/passwd"}, {"command": ()}],
    ids=["nothing", "two", "no-http", "empty"],
)
def test_a_hook_is_one_thing(given: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Notify.model_validate(given)

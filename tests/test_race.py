"""Two promotions at once, and a promotion that is killed at any step."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import postgres
import pytest
from registry_race import STEPS, consistent, forkserver, promote_and_die, promote_at_once
from registry_run import MODEL, new_project, promote_run

from ethos import catalog
from ethos.registry import ledger
from ethos.registry.history import verify
from ethos.registry.live import live
from ethos.registry.store import open_store

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("step", STEPS)
def test_the_next_command_repairs_what_a_killed_one_left(promoted: Path, step: str) -> None:
    process = forkserver().Process(target=promote_and_die, args=(promoted, step, 2))
    process.start()
    process.join(60)
    assert process.exitcode == -9

    policy, store = catalog.load_policy(), open_store(promoted)
    answer = live(store, policy, MODEL, "realtime", root=promoted)

    expected = 1 if step == "event stored, not claimed" else 2
    assert (answer["version"], answer["by"]) == (expected, {1: "pin", 2: "person"}[expected])
    assert consistent(promoted) == expected


def test_of_two_promotions_at_once_one_wins(promoted: Path) -> None:
    _race([promoted, promoted], {})


def test_of_two_checkouts_that_share_a_server_one_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with postgres.running() as address:
        # without a driver: the one that is installed is taken
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address.replace("+psycopg2", ""))
        one = new_project(tmp_path / "one")
        monkeypatch.chdir(one)
        promote_run(one)
        other = tmp_path / "other"
        shutil.copytree(one, other, symlinks=True)
        for _ in range(2):
            _race([one, other], {"MLFLOW_TRACKING_URI": address})
        # a checkout without any ledger gets it from the registry
        (other / ledger.LEDGER).unlink()
        monkeypatch.chdir(other)
        assert live(open_store(other), catalog.load_policy(), MODEL, "realtime")["by"] == "person"
        assert (other / ledger.LEDGER).read_bytes() == (one / ledger.LEDGER).read_bytes()


def _race(roots: list[Path], environment: dict[str, str]) -> None:
    """Let each folder promote another version at once; exactly one may win, and all that is kept must agree."""
    context = forkserver()
    barrier, outcomes = context.Barrier(len(roots)), context.Queue()
    before = live(open_store(roots[0]), catalog.load_policy(), MODEL, "realtime", root=roots[0])["version"]
    others = [version for version in (1, 2, 3) if version != before]
    processes = [
        context.Process(target=promote_at_once, args=(root, version, barrier, outcomes, environment))
        for root, version in zip(roots, others, strict=True)
    ]
    for process in processes:
        process.start()
    found = [outcomes.get(timeout=120) for _ in processes]
    for process in processes:
        process.join(60)
    winners = [version for version, sha256, _ in found if sha256]
    [said] = [error for _, sha256, error in found if not sha256]
    assert len(winners) == 1
    assert said.startswith(f"another promotion came first: 'realtime' is served by version {winners[0]} now, by ")
    policy = catalog.load_policy()
    for root in roots:
        # the other folder learns of it here
        verify(open_store(root), policy, MODEL, root)
        assert consistent(root) == winners[0]

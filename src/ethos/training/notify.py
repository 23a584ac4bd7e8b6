"""Telling someone that a training has ended or failed, as its recipe's `notify` says; off unless it says so."""

from __future__ import annotations

import json
import os
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ethos import catalog
from ethos.errors import EthosError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from ethos.specs import Notify

SECONDS = 30


class NotNotified(EthosError):
    """The message could not be delivered; the training is not concerned."""


def hook_of(recipe: str) -> Notify | None:
    """Return who a recipe's file wants to be told; read when needed, since changing it is no reason to train again."""
    return catalog.load("recipe", recipe).notify


@contextmanager
def announced(hook: Notify | None, message: dict[str, Any], tell: Callable[[str], None]) -> Iterator[None]:
    """Send `message` when the block ends, with `event` "finished", or "failed" and an `error`.

    Args:
        hook: Where to; None sends nothing.
        message: What is known; the block may add to it.
        tell: Called with why a message was not delivered, which fails nothing.
    """
    message["event"] = "failed"
    try:
        yield
        message["event"] = "finished"
    except BaseException as error:
        message["error"] = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        raise
    finally:
        if hook is not None:
            try:
                notify(hook, message)
            except NotNotified as problem:
                tell(str(problem))


def notify(hook: Notify, message: Mapping[str, Any]) -> None:
    """Deliver a message to a command, on its standard input, or to an address, by POST.

    Errors name a host at most: an address often holds a secret.

    Raises:
        NotNotified: The command failed, the address did not answer with success, or its variable is not set.
    """
    if hook.command is not None:
        _run(hook.command, message)
    else:
        _post(_address(hook), message)


def _run(command: tuple[str, ...], message: Mapping[str, Any]) -> None:
    try:
        done = subprocess.run(
            command, input=json.dumps(message), text=True, capture_output=True, timeout=SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        reason = "takes too long" if isinstance(error, subprocess.TimeoutExpired) else error.strerror
        raise NotNotified(f"notify: {command[0]}: {reason}", "correct notify.command in the recipe") from None
    if done.returncode:
        raise NotNotified(f"notify: {command[0]} failed with {done.returncode}", "run it by hand to see why")


def _address(hook: Notify) -> str:
    if hook.url_env is None:
        return str(hook.url)
    address = os.environ.get(hook.url_env)
    if not address:
        raise NotNotified(f"notify: environment variable {hook.url_env} is not set", "set it to the address")
    return address


def _post(address: str, message: Mapping[str, Any]) -> None:
    import requests

    host = urlsplit(address).hostname
    try:
        answer = requests.post(address, json=dict(message), timeout=SECONDS)
    except requests.RequestException as error:
        # the exception's text holds the whole address
        raise NotNotified(f"notify: {host}: {type(error).__name__}", "check the address and the network") from None
    if not answer.ok:
        raise NotNotified(f"notify: {host} answered {answer.status_code}", "check the address")

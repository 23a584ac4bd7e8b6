"""Tools that write to the terminal, kept silent unless they fail."""

from __future__ import annotations

import os
import sys
import tempfile
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import TYPE_CHECKING

from ethos.errors import EthosError, ModelError

if TYPE_CHECKING:
    from collections.abc import Iterator

LOG_LINES_IN_ERROR = 3


@contextmanager
def quiet(tool: str) -> Iterator[None]:
    """Keep what a tool writes to stdout and stderr, from Python or C, and show its end only if the tool fails.

    Raises:
        ModelError: The block raised anything but an EthosError.
    """
    # both read their level once, when imported
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    sys.stdout.flush()
    sys.stderr.flush()
    saved = [os.dup(1), os.dup(2)]
    # where Python's streams are not the process's own, as in a notebook, both are redirected
    with tempfile.TemporaryFile("w+", buffering=1) as log, redirect_stdout(log), redirect_stderr(log):
        try:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
            yield
        except EthosError:
            raise
        except (Exception, SystemExit) as error:
            # onnx2tf ends its process on an operator that it does not know
            log.seek(0)
            last = [line.strip() for line in log.read().splitlines() if line.strip()][-LOG_LINES_IN_ERROR:]
            reason = (
                str(error).splitlines()[0] if str(error) and not isinstance(error, SystemExit) else " | ".join(last)
            )
            raise ModelError(f"{tool} failed: {reason}", "check the variant's level and activation") from error
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for number, copy in zip((1, 2), saved, strict=True):
                os.dup2(copy, number)
                os.close(copy)

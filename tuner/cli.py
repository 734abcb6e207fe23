"""The command line: `asymrnr-tune`."""

from __future__ import annotations

import errno
import os
import sys
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any, NoReturn

import typer
from rich.console import Console
from rich.markup import escape

from tuner.commands.certify import certify
from tuner.commands.check import check
from tuner.commands.fleet import fleet
from tuner.commands.flops import flops
from tuner.commands.generate import generate
from tuner.commands.lock import lock
from tuner.commands.models import models
from tuner.commands.plan import plan
from tuner.commands.profile import profile
from tuner.commands.pull import pull
from tuner.commands.push import push
from tuner.commands.report import report
from tuner.commands.solve import solve
from tuner.commands.tune import tune
from tuner.errors import TunerError, UsageError

INTERRUPTED = 130
NOTHING_LOST = "In CPU autocast, but the target dtype is not supported"  # of Mochi's positions, in float32 as they are
DISK_REFUSES = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EFBIG)

app = typer.Typer(
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Finds, proves and packages acceleration schedules for video diffusion transformers.",
)
app.callback(invoke_without_command=True)(tune)
for command in (models, plan, fleet, profile, generate, flops, solve, certify, check, report, push, pull, lock):
    app.command()(command)


def main() -> None:
    """Entry point: every expected failure is one sentence on stderr and its documented exit code."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read once, when a command imports torch
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    try:
        with warnings.catch_warnings():
            warnings.showwarning = partial(_warn, warnings.showwarning)
            warnings.filterwarnings("ignore", NOTHING_LOST, UserWarning)
            code = app(standalone_mode=False)  # typer turns Ctrl-C into a code of its own
        if code == INTERRUPTED:
            raise KeyboardInterrupt
        sys.exit(code if isinstance(code, int) else 0)
    except TunerError as error:
        _fail(str(error), error.exit_code)
    except typer.TyperException as error:
        _fail(error.format_message(), UsageError.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        _say("interrupted; everything measured is kept, add --resume to go on from it")
        sys.exit(INTERRUPTED)
    except OSError as error:
        if error.errno not in DISK_REFUSES:
            raise
        where = f" ({error.filename})" if error.filename else ""
        _fail(f"{error.strerror}{where}; everything measured is kept, add --resume to go on.", UsageError.exit_code)
    except Exception as error:
        from asymrnr.errors import AsymRnRError  # imports torch; whatever raises it has done so already
        from tuner.out_of_memory import advice

        if isinstance(error, AsymRnRError):
            _fail(str(error), UsageError.exit_code)
        ran_out = advice(error)
        if ran_out is None:
            raise
        _fail(f"{ran_out}.", TunerError.exit_code)


def _warn(others: Callable[..., None], message: Warning | str, category: type[Warning], *where: Any) -> None:
    """Show a warning of this project as a sentence, and those of others as they come."""
    if category.__module__.startswith("asymrnr."):
        _say(f"[bold yellow]warning:[/] {escape(str(message))}")
    else:
        others(message, category, *where)


def _fail(sentence: str, code: int) -> NoReturn:
    _say(f"[bold red]error:[/] {escape(sentence)}")
    sys.exit(code)


def _say(sentence: str) -> None:
    console = Console(stderr=True)
    console.print(sentence, highlight=False, soft_wrap=not console.is_terminal)  # terminals break inside words

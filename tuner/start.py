"""The console script: says what is missing where only the runtime is installed, and starts the command line else."""

from __future__ import annotations

import logging
import os
import sys
from importlib.util import find_spec

# What the extra `tune` brings, by the names of the modules.
NEEDED = (
    *("filelock", "greenlet", "imageio", "imageio_ffmpeg", "jinja2", "lpips", "matplotlib", "optuna", "yaml", "rich"),
    *("safetensors", "scipy", "tokenizers", "torchvision", "transformers", "typer"),
)


def main() -> None:
    """Entry point."""
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        print(
            f"error: asymrnr-tune needs packages that are not installed ({', '.join(missing)}); "
            'pip install "asymrnr[tune]" brings them.',
            file=sys.stderr,
        )
        sys.exit(2)
    # Where torchao is installed, importing diffusers has both complain of what nobody can do anything about.
    os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
    logging.getLogger("torch.utils._pytree").setLevel(logging.ERROR)
    from tuner.cli import main as run

    run()

"""The console script: says what is missing where only the runtime is installed, and starts the command line else."""

from __future__ import annotations

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
    from tuner.cli import main as run

    run()

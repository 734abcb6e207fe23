"""`--weights`, `--offload` and `--attention-backend` on the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.pipelines.tiny_pipelines import build, tiny_entry
from tuner.cli import app
from tuner.context import TuneOptions
from tuner.errors import UsageError
from tuner.models import REGISTRY, LoadOptions, attention_backend_of
from tuner.opening import open_run
from tuner.report.console import LiveProgress

MODEL = "ltx-video"


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setitem(REGISTRY, MODEL, tiny_entry(MODEL))
    build(MODEL).save_pretrained(tmp_path / "weights")
    return tmp_path / "weights"


def test_generate_takes_them(weights: Path, tmp_path: Path) -> None:
    video = tmp_path / "out.mp4"
    command = ["generate", "--model", MODEL, "--prompt", "a cat", "-o", str(video), "--weights", str(weights)]
    done = CliRunner().invoke(app, [*command, "--attention-backend", "_native_math"], catch_exceptions=False)
    assert done.exit_code == 0
    assert video.stat().st_size > 0


@pytest.mark.parametrize("command", [["--target-speedup", "1.1"], ["profile"], ["generate", "--prompt", "a cat"]])
def test_every_command_that_loads_a_model_takes_them(command: list[str], weights: Path, tmp_path: Path) -> None:
    output = tmp_path / {"profile": "p.safetensors", "generate": "v.mp4"}.get(command[0], "run")
    options = ["--model", MODEL, "--weights", str(weights), "--output", str(output)]
    for extra, complaint in (
        (["--offload", "model"], "add --device cuda"),
        (["--attention-backend", "nonsense"], "'nonsense' cannot be used"),
        (["--weights", str(tmp_path)], "no folder of a saved pipeline"),
    ):
        done = CliRunner().invoke(app, [*command, *options, *extra])
        assert isinstance(done.exception, UsageError)
        assert complaint in str(done.exception)
    done = CliRunner().invoke(app, [*command, *options, "--offload", "disk"])
    assert done.exit_code == UsageError.exit_code


def test_runs_remember_them(weights: Path, tmp_path: Path) -> None:
    load = LoadOptions(weights, attention_backend="_native_math")
    options = TuneOptions(MODEL, 1.1, tmp_path / "run", load=load)
    assert TuneOptions.from_dict(options.to_dict()) == options
    with LiveProgress() as progress:
        ctx = open_run(options, progress)
    assert attention_backend_of(ctx.instrument.source.worker.bench.runner.pipe) == "_native_math"
    assert ctx.instrument.key("pair")["workload"]["attention_backend"] == "_native_math"
    ctx.instrument.store.close()

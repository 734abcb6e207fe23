"""The command line: documented exit codes, one sentence a failure, no tracebacks."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path

import imageio.v2 as imageio
import pytest

from asymrnr.artifact_io import load_artifact
from tests.pipeline.conftest import STEPS
from tuner import cli
from tuner.context import TuneOptions
from tuner.errors import InfeasibleError, UsageError
from tuner.models import REGISTRY
from tuner.opening import space_of
from tuner.profile.profile import Profile
from tuner.search.space import load_space_of
from tuner.stages.profile import settings_for

PROMPT = "a red circle moving slowly left on a plain black background"
CERTIFIED = Path(__file__).parents[2] / "profiles" / "tiny-cogvideox" / "8-steps.json"


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Calls the entry point; returns exit code, stdout and stderr."""

    def call(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["asymrnr-tune", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        streams = capsys.readouterr()
        return int(stop.value.code or 0), streams.out, streams.err

    return call


def test_a_full_disk_is_one_sentence(run, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(**_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "runs/x/report.html")

    monkeypatch.setattr(cli, "app", full)
    code, _, error = run("report", "runs/x")
    assert code == 2
    said = " ".join(error.split())
    assert said == (
        "error: No space left on device (runs/x/report.html); everything measured is kept, add --resume to go on."
    )


def test_running_out_of_memory_is_one_sentence_in_every_command(run, monkeypatch: pytest.MonkeyPatch) -> None:
    def large(**_: object) -> None:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(cli, "app", large)
    code, _, error = run("generate")
    assert code == 1
    said = " ".join(error.split())
    assert said.startswith("error: The main memory of this machine is used up; ")
    assert "--frames" in said

    def broken(**_: object) -> None:
        raise RuntimeError("something else")

    monkeypatch.setattr(cli, "app", broken)
    with pytest.raises(RuntimeError, match="something else"):
        cli.main()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "--model and --target-speedup"),
        (["--model", "tiny-cogvideox"], "--target-speedup"),
        (["--model", "nope", "--target-speedup", "1.3"], "choose one of"),
        (["--model", "tiny-cogvideox", "--target-speedup", "0.5x"], "more than 1"),
        (["--model", "tiny-cogvideox", "--target-speedup", "fast"], "'fast' is no speed-up"),
        (["--model", "tiny-cogvideox", "--target-speedup", "1.3", "--budget", "-1"], "positive"),
        (["--model", "tiny-cogvideox", "--target-speedup", "1.3", "--colour"], "--colour"),
        (["--model", "tiny-cogvideox", "--target-speedup", "1.3", "--actions", "fly"], "'fly' is not one of"),
        (["frobnicate"], "frobnicate"),
        (["report", "missing-folder"], "holds no run"),
        (["generate", "--model", "tiny-cogvideox", "--prompt", "x", "-o", "video.avi"], ".mp4"),
        (["generate", "--model", "tiny-cogvideox", "--prompt", "x", "--schedule", "missing.json"], "missing.json"),
        (["generate", "--model", "tiny-cogvideox", "--prompt", "x", "--schedule", "x9.99"], "There is no profile"),
        (["certify", "missing.json", "--model", "tiny-cogvideox", "--target-speedup", "1.1"], "missing.json"),
        (["certify", "x9.99", "--model", "tiny-cogvideox"], "There is no profile"),
        (["--model", "tiny-cogvideox", "--target-speedup", "1.1", "--lpips-weights", "missing.pth"], "missing.pth"),
        (["profile", "--model", "tiny-cogvideox", "-o", "profile.txt"], ".safetensors"),
        (["flops", "--model", "animatediff"], "convolutions"),
        (
            ["solve", "--similarity", "s.safetensors", "--model", "wan-1.3b", "--target-speedup", "1.2"],
            "not in the paper",
        ),
        (["profile", "--model", "tiny-cogvideox", "--device", "abacus"], "abacus"),
        (["profile", "--model", "tiny-cogvideox", "--steps", "many"], "valid int"),
        (["--model", "tiny-cogvideox", "--target-speedup", "1.3", "--steps", "1"], "--steps is 1"),
        (["--model", "tiny-cogvideox", "--target-speedup", "1.3", "--prompts", "none.txt"], "none.txt"),
        (["certify", "30-steps", "--model", "tiny-cogvideox", "--height", "96"], "--height is 96"),
        (["generate", "--model", "tiny-cogvideox", "--prompt", "x", "--frames", "0"], "--frames is 0"),
        (["generate", "--model", "tiny-cogvideox", "--prompt", " "], "The prompt is empty"),
        (["profile", "--model", "tiny-cogvideox", "--device", "meta"], "'meta' is not supported; use cpu or cuda"),
        (["--model", "tiny-cogvideox", "--target-speedup", "1.3", "--seed", str(2**32)], "--seed"),
        (["--model", "tiny-cogvideox", "--target-speedup", "1.3", "--seed", "-1"], "--seed"),
        (["--model", "tiny-cogvideox", "--target-speedup", "1.3", "--trials", "0"], "--trials"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(run, arguments, says, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, error = run(*arguments)
    assert code == 2
    *progress, sentence = error.splitlines()
    assert sentence.startswith("error: ")
    assert says in sentence
    assert len(progress) <= 1
    assert not list(tmp_path.rglob("*.mp4"))


@pytest.mark.parametrize(
    "arguments", [["-h"], ["certify", "--help"], ["--version"], ["--model", "tiny-cogvideox"], ["frobnicate"]]
)
def test_help_and_bad_usage_wait_for_no_library(arguments: list[str]) -> None:
    """Torch takes seconds to import, and reads OMP_WAIT_POLICY, which the entry point sets, when it is."""
    program = (
        "import atexit, sys; from tuner import cli; "
        "atexit.register(lambda: print('torch' if 'torch' in sys.modules else 'nothing', 'imported')); cli.main()"
    )
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode in (0, 2)
    assert done.stdout.endswith("nothing imported\n")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--help"], "--install-completion"),
        (["solve", "--help"], "solve [OPTIONS] [X]..."),
        (["check", "--help"], "check [OPTIONS] {ARTIFACT}..."),
    ],
)
def test_help_names_what_there_is(run, arguments: list[str], says: str) -> None:
    code, out, _ = run(*arguments)
    assert code == 0
    assert says in out
    assert " . " not in out


@pytest.mark.parametrize("price", ["-1", "nan"])
def test_a_price_below_nothing_is_refused(run, price: str) -> None:
    code, _, error = run("--model", "tiny-cogvideox", "--target-speedup", "1.3", "--price", price)
    assert code == 2
    assert f"--price is {price}; give what an hour of the device costs, 0 or more." in " ".join(error.split())


def test_long_errors_break_between_words_on_a_narrow_terminal(run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "30")
    code, _, error = run("--model", "nope", "--target-speedup", "1.3")
    assert code == 2
    assert len(error.splitlines()) > 3
    assert "There is no model 'nope'; choose one of animatediff, cogvideox-2b, cogvideox-5b" in " ".join(error.split())


def test_an_output_that_cannot_be_written(run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    code, _, error = run("--model", "tiny-cogvideox", "--target-speedup", "1.3", "--output", tmp_path / "file" / "run")
    assert code == 2
    assert "cannot be" in error


def test_a_damaged_schedule(run, tmp_path: Path) -> None:
    path = tmp_path / "x1.30.json"
    path.write_text('{"schema_version": 1, "model"')
    code, _, error = run("generate", "--model", "tiny-cogvideox", "--prompt", PROMPT, "--schedule", path)
    assert code == 2
    assert "x1.30.json" in error


def test_interruption_has_its_own_code_and_says_how_to_go_on(run, monkeypatch, tmp_path: Path) -> None:
    def interrupt(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("tuner.pipeline.tune", interrupt)
    code, _, error = run("--model", "tiny-cogvideox", "--target-speedup", "1.3", "--output", tmp_path)
    assert code == 130
    assert "--resume" in error


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[TuneOptions]:
    """What the main job was asked for; it does nothing."""
    found: list[TuneOptions] = []

    def tune(options: TuneOptions, _: object) -> None:
        found.append(options)
        raise UsageError("enough")

    monkeypatch.setattr("tuner.pipeline.tune", tune)
    return found


@pytest.mark.parametrize(
    ("chosen", "folder"), [([], "tiny-cogvideox-x1.20"), (["--steps", "8"], "tiny-cogvideox-8-steps-x1.20")]
)
def test_folders_tell_workloads_apart(run, asked: list[TuneOptions], chosen: list[str], folder: str) -> None:
    run("--model", "tiny-cogvideox", "--target-speedup", "1.2x", "--also", "1.5x", *chosen)
    assert (asked[0].target_speedup, asked[0].also) == (1.2, (1.5,))
    assert asked[0].output == Path("runs", folder)
    assert asked[0].model_entry().workload.steps == int(chosen[-1] if chosen else 30)


@pytest.mark.parametrize(("chosen", "gaps"), [([], 6), (["--actions", "all"], 6), (["--actions", "copy"], 0)])
def test_copying_alone_is_profiled_without_memory(run, asked: list[TuneOptions], chosen: list[str], gaps: int) -> None:
    run("--model", "tiny-cogvideox", "--target-speedup", "1.2", *chosen)
    [options] = asked
    assert options.actions == (chosen[-1] if chosen else "all")
    assert TuneOptions.from_dict(options.to_dict()).actions == options.actions
    space = load_space_of(options.model_entry())
    assert settings_for(space, 30, 0, options.actions).memory_gaps == gaps
    assert settings_for(space, 3, 0, options.actions).memory_gaps == min(gaps, 2)


@pytest.mark.parametrize(
    ("chosen", "partner"),
    [
        ([], "auto"),
        (["--with", "none"], None),
        (["--with", "first-block-cache:0.1"], "first-block-cache:0.1"),
        (["--actions", "copy"], None),
        (["--actions", "copy", "--with", "none"], None),
    ],
)
def test_steps_may_be_left_out_unless_said_otherwise(
    run, asked: list[TuneOptions], chosen: list[str], partner: str | None
) -> None:
    run("--model", "tiny-cogvideox", "--target-speedup", "1.2", *chosen)
    assert asked[0].partner == partner
    assert space_of(asked[0], asked[0].model_entry()).reuse == (partner == "auto")


def test_operations_are_counted_without_weights(run) -> None:
    code, out, _ = run("flops", "--model", "wan-1.3b", "--schedule", '{"Q": 0.5}')
    assert code == 0
    assert "21x30x52 video tokens, 512 text tokens, 30 blocks" in out
    assert "PFLOP" in out
    assert "of the baseline" in out


def test_models_are_listed(run) -> None:
    code, out, _ = run("models")
    assert code == 0
    assert set(REGISTRY) <= {line.split(" ")[0] for line in out.splitlines()}
    size = "12 frames 64x64, 30 steps; 3,072 tokens (12x16x16)"
    schedule = "schedule 8-steps: certified for 1.2x, 1.3x"
    for says in (size, schedule, "weights: packaged", "4,096 tokens a frame", "schedule paper-base: not certified"):
        assert says in out


def test_infeasible_targets_exit_with_3(run, quick_model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def tune(*_: object) -> None:  # what makes it say so, `test_tune.py`
        raise InfeasibleError("50x cannot be reached.")

    monkeypatch.setattr("tuner.pipeline.tune", tune)
    code, _, error = run("--model", quick_model, "--target-speedup", "50")
    assert code == 3
    assert error.splitlines()[-1] == "error: 50x cannot be reached."


def test_generate_writes_a_video_with_and_without_a_schedule(run, tmp_path: Path) -> None:
    for name, extra, says in (
        ("plain.mp4", ["--steps", STEPS], "s per denoising step"),
        ("fast.mp4", ["--schedule", CERTIFIED], "ertified"),
    ):
        code, out, error = run(
            "generate", "--model", "tiny-cogvideox", "--prompt", PROMPT, "-o", tmp_path / name, *extra
        )
        assert code == 0
        assert "generate   12 frames 64x64, 8 steps" in error
        assert name in out
        assert says in out
    films = [imageio.mimread(tmp_path / name) for name in ("plain.mp4", "fast.mp4")]
    assert [len(film) for film in films] == [12, 12]
    assert any((a != b).any() for a, b in zip(*films, strict=True))


def test_generate_warns_of_steps_that_the_schedule_is_not_certified_for(run, tmp_path: Path) -> None:
    schedule = ["--schedule", "8-steps", "--steps", "6", "-o", tmp_path / "short.mp4"]
    code, out, error = run("generate", "--model", "tiny-cogvideox", "--prompt", PROMPT, *schedule)
    assert code == 0
    [warning] = [line for line in error.splitlines() if line.startswith("warning: ")]
    assert "certified for 8 steps, but this generation has 6 steps" in warning
    assert "Where it was certified, denoising was 1." in out


def test_profile_writes_tables_and_heat_maps(run, quick_model: str, tmp_path: Path) -> None:
    code, out, _ = run("profile", "--model", quick_model, "-o", tmp_path / "p.safetensors")
    assert code == 0
    assert "heat-maps" in out
    assert Profile.load(tmp_path / "p.safetensors").similarity["V"].shape == (8, STEPS)
    assert (tmp_path / "p-figures" / "similarity-of-every-site-standardised.png").is_file()
    code, out, error = run("solve", "--profile", tmp_path / "p.safetensors", "--target-speedup", "1.01", "90")
    assert (code, error) == (0, "")
    assert load_artifact(tmp_path / "p-schedules" / "x1.01.json").workload.steps == STEPS
    assert not (tmp_path / "p-schedules" / "x90.00.json").exists()

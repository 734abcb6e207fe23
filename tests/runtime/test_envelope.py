"""A generation of another kind than the schedule was made for is said so, once, at its first step."""

from __future__ import annotations

import warnings

import diffusers
import pytest

import asymrnr
from asymrnr import Artifact, ArtifactError, NotCertified, OtherWorkload, ScheduleError, UniformSchedule
from asymrnr.sections import EvidenceSection, Speedup
from tests.runtime.test_pipeline import schedule
from tests.runtime.tiny import cogvideox_pipeline, generate, tiny_artifact


@pytest.fixture
def pipeline() -> diffusers.CogVideoXPipeline:
    return cogvideox_pipeline()


@pytest.fixture
def artifact() -> Artifact:
    """Not certified, for what `generate` does by default."""
    return tiny_artifact(schedule(0.5, 0.25), 13, 96, target=1.3)


def test_what_it_was_made_for_is_said_nothing_of(pipeline: diffusers.CogVideoXPipeline, artifact: Artifact) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for what in (artifact, schedule(0.5, 0.25)):
            with asymrnr.apply(pipeline, what):
                generate(pipeline)
        with asymrnr.apply(pipeline, UniformSchedule(q=0.5)):
            generate(pipeline, steps=2)


@pytest.mark.parametrize(
    ("workload", "made", "has", "command"),
    [
        ({"steps": 2}, "4 steps", "2 steps", "--steps 2"),
        ({"frames": 9}, "13 frames", "9 frames", "--frames 9"),
        ({"size": 64}, "96x96 pixels", "64x64 pixels", "--height 64 --width 64"),
        ({"steps": 3, "frames": 9}, "13 frames and 4 steps", "9 frames and 3 steps", "--frames 9 --steps 3"),
    ],
)
def test_every_number_that_differs_is_named_once(
    pipeline: diffusers.CogVideoXPipeline,
    artifact: Artifact,
    workload: dict[str, int],
    made: str,
    has: str,
    command: str,
) -> None:
    asymrnr.apply(pipeline, artifact)
    with pytest.warns(OtherWorkload) as said:
        generate(pipeline, **workload)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        generate(pipeline, **workload)
    [warning] = said
    assert str(warning.message) == (
        f"The schedule was made for {made}, but this generation has {has}, for which nothing is promised; "
        f"`asymrnr-tune --model tiny {command} --target-speedup 1.3` tunes one."
    )


def test_of_a_schedule_by_itself_the_steps_are_known(pipeline: diffusers.CogVideoXPipeline) -> None:
    asymrnr.apply(pipeline, schedule(0.5, 0.25))
    with pytest.warns(OtherWorkload, match="made for 4 steps, but this generation has 2 steps"):
        generate(pipeline, steps=2, frames=9)


def test_it_is_said_before_anything_is_computed(pipeline: diffusers.CogVideoXPipeline, artifact: Artifact) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", OtherWorkload)
        handle = asymrnr.apply(pipeline, artifact)
        with pytest.raises(OtherWorkload):
            generate(pipeline, steps=2)
    assert handle.summary().calls == 0


def elsewhere(artifact: Artifact) -> Artifact:
    """Measured with another sampler, on a GPU."""
    workload = artifact.workload.model_copy(update={"scheduler": "DDIMScheduler"})
    speedup = Speedup(point=1.3, lower_bound_95=1.3, scope="denoise")
    evidence = EvidenceSection(
        baseline_seconds=(1.3,), tuned_seconds=(1.0,), speedup=speedup, prompts_sha256="1" * 64, seeds=(0,)
    )
    provenance = artifact.provenance.model_copy(update={"environment": {"gpu": "NVIDIA H100"}})
    return artifact.model_copy(update={"workload": workload, "evidence": evidence, "provenance": provenance})


def test_what_it_was_measured_on_is_compared_as_asked(
    pipeline: diffusers.CogVideoXPipeline, artifact: Artifact
) -> None:
    measured = elsewhere(artifact)
    differs = r"measured on NVIDIA H100, not on a CPU and was measured with DDIMScheduler, not CogVideoXDDIMScheduler"
    with pytest.warns(NotCertified, match=differs):
        asymrnr.apply(pipeline, measured).remove()
    advice = r"so it is not certified here; `asymrnr-tune certify` re-checks it\."
    with pytest.raises(ArtifactError, match=rf"{differs}, {advice}$"):
        asymrnr.apply(pipeline, measured, "strict")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        asymrnr.apply(pipeline, measured, "off").remove()
    with pytest.raises(ArtifactError, match="The policy is 'loose'; choose one of strict, nearest, off"):
        asymrnr.apply(pipeline, measured, "loose")  # type: ignore[arg-type]
    assert asymrnr.applied(pipeline) is None


def test_another_denoiser_is_refused(pipeline: diffusers.CogVideoXPipeline, artifact: Artifact) -> None:
    other = artifact.model_copy(
        update={"model": artifact.model.model_copy(update={"transformer": "MochiTransformer3DModel"})}
    )
    for policy in ("nearest", "strict"):
        with pytest.raises(ArtifactError, match="is for MochiTransformer3DModel, not CogVideoXTransformer3DModel"):
            asymrnr.apply(pipeline, other, policy)  # type: ignore[arg-type]
    asymrnr.apply(pipeline, other, "off").remove()


def test_strictly_another_generation_is_refused_before_anything_is_computed(
    pipeline: diffusers.CogVideoXPipeline, artifact: Artifact
) -> None:
    asymrnr.apply(pipeline, artifact, "strict")
    with pytest.raises(ScheduleError, match="made for 4 steps, but this generation has 2 steps"):
        generate(pipeline, steps=2)
    generate(pipeline, steps=4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        asymrnr.apply(pipeline, artifact, "off")
        generate(pipeline, steps=2)

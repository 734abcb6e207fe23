"""LoRA, quantisation and offloading: what they change, what measurements and artifacts say of them, what is refused."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DiffusionPipeline
from typer.testing import CliRunner

import asymrnr
from asymrnr import ArtifactError, NotCertified
from asymrnr.sections import WorkloadSection
from asymrnr.variant import Variant
from tests.pipelines.helpers import latents, schedule
from tests.pipelines.tiny_pipelines import build, tiny_entry
from tests.pipelines.variants import ALPHA, RANK, offload, save_lora
from tests.pipelines.whole_job import Job, assert_applies, assert_evidence, run_job
from tuner.cli import app
from tuner.errors import UsageError
from tuner.models import LoadOptions, load_pipeline
from tuner.models import modify as modify_module
from tuner.models.modify import split_lora
from tuner.run.identity import differences, subject
from tuner.run.runner import Runner

MODEL = "ltx-video"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    build(MODEL).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def loras(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return [save_lora(MODEL, tmp_path_factory.mktemp("lora"), seed) for seed in (0, 1)]


def loaded(weights: Path, *loras: str, quantize: Any = None) -> DiffusionPipeline:
    return load_pipeline(MODEL, options=LoadOptions(weights, lora=loras, quantize=quantize))


def found(pipe: DiffusionPipeline) -> dict[str, Any]:
    return subject(Runner(pipe, tiny_entry(MODEL)))


def test_adapters_are_known_by_their_weights_and_scales(weights: Path, loras: list[Path]) -> None:
    one, other = loras
    adapters = {
        name: dict(Variant.of(loaded(weights, *given)).adapters)
        for name, given in {
            "none": (),
            "one": (f"{one}",),
            "folder": (f"{one.parent}",),
            "weaker": (f"{one}:0.5",),
            "other": (f"{other}",),
            "both": (f"{one}:0.5", f"{other}"),
            "swapped": (f"{other}", f"{one}:0.5"),
        }.items()
    }
    assert adapters["none"] == {}
    assert list(adapters["one"].values()) == [ALPHA / RANK]
    assert adapters["folder"] == adapters["one"]
    assert adapters["weaker"] == {name: 0.5 * scale for name, scale in adapters["one"].items()}
    assert adapters["other"].keys() != adapters["one"].keys()
    assert adapters["both"] == adapters["swapped"] == {**adapters["weaker"], **adapters["other"]}


def test_adapters_that_are_off_do_not_count(weights: Path, loras: list[Path]) -> None:
    pipe = loaded(weights, str(loras[0]))
    on = Variant.of(pipe)
    assert Variant.of(pipe.transformer).adapters == on.adapters
    pipe.disable_lora()
    assert Variant.of(pipe).adapters == {}
    pipe.enable_lora()
    assert Variant.of(pipe) == on
    pipe.fuse_lora()
    assert Variant.of(pipe) == on
    pipe.unfuse_lora()
    pipe.unload_lora_weights()
    assert Variant.of(pipe) == Variant()


def test_each_makes_another_subject(weights: Path, loras: list[Path]) -> None:
    plain, one = found(loaded(weights)), found(loaded(weights, str(loras[0])))
    quantized = found(loaded(weights, quantize="int8"))
    assert not plain["workload"].keys() & {"adapters", "quantization", "offload", "parallel"}
    assert quantized["workload"]["quantization"] == "torchao.Int8Tensor"
    assert all(len(differences(plain, changed)) == 1 for changed in (one, quantized))
    for kind in ("model", "group"):
        moved = found(offload(loaded(weights), kind))
        assert moved["workload"]["offload"] == kind
        assert len(differences(plain, moved)) == 1


def test_loras_and_quantisation_go_together_and_change_the_video(weights: Path, loras: list[Path]) -> None:
    both = loaded(weights, str(loras[0]), quantize="int8")
    assert set(vars(Variant.of(both))) >= {"adapters", "quantization"}
    assert Variant.of(both).quantization is not None
    assert Variant.of(both).adapters == Variant.of(loaded(weights, str(loras[0]))).adapters
    lora_weights = [weight for name, weight in both.transformer.named_parameters() if "lora_" in name]
    assert all(type(weight) is torch.nn.Parameter for weight in lora_weights)
    videos = [
        latents(pipe, MODEL)
        for pipe in (loaded(weights), loaded(weights, str(loras[0])), loaded(weights, quantize="int8"), both)
    ]
    assert all(not torch.equal(videos[i], videos[j]) for i in range(4) for j in range(i))
    with asymrnr.apply(both, schedule(both, 0.5, 0.3)):
        assert not torch.equal(latents(both, MODEL), videos[3])
    assert torch.equal(latents(both, MODEL), videos[3])


def job(folder: Path, weights: Path, kind: str, options: LoadOptions) -> Job:
    def load(chosen: LoadOptions) -> DiffusionPipeline:
        pipe = load_pipeline(MODEL, options=chosen)
        return offload(pipe, kind) if kind in ("model", "group") else pipe

    return run_job(MODEL, folder, replace(options, weights=weights), load)


@pytest.mark.parametrize("kind", ["lora and int8", "attention backend", "model", "group"])
def test_the_whole_job_with_each(kind: str, weights: Path, loras: list[Path], tmp_path: Path) -> None:
    options = {
        "lora and int8": LoadOptions(lora=(f"{loras[0]}:0.5", str(loras[1])), quantize="int8"),
        "attention backend": LoadOptions(attention_backend="_native_math"),
    }.get(kind, LoadOptions())
    done = job(tmp_path, weights, kind, options)
    assert_evidence(done)
    assert_applies(done)
    workload = done.artifact.workload
    assert workload.attention_backend == (options.attention_backend or "native")
    assert Variant.of(done.load()).as_dict() == {
        name: value
        for name, value in workload.model_dump().items()
        if name in ("adapters", "quantization", "offload", "parallel") and value
    }
    assert (len(workload.adapters), workload.quantization is not None) == (len(options.lora), bool(options.quantize))
    evidence = done.artifact.evidence
    assert evidence is not None
    assert evidence.modes == (("alternating",) if kind in ("model", "group") else ("lock-step",))


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"adapters": {"a" * 64: 0.8}}, "the adapter aaaaaaaa at 0.8, not no adapter"),
        ({"quantization": "torchao.Int8Tensor"}, "torchao.Int8Tensor weights, not plain weights"),
        ({"offload": "model"}, "model offloading, not no offloading"),
        ({"parallel": "ulysses 2"}, r"sharding \(ulysses 2\), not one device"),
    ],
)
def test_what_the_artifact_was_not_measured_with_is_said(changed: dict[str, Any], says: str, weights: Path) -> None:
    shipped = asymrnr.load_artifact(_shipped())
    pipe = load_pipeline("tiny-cogvideox")
    workload = WorkloadSection(**{**shipped.workload.model_dump(), **changed})
    other = shipped.model_copy(update={"workload": workload})
    with pytest.warns(NotCertified, match=f"was measured with {says}.*certify` re-checks it"):
        asymrnr.apply(pipe, other).remove()
    with pytest.raises(ArtifactError, match=f"was measured with {says}.*so it is not certified here"):
        asymrnr.apply(pipe, other, "strict")
    with warnings.catch_warnings():
        warnings.simplefilter("error", NotCertified)
        asymrnr.apply(pipe, other, "off").remove()


def test_another_number_of_heads_is_another_denoiser() -> None:
    shipped = asymrnr.load_artifact(_shipped())
    assert shipped.model.heads is not None
    model = shipped.model.model_copy(update={"heads": shipped.model.heads + 1})
    pipe = load_pipeline("tiny-cogvideox")
    with pytest.raises(ArtifactError, match=f"is for {model.heads} attention heads, not {shipped.model.heads}; tune"):
        asymrnr.apply(pipe, shipped.model_copy(update={"model": model}))


def _shipped() -> Path:
    from asymrnr.resources import profiles_folder

    return profiles_folder() / "tiny-cogvideox" / "30-steps.json"


def test_sources_and_weights_are_told_apart(tmp_path: Path) -> None:
    assert split_lora("me/my-lora") == ("me/my-lora", 1.0)
    assert split_lora("me/my-lora:0.8") == ("me/my-lora", 0.8)
    (tmp_path / "a:1").mkdir()
    assert split_lora(f"{tmp_path}/a:1") == (f"{tmp_path}/a:1", 1.0)
    with pytest.raises(UsageError, match=r"ends in 'strong', which is no weight; write SOURCE:0\.8"):
        split_lora("me/my-lora:strong")


def test_what_cannot_be_loaded_is_one_sentence(
    weights: Path, loras: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken.safetensors").write_bytes(b"no weights")
    for source in (tmp_path / "broken.safetensors", tmp_path / "none.safetensors", tmp_path):
        with pytest.raises(
            UsageError, match=r"^The LoRA [^\n]* (cannot be loaded into|has no weights for) a LTXPipeline"
        ):
            loaded(weights, str(source))
    done = CliRunner().invoke(
        app, ["generate", "--model", MODEL, "--weights", str(weights), "--prompt", "a cat", "--lora", "me/x:strong"]
    )
    assert isinstance(done.exception, UsageError)
    assert "no weight" in str(done.exception)
    monkeypatch.setattr(modify_module.importlib.util, "find_spec", lambda _: None)
    for options, package in (({"lora": ("x",)}, "peft"), ({"quantize": "int8"}, "torchao")):
        with pytest.raises(UsageError, match=rf"needs the package {package}; install asymrnr\[models\]"):
            load_pipeline(MODEL, options=LoadOptions(weights, **options))  # type: ignore[arg-type]


def test_options_survive_the_store_and_earlier_runs_are_read() -> None:
    options = LoadOptions(lora=("a:0.5", "b"), quantize="int8", offload="group")
    assert LoadOptions.from_dict(options.to_dict()) == options
    old = LoadOptions().to_dict()
    del old["lora"], old["quantize"]
    assert LoadOptions.from_dict(old) == LoadOptions()

"""Loading through `--weights`, from the hub's cache, and what happens where there is nothing to load."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from huggingface_hub import constants

import asymrnr
from tests.pipelines.helpers import latents, schedule
from tests.pipelines.tiny_pipelines import BUILDERS, NEED_ACCELERATE, build, skip_unless_loadable, tiny_entry
from tuner.errors import UsageError
from tuner.models import (
    REGISTRY,
    HubWeights,
    LoadOptions,
    attention_backend_of,
    load_pipeline,
    weights_identity,
)
from tuner.models import loading as loading_module
from tuner.models.weights import folder_hash
from tuner.run.identity import subject
from tuner.run.instrument import Instrument
from tuner.run.ledger import Ledger
from tuner.run.runner import Runner
from tuner.run.store import MeasurementStore

Saved = Callable[..., Path]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Saved:
    """Folder of a saved tiny pipeline, by the name of its model and the seed of its weights."""

    def save(name: str, seed: int = 0) -> Path:
        folder = tmp_path_factory.mktemp(name) / "weights"
        build(name, seed).save_pretrained(folder)
        return folder

    return functools.cache(save)


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No network and an empty cache."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("name", BUILDERS)
def test_weights_from_a_folder_run_in_the_dtype_and_with_the_sampler_of_the_registry(name: str, saved: Saved) -> None:
    skip_unless_loadable(name)
    entry = tiny_entry(name)
    pipe = load_pipeline(name, options=LoadOptions(weights=saved(name)))
    assert type(pipe) is entry.pipeline
    assert pipe.vae.dtype == (entry.vae_dtype or entry.dtype)
    assert entry.scheduler is not None
    assert type(pipe.scheduler) is entry.scheduler.cls
    assert {key: pipe.scheduler.config[key] for key in entry.scheduler.settings} == entry.scheduler.settings
    runner = Runner(pipe, entry)
    assert runner.denoiser.dtype == entry.dtype
    generation = runner.generate("a cat", 0, schedule(pipe, 0.5, 0.3))
    assert generation.video.shape[0] == entry.workload.frames
    assert torch.isfinite(generation.latents).all()


@pytest.mark.parametrize("name", BUILDERS)
def test_offline_without_weights_it_is_one_sentence_at_once(name: str, nowhere: Path) -> None:
    began = time.perf_counter()
    with pytest.raises(UsageError) as caught:
        load_pipeline(name)
    message = str(caught.value)
    assert time.perf_counter() - began < 5
    weights = REGISTRY[name].weights
    assert isinstance(weights, HubWeights)
    for part in (weights.repo, str(nowhere), "--weights PATH"):
        assert part in message
    assert "\n" not in message


def test_the_command_line_ends_with_exit_code_2_offline(tmp_path: Path) -> None:
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(tmp_path / "cache")}
    program = "from tuner.cli import main; main()"
    job = ["--model", "mochi", "--target-speedup", "1.1", "--output", str(tmp_path / "run")]
    for _ in range(2):  # nothing that failed to start has to be resumed
        command = [sys.executable, "-c", program, *job]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 2
        assert "genmo/mochi-1-preview" in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize("name", ["mochi", "animatediff", "ltx-video"])  # a variant, two repositories, neither
def test_downloaded_weights_load_offline(name: str, nowhere: Path, saved: Saved) -> None:
    entry = REGISTRY[name]
    assert isinstance(entry.weights, HubWeights)
    pipe = build(name)
    pipe.save_pretrained(entry.weights.folder, variant=entry.weights.variant)
    for component, (_, part) in entry.components.items():
        shutil.move(entry.weights.folder / component, part.folder)
    loaded = load_pipeline(name)
    assert type(loaded) is entry.pipeline
    assert weights_identity(loaded, entry.weights) == str(entry.weights)
    written, read = (Runner(each, entry).denoiser.state_dict() for each in (pipe, loaded))
    assert written.keys() == read.keys()
    assert all(torch.equal(read[key], value.to(read[key].dtype)) for key, value in written.items())


@pytest.mark.parametrize("name", BUILDERS)
def test_the_hub_is_asked_for_the_pinned_commits(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    entry, asked = REGISTRY[name], {}

    def from_pretrained(repo: str, **options: object) -> object:
        asked[repo] = options
        return build(name) if len(asked) > len(entry.components) else f"loaded from {repo}"

    monkeypatch.setattr(loading_module, "_reachable", lambda _: True)
    for cls in (entry.pipeline, *(cls for cls, _ in entry.components.values())):
        monkeypatch.setattr(cls, "from_pretrained", from_pretrained)
    load_pipeline(name)
    repositories = [*(weights for _, weights in entry.components.values()), entry.weights]
    assert list(asked) == [weights.repo for weights in repositories]  # type: ignore[union-attr]
    for weights in repositories:
        assert isinstance(weights, HubWeights)
        options = asked[weights.repo]
        assert (options["revision"], options["variant"]) == (weights.revision, weights.variant)
        assert not options["local_files_only"]
    for component, (_, weights) in entry.components.items():
        assert asked[repositories[-1].repo][component] == f"loaded from {weights.repo}"  # type: ignore[union-attr]


def test_a_partly_downloaded_model_is_one_sentence(nowhere: Path) -> None:
    entry = REGISTRY["ltx-video"]
    build("ltx-video").save_pretrained(entry.source)
    shutil.rmtree(entry.source / "vae")
    with pytest.raises(UsageError, match="cannot be loaded"):
        load_pipeline("ltx-video")


def test_folders_that_hold_something_else_are_refused(tmp_path: Path, saved: Saved) -> None:
    with pytest.raises(UsageError, match="no folder of a saved pipeline"):
        load_pipeline("mochi", options=LoadOptions(weights=tmp_path))
    with pytest.raises(UsageError, match="holds a LTXPipeline, but mochi is a MochiPipeline"):
        load_pipeline("mochi", options=LoadOptions(weights=saved("ltx-video")))
    broken = tmp_path / "broken"
    shutil.copytree(saved("ltx-video"), broken)
    for file in (broken / "transformer").glob("*.safetensors"):
        file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(UsageError, match=r"ltx-video in .*broken cannot be loaded"):
        load_pipeline("ltx-video", options=LoadOptions(weights=broken))


@pytest.mark.parametrize("name", NEED_ACCELERATE[:4:2])  # that need nothing else
def test_a_missing_accelerate_is_named(name: str, saved: Saved, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> DiffusionPipeline:
        raise ValueError("`low_cpu_mem_usage` cannot be False when `keep_in_fp32_modules` is True.")

    monkeypatch.setattr(REGISTRY[name].pipeline, "from_pretrained", fail)
    monkeypatch.setattr(loading_module, "_has", lambda _: False)
    with pytest.raises(UsageError, match=r"accelerate, install asymrnr\[models\]\.$"):
        load_pipeline(name, options=LoadOptions(weights=saved(name)))


def test_devices_and_offloading_are_checked_first(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="'gpu' is not the name of a torch device"):
        load_pipeline("mochi", device="gpu")
    with pytest.raises(UsageError, match="add --device cuda"):
        load_pipeline("mochi", options=LoadOptions(offload="model"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(loading_module, "_has", lambda _: False)
    with pytest.raises(UsageError, match="needs the package accelerate"):
        load_pipeline("mochi", device="cuda", options=LoadOptions(offload="model"))


def test_attention_backends_are_chosen_for_one_pipeline_only(saved: Saved) -> None:
    plain = load_pipeline("ltx-video", options=LoadOptions(weights=saved("ltx-video")))
    options = LoadOptions(weights=saved("ltx-video"), attention_backend="_native_math")
    chosen = load_pipeline("ltx-video", options=options)
    assert (attention_backend_of(plain), attention_backend_of(chosen)) == ("native", "_native_math")
    for pipe in (chosen, plain):
        with asymrnr.apply(pipe, schedule(pipe, 0.5, 0.3)):
            latents(pipe, "ltx-video")
    assert (attention_backend_of(plain), attention_backend_of(chosen)) == ("native", "_native_math")
    with pytest.raises(UsageError, match="attention backend 'nonsense' cannot be used"):
        load_pipeline("ltx-video", options=replace(options, attention_backend="nonsense"))
    with pytest.raises(UsageError, match="calls torch's attention directly"):
        load_pipeline("mochi", options=LoadOptions(weights=saved("mochi"), attention_backend="native"))


def test_measurements_are_kept_apart_by_weights_and_backend(tmp_path: Path, saved: Saved) -> None:
    def key(seed: int, **options: str) -> dict[str, object]:
        pipe = load_pipeline("ltx-video", options=LoadOptions(weights=saved("ltx-video", seed), **options))  # type: ignore[arg-type]
        with MeasurementStore(tmp_path) as store:
            found = subject(Runner(pipe, tiny_entry("ltx-video")))
            return Instrument(store, Ledger(1.0), found).key("pair")

    assert key(0) == key(0)
    assert key(0) != key(1)
    assert key(0) != key(0, attention_backend="_native_math")
    assert key(0)["workload"]["attention_backend"] == "native"  # type: ignore[index]


def test_identities_see_every_change_of_large_files(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 256, 6 << 20, dtype=np.uint8)
    (tmp_path / "model.safetensors").write_bytes(values.tobytes())
    before = folder_hash(tmp_path)
    assert folder_hash(tmp_path) == before
    (tmp_path / "model.safetensors").write_bytes((values + 1).tobytes())
    assert folder_hash(tmp_path) != before


def test_options_survive_the_store(tmp_path: Path) -> None:
    for options in (LoadOptions(), LoadOptions(tmp_path, "model", "flash")):
        assert LoadOptions.from_dict(options.to_dict()) == options

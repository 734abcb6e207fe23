from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from tuner.errors import UsageError
from tuner.latency.model import LatencyModel
from tuner.latency.sites import SiteLatency
from tuner.latency.surface import LatencySurface
from tuner.profile.agreement import Agreement
from tuner.profile.profile import Profile


def example() -> Profile:
    rng = np.random.default_rng(0)
    sites = (2, 4)
    curve = np.sort(rng.random((*sites, 3)), axis=-1)
    curve[..., 0], curve[0, 0, 2] = 0.0, np.inf
    later = 3 * rng.random((*sites, 2))
    later[:, 0], later[:, 1, 1] = np.nan, np.nan  # no step so many steps earlier
    surface = LatencySurface(
        grid=(2, 3, 4),
        text_tokens=5,
        batch=1,
        heads=2,
        head_dim=8,
        shares=(0.5, 1.0),
        attention=((0.25, 0.5), (0.5, 1.0)),
        matching={"2x2x2": 0.1},
        gather_rates=(0.1, 0.5),
        gather_q=(0.02, 0.01),
        gather_v=(0.03, 0.02),
    )
    return Profile(
        model="m",
        workload={"steps": 4, "frames": 2, "height": 24, "width": 32, "note": "ünï"},
        prompt="a prompt",
        seed=1,
        schedule_seed=2,
        grid=(2, 3, 4),
        heads=2,
        head_dim=8,
        text_tokens=5,
        timesteps=np.array([999.0, 600.0, 300.0, 1.0]),
        raw_similarity={"Q": -rng.random(sites)},
        similarity={"Q": rng.random(sites)},
        kl={"Q/kept||all": np.where(rng.random(sites) > 0.5, np.nan, 1.0)},
        norm_tail={"Q": np.full(sites, 1.5)},
        persistence={"Q/1": np.full(sites, np.nan)},
        rates=np.array([0.0, 0.3, 0.8]),
        q_error={("2x2x2", 2): curve},
        v_error={("2x2x2", 2): curve * 2},
        diagnostics={"recomputed_rows": 1e-9},
        agreement={"Q": Agreement(0.9, 0.8, 1.0)},
        memory_error={"2x2x2": np.stack([0 * later, later, np.where(later > 2, np.inf, later)], axis=-1)},
        broadcast_error={"2x2x2": later},
        noise_levels=np.array([1.0, 0.8, 0.5, 0.2, 0.0]),
        latency=LatencyModel(SiteLatency((surface, replace(surface, heads=4)), (0, 1), calls=2), 4, step_seconds=5.0),
    )


def test_a_profile_survives_the_disk(tmp_path: Path) -> None:
    profile = example()
    profile.save(tmp_path / "deep" / "p.safetensors")
    found = Profile.load(tmp_path / "deep" / "p.safetensors")
    for name, value in vars(profile).items():
        if isinstance(value, dict) and name not in ("workload", "diagnostics", "agreement"):
            assert value.keys() == getattr(found, name).keys()
            for key, array in value.items():
                np.testing.assert_array_equal(array, getattr(found, name)[key])
        elif isinstance(value, np.ndarray):
            np.testing.assert_array_equal(value, getattr(found, name))
        else:
            assert value == getattr(found, name)
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["p.safetensors"]


def test_a_profile_without_a_latency_surface_is_fine(tmp_path: Path) -> None:
    replace(example(), latency=None).save(tmp_path / "p.safetensors")
    assert Profile.load(tmp_path / "p.safetensors").latency is None


def test_a_profile_of_an_earlier_release_has_the_levels_of_flow_matching(tmp_path: Path) -> None:
    replace(example(), noise_levels=None).save(tmp_path / "p.safetensors")
    np.testing.assert_allclose(Profile.load(tmp_path / "p.safetensors").levels, [0.999, 0.6, 0.3, 0.001, 0])


def rewrite(path: Path, latency: object) -> None:
    """Keep another latency in a profile's file."""
    with safe_open(path, framework="numpy") as file:
        metadata, arrays = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    content = {**json.loads(metadata["profile"]), "latency": latency}
    save_file(arrays, path, metadata={**metadata, "profile": json.dumps(content)})


@pytest.mark.parametrize(
    "change",
    [
        *({"sites": s} for s in ({"surface_of": [0]}, {"surface_of": [0, 2]}, {"calls": 0}, {"surfaces": [{}]})),
        *({"sites": {"calls": None}}, {"steps": 3}, {"step_seconds": 1.0}, {"coefficients": None}),
    ],
)
def test_a_latency_that_does_not_fit_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    profile, path = example(), tmp_path / "p.safetensors"
    assert profile.latency is not None
    profile.save(path)
    values = profile.latency.to_dict()
    sites = change.get("sites", {})
    assert isinstance(sites, dict)
    rewrite(path, {**values, **change, "sites": {**values["sites"], **sites}})
    with pytest.raises(UsageError, match="measure it again"):
        Profile.load(path)


def test_damaged_files_end_in_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "p.safetensors"
    example().save(path)
    whole = path.read_bytes()
    for damaged in (b"", whole[:100], whole[:-7], b"{}" + whole):
        path.write_bytes(damaged)
        with pytest.raises(UsageError, match="damaged"):
            Profile.load(path)
    save_file({"rates": np.zeros(1)}, path, metadata={"version": "1", "profile": json.dumps({"model": "m"})})
    with pytest.raises(UsageError, match="damaged"):
        Profile.load(path)
    save_file({"rates": np.zeros(1)}, path, metadata={"version": "99"})
    with pytest.raises(UsageError, match="version"):
        Profile.load(path)
    with pytest.raises(UsageError, match="no profile"):
        Profile.load(tmp_path / "other.safetensors")


@pytest.mark.parametrize(
    "changes",
    [
        {"rates": np.array([0.0, 0.8, 0.3])},
        {"rates": np.array([0.0, 0.3])},
        {"similarity": {"Q": np.zeros((2, 5))}},
        {"similarity": {"Q": np.full((2, 4), np.nan)}},
        {"q_error": {("2x2x2", 2): np.full((2, 4, 3), -1.0)}},
        {"v_error": {}},
        {"memory_error": {"2x2x2": np.full((2, 4, 2, 3), -1.0)}},
        {"memory_error": {"2x2x2": np.zeros((2, 3, 2, 3))}},
        {"memory_error": {"2x2x2": np.zeros((2, 4, 2, 4))}},
        {"memory_error": {"2x2x2": np.zeros((2, 4, 2))}},
        {"broadcast_error": {"2x2x2": np.zeros((2, 4))}},
        {"broadcast_error": {"2x2x2": np.full((2, 4, 2), -1.0)}},
        {"broadcast_error": {}},
        {"noise_levels": np.linspace(1, 0, 4)},
        {"noise_levels": np.array([1.2, 0.8, 0.5, 0.2, 0.0])},
    ],
)
def test_numbers_that_make_no_sense_are_refused(tmp_path: Path, changes: dict[str, object]) -> None:
    replace(example(), **changes).save(tmp_path / "p.safetensors")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="damaged"):
        Profile.load(tmp_path / "p.safetensors")


def test_an_unwritable_place_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot be written"):
        example().save(tmp_path / "file" / "p.safetensors")

"""LPIPS: frame means, names that say what the backbone is, and local weights in torchvision's layout."""

from __future__ import annotations

from pathlib import Path

import lpips
import pytest
import torch
from torchvision import models

from tuner.errors import UsageError
from tuner.quality.lpips import Lpips


@pytest.fixture
def video() -> torch.Tensor:
    return torch.rand(3, 3, 64, 80, generator=torch.Generator().manual_seed(0))


def test_a_random_backbone_is_called_random(video: torch.Tensor, capsys: pytest.CaptureFixture[str]) -> None:
    metric = Lpips()
    assert metric.name == "lpips-random-alex"
    assert metric(video, video) == pytest.approx(0, abs=1e-6)
    small, large = (metric((video + shift * torch.randn_like(video)).clamp(0, 1), video) for shift in (0.02, 0.3))
    assert 0 < small < large
    assert capsys.readouterr().out == ""


def test_the_random_backbone_is_the_same_every_time(video: torch.Tensor) -> None:
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    first = Lpips()(video, video.flip(3))
    assert torch.rand(1) == expected  # the caller's random state is left alone
    torch.manual_seed(2)
    assert Lpips()(video, video.flip(3)) == pytest.approx(first, rel=1e-5)


@pytest.mark.parametrize(("backbone", "build"), [("alex", models.alexnet), ("squeeze", models.squeezenet1_1)])
def test_local_weights_are_used(backbone: str, build, video: torch.Tensor, tmp_path: Path, monkeypatch) -> None:
    """Against the package itself, which is given the same backbone in place of its download."""
    torch.manual_seed(3)
    network = build()
    torch.save(network.state_dict(), tmp_path / "backbone.pth")
    metric = Lpips(backbone, tmp_path / "backbone.pth")
    assert metric.name == f"lpips-{backbone}"
    random = Lpips(backbone)(video, video.flip(3))
    monkeypatch.setattr(lpips.pretrained_networks.tv, build.__name__, lambda pretrained: network)
    package = lpips.LPIPS(net=backbone, verbose=False)
    with torch.inference_mode():
        frames = [float(package(a[None] * 2 - 1, b[None] * 2 - 1)) for a, b in zip(video, video.flip(3), strict=True)]
    assert metric(video, video.flip(3)) == pytest.approx(sum(frames) / 3, rel=1e-5)
    assert metric(video, video.flip(3)) != pytest.approx(random, rel=1e-3)


@pytest.mark.parametrize("backbone", ["alex", "vgg", "squeeze"])
def test_the_smallest_frames(backbone: str) -> None:
    frame = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert Lpips(backbone)(frame, 1 - frame) > 0


def test_wrong_weights_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        Lpips("alex", tmp_path / "missing.pth")
    path = tmp_path / "weights.pth"
    path.write_bytes(b"not a state dict")
    with pytest.raises(UsageError, match="cannot be read"):
        Lpips("alex", path)
    for content in ({"features.0.weight": torch.zeros(3)}, [1, 2], models.squeezenet1_1().state_dict()):
        torch.save(content, path)
        with pytest.raises(UsageError, match="backbone alex"):
            Lpips("alex", path)


def test_wrong_backbones_and_frames_are_refused() -> None:
    with pytest.raises(UsageError, match="alex, vgg, squeeze"):
        Lpips("resnet")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="32 pixels"):
        Lpips()(torch.zeros(2, 3, 16, 32), torch.zeros(2, 3, 16, 32))

"""LPIPS (Zhang et al. 2018): distance of deep features, frame by frame; the paper's Table 1 reports it.

The published linear weights come with the lpips package; the backbone's ImageNet weights do not, and nothing is
downloaded here. Without a file of them the backbone is random and the metric says so in its name: random features also
order distortions, but their values cannot be compared with published ones.
"""

from __future__ import annotations

import warnings
from collections import OrderedDict
from pathlib import Path
from typing import Literal, get_args

import lpips
import torch

from tuner.errors import UsageError

Backbone = Literal["alex", "vgg", "squeeze"]

SEED = 0
SMALLEST_SIDE = 32  # pixels; smaller frames vanish in the backbones' strides
BATCH = 8  # frames at a time


class Lpips:
    """One LPIPS network.

    Attributes:
        name: what its values must be called: "lpips-alex", or "lpips-random-alex" with a random backbone.
    """

    def __init__(self, backbone: Backbone = "alex", weights: Path | None = None) -> None:
        """
        Args:
            backbone: alex (the usual choice), vgg or squeeze.
            weights: torchvision's state dict of that backbone (alexnet, vgg16, squeezenet1_1); random when None.

        Raises:
            UsageError: there is no such backbone, or the file does not hold its weights.
        """
        if backbone not in get_args(Backbone):
            raise UsageError(f"The LPIPS backbone is '{backbone}'; choose one of {', '.join(get_args(Backbone))}.")
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # the package asks torchvision in an old way
            torch.manual_seed(SEED)
            self._network = lpips.LPIPS(net=backbone, pnet_rand=True, verbose=False)
        self.name = f"lpips-random-{backbone}" if weights is None else f"lpips-{backbone}"
        if weights is not None:
            self._load_backbone(backbone, weights)

    def _load_backbone(self, backbone: str, path: Path) -> None:
        """Put torchvision's `features.N.*` into the slices of the network, which keep the layers' numbers."""
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # torch raises whatever the damaged bytes provoke
            reason = error.strerror if isinstance(error, OSError) else f"it is no state dict ({type(error).__name__})"
            raise UsageError(f"The LPIPS weights {path} cannot be read: {reason}.") from None
        wanted = self._network.net.state_dict()
        try:
            given = OrderedDict((name, state["features." + name.partition(".")[2]]) for name in wanted)
            self._network.net.load_state_dict(given)
        except (KeyError, TypeError, IndexError, AttributeError, RuntimeError):
            raise UsageError(f"{path} does not hold torchvision's weights of the backbone {backbone}.") from None

    @torch.inference_mode()
    def __call__(self, video: torch.Tensor, reference: torch.Tensor) -> float:
        """Mean over frames.

        Args:
            video, reference: (frames, 3, height, width) in [0, 1], of equal shape.

        Raises:
            UsageError: the frames are too small for the backbone.
        """
        if min(video.shape[-2:]) < SMALLEST_SIDE:
            raise UsageError(
                f"LPIPS needs frames of at least {SMALLEST_SIDE} pixels a side, not {tuple(video.shape[-2:])}."
            )
        pairs = zip(video.float().split(BATCH), reference.float().split(BATCH), strict=True)
        values = [self._network(a, b, normalize=True).flatten() for a, b in pairs]
        return float(torch.cat(values).mean())

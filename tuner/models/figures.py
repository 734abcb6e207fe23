"""What is known of the hub's models without their weights: how large they are, and how long the paper took."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Figures:
    """Of one model.

    Attributes:
        denoiser: 10^9 parameters, counted from its class with the released configuration.
        text: 10^9 parameters of what reads prompts and pictures: T5-XXL, umT5-XXL for Wan, with CLIP-H where it starts
            from a picture, Llama 3 with CLIP-L for HunyuanVideo.
        heads: of the attention.
        seconds: of one unaccelerated generation in the paper (tables 1 and 2); None where it is not in there.
        card: that they were measured on, by its name in `tuner.forecast.CARDS`.
        passes: of the denoiser in a step; 2 where guidance runs its branches one after the other.
        calls: attention calls of a block in a step, each with a part of the batch; Mochi makes one for every item.
    """

    denoiser: float
    text: float
    heads: int
    seconds: float | None = None
    card: str | None = None
    passes: int = 1
    calls: int = 1


FIGURES = {
    "cogvideox-2b": Figures(1.694, 4.762, 30, 137.3, "a100"),
    "cogvideox-5b": Figures(5.570, 4.762, 48, 347.5, "a100"),
    "mochi": Figures(10.028, 4.762, 24, 201.85, "h100", calls=2),
    "hunyuanvideo": Figures(12.821, 7.628, 24, 912.98, "h100"),
    "fastvideo-hunyuan": Figures(12.821, 7.628, 24, 158.66, "h100"),
    "wan-1.3b": Figures(1.419, 5.681, 12, passes=2, calls=2),
    "wan-14b-i2v": Figures(16.395, 6.312, 40, passes=2, calls=2),
    "ltx-video": Figures(1.923, 4.762, 32),
}

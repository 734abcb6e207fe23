"""What one generation of a model consists of, as far as its operations are concerned: the paper's five, and others."""

from __future__ import annotations

from dataclasses import dataclass

from asymrnr.partition import Grid
from tuner.errors import UsageError


@dataclass(frozen=True)
class Block:
    """Multiply-adds that the linear layers of one transformer block spend on every token.

    Modulation layers see one vector per video and are left out, as are normalisations and activations.

    Attributes:
        video_attention: projections inside the attention layer; symmetric reduction (H) shortens their input.
        video_rest: the other layers of a video token.
        text: all layers of a text token.
    """

    video_attention: int
    video_rest: int
    text: int


@dataclass(frozen=True)
class Architecture:
    """One model at the paper's workload, or at the registry's for the models that are not in the paper.

    Attributes:
        grid: (frames, height, width) of the video tokens.
        text_tokens: text tokens that run through the blocks.
        attended_text: text tokens that enter the attention, averaged over the guidance branches.
        width: channels of the attention, all heads together.
        blocks: in the order of the rate tables' rows.
        steps: denoising steps.
        cfg_batches: passes per step; 2 with classifier-free guidance.
        stride: the paper's (t, h, w) partition stride; elsewhere the first of the search space.
        cache_step: the paper's number of steps that share a matching; elsewhere the first of the search space.
        tiers: number of bins of the published similarity table; None where none was published.
        crossed_text: text tokens that every video token attends to in a cross-attention of its own.
    """

    grid: Grid
    text_tokens: int
    attended_text: int
    width: int
    blocks: tuple[Block, ...]
    steps: int
    cfg_batches: int
    stride: Grid
    cache_step: int
    tiers: int | None = None
    crossed_text: int = 0


def cogvideox_blocks(width: int, layers: int) -> tuple[Block, ...]:
    """Text and video share all layers: 4 projections of width x width and a feed-forward of 4 x width."""
    square = width * width
    return layers * (Block(video_attention=4 * square, video_rest=8 * square, text=12 * square),)


def hunyuan_blocks(width: int, dual: int, single: int, mlp_ratio: int = 4) -> tuple[Block, ...]:
    """Dual-stream blocks with separate weights of equal size, then single-stream blocks.

    The attention layer of a single-stream block has no output projection: the block projects it with the MLP.

    Args:
        width: channels.
        dual, single: numbers of blocks.
        mlp_ratio: inner channels of the MLP for one of the width.
    """
    square, mlp = width * width, 2 * mlp_ratio * width * width
    dual_block = Block(video_attention=4 * square, video_rest=mlp, text=4 * square + mlp)
    return dual * (dual_block,) + single * (Block(3 * square, square + mlp, 4 * square + mlp),)


def mochi_blocks(width: int, text_width: int, layers: int) -> tuple[Block, ...]:
    """Text runs through narrower layers and ends before the output projection of the last block."""

    def feed_forward(channels: int) -> int:
        return 3 * channels * (4 * channels * 2 // 3)  # SwiGLU: two matrices in, one out

    video = {"video_attention": 4 * width * width, "video_rest": feed_forward(width)}
    inner = Block(**video, text=4 * text_width * width + feed_forward(text_width))
    return (layers - 1) * (inner,) + (Block(**video, text=3 * text_width * width),)


def crossed_blocks(width: int, feed_forward: int, layers: int) -> tuple[Block, ...]:
    """Text enters by a cross-attention (Wan, LTX-Video), whose keys and values are of the text.

    Args:
        width: channels.
        feed_forward: inner channels of the feed-forward.
        layers: blocks.
    """
    square = width * width
    return layers * (Block(4 * square, 2 * square + 2 * width * feed_forward, text=2 * square),)


ARCHITECTURES: dict[str, Architecture] = {
    "cogvideox-2b": Architecture(
        grid=(13, 30, 45),
        text_tokens=226,
        attended_text=226,
        width=1920,
        blocks=cogvideox_blocks(1920, 30),
        steps=50,
        cfg_batches=2,
        stride=(2, 2, 2),
        cache_step=5,
        tiers=10,
    ),
    "cogvideox-5b": Architecture(
        grid=(13, 30, 45),
        text_tokens=226,
        attended_text=226,
        width=3072,
        blocks=cogvideox_blocks(3072, 42),
        steps=50,
        cfg_batches=2,
        stride=(2, 2, 2),
        cache_step=5,
        tiers=10,
    ),
    # Mochi attends to valid text only, and the paper does not say how long its prompts are: 64 is chosen to fit its
    # baseline. Any mean length from 1 to 128 keeps all rows within 0.4 % (docs/flops.md).
    "mochi": Architecture(
        grid=(15, 30, 53),
        text_tokens=256,
        attended_text=64,
        width=3072,
        blocks=mochi_blocks(3072, 1536, 48),
        steps=30,
        cfg_batches=2,
        stride=(6, 2, 2),
        cache_step=3,
        tiers=20,
    ),
    "hunyuanvideo": Architecture(
        grid=(33, 34, 60),
        text_tokens=256,
        attended_text=256,
        width=3072,
        blocks=hunyuan_blocks(3072, 20, 40),
        steps=30,
        cfg_batches=1,
        stride=(6, 2, 2),
        cache_step=3,
        tiers=10,
    ),
    "fastvideo-hunyuan": Architecture(
        grid=(17, 45, 80),
        text_tokens=256,
        attended_text=256,
        width=3072,
        blocks=hunyuan_blocks(3072, 20, 40),
        steps=6,
        cfg_batches=1,
        stride=(6, 2, 2),
        cache_step=1,
        tiers=10,
    ),
    "tiny-cogvideox": Architecture(
        grid=(12, 16, 16),
        text_tokens=16,
        attended_text=16,
        width=128,
        blocks=cogvideox_blocks(128, 8),
        steps=30,
        cfg_batches=1,
        stride=(2, 2, 2),
        cache_step=3,
    ),
    "tiny-wan": Architecture(
        grid=(12, 16, 16),
        text_tokens=16,
        attended_text=0,
        width=128,
        blocks=crossed_blocks(128, 512, 8),
        steps=20,
        cfg_batches=2,
        stride=(2, 2, 2),
        cache_step=3,
        crossed_text=16,
    ),
    "tiny-mochi": Architecture(
        grid=(12, 16, 16),
        text_tokens=16,
        attended_text=7,  # eleven words and an end with the caption, the end alone without; 6.5 in the mean
        width=128,
        blocks=mochi_blocks(128, 64, 8),
        steps=20,
        cfg_batches=2,
        stride=(2, 2, 2),
        cache_step=3,
    ),
    "tiny-hunyuanvideo": Architecture(
        grid=(12, 16, 16),
        text_tokens=24,
        attended_text=24,
        width=128,
        blocks=hunyuan_blocks(128, 5, 3, mlp_ratio=3),
        steps=20,
        cfg_batches=2,
        stride=(2, 2, 2),
        cache_step=3,
    ),
    "tiny-hunyuanvideo-scenes": Architecture(
        grid=(12, 16, 16),
        text_tokens=32,
        attended_text=32,
        width=128,
        blocks=hunyuan_blocks(128, 5, 3, mlp_ratio=3),
        steps=16,
        cfg_batches=2,
        stride=(2, 2, 2),
        cache_step=3,
    ),
    "wan-1.3b": Architecture(
        grid=(21, 30, 52),
        text_tokens=512,
        attended_text=0,
        width=1536,
        blocks=crossed_blocks(1536, 8960, 30),
        steps=50,
        cfg_batches=2,
        stride=(6, 2, 2),
        cache_step=2,
        crossed_text=512,
    ),
    "wan-14b-i2v": Architecture(
        grid=(21, 30, 52),
        text_tokens=512,
        attended_text=0,
        width=5120,
        blocks=crossed_blocks(5120, 13824, 40),
        steps=50,
        cfg_batches=2,
        stride=(6, 2, 2),
        cache_step=2,
        crossed_text=512,
    ),
    "ltx-video": Architecture(
        grid=(21, 16, 22),
        text_tokens=128,
        attended_text=0,
        width=2048,
        blocks=crossed_blocks(2048, 4 * 2048, 28),
        steps=50,
        cfg_batches=2,
        stride=(2, 2, 2),
        cache_step=2,
        crossed_text=128,
    ),
}


def find_architecture(model: str) -> Architecture:
    """The architecture of a model.

    Raises:
        UsageError: its operations cannot be counted; the message says why, or lists those that can.
    """
    if model == "animatediff":
        raise UsageError(
            "Operations of animatediff are not counted: its U-Net spends many of them in convolutions and motion "
            "modules, which these formulas leave out."
        )
    if model not in ARCHITECTURES:
        raise UsageError(f"Operations can be counted for {', '.join(ARCHITECTURES)}, but not for '{model}'.")
    return ARCHITECTURES[model]

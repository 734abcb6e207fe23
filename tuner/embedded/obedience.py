"""How far a model goes by its caption: whether training teaches what it is meant to, long before videos show it."""

from __future__ import annotations

import torch

from tuner.embedded.denoiser import Denoiser

LEVEL = 0.8  # of the noise, where what is shown is not to be seen yet
COUNT = 16
SEED = 40_000  # far from every seed used in training


@torch.no_grad()
def obedience(model: Denoiser, latents: int, count: int = COUNT) -> dict[str, float]:
    """Attribute to how many times larger errors are when the caption says another one; 1 where it is not looked at.

    Args:
        model: as far as it is trained.
        latents: of each video to look at, spread over its length; the last one among them.
        count: videos.
    """
    generator = torch.Generator().manual_seed(SEED)
    scenes = model.world.sample(count, generator, True)
    which = [round((i + 1) * model.world.frames / latents) - 1 for i in range(latents)]
    clean = model.render(scenes, which, generator)
    noise = torch.randn(clean.shape, generator=generator)
    level = torch.full((count,), LEVEL)

    def error(attribute: str | None) -> float:
        said = scenes if attribute is None else [model.world.changed(scene, attribute) for scene in scenes]
        captions = [scene.caption for scene in said]
        return float(model.errors(clean, noise, level, captions, which).mean())

    right = error(None)
    return {attribute: error(attribute) / right for attribute in model.world.bars}

"""The embedded models that can be trained, by name."""

from __future__ import annotations

from tuner.embedded.cogvideox import CogVideoX
from tuner.embedded.denoiser import Denoiser
from tuner.embedded.hunyuanvideo import HunyuanVideo, HunyuanVideoScenes
from tuner.embedded.mochi import Mochi, MochiScenes
from tuner.embedded.wan import Wan

MODELS: dict[str, type[Denoiser]] = {
    model.name: model for model in (CogVideoX, HunyuanVideo, HunyuanVideoScenes, Mochi, MochiScenes, Wan)
}

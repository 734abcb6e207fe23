"""Pipelines whose guidance is a part of theirs (a guider), where others take a scale with every call."""

from __future__ import annotations

from diffusers import DiffusionPipeline


def set_guidance(pipe: DiffusionPipeline, scale: float) -> None:
    """Let a pipeline's guider, where it has one, use a scale; others are given theirs with every call."""
    guider = getattr(pipe, "guider", None)
    if guider is not None and hasattr(guider, "guidance_scale"):
        guider.guidance_scale = scale

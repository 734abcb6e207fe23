"""The attention backend of a pipeline's denoisers, as diffusers dispatches it."""

from __future__ import annotations

from diffusers import DiffusionPipeline, ModelMixin
from diffusers.models.attention_dispatch import attention_backend
from diffusers.utils.constants import DIFFUSERS_ATTN_BACKEND

from tuner.errors import UsageError

_CHOICE = "_attention_backend"


def denoisers(pipe: DiffusionPipeline) -> list[ModelMixin]:
    """The models a pipeline denoises with: transformers or a U-Net, in the order they are used in."""
    parts = (getattr(pipe, name, None) for name in ("transformer", "transformer_2", "unet"))
    return [part for part in parts if isinstance(part, ModelMixin)]


def use_attention_backend(pipe: DiffusionPipeline, backend: str) -> None:
    """Let the denoisers of this pipeline, and nothing else, compute attention with a backend.

    Args:
        pipe: the pipeline.
        backend: a name that `set_attention_backend` of diffusers takes, such as "flash" or "sage".

    Raises:
        UsageError: there is no such backend, its package is missing, or the denoiser does not dispatch.
    """
    for model in denoisers(pipe):
        if not _choosers(model):
            raise UsageError(
                f"{type(model).__name__} calls torch's attention directly, so that no other backend can be chosen; "
                "leave --attention-backend out."
            )
        try:
            with attention_backend(DIFFUSERS_ATTN_BACKEND):  # set_attention_backend leaves its choice to all models
                model.set_attention_backend(backend)
        except (ValueError, RuntimeError, ImportError) as error:
            raise UsageError(f"The attention backend '{backend}' cannot be used here: {error}") from error


def attention_backend_of(pipe: DiffusionPipeline) -> str:
    """Name of the backend the denoisers compute attention with; "native" is torch's own."""
    chosen = {getattr(p, _CHOICE) for model in denoisers(pipe) for p in _choosers(model)}
    names = {DIFFUSERS_ATTN_BACKEND if choice is None else getattr(choice, "value", choice) for choice in chosen}
    return ", ".join(sorted(names)) or "native"


def _choosers(model: ModelMixin) -> list[object]:
    """The attention processors of a model that go through diffusers' dispatch."""
    processors = (getattr(module, "processor", None) for module in model.modules())
    return [processor for processor in processors if hasattr(processor, _CHOICE)]

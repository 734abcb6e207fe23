"""The models the tuner knows: where their weights come from, what they are asked to generate, on which prompts."""

from tuner.models.backend import attention_backend_of, denoisers
from tuner.models.entry import ModelEntry, VideoSizes, Workload
from tuner.models.loading import LoadOptions, Offload, load_pipeline
from tuner.models.registry import REGISTRY, find_model
from tuner.models.weights import HubWeights, PackagedWeights, weights_identity, weights_status
from tuner.models.workload import WorkloadOptions

__all__ = [
    "REGISTRY",
    "HubWeights",
    "LoadOptions",
    "ModelEntry",
    "Offload",
    "PackagedWeights",
    "VideoSizes",
    "Workload",
    "WorkloadOptions",
    "attention_backend_of",
    "denoisers",
    "find_model",
    "load_pipeline",
    "weights_identity",
    "weights_status",
]

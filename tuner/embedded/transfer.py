"""Transfer learning: a model starts with the weights of one that was trained on another world."""

from __future__ import annotations

import torch
from diffusers import DiffusionPipeline

from tuner.embedded.denoiser import Denoiser

TOKENIZERS = {"transformer": None, "text_encoder": "tokenizer", "text_encoder_2": "tokenizer_2"}


@torch.no_grad()
def start_from(model: Denoiser, pipe: DiffusionPipeline) -> None:
    """Take over everything that was learned; words that were not known keep their random numbers.

    Args:
        model: of the same architecture.
        pipe: of the trained model.

    Raises:
        KeyError: the trained model lacks one of the parameters.
        RuntimeError: one of them has another shape.
    """
    for name, tokenizer in TOKENIZERS.items():
        if not hasattr(model, name):
            continue
        own, trained, words = getattr(model, name), getattr(pipe, name), None
        if tokenizer is not None:
            words, learned = own.get_input_embeddings().weight, trained.get_input_embeddings().weight
            ids, known_ids = (getattr(of, tokenizer).get_vocab() for of in (model, pipe))
            for word in ids.keys() & known_ids.keys():
                words[ids[word]] = learned[known_ids[word]]
        known = dict(trained.named_parameters())
        for key, parameter in own.named_parameters():
            if parameter is not words:
                parameter.copy_(known[key])

"""Tokenizers over a world's words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

PAD, END, UNKNOWN = "<pad>", "</s>", "<unk>"
TEXT_WIDTH = 64
# One layer: the captions are short and of one form.
T5_SIZES: dict[str, Any] = {
    "d_model": TEXT_WIDTH,
    "d_kv": 16,
    "d_ff": 2 * TEXT_WIDTH,
    "num_layers": 1,
    "num_heads": 4,
    "dropout_rate": 0.0,
    "pad_token_id": 0,
    "eos_token_id": 1,
}


def build_tokenizer(words: Sequence[str], length: int) -> PreTrainedTokenizerFast:
    """A word-level tokenizer; a caption ends with `END`.

    Args:
        words: of all captions.
        length: tokens that a caption may have.
    """
    ids = {word: index for index, word in enumerate([PAD, END, UNKNOWN, *words])}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single=f"$A {END}", special_tokens=[(END, 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=PAD, eos_token=END, unk_token=UNKNOWN, model_max_length=length
    )


def tokens_of(
    tokenizer: PreTrainedTokenizerFast, captions: list[str], length: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """(batch, length) ids and mask of captions, padded at their ends."""
    found = tokenizer(captions, padding="max_length", max_length=length, truncation=True, return_tensors="pt")
    return found.input_ids.to(device), found.attention_mask.to(device)

"""A transformer of full size with random weights, behind a small text encoder and decoder, saved as a whole pipeline.

    python benchmarks/random_pipeline.py --output runs/random-cogvideox-2b
    asymrnr-tune --model cogvideox-2b --weights runs/random-cogvideox-2b --device cuda --steps 10 --target-speedup 1.2

A real run on it takes the time and memory of the real model, all but its text encoder's and decoder's; of quality
nothing follows. `--small` keeps the shapes of nothing but the pipeline, to see that it runs.
"""

from __future__ import annotations

import argparse
import string
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import DiffusionPipeline
from torch import nn
from transformers import T5Config, T5EncoderModel, T5Tokenizer

MODEL = "cogvideox-2b"
TEXT_TOKENS, TEXT_WIDTH, CHANNELS = 226, 4096, 16
SMALL: dict[str, Any] = {"num_attention_heads": 2, "attention_head_dim": 16, "num_layers": 3, "time_embed_dim": 8}
AWAKE = 0.02  # standard deviation in place of gates and outputs that begin as zeros


def cogvideox(small: bool) -> DiffusionPipeline:
    """As CogVideoX-2B, whose configuration is the class's default."""
    special = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    pieces = [(character, -3.0) for character in string.ascii_letters + string.digits + string.punctuation]
    tokenizer = T5Tokenizer(
        vocab=special + pieces, extra_ids=0, additional_special_tokens=[], model_max_length=TEXT_TOKENS
    )
    encoder = T5EncoderModel(T5Config(vocab_size=128, d_model=TEXT_WIDTH, d_kv=64, d_ff=64, num_layers=1, num_heads=2))
    transformer = diffusers.CogVideoXTransformer3DModel(**(SMALL if small else {}))
    vae = diffusers.AutoencoderKLCogVideoX(
        latent_channels=CHANNELS, block_out_channels=(8, 8, 8, 8), layers_per_block=1, norm_num_groups=2
    )
    return diffusers.CogVideoXPipeline(tokenizer, encoder, vae, transformer, diffusers.CogVideoXDDIMScheduler())


def wake(model: nn.Module) -> None:
    """Zero-initialised gates and outputs would hide the attention."""
    with torch.no_grad():
        for parameter in model.parameters():
            if not parameter.any():
                parameter.normal_(std=AWAKE)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path(f"runs/random-{MODEL}"))
    parser.add_argument("--small", action="store_true", help="a small transformer, too")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="to draw weights on")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    with torch.device(arguments.device):
        pipe = cogvideox(arguments.small)
    for part in pipe.components.values():
        if isinstance(part, nn.Module):
            wake(part)
    pipe.to("cpu", torch.float16).save_pretrained(arguments.output)
    print(f"{sum(p.numel() for p in pipe.transformer.parameters()) / 1e9:.2f} billion weights in {arguments.output}")


if __name__ == "__main__":
    main()

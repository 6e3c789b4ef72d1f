"""Real sentences as images of one line each, and the way back from the recognizer's answers to text.

The sentences are chat messages; they are drawn with the font that Pillow brings along, in sizes,
places, contrasts and noise that the sentence's own number decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from examples.minilm.data import chat
from examples.minilm.packages import packaged
from headrace.tensors import Array

HEIGHT = 48  # pixels, as the recognizer wants it
LEAST_WIDTH = 320  # shorter lines are padded, as rapidocr does
WIDTH_STEP = 32  # widths are multiples, so that lines of like length can share a batch
SHORTEST, LONGEST = 5, 40  # characters of a sentence
TEST, CALIBRATION, EXAMPLES = 200, 64, 8  # sentences

_MESSAGES = 20_000  # the first of all: enough for the splits
_MARGIN = 6  # pixels around the text, on average
_NOISE = 6.0  # standard deviation, of 255


def graph() -> Path:
    """The recognizer as its package brings it."""
    return packaged("rapidocr_onnxruntime", "models", "ch_PP-OCRv4_rec_infer.onnx")


@cache
def characters() -> tuple[str, ...]:
    """What each of the recognizer's classes stands for; the first is CTC's blank."""
    import onnx

    metadata = {entry.key: entry.value for entry in onnx.load(graph()).metadata_props}
    return ("", *metadata["character"].split("\n"), " ")


def test() -> list[tuple[str, Array]]:
    """Sentences to judge with, each with its image (3, HEIGHT, width)."""
    return _drawn(0, TEST)


def calibration() -> list[tuple[str, Array]]:
    """Other sentences, to calibrate with."""
    return _drawn(TEST, CALIBRATION)


def examples() -> list[tuple[str, Array]]:
    """Other sentences again, to measure speed with."""
    return _drawn(TEST + CALIBRATION, EXAMPLES)


@cache
def sentences() -> list[str]:
    """Messages that the recognizer could read to the letter, each once, in a fixed random order."""
    known = set(characters())
    found = {
        text: None
        for text in map(str.strip, chat(_MESSAGES))
        if text.isascii() and SHORTEST <= len(text) <= LONGEST and "  " not in text and set(text) <= known
    }
    unique = list(found)
    return [unique[i] for i in np.random.default_rng(0).permutation(len(unique))]


def draw(text: str, seed: int) -> Array:
    """A dark line of text on a light, noisy ground: (height, width, 3) uint8, BGR."""
    random = np.random.default_rng(seed)
    font = ImageFont.load_default(size=int(random.integers(26, 40)))
    left, top, right, bottom = (int(edge) for edge in font.getbbox(text))
    before, above, after, below = (int(edge) for edge in random.integers(_MARGIN - 3, _MARGIN + 4, 4))
    size = (right - left + before + after, bottom - top + above + below)
    page = Image.new("L", size, int(random.integers(200, 250)))
    ink = int(random.integers(0, 90))
    ImageDraw.Draw(page).text((before - left, above - top), text, fill=ink, font=font)
    noisy = np.asarray(page) + random.normal(0, _NOISE, (size[1], size[0]))
    return np.repeat(noisy.clip(0, 255).astype(np.uint8)[:, :, None], 3, axis=2)


def normalized(image: Array) -> Array:
    """(3, HEIGHT, width) FP32 from -1 to 1, out of an image in any size."""
    height, width = image.shape[:2]
    resized = Image.fromarray(image).resize(
        (int(np.ceil(width * HEIGHT / height)), HEIGHT), Image.Resampling.BILINEAR
    )
    scaled: Array = np.asarray(resized, np.float32).transpose(2, 0, 1) / 127.5 - 1
    return scaled


def stack(images: Sequence[Array]) -> Array:
    """(images, 3, HEIGHT, width) with zeros right of each image."""
    widest = max(LEAST_WIDTH, *(image.shape[2] for image in images))
    batch = np.zeros((len(images), 3, HEIGHT, -(-widest // WIDTH_STEP) * WIDTH_STEP), np.float32)
    for row, image in zip(batch, images, strict=True):
        row[:, :, : image.shape[2]] = image
    return batch


def read(probabilities: Array) -> list[str]:
    """Texts out of (rows, steps, classes): the best class of each step, repeats once, no blanks; stripped."""
    best = probabilities.argmax(axis=2)
    changed = np.diff(best, axis=1, prepend=0) != 0
    return [
        "".join(characters()[k] for k in row[new]).strip() for row, new in zip(best, changed, strict=True)
    ]


def _drawn(first: int, count: int) -> list[tuple[str, Array]]:
    chosen = range(first, first + count)
    return [(sentences()[number], normalized(draw(sentences()[number], number))) for number in chosen]

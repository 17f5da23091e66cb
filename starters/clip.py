"""Make starters/clip: a small CLIP that was trained to match images of printed letters and digits with captions.

    python -m starters.clip --out starters/clip

Images and captions are made on the fly: an image holds one glyph of the fonts that matplotlib ships, bent and painted
as in starters/glyphs.py; its caption is a sentence that names the glyph, sometimes with its colour or its case. They
hold no photographs and no handwriting, which are left to fine-tuning. open_clip loads the folder as
"local-dir:starters/clip". With one thread and fixed seeds the same command gives the same bytes on one machine.

The training is contrastive (Radford et al. 2021, "Learning Transferable Visual Models From Natural Language
Supervision").
"""

import argparse
import colorsys
import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.random import Generator
from open_clip import SimpleTokenizer
from open_clip.model import CLIP
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from platform.data.embedded import ink
from platform.training import schedules
from starters import glyphs

SIZE = 64  # pixels a side
LONGER = (20, 50)  # range of a glyph's longer side in pixels
BATCH = 128
WARM_UP = 80  # batches of captions only
PEAK_LR = 3e-3
MAX_SCALE = math.log(100)  # of the logits, as in the paper
CONTEXT = 32  # tokens of a caption
MODEL = {
    "embed_dim": 128,
    "vision_cfg": {"layers": [1, 1, 1, 1], "width": 20, "head_width": 64, "image_size": SIZE},
    "text_cfg": {"context_length": CONTEXT, "vocab_size": 49408, "width": 32, "heads": 4, "layers": 2},
}
PREPROCESS = {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}

HUES = {15: "red", 45: "orange", 70: "yellow", 165: "green", 260: "blue", 295: "purple", 340: "pink", 360: "red"}
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
TEMPLATES = (
    "{}",
    "a {}",
    "the {}.",
    "a photo of a {}.",
    "a photo of the {}.",
    "a photo of one {}.",
    "a picture of a {}.",
    "an image of a {}.",
    "a drawing of a {}.",
    "a close-up photo of a {}.",
    "a cropped photo of the {}.",
    "a bright photo of a {}.",
    "a dark photo of the {}.",
    "a blurry photo of a {}.",
    "a good photo of a {}.",
)


@dataclass(frozen=True)
class Glyph:
    """Glyph in an image, or its description by a caption, in which None is not mentioned."""

    character: str  # in lower case, as the tokenizer has no other
    colour: str | None
    capital: bool | None  # None also for a digit

    def matches(self, caption: "Glyph") -> bool:
        """Check whether a caption is true of this glyph."""
        return (
            caption.character == self.character
            and caption.colour in (None, self.colour)
            and caption.capital in (None, self.capital)
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=2000, help=f"batches of {BATCH} images (default: %(default)s)")
    parser.add_argument("--out", type=Path, required=True, help="the folder to write")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)  # the order of sums changes the bytes
    torch.use_deterministic_algorithms(True)
    write(train(options.steps, options.seed), options.out)
    print(f"{options.out}: {sum(file.stat().st_size for file in options.out.iterdir()) / 1e6:.1f} MB")


def train(steps: int, seed: int) -> CLIP:
    """Train a CLIP on images and captions of glyphs."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    rendered = glyphs.render_glyphs()
    tokenize = SimpleTokenizer(context_length=CONTEXT)
    model = CLIP(**MODEL).train().to(memory_format=torch.channels_last)  # type: ignore[arg-type, call-overload]
    for name, parameter in model.visual.named_parameters():
        if name.endswith("bn3.weight"):  # a short training succeeds better from ones than from open_clip's zeros
            nn.init.ones_(parameter)
    optimizer = torch.optim.AdamW(parameter_groups(model), lr=PEAK_LR)
    warm_up(model, rng, tokenize, optimizer)
    start, recent = time.monotonic(), []
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = PEAK_LR * schedules.factor("one_cycle", step / steps)
        images, captions, matches = batch(rng, rendered)
        image_features = model.encode_image(images, normalize=True)
        text_features = model.encode_text(tokenize(captions), normalize=True)
        loss = contrastive_loss(image_features, text_features, model.logit_scale, matches)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, MAX_SCALE)
        recent.append(loss.item())
        if (step + 1) % 50 == 0 or step + 1 == steps:
            seconds = time.monotonic() - start
            print(f"step {step + 1}/{steps}  loss {np.mean(recent):.3f}  {seconds:.0f} s", flush=True)
            recent = []
    blank_unseen(model, optimizer)
    return model


def warm_up(model: CLIP, rng: Generator, tokenize: SimpleTokenizer, optimizer: torch.optim.Optimizer) -> None:
    """Train the text tower alone to match two captions of the same glyph.

    This takes seconds and saves hundreds of steps in which neither tower can learn from the other.
    """
    for _ in range(WARM_UP):
        drawn = [glyph_of(choose(rng), str(rng.choice(list(HUES.values())))) for _ in range(BATCH)]
        first, second = ([describe(rng, glyph) for glyph in drawn] for _ in range(2))
        features = [model.encode_text(tokenize([text for _, text in side]), normalize=True) for side in (first, second)]
        loss = contrastive_loss(
            features[0], features[1], model.logit_scale, truths(drawn, [described for described, _ in second])
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


@torch.no_grad()
def blank_unseen(model: CLIP, optimizer: torch.optim.Optimizer) -> None:
    """Set the vectors of tokens that occur in no caption to zero, as they are untrained noise."""
    table = model.token_embedding.weight
    table[optimizer.state[table]["exp_avg_sq"].sum(1) == 0] = 0


def parameter_groups(model: nn.Module) -> list[dict]:
    """Return groups with weight decay for matrices and kernels, and without for all other parameters."""
    decays: dict[bool, list[nn.Parameter]] = {True: [], False: []}
    for name, parameter in model.named_parameters():
        decays[parameter.ndim > 1 and name != "token_embedding.weight"].append(parameter)
    return [{"params": decays[True], "weight_decay": 0.05}, {"params": decays[False], "weight_decay": 0.0}]


def contrastive_loss(images: Tensor, texts: Tensor, log_scale: Tensor, matches: Tensor) -> Tensor:
    """Return the symmetric InfoNCE loss for images and captions with several matches each.

    Args:
        images: Normalised features of the images, (N, d).
        texts: Normalised features of the captions, (N, d).
        log_scale: Logarithm of the inverse temperature.
        matches: (N, N), True if caption j is true of image i. The target is distributed evenly over the matches.
    """
    logits = log_scale.exp() * images @ texts.T
    targets = matches.float()
    to_text = F.cross_entropy(logits, targets / targets.sum(1, keepdim=True))
    to_image = F.cross_entropy(logits.T, targets.T / targets.T.sum(1, keepdim=True))
    return (to_text + to_image) / 2


def truths(drawn: Sequence[Glyph], described: Sequence[Glyph]) -> Tensor:
    """Return the matrix (N, N) with True if caption j is true of image i."""
    return torch.tensor([[glyph.matches(caption) for caption in described] for glyph in drawn])


def batch(rng: Generator, rendered: list[list[np.ndarray]]) -> tuple[Tensor, list[str], Tensor]:
    """Draw BATCH normalised images (N, 3, SIZE, SIZE), a caption for each, and the matrix of matches (N, N)."""
    pictures, drawn, described, captions = [], [], [], []
    for _ in range(BATCH):
        character = choose(rng)
        variants = rendered[glyphs.ALPHABET.index(character)]
        picture, colour = draw(rng, variants[rng.integers(len(variants))])
        drawn.append(glyph_of(character, colour))
        description, caption = describe(rng, drawn[-1])
        pictures.append(picture)
        described.append(description)
        captions.append(caption)
    images = torch.from_numpy(np.stack(pictures)).float().permute(0, 3, 1, 2)  # the memory layout stays channels last
    return (images - PREPROCESS["mean"][0]) / PREPROCESS["std"][0], captions, truths(drawn, described)


def choose(rng: Generator) -> str:
    """Choose a character, one half from the digits, the other half from all."""
    alphabet = glyphs.DIGITS if rng.random() < 0.5 else glyphs.ALPHABET
    return alphabet[rng.integers(len(alphabet))]


def glyph_of(character: str, colour: str) -> Glyph:
    """Return the glyph of a character and a colour."""
    return Glyph(character.lower(), colour, None if character.isdigit() else character.isupper())


def draw(rng: Generator, rendered: np.ndarray) -> tuple[np.ndarray, str]:
    """Draw an image (SIZE, SIZE, 3) in [0, 1] of a glyph on a background; return it and the glyph's colour."""
    side = int(rng.integers(SIZE // 2, glyphs.SIZE + 1))
    x, y = rng.integers(0, glyphs.SIZE - side + 1, 2)
    crop = Image.fromarray(glyphs.ground(rng)[y : y + side, x : x + side])
    image = np.asarray(crop.resize((SIZE, SIZE), Image.Resampling.BICUBIC), np.float64) / 255
    image = image ** math.exp(rng.uniform(-1.2, 1.2))  # dark and bright backgrounds, so that all colours occur
    stroke = glyphs.bend(rng, rendered)
    longer = rng.uniform(*LONGER)
    height, width = (max(3, round(side * longer / max(stroke.shape))) for side in stroke.shape)
    stroke = np.asarray(Image.fromarray(stroke.astype(np.float32)).resize((width, height), Image.Resampling.BICUBIC))
    x, y = rng.integers(0, SIZE - width + 1), rng.integers(0, SIZE - height + 1)
    colour = ink.paint(rng, image[y : y + height, x : x + width], np.clip(stroke, 0, 1))
    return np.clip(image, 0, 1), colour_name(colour)


def colour_name(colour: np.ndarray) -> str:
    """Return the English name of a colour (3,) in [0, 1]."""
    hue, saturation, value = colorsys.rgb_to_hsv(*colour.tolist())
    if value < 0.2:
        return "black"
    if saturation < 0.15:
        return "white" if value > 0.85 else "grey"
    return next(name for edge, name in HUES.items() if 360 * hue <= edge)


def describe(rng: Generator, glyph: Glyph) -> tuple[Glyph, str]:
    """Write a caption of a glyph; return its description of the glyph and its text."""
    digit = glyph.character.isdigit()
    said = Glyph(
        glyph.character,
        glyph.colour if rng.random() < 0.3 else None,
        glyph.capital if rng.random() < 0.2 else None,
    )
    name = WORDS[int(glyph.character)] if digit and rng.random() < 0.2 else glyph.character
    kind = "" if rng.random() < 0.6 else str(rng.choice(("digit", "number") if digit else ("letter", "character")))
    if said.capital is not None:
        kind = "capital letter" if said.capital else "small letter"
    noun = " ".join(word for word in (said.colour, kind, name) if word)
    return said, TEMPLATES[rng.integers(len(TEMPLATES))].format(noun)


def write(model: CLIP, folder: Path) -> None:
    """Write a folder for open_clip's "local-dir:" with the configuration and the weights in half precision."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {"model_cfg": MODEL, "preprocess_cfg": PREPROCESS}
    (folder / "open_clip_config.json").write_text(json.dumps(config, indent=2) + "\n")
    state = {name: value.half().contiguous() for name, value in model.state_dict().items()}
    save_file(state, folder / "open_clip_model.safetensors")


if __name__ == "__main__":
    main()

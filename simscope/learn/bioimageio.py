"""Packages of the BioImage Model Zoo (bioimage.io), model description 0.5.

A package is a zip file: ``bioimageio.yaml`` says what the model takes and gives, beside ONNX
weights, a test sample with the output it must give, a page of documentation, and
simscope's own ``config.json`` and ``run.json``. Source: the specification of bioimage.io.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from simscope.errors import TrainingError
from simscope.learn.portable import any_size, planes_of, portable
from simscope.learn.runs import CONFIG, RECORD, TrainedModel

FORMAT_VERSION = "0.5.4"
PAPERS = {
    "deepstorm": ("Nehme et al. 2018, Optica 5:458", "10.1364/OPTICA.5.000458"),
    "deepstorm-slim": ("Nehme et al. 2018, Optica 5:458", "10.1364/OPTICA.5.000458"),
    "deepstorm3d": ("Nehme et al. 2020, Nat. Methods 17:734", "10.1038/s41592-020-0853-5"),
    "decode": ("Speiser et al. 2021, Nat. Methods 18:1082", "10.1038/s41592-021-01236-x"),
    "unet": ("Weigert et al. 2018, Nat. Methods 15:1090", "10.1038/s41592-018-0216-7"),
    "zernike": ("Möckl et al. 2019, Appl. Phys. Lett. 115:251106", "10.1063/1.5125252"),
    "psf-blind": ("Shajkofci and Liebling 2020, IEEE TIP 29:5848", "10.1109/TIP.2020.2986880"),
}
DATE = (1980, 1, 1, 0, 0, 0)
"""Of all parts, so that a package is a function of the model alone."""
SMALLEST_PX = 32


def write_package(
    model: TrainedModel,
    path: Path,
    write_onnx: Callable[[TrainedModel, Path], None],
    *,
    authors: tuple[str, ...] = ("simscope",),
    license: str = "CC-BY-4.0",
    title: str | None = None,
) -> None:
    """Write the package of a trained network to ``path``.

    Raises
    ------
    TrainingError
        If the title has fewer than 5 or more than 128 letters, or the network cannot be exported.
    """
    _, counts, output = portable(model)
    weights_file = path.with_name(path.name + ".onnx")
    try:
        write_onnx(model, weights_file)
        weights = weights_file.read_bytes()
    finally:
        weights_file.unlink(missing_ok=True)
    title = title or f"{model.kind} for {model.recipe.name}"
    if not 5 <= len(title) <= 128:
        raise TrainingError(f"title={title!r} has {len(title)} letters: packages want 5 to 128")
    parts = {
        "weights.onnx": weights,
        "counts.npy": _npy(counts),
        "output.npy": _npy(output),
        "README.md": _documentation(model, title).encode(),
        CONFIG: (model.folder / CONFIG).read_bytes(),
        RECORD: (model.folder / RECORD).read_bytes(),
    }
    described = _description(model, title, parts, counts, output)
    described |= {"authors": [{"name": name} for name in authors], "license": license}
    parts["bioimageio.yaml"] = yaml.safe_dump(described, sort_keys=False).encode()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as package:
        for name, content in parts.items():
            package.writestr(zipfile.ZipInfo(name, DATE), content, zipfile.ZIP_DEFLATED)


def _description(
    model: TrainedModel, title: str, parts: dict[str, bytes], counts: torch.Tensor,
    output: torch.Tensor,
) -> dict[str, Any]:  # fmt: skip
    """The model description but for authors and licence."""
    text, doi = PAPERS.get(model.kind, ("simscope", None))
    cite = [{"text": text, "doi": doi}] if doi else []
    return {
        "format_version": FORMAT_VERSION,
        "type": "model",
        "name": re.sub(r"[^\w\s()+.-]", "-", title),
        "description": f"{model.kind} network of simscope, trained on simulated images only; "
        f"{model.parameters} parameters",
        "documentation": {"source": "README.md", "sha256": _sha256(parts["README.md"])},
        "tags": ["simscope", model.kind, "microscopy", "simulation", "pytorch"],
        "cite": cite,
        "attachments": [
            {"source": name, "sha256": _sha256(parts[name])} for name in (CONFIG, RECORD)
        ],
        "inputs": [_input(model, parts, counts)],
        "outputs": [_output(model, parts, counts, output)],
        "weights": {
            "onnx": {
                "source": "weights.onnx",
                "sha256": _sha256(parts["weights.onnx"]),
                "opset_version": _opset(parts["weights.onnx"]),
            }
        },
        "config": {"simscope": {"kind": model.kind, "recipe_sha256": model.recipe.sha256}},
    }


def _input(model: TrainedModel, parts: dict[str, bytes], counts: torch.Tensor) -> dict[str, Any]:
    sizes: list[Any] = list(counts.shape[-2:])
    if any_size(model.task):
        step = max(1, int(getattr(model.task, "stride_px", 1)))
        sizes = [{"min": -(-SMALLEST_PX // step) * step, "step": step}] * 2
    space = [
        {"type": "space", "id": axis, "size": dict(size) if isinstance(size, dict) else size,
         "unit": "nanometer", "scale": float(model.recipe.pixel_nm)}
        for axis, size in zip("yx", sizes, strict=True)
    ]  # fmt: skip
    planes = [f"plane_{k}" for k in range(planes_of(model.task))]
    return {
        "id": "counts",
        "description": "camera counts [ADU]",
        "axes": [{"type": "batch"}, {"type": "channel", "channel_names": planes}, *space],
        "test_tensor": {"source": "counts.npy", "sha256": _sha256(parts["counts.npy"])},
        "data": {"type": "float32"},
    }


def _output(
    model: TrainedModel, parts: dict[str, bytes], counts: torch.Tensor, output: torch.Tensor
) -> dict[str, Any]:
    names = [f"channel_{k}" for k in range(output.shape[1])]
    axes: list[dict[str, Any]] = [{"type": "batch"}, {"type": "channel", "channel_names": names}]
    if output.ndim == 4:
        for axis, before, after in zip("yx", counts.shape[-2:], output.shape[-2:], strict=True):
            size: Any = after
            if any_size(model.task):
                size = {"tensor_id": "counts", "axis_id": axis}
            scale = float(model.recipe.pixel_nm) * before / after
            axes.append(
                {"type": "space", "id": axis, "size": size, "unit": "nanometer", "scale": scale}
            )
    return {
        "id": "output",
        "description": f"what a {model.kind} network says; see the documentation",
        "axes": axes,
        "test_tensor": {"source": "output.npy", "sha256": _sha256(parts["output.npy"])},
        "data": {"type": "float32"},
    }


def _documentation(model: TrainedModel, title: str) -> str:
    held_out = json.dumps(model.record.get("held_out", {}), indent=1)
    module = type(model.task).__module__
    return (
        f"# {title}\n\nA `{model.kind}` network of simscope, trained on simulated images of the "
        f"recipe `{model.recipe.name}` only. Input: camera counts. Output: as the module "
        f"`{module}` says; simscope reads it in the run folder this package was made "
        "of.\n\n## Validation\n\nOn simulated samples never seen in training or choosing:\n\n"
        f"```\n{held_out}\n```\n\nImages of another microscope give worse results: train on a "
        f"recipe of that microscope.\n\n## The recipe\n\n```yaml\n{model.recipe.to_yaml()}```\n"
    )


def _opset(weights: bytes) -> int:
    """Version of the operators an ONNX file is written in."""
    import onnx

    versions: dict[str, int] = {
        found.domain: found.version for found in onnx.load_from_string(weights).opset_import
    }
    return versions[""]


def _npy(values: torch.Tensor) -> bytes:
    file = io.BytesIO()
    np.save(file, values.numpy(), allow_pickle=False)
    return file.getvalue()


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()

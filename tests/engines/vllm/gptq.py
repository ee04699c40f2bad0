# SPDX-License-Identifier: Apache-2.0
"""A checkpoint in GPTQ's 4-bit format, made by rounding: small, and enough to run the kernels that read it.

Layout: `qweight` packs eight 4-bit rows of the input side into one int32, `qzeros` eight columns of the output
side, holding the zero point less one; `scales` has a row for each group of inputs; `g_idx` names each
input's group.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

GROUP = 64
_ZERO = 8
_SHIFTS = np.arange(8, dtype=np.uint32) * 4
_LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def pack(weight: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
    """A linear layer's weight, of shape (outputs, inputs), as the four arrays of the format."""
    n_out, n_in = weight.shape
    grouped = weight.T.reshape(n_in // GROUP, GROUP, n_out)
    scales = (np.abs(grouped).max(axis=1) / 7.0 + 1e-8).astype(np.float16)
    steps = np.clip(np.rint(grouped / scales[:, None].astype(np.float32)), -_ZERO, 7) + _ZERO
    rows = steps.reshape(n_in // 8, 8, n_out).astype(np.uint32)
    zeros = np.full((n_in // GROUP, n_out // 8, 8), _ZERO - 1, dtype=np.uint32)
    return {
        "qweight": (rows << _SHIFTS[None, :, None]).sum(axis=1, dtype=np.uint32).view(np.int32),
        "qzeros": (zeros << _SHIFTS).sum(axis=2, dtype=np.uint32).view(np.int32),
        "scales": scales,
        "g_idx": (np.arange(n_in) // GROUP).astype(np.int32),
    }


def unpack(packed: dict[str, NDArray[Any]]) -> NDArray[np.float32]:
    """The weight that the arrays stand for, of shape (outputs, inputs)."""
    words = packed["qweight"].view(np.uint32)
    steps = ((words[:, None] >> _SHIFTS[None, :, None]) & 15).reshape(-1, words.shape[1]).astype(np.float32)
    zero_words = packed["qzeros"].view(np.uint32)
    zeros = ((zero_words[:, :, None] >> _SHIFTS) & 15).reshape(len(zero_words), -1).astype(np.float32) + 1
    groups = packed["g_idx"]
    return ((steps - zeros[groups]) * packed["scales"][groups].astype(np.float32)).T


def quantised(source: Path, folder: Path) -> tuple[Path, Path]:
    """A checkpoint in 4 bits, and the same rounded weights in 16 bits.

    Returns:
        Both folders.
    """
    import torch
    from safetensors.torch import load_file, save_file

    weights = load_file(source / "model.safetensors")
    packed: dict[str, Any] = {}
    plain: dict[str, Any] = {}
    for name, tensor in weights.items():
        if name.split(".")[-2] not in _LINEAR:
            packed[name] = plain[name] = tensor.to(torch.float16).contiguous()
            continue
        arrays = pack(tensor.float().numpy())
        for part, array in arrays.items():
            packed[f"{name.removesuffix('.weight')}.{part}"] = torch.from_numpy(array).contiguous()
        plain[name] = torch.from_numpy(unpack(arrays)).to(torch.float16).contiguous()
    small, large = folder / "gptq", folder / "plain"
    for target, tensors in ((small, packed), (large, plain)):
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("*.safetensors"))
        save_file(tensors, target / "model.safetensors", metadata={"format": "pt"})
        config = json.loads((target / "config.json").read_text(encoding="utf-8"))
        config["dtype"] = config["torch_dtype"] = "float16"
        if target == small:
            config["quantization_config"] = {
                "quant_method": "gptq", "bits": 4, "group_size": GROUP, "desc_act": False, "sym": True,
                "checkpoint_format": "gptq", "lm_head": False,
            }  # fmt: skip
        (target / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return small, large

"""Declares the operators that torchvision's CUDA build asks torch for when it is imported on a CPU-only torch.

Copied into a peer's environment by install.sh and imported at its start. Pixel processing works with it;
torchvision's own JPEG decoder and non-maximum suppression do not.
"""

import torch

LIBRARY = torch.library.Library("torchvision", "DEF")  # the declaration lives as long as this does
for name in ("nms", "qnms"):
    LIBRARY.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

"""The computation that a model needs, counted from its layers."""

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode


def multiply_accumulates(model: nn.Module, length: int) -> int:
    """Number of multiply–accumulates for one text of ``length`` tokens, special tokens included.

    Only matrix products are counted, those of attention too. A masked weight counts as any other: kernels run it.
    """
    model.eval()
    device = next(model.parameters()).device
    ids = torch.zeros((1, length), dtype=torch.int64, device=device)
    counter = FlopCounterMode(display=False)
    # The fused attention kernels of the CPU are not counted; the plain one does the same products.
    with counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        model(input_ids=ids, attention_mask=torch.ones_like(ids))
    return int(counter.get_total_flops() // 2)

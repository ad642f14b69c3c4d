"""A small network over what the pipeline reads of a candidate, trained on whole lists and exported to ONNX."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

Float32Array = npt.NDArray[np.float32]

_BATCH = 64
_RATE = 3e-3


class Network(torch.nn.Module):
    """Columns [n, F], standardised as those it was made for, to scores [n]."""

    mean: torch.Tensor
    scale: torch.Tensor

    def __init__(self, columns: Float32Array, hidden: int) -> None:
        super().__init__()
        flat = torch.from_numpy(columns.reshape(-1, columns.shape[-1]))
        self.register_buffer("mean", flat.mean(0))
        self.register_buffer("scale", 1 / flat.std(0).clamp(min=1e-6))
        width = columns.shape[-1]
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(width, hidden), torch.nn.ReLU(), torch.nn.Linear(hidden, hidden), torch.nn.ReLU()
        )
        self.last = torch.nn.Linear(hidden, 1)

    def forward(self, columns: torch.Tensor) -> torch.Tensor:
        inner = self.layers((columns - self.mean) * self.scale)
        scores: torch.Tensor = self.last(inner).squeeze(-1)
        return scores


def train(columns: Float32Array, wanted: npt.NDArray[np.int64], *, hidden: int, epochs: int, seed: int) -> Network:
    """Of lists [B, n, F] in which the candidate at ``wanted`` [B] is the right one: softmax over each list."""
    torch.manual_seed(seed)
    network = Network(columns, hidden)
    steps = torch.optim.AdamW(network.parameters(), lr=_RATE, weight_decay=1e-3)
    inputs, targets = torch.from_numpy(columns), torch.from_numpy(wanted)
    for _ in range(epochs):
        for batch in torch.split(torch.randperm(len(inputs)), _BATCH):
            steps.zero_grad()
            torch.nn.functional.cross_entropy(network(inputs[batch]), targets[batch]).backward()  # type: ignore[no-untyped-call]  # torch's own
            steps.step()
    return network.eval()


def scores_of(network: Network, columns: Float32Array) -> Float32Array:
    """float32 [B, n] of lists [B, n, F]."""
    with torch.inference_mode():
        scores: Float32Array = network(torch.from_numpy(columns)).numpy()
    return scores


def export(network: Network, path: Path) -> None:
    """One input ``columns`` float32 [n, F], one output ``scores`` float32 [n]."""
    width = len(network.mean)
    with warnings.catch_warnings():
        # The newer exporter needs another package, and writes the same six operators.
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            network,
            (torch.zeros(2, width),),
            str(path),
            input_names=["columns"],
            output_names=["scores"],
            dynamic_axes={"columns": {0: "n"}, "scores": {0: "n"}},
            opset_version=17,
            dynamo=False,
        )

"""Size, time, memory and scores of ONNX programs, as onnxruntime runs them on the CPU.

Shapes: N images, K classes.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from aigc_lightning.core.export_graphs import ExportGraph
from aigc_lightning.inference.exporting.formats import Array

_ROUNDS = 15
_LEAST_PSNR = 40.0  # dB
_MOST_POINTS = 0.5  # of accuracy that may be lost by default
#: Prints the most memory that a process has held which runs a program once. It imports no torch.
_PEAK = """
import sys
import numpy, onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
session.run(None, dict(numpy.load(sys.argv[2])))
with open("/proc/self/status") as lines:  # getrusage would count the parent's memory
    print(next(line.split()[1] for line in lines if line.startswith("VmHWM")))
"""


@dataclass(frozen=True)
class Measured:
    """What a program costs.

    Args:
        bytes: of the file without metadata.
        seconds: of a call, the fastest of several.
        peak_bytes: the most memory that a process holds which runs it, with Python and onnxruntime themselves; 0 where
            the system is not Linux.
        batch: size of the batch.
        threads: of onnxruntime, for the time.
    """

    bytes: int
    seconds: float
    peak_bytes: int
    batch: int
    threads: int


@dataclass(frozen=True)
class Score:
    """How good the outputs of a changed program are.

    Args:
        name: "accuracy in %", or "PSNR to float32 in dB".
        before: that of the program before the change; None if it is what the other is compared with.
        after: that of the changed program.
        floor: the least that is accepted.
        num: number of images.
        lower: whether lower is better; the floor is then the most that is accepted.
    """

    name: str
    before: float | None
    after: float
    floor: float
    num: int
    lower: bool = False

    @property
    def suffices(self) -> bool:
        """Whether the changed program is accepted."""
        return self.after <= self.floor if self.lower else self.after >= self.floor


def session_of(serialized: bytes) -> Any:
    """Return an onnxruntime session on the CPU with as many threads as torch."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(serialized, options, providers=["CPUExecutionProvider"])


def measured(programs: Sequence[bytes], inputs: Mapping[str, Array]) -> list[Measured]:
    """Return what programs cost for the same inputs; they take turns, so that other load meets all of them.

    With one thread, time is that of the processor, which other programs do not lengthen.
    """
    clock = time.thread_time if torch.get_num_threads() == 1 else time.perf_counter
    sessions = [session_of(program) for program in programs]
    fastest = [float("inf")] * len(sessions)
    for number in range(_ROUNDS + 1):
        for place, session in enumerate(sessions):
            start = clock()
            session.run(None, dict(inputs))
            if number:  # the first call allocates
                fastest[place] = min(fastest[place], clock() - start)
    batch = len(next(iter(inputs.values())))
    return [
        Measured(len(program), seconds, _peak(program, inputs), batch, torch.get_num_threads())
        for program, seconds in zip(programs, fastest, strict=True)
    ]


def _peak(program: bytes, inputs: Mapping[str, Array]) -> int:
    """Return the most bytes that a process of its own holds while it runs a program once."""
    if sys.platform != "linux":
        return 0
    with tempfile.TemporaryDirectory() as folder:
        path, given = Path(folder) / "model.onnx", Path(folder) / "inputs.npz"
        path.write_bytes(program)
        np.savez(given, **dict(inputs))  # type: ignore[arg-type]
        words = [sys.executable, "-c", _PEAK, str(path), str(given)]
        printed = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    return int(printed) * 1024


def score_of(
    graph: ExportGraph, expected: Sequence[Array], found: Sequence[Array], labels: Array | None, floor: float | None
) -> Score:
    """Return the score of a changed program.

    Args:
        graph: whose outputs are compared.
        expected: outputs of the float32 program, in batches.
        found: outputs of the changed one.
        labels: int64 (N,) if the outputs are logits (N, K): the score is then the accuracy.
        floor: least score; by default 40 dB, or half a point of accuracy less than before.
    """
    own, other = np.concatenate(expected), np.concatenate(found)
    if labels is not None:
        before, after = (100 * float((logits.argmax(1) == labels).mean()) for logits in (own, other))
        least = before - _MOST_POINTS if floor is None else floor
        return Score("accuracy in %", before, after, least, len(labels))
    peak = 2.0 if graph.outputs[0] in ("images", "edited") else float(own.max() - own.min())
    error = float(np.square(own.astype(np.float64) - other).mean())
    psnr = 10 * np.log10(peak**2 / max(error, 1e-20))  # finite, for JSON
    return Score("PSNR to float32 in dB", None, float(psnr), _LEAST_PSNR if floor is None else floor, len(own))

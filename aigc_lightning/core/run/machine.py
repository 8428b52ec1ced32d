"""What the processor of this machine can do, for choices that depend on it and beside numbers measured on it."""

import os
import platform
from datetime import date
from pathlib import Path

import torch

#: CPU features that accelerate bf16, by torch's names for them, fastest first.
_BF16_FEATURES = {"amx_tile": "matrix units for bf16 (AMX)", "avx512_bf16": "instructions for bf16 (AVX-512)"}
#: Variables with which users limit what torch and oneDNN use of a processor.
_LIMITS = ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA")


def bf16_support() -> str | None:
    """Return what makes bf16 fast on this processor, in words, or None if nothing does."""
    return next((label for feature, label in _BF16_FEATURES.items() if _has(feature)), None)


def processor() -> str:
    """Return the processor's count, name and abilities, such as "2 x AMD EPYC (AVX2, nothing for bf16)"."""
    vectors = torch.backends.cpu.get_cpu_capability()
    limits = [f"{name}={os.environ[name]}" for name in _LIMITS if name in os.environ]
    abilities = [vectors, bf16_support() or "nothing for bf16", *limits]
    return f"{os.cpu_count()} x {_name()} ({', '.join(abilities)})"


def machine_line() -> str:
    """Return what belongs beside a table of measurements: date, processor, torch, threads and load."""
    threads = torch.get_num_threads()
    parts = [date.today().isoformat(), processor(), f"torch {torch.__version__}"]
    parts.append(f"{threads} thread{'s' if threads > 1 else ''}")
    if hasattr(os, "getloadavg"):  # what else ran: high loads make times long and ratios uncertain
        parts.append(f"load {os.getloadavg()[0]:.1f} at the start")
    return ", ".join(parts)


def _name() -> str:
    """Return the processor's name as its maker gives it."""
    known = Path("/proc/cpuinfo")  # where there is one, `platform.processor()` is mostly empty
    lines = known.read_text(errors="replace").splitlines() if known.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _has(feature: str) -> bool:
    """Return whether the processor has a feature, by its name in `torch.cpu.get_capabilities`."""
    if hasattr(torch.cpu, "get_capabilities"):
        return bool(torch.cpu.get_capabilities().get(feature, False))
    return bool(getattr(torch.cpu, f"_is_{feature}_supported", lambda: False)())  # before torch 2.11

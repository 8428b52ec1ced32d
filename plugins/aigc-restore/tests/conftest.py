import pytest
import torch


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Start each test with the same weights: torch's generator has another seed in each process."""
    torch.manual_seed(0)

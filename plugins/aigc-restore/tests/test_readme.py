import re
from pathlib import Path

import torch


def test_the_readme_s_example_runs():
    text = (Path(__file__).parent.parent / "README.md").read_text()
    names: dict[str, object] = {}
    exec("\n".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL)), names)
    refined = names["refined"]
    assert isinstance(refined, torch.Tensor) and refined.shape == (1, 3, 48, 48)

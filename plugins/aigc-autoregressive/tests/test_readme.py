import re
from pathlib import Path

import torch


def test_the_readme_s_examples_run():
    text = (Path(__file__).parent.parent / "README.md").read_text()
    names: dict[str, object] = {}
    exec("\n".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL)), names)
    assert names["bits"].shape == (8,) and names["images"].shape == (2, 1, 28, 28)
    assert torch.isfinite(names["loss"])

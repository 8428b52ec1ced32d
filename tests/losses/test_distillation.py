"""The loss of soft targets."""

from math import log

import pytest
import torch

from aigc_lightning.losses.distillation import soft_targets


def test_values_computed_by_hand() -> None:
    student, teacher = torch.zeros(1, 2), torch.tensor([[2 * log(3), 0.0]])
    # At temperature 2 the teacher says 3/4 and 1/4, the student 1/2 and 1/2.
    wanted = 4 * (0.75 * log(1.5) + 0.25 * log(0.5))
    assert soft_targets(student, teacher, 2.0).item() == pytest.approx(wanted, rel=1e-6)
    assert soft_targets(teacher, teacher, 4.0).item() == 0


def test_the_gradient_moves_the_student_towards_the_teacher_alone() -> None:
    student, teacher = torch.zeros(3, 2, requires_grad=True), torch.tensor([[1.0, 0.0]] * 3, requires_grad=True)
    soft_targets(student, teacher, 4.0).backward()
    assert student.grad is not None and bool((student.grad[:, 0] < 0).all()) and teacher.grad is None

"""Losses of a student that learns from the answers of a teacher.

Shapes: B batch, K classes.
"""

from torch import Tensor
from torch.nn.functional import kl_div, log_softmax


def soft_targets(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """Return the Kullback-Leibler divergence of softened class probabilities, times the square of the temperature.

    The factor keeps gradients as large as those of hard targets (Hinton, Vinyals, Dean, 2015, section 2,
    https://arxiv.org/abs/1503.02531). It is 0 where the logits are equal.

    Args:
        student_logits: (B, K).
        teacher_logits: (B, K); no gradient flows into them.
        temperature: above 0; 1 leaves the probabilities as they are.
    """
    wanted = log_softmax(teacher_logits.detach() / temperature, dim=1)
    found = log_softmax(student_logits / temperature, dim=1)
    return kl_div(found, wanted, reduction="batchmean", log_target=True) * temperature**2

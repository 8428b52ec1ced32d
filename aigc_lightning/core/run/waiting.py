"""How long the threads of a computation wait for each other awake."""

import os

_SPINS = 2000  # 50 microseconds; fewer are slower alone, more are slower beside other programs


def limit_spinning() -> None:
    """Make waiting threads look for work a short time, and then sleep; to be called before torch is imported.

    Threads that sleep at once must be woken for each layer, which takes as long as small layers do: a run of
    `dcgan_digits` gained nothing from a second thread. Threads that look for work for long take the processors from
    those that have some as soon as other programs run: then the run takes four times as long. What a user has chosen by
    OMP_WAIT_POLICY or GOMP_SPINCOUNT stays.
    """
    if "OMP_WAIT_POLICY" not in os.environ and "GOMP_SPINCOUNT" not in os.environ:
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"  # for libraries other than GNU's, which do not know the count
        os.environ["GOMP_SPINCOUNT"] = str(_SPINS)

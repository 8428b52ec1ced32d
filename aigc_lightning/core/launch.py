"""What the processes of one run agree on before they can talk through Lightning."""

import os
from collections.abc import Callable
from datetime import timedelta

_WAIT = timedelta(minutes=2)


def agreed(name: str, choose: Callable[[], str]) -> str:
    """Return what the first process chooses, in all processes that torchrun has started; elsewhere choose here.

    Args:
        name: of the question; asked once in each start of the run.
        choose: makes the choice; called in the first process alone.
    """
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    if "TORCHELASTIC_RUN_ID" not in os.environ or world_size == 1:
        return choose()

    from torch.distributed import TCPStore  # type: ignore[attr-defined]  # torch does not list it

    rank = int(os.environ["RANK"])
    agent_serves = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    if not agent_serves:
        # Without the agent's store the first process would have to serve one at the port that Lightning needs.
        raise RuntimeError("torchrun keeps no store for its processes here")
    store = TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), timeout=_WAIT)
    key = f"aigc_lightning/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}/{name}"
    if rank == 0:
        try:
            store.set(key, f"+{choose()}")
        except BaseException:
            store.set(key, "-")  # the others need not wait for it
            raise
    answer = store.get(key).decode()
    if answer == "-":
        raise SystemExit(2)  # the first process says why
    return answer[1:]

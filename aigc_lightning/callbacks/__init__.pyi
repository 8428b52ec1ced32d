from .checkpoints import Checkpoints as Checkpoints
from .evaluation import Evaluation as Evaluation
from .grids import Grids as Grids
from .held_out_scores import SlicedWasserstein as SlicedWasserstein

from . import data as data
from . import models as models
from .api import Pictures as Pictures
from .api import Run as Run
from .api import Scores as Scores
from .api import edit as edit
from .api import evaluate as evaluate
from .api import fit as fit
from .api import run_command as run_command
from .api import sample as sample
from .core.adversarial import AdversarialModel as AdversarialModel
from .core.image_model import ImageModel as ImageModel
from .core.spec import ImageSpec as ImageSpec
from .data.base import ImageDataModule as ImageDataModule
from .errors import UserError as UserError
from .inference.loaded_model import LoadedModel as LoadedModel
from .inference.loaded_model import load as load
from .plugins.registry import register_model_file as register_model_file

__version__: str

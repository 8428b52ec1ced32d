from .loaded_model import LoadedModel as LoadedModel
from .loaded_model import load as load

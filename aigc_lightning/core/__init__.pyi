from .adversarial import AdversarialModel as AdversarialModel
from .image_model import ImageModel as ImageModel
from .spec import ImageSpec as ImageSpec

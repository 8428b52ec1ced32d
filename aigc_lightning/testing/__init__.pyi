from .noise import NoiseImages as NoiseImages
from .suites import CallbackConformance as CallbackConformance
from .suites import DataConformance as DataConformance
from .suites import ModelConformance as ModelConformance

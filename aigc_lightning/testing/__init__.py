"""The conformance kit: tests of what a model or data must do to work with everything else.

A package subclasses `ModelConformance` or `DataConformance` in its tests; `aigc plugins check` runs the same checks
without pytest.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

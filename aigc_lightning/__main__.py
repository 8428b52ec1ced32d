"""`python -m aigc_lightning` is `aigc`."""

import sys

from aigc_lightning.cli import main

if __name__ == "__main__":
    sys.exit(main())

"""`python -m chaosd`."""

import sys

from chaosd.cli import main

sys.exit(main())

"""Run the command line with `python -m cnnperf`."""

import sys

from cnnperf.cli import main

sys.exit(main())

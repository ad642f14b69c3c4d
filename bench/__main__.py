"""`python -m bench` is `python -m bench.all`."""

from __future__ import annotations

import sys

from bench.all import main

sys.exit(main())

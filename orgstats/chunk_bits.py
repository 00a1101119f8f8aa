"""How long a chunk is: 2^17 offsets, and shorter in the project's own tests, which replay many."""

import os
from typing import Final

CHUNK_BITS: Final = int(os.environ.get("ORGSTATS_TEST_CHUNK_BITS", "17"))
"""Tests set it for themselves and what they start; consumers refuse a store with chunks of another length."""

"""Index upkeep in the background: when to train inverted lists, swapping them in, folding the tail into them.

Training runs in a child process; folding in slices between batches. Searches never wait for either.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from engine.backend.protocol import Backend
from engine.config import Settings
from engine.index.build import BuildJob, BuildProcess
from engine.index.version_index import Lists, VersionIndex

if TYPE_CHECKING:
    from engine.pipeline.collection import Collection, Lanes
    from engine.store.collection_store import CollectionStore

logger = logging.getLogger(__name__)

"""What the tests of files share: a storage in memory, and workspaces with a context."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from contracts.calls import Tracked, TrackingFailed
from infra.store.memory import MemoryFiles, MemoryStore
from tests.kinds.helpers import Heard, call
from workers.hosting import Depot
from workers.kinds.context import JobContext, Places
from workers.kinds.workspaces import Workspaces

__all__ = ["ROOT", "Attempt", "sha256"]

ROOT = "memory://root"


def sha256(data: bytes) -> str:
    """In hex."""
    return hashlib.sha256(data).hexdigest()


class Attempt:
    """An attempt's context, what it said, and what was kept."""

    def __init__(self, base: Path, *, inputs: list[str] | None = None, storage: Any = None) -> None:
        self.store = MemoryStore()
        self.depot = Depot(ROOT, inputs or [], lambda root: MemoryFiles(self.store, root), patience_s=0)
        self.heard = Heard()
        places = Places(workspaces=Workspaces(str(base)), storage=storage or self.depot)
        self.context = JobContext(call("k"), self.heard, places)
        self.output = self.context.workspace / "output"

    @property
    def kept(self) -> dict[str, bytes]:
        """What was kept, by its name."""
        return {uri.removeprefix(f"{ROOT}/"): data for uri, data in self.store.kept.items()}

    def tracked(self, **options: Any) -> Tracked:
        """Track, and see that all of it hangs together."""
        commit = self.context.track(**options)
        told = self.heard.frames[-1]
        assert isinstance(told, Tracked), told
        assert commit is not None
        assert commit.commit == told.commit
        manifest = self.kept[f"files/commits/{told.commit}.json"]
        assert sha256(manifest) == told.commit
        listed = json.loads(manifest)
        assert [file["name"] for file in listed] == [file.name for file in commit.files]
        for file in commit.files:
            assert {"name": file.name, "bytes": file.bytes, "sha256": file.sha256} in listed
            data = self.kept[f"files/sha256/{file.sha256}"]
            assert (len(data), sha256(data)) == (file.bytes, file.sha256)
        return told

    def refused(self, **options: Any) -> TrackingFailed:
        """Track, and see that it fails."""
        assert self.context.track(**options) is None
        told = self.heard.frames[-1]
        assert isinstance(told, TrackingFailed), told
        assert not any(name.startswith("files/commits/") for name in self.kept)
        return told

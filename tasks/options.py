"""How Prefect runs our tasks: without a cache of its own, because the manifest says what is done."""

from typing import Any

from prefect.cache_policies import NO_CACHE

TASK_OPTIONS: dict[str, Any] = {"cache_policy": NO_CACHE, "persist_result": False}

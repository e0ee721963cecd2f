"""Set-up of Prefect on one machine, safe to repeat: server, work pools, limits, deployments and one worker."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from covoxel import processes
from flows.daemons import Daemon
from flows.environment import child_environment
from flows.server import STARTUP_SECONDS, ServerError, free_port, is_free, is_healthy, wait_for_server
from flows.state import state_folder

ROOT = Path(__file__).resolve().parents[1]
PORT = 4200
POOLS = {"cpu": 2, "gpu": 1}
"""Work pools, and how many flow runs each may run at a time when it is made; an operator's change is kept."""
TAG = "covoxel"


def deploy(say: Callable[[str], None], with_worker: bool = True) -> int:
    """Make what is missing and prune what `prefect.yaml` no longer names; the exit status.

    Raises
    ------
    ServerError
        If no server can be started, or the deployments cannot be made.
    """
    url = _server(say)
    os.environ["PREFECT_API_URL"] = url
    say("server: waiting for its answer, up to a minute")
    wait_for_server(url, STARTUP_SECONDS)
    say(f"work pools: {', '.join(POOLS)}")
    _make_pools()
    say("deployments: being written, up to a minute")
    _make_deployments(url)
    pruned = _prune()
    say(f"deployments: {len(_named())} up to date, {pruned} pruned")
    if with_worker:
        _start_worker(url, say)
    say(f"page: {url.removesuffix('/api')}")
    prefect = f"DO_NOT_TRACK=1 PREFECT_API_URL={url} {Path(sys.executable).with_name('prefect')}"
    say(f"run one:  {prefect} deployment run few-shot/cpu --watch \\")
    say('  --params \'{"cohort": "/data/study", "atlases": ["a", "b"], "output": "/data/study-covoxel"}\'')
    say(f"a GPU:    CUDA_VISIBLE_DEVICES=0 {prefect} worker start --pool gpu --limit 1 --install-policy never")
    return 0


def stop_all(say: Callable[[str], None]) -> int:
    """Stop the worker and the server that `deploy` started, and nothing else; the exit status."""
    for daemon in (_daemon("worker"), _daemon("server")):
        say(f"{daemon.name}: {'stopped' if daemon.stop() else 'was not running'}")
    return 0


def _daemon(name: str) -> Daemon:
    return Daemon(name, state_folder())


def _server(say: Callable[[str], None]) -> str:
    """Address of the server's API: the one that was named, else ours, started if it does not run."""
    named = os.environ.get("PREFECT_API_URL")
    if named and is_healthy(named):
        say(f"server: the one of PREFECT_API_URL={named}")
        return named
    daemon = _daemon("server")
    running = daemon.facts().get("url")
    if running:
        say(f"server: runs, log {daemon.log}")
        return running
    port = PORT if is_free(PORT) else free_port()
    url = f"http://127.0.0.1:{port}/api"
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    daemon.start([*command, "--analytics-off"], child_environment(PREFECT_API_URL=url), url=url)
    say(f"server: started, log {daemon.log}")
    return url


def _make_pools() -> None:
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.exceptions import ObjectNotFound
    from prefect.workers.process import ProcessWorker

    with get_client(sync_client=True) as client:
        for name, limit in POOLS.items():
            try:
                client.read_work_pool(name)
            except ObjectNotFound:
                template = ProcessWorker.get_default_base_job_template()
                client.create_work_pool(
                    WorkPoolCreate(name=name, type="process", base_job_template=template, concurrency_limit=limit)
                )


def _make_deployments(url: str) -> None:
    log = state_folder() / "deploy.log"
    log.unlink(missing_ok=True)
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"]
    if processes.start(command, log, child_environment(PREFECT_API_URL=url), folder=ROOT).wait():
        raise ServerError(f"prefect deploy failed: {log.read_text(errors='replace').strip()[-2000:]}")


def _named() -> set[tuple[str, str]]:
    deployments: list[dict[str, Any]] = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    return {(item["entrypoint"], item["name"]) for item in deployments}


def _prune() -> int:
    """Delete our deployments that `prefect.yaml` no longer names; how many."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterTags

    named, pruned = _named(), 0
    with get_client(sync_client=True) as client:
        ours = DeploymentFilter(tags=DeploymentFilterTags(all_=[TAG]))
        for item in client.read_deployments(deployment_filter=ours):
            if (str(item.entrypoint), item.name) not in named:
                client.delete_deployment(item.id)
                pruned += 1
    return pruned


def _start_worker(url: str, say: Callable[[str], None]) -> None:
    daemon = _daemon("worker")
    known = daemon.facts()
    if known.get("url") == url:
        say(f"worker: runs, log {daemon.log}")
        return
    if known:
        daemon.stop()
    command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", "cpu", "--name", "covoxel-cpu"]
    environment = child_environment(PREFECT_API_URL=url, PREFECT_SERVER_EPHEMERAL_ENABLED="false")
    daemon.start([*command, "--install-policy", "never"], environment, url=url)
    say(f"worker: started for the pool cpu, log {daemon.log}")

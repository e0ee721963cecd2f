"""Set-up of Prefect on one machine, safe to repeat: server, work pools, limits, deployments and one worker."""

import contextlib
import os
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout

from covoxel import processes
from flows.environment import child_environment
from flows.own_server import OwnServer, daemon, is_own, own_server, secret_file, use
from flows.secret import CLIENT, close_folder
from flows.server import ServerError, is_healthy
from flows.state import state_folder

ROOT = Path(__file__).resolve().parents[1]
POOLS = {"cpu": 2, "gpu": 1}
"""Work pools, and how many flow runs each may run at a time when it is made; an operator's change is kept."""
RUN_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "PREFECT_LOGGING_EXTRA_LOGGERS": "flows,tasks,covoxel,data_catalog",
    "PREFECT_RESULTS_DEFAULT_SERIALIZER": "json",
    "DO_NOT_TRACK": "1",
}
"""Environment of every run, beside the worker's own; never CUDA_VISIBLE_DEVICES, which would override it."""
TAG = "covoxel"


def deploy(say: Callable[[str], None], with_worker: bool = True, port: int | None = None) -> int:
    """Make what is missing and prune what `prefect.yaml` no longer names; the exit status.

    Parameters
    ----------
    say
        Is given lines for the terminal.
    with_worker
        Whether a worker for the pool `cpu` is started too.
    port
        Where our server listens; without it at 4200, or the next port that is free.

    Raises
    ------
    ServerError
        If no server can be started, or the deployments cannot be made.
    """
    with _alone():
        server = _server(say, port)
        url = os.environ["PREFECT_API_URL"]
        say(f"work pools: {', '.join(POOLS)}")
        _make_pools()
        say("deployments: being written, up to a minute")
        _make_deployments(url)
        pruned = _prune()
        say(f"deployments: {len(_named())} up to date, {pruned} pruned")
        if with_worker:
            _start_worker(url, say)
        _say_how_to_use(url, server, say)
    return 0


def stop_all(say: Callable[[str], None]) -> int:
    """Stop the worker and the server that `deploy` started, and nothing else; the exit status."""
    with _alone():
        for program in (daemon("worker"), daemon("server")):
            say(f"{program.name}: {'stopped' if program.stop() else 'was not running'}")
    return 0


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """The folder of the state, closed to other users, while no other call of `deploy` works there."""
    folder = close_folder(state_folder())
    try:
        with FileLock(folder / "deploy.lock", timeout=0, mode=0o600):
            yield
    except Timeout:
        raise ServerError(f"another `python -m flows deploy` is at work in {folder}; wait until it has ended") from None


def _server(say: Callable[[str], None], port: int | None) -> OwnServer | None:
    """Let Prefect's client ask the server that `PREFECT_API_URL` names, which gives None, or else ours."""
    named = os.environ.get("PREFECT_API_URL", "")
    if named and not is_own(named):
        if is_healthy(named):
            say(f"server: the one of PREFECT_API_URL={named}")
            return None
        say(f"server: none answers at PREFECT_API_URL={named}; ours is used")
    server = own_server(say, port)
    use(server)
    return server


def _say_how_to_use(url: str, server: OwnServer | None, say: Callable[[str], None]) -> None:
    folder, secret = shlex.quote(str(state_folder())), shlex.quote(str(secret_file()))
    exports = f"export DO_NOT_TRACK=1 PREFECT_HOME={folder} PREFECT_API_URL={url}"
    say(f"page: {url.removesuffix('/api')}" + (f"  (asks for the secret: cat {secret})" if server else ""))
    say(f"first, in a shell:  {exports}" + (f' {CLIENT}="$(cat {secret})"' if server else ""))
    prefect = shlex.quote(str(Path(sys.executable).with_name("prefect")))
    say(f"run one:  {prefect} deployment run few-shot/cpu --watch \\")
    say('  --params \'{"cohort": "/data/study", "atlases": ["a", "b"], "output": "/data/study-covoxel"}\'')
    say(f"a GPU:    CUDA_VISIBLE_DEVICES=0 {prefect} worker start --pool gpu --limit 1 --install-policy never")


def _make_pools() -> None:
    """Make the work pools; one that is there keeps its limit, and gets our template."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
    from prefect.exceptions import ObjectNotFound

    with get_client(sync_client=True) as client:
        for name, limit in POOLS.items():
            try:
                known = client.read_work_pool(name)
            except ObjectNotFound:
                pool = WorkPoolCreate(
                    name=name, type="process", base_job_template=job_template(), concurrency_limit=limit
                )
                client.create_work_pool(pool)
            else:
                if known.base_job_template != job_template():
                    client.update_work_pool(name, WorkPoolUpdate(base_job_template=job_template()))


def job_template() -> dict[str, Any]:
    """How a worker starts a run: always in this way, whatever command, folder or variables a caller asks for."""
    from prefect.workers.process import ProcessWorker

    default = ProcessWorker.get_default_base_job_template()
    fixed = {"command": None, "env": RUN_ENVIRONMENT, "labels": {}, "stream_output": True, "working_dir": str(ROOT)}
    names = {"name": default["variables"]["properties"]["name"]}
    return {
        "job_configuration": default["job_configuration"] | fixed,
        "variables": {"type": "object", "properties": names, "additionalProperties": False},
    }


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
    worker = daemon("worker")
    known = worker.facts()
    if known.get("url") == url:
        say(f"worker: runs, log {worker.log}")
        return
    worker.stop()
    command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", "cpu", "--name", "covoxel-cpu"]
    environment = child_environment(PREFECT_API_URL=url, PREFECT_SERVER_EPHEMERAL_ENABLED="false")
    worker.start([*command, "--install-policy", "never"], environment, url=url)
    say(f"worker: started for the pool cpu, log {worker.log}")

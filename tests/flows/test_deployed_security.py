"""What `deploy` leaves running, attacked by another user of the machine, and looked at with a browser."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import pytest

from flows.secret import CLIENT, basic_header, proves
from tests.flows.chromium import PROGRAM, chromium

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
NOBODY = 65534
PYTHON = Path("/usr/bin/python3")  # one that every user may start
VIEWS = ("/dashboard", "/runs", "/flows", "/deployments", "/work-pools", "/events", "/settings")


@dataclass(frozen=True)
class Deployed:
    """What `deploy` left running."""

    page: str
    secret: str
    state: Path
    printed: str

    def pid(self, name: str) -> int:
        return int(json.loads((self.state / f"{name}.json").read_text())["pid"])

    def ask(self, path: str, body: object = None, **headers: str) -> tuple[int, str]:
        data = None if body is None else json.dumps(body).encode()
        question = Request(f"{self.page}{path}", data, {"Content-Type": "application/json", **headers})
        try:
            with urlopen(question, timeout=30) as answer:
                return answer.status, answer.read().decode()
        except HTTPError as error:
            return error.code, error.read().decode()


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    """A server, its pools, deployments and a worker."""
    state = tmp_path_factory.mktemp("prefect")
    environment = {**os.environ, "PREFECT_HOME": str(state), "PYTHONPATH": os.pathsep.join(sys.path)}
    for name in ("PREFECT_API_URL", CLIENT):
        environment.pop(name, None)

    def flows(*arguments: str) -> str:
        command = [sys.executable, "-m", "flows", *arguments]
        done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    try:
        printed = flows("deploy")
        page = re.search(r"page: (http://127\.0\.0\.1:\d+)", printed)
        assert page is not None
        yield Deployed(page[1], (state / "secret").read_text().strip(), state, printed)
    finally:
        flows("deploy", "--stop")


def test_the_secret_is_what_lets_in(deployed: Deployed) -> None:
    shown = {"Authorization": basic_header(deployed.secret)}
    assert deployed.ask("/api/health")[0] == 401
    assert deployed.ask("/api/flow_runs/filter", {})[0] == 401
    assert deployed.ask("/api/flow_runs/filter", {}, **shown)[0] == 200
    assert deployed.ask("/api/flow_runs/filter", {}, **shown, Origin=deployed.page)[0] == 200
    assert deployed.ask("/api/flow_runs/filter", {}, **shown, Origin="http://evil.example")[0] == 403
    assert deployed.ask("/api/flow_runs/filter", {}, **shown, Host="evil.example")[0] == 403
    assert deployed.secret.partition(":")[2] not in deployed.printed


def test_nobody_starts_a_command_of_their_own_by_a_job_variable(deployed: Deployed) -> None:
    shown = {"Authorization": basic_header(deployed.secret)}
    made = json.loads(deployed.ask("/api/deployments/filter", {}, **shown)[1])
    for name, value in {"command": "id", "env": {"A": "b"}, "working_dir": "/tmp"}.items():
        status, text = deployed.ask(
            f"/api/deployments/{made[0]['id']}/create_flow_run", {"job_variables": {name: value}}, **shown
        )
        assert (status, f"'{name}' was unexpected" in text) == (422, True)


@pytest.mark.skipif(os.geteuid() != 0 or not PYTHON.exists(), reason="only root can become another user")
def test_another_user_of_the_machine_gets_nothing(deployed: Deployed) -> None:
    port, server = str(urlsplit(deployed.page).port), deployed.pid("server")
    children = Path(f"/proc/{server}/task/{server}/children").read_text().split()
    arguments = [port, str(deployed.state), str(server), *children, str(deployed.pid("worker"))]
    script = (ROOT / "tests" / "flows" / "hostile.py").read_text()
    done = subprocess.run(
        [PYTHON, "-", *arguments],
        input=script,
        user=NOBODY,
        group=NOBODY,
        extra_groups=[],
        cwd="/",
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    results = json.loads(done.stdout)
    assert len(results) > 400
    assert {name: result for name, result in results.items() if result != "refused"} == {}


@pytest.mark.skipif(os.geteuid() != 0 or not PYTHON.exists(), reason="only root can become another user")
def test_the_attack_finds_an_open_server(prefect_api: str, tmp_path: Path) -> None:
    """The same attempts succeed where nobody asks for a secret: what they do not find is not overlooked."""
    script = (ROOT / "tests" / "flows" / "hostile.py").read_text()
    arguments = [str(urlsplit(prefect_api).port), str(tmp_path)]
    done = subprocess.run([PYTHON, "-", *arguments], input=script, capture_output=True, text=True, check=True)
    results = json.loads(done.stdout)
    for name in ("read parameters ()", "read settings (other host)", "health ()", "send an event (page)"):
        assert results[name].startswith("answered"), name
    assert "readable by *" in results["read parameters (stranger)"]
    assert results["socket /api/events/in http://evil.example None"].startswith("answered")


@pytest.mark.skipif(PROGRAM is None, reason="chromium is not installed")
def test_the_page_asks_for_the_secret_and_no_other_host(deployed: Deployed, tmp_path: Path) -> None:
    with chromium(tmp_path / "profile") as page:
        page.open(deployed.page, 8)
        assert page.evaluate("location.pathname") == "/login"
        page.evaluate(f"localStorage.setItem('prefect-password', '{b64encode(deployed.secret.encode()).decode()}')")
        shown = {}
        for view in VIEWS:
            page.open(deployed.page + view)
            shown[view] = page.evaluate("location.pathname + ' ' + document.body.innerText")
    assert all(text.startswith(f"{view} ") for view, text in shown.items()), "shown the secret, it lets in"
    assert "few-shot" in shown["/flows"]
    assert "cpu" in shown["/work-pools"]
    assert not any("Prefect Cloud" in text or "Upgrade" in text for text in shown.values())
    hosts = {urlsplit(url).hostname for url in page.requests if not url.startswith(("data:", "blob:"))}
    assert hosts == {"127.0.0.1"}
    assert len(page.requests) > 50
    assert page.blocked == []


@pytest.mark.skipif(PROGRAM is None, reason="chromium is not installed")
def test_a_browser_keeps_the_page_from_asking_another_host(deployed: Deployed, tmp_path: Path) -> None:
    with chromium(tmp_path / "profile") as page:
        page.open(deployed.page)
        refused = page.evaluate("fetch('http://127.0.0.2:1/').then(() => 'asked', () => 'refused')")
        page.listen(0.5)
        assert refused == "refused"
        assert page.blocked
        page.open("http://127.0.0.1:1/")
        other = f"fetch('{deployed.page}/api/health', {{headers: {{Authorization: 'Basic eA=='}}}})"
        assert page.evaluate(f"{other}.then(() => 'asked', () => 'refused')") == "refused"


def test_a_server_that_dies_keeps_its_port_and_comes_back(deployed: Deployed) -> None:
    keeper, url = deployed.pid("server"), f"{deployed.page}/api"
    children = Path(f"/proc/{keeper}/task/{keeper}/children")
    first = children.read_text().split()[0]
    wait_for(lambda: time.time() - Path(f"/proc/{first}").stat().st_mtime > 65, 90)
    os.kill(int(first), signal.SIGKILL)
    wait_for(lambda: proves(url, deployed.secret) and children.read_text().split() != [first], 120)


def wait_for(condition: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.5)


def test_the_line_for_a_shell_lets_the_operator_in(deployed: Deployed) -> None:
    line = next(line for line in deployed.printed.splitlines() if line.startswith("first, in a shell:"))
    prefect = shutil.which("prefect", path=str(Path(sys.executable).parent))
    script = f"{line.partition(':')[2]}\n{prefect} work-pool inspect cpu"
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_run_without_the_secret_ends_with_a_sentence(deployed: Deployed, tmp_path: Path) -> None:
    environment = {**os.environ, "PREFECT_API_URL": f"{deployed.page}/api", "PREFECT_HOME": str(deployed.state)}
    environment.pop(CLIENT, None)
    done = subprocess.run(
        [sys.executable, "-m", "flows", "demo", "--output", str(tmp_path / "demo"), "--cases", "2"],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1] == (
        f"error: the Prefect server at PREFECT_API_URL={deployed.page}/api refuses what {CLIENT} holds; set it to its "
        f"secret, which for the one of `python -m flows deploy` is in {deployed.state / 'secret'}"
    )

"""`prefect.yaml` held against the flows: `prefect deploy` accepts unknown parameters and variables silently."""

import re
import zoneinfo
from pathlib import Path
from typing import Any

import pytest
import yaml
from croniter import croniter
from prefect.flows import load_flow_from_entrypoint

from flows.deploy import POOLS, TAG

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "prefect.yaml").read_text()
DEPLOYMENTS: list[dict[str, Any]] = yaml.safe_load(TEXT)["deployments"]
VARIABLES = {"COVOXEL_ROOT"}


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=lambda d: f"{d['entrypoint'].rpartition('.')[2]}/{d['name']}")
def test_deployment(deployment: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert ":" not in deployment["entrypoint"], "a file entrypoint loads a second copy of the module"
    flow = load_flow_from_entrypoint(deployment["entrypoint"])
    known = set(flow.parameters.properties)
    assert set(deployment.get("parameters", {})) <= known
    assert deployment["tags"] == [TAG], "deploy prunes by this tag"
    assert deployment["work_pool"]["name"] in POOLS
    environment = deployment["work_pool"].get("job_variables", {}).get("env") or {}
    assert "CUDA_VISIBLE_DEVICES" not in environment, "would override the worker's GPU"
    for schedule in deployment.get("schedules") or []:
        assert croniter.is_valid(schedule["cron"])
        zoneinfo.ZoneInfo(schedule["timezone"])
        assert set(schedule.get("parameters", {})) <= known
        missing = set(flow.parameters.required or []) - set(deployment.get("parameters", {}))
        assert not missing - set(schedule.get("parameters", {})), "a scheduled run would lack a parameter"


def test_every_flow_has_a_deployment() -> None:
    text = "".join(path.read_text() for path in (ROOT / "flows").glob("*.py"))
    names = set(re.findall(r'^@(?:study_)?flow\((?:name=)?"([a-z-]+)"', text, re.MULTILINE))
    deployed = {load_flow_from_entrypoint(item["entrypoint"]).name for item in DEPLOYMENTS}
    assert names == deployed
    assert {
        "demo",
        "few-shot",
        "preprocess",
        "register",
        "build-atlas",
        "fuse-labels",
        "report",
        "train-registration",
        "train-joint",
    } <= deployed


def test_atlases_must_be_named_where_labels_are_used_and_a_recipe_where_one_trains_and_only_there() -> None:
    trainings = ("train-registration", "train-joint")
    others = dict.fromkeys(("preprocess", "build-atlas"), {"cohort", "output"})
    others |= dict.fromkeys(trainings, {"cohort", "output", "recipe"})
    for item in DEPLOYMENTS:
        flow = load_flow_from_entrypoint(item["entrypoint"])
        if flow.name != "demo":
            expected = others.get(flow.name, {"cohort", "output", "atlases"})
            assert set(flow.parameters.required or []) == expected
            assert ("recipe" in flow.parameters.properties) == (flow.name in trainings)


def test_names_are_unique() -> None:
    names = [(item["entrypoint"], item["name"]) for item in DEPLOYMENTS]
    assert len(names) == len(set(names))


def test_deployments_that_help_and_documents_name_exist() -> None:
    known = {f"{load_flow_from_entrypoint(item['entrypoint']).name}/{item['name']}" for item in DEPLOYMENTS}
    flows = {name.partition("/")[0] for name in known}
    files = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "flows").glob("*.py")]
    for path in files:
        for flow, name in re.findall(r"deployment run ([a-z-]+)/([a-z-]+)", path.read_text()):
            assert flow in flows, path
            assert f"{flow}/{name}" in known, path


def test_only_known_variables_are_used() -> None:
    assert set(re.findall(r"\{\{\s*\$(\w+)", TEXT)) <= VARIABLES

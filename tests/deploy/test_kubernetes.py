"""deploy/kubernetes: the schemas of Kubernetes, and whether the manifests fit the server's options and each other."""

from typing import Any

import kubernetes_validate
import pytest
import yaml

from catenary.config.options import Options
from catenary.metrics.counters import Counters
from tests.deploy.variables import configured, of_image, stop_s
from tests.parts.image import ROOT, stages

MANIFESTS = sorted((ROOT / "deploy" / "kubernetes").glob("*.yaml"))


def manifest(name: str) -> Any:
    return yaml.safe_load((ROOT / "deploy" / "kubernetes" / f"{name}.yaml").read_text())


def pod() -> Any:
    return manifest("deployment")["spec"]["template"]["spec"]


def container() -> Any:
    (found,) = pod()["containers"]
    return found


def of_pod() -> Options:
    """The options of the server in the container."""
    given = manifest("config")["data"]
    return configured(**of_image(), **given, ANYCABLE_SECRET="s3cret")


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.stem)
def test_the_schema_of_kubernetes(path: Any) -> None:
    text = yaml.safe_load(path.read_text())
    # The preStop of the Deployment is as new as that.
    for version in ("1.30", "1.33"):
        kubernetes_validate.validate(text, version, strict=True)
    assert all(isinstance(each, str) for each in text.get("data", {}).values())


def test_the_time_to_stop_is_longer_than_what_stops() -> None:
    pause_s = container()["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod()["terminationGracePeriodSeconds"] == pause_s + stop_s(of_pod())
    probe = container()["readinessProbe"]
    # By then every node of Kubernetes has taken the pod out of its tables, as far as one can know.
    assert pause_s >= probe["periodSeconds"] * probe["failureThreshold"]


def test_ports_and_paths_are_those_of_the_server() -> None:
    options, found = of_pod(), container()
    ports = {each["name"]: each["containerPort"] for each in found["ports"]}
    assert ports == {"http": options.server.port, "metrics": options.metrics.port}
    paths = {
        name: found[f"{name}Probe"]["httpGet"]["path"]
        for name in ("startup", "liveness", "readiness")
    }
    server = options.server
    assert paths == {
        "startup": server.health_path,
        "liveness": server.health_path,
        "readiness": server.ready_path,
    }
    notes = manifest("deployment")["spec"]["template"]["metadata"]["annotations"]
    assert notes["prometheus.io/port"] == str(options.metrics.port)
    assert notes["prometheus.io/path"] == options.metrics.http_path
    assert {each["targetPort"] for each in manifest("service")["spec"]["ports"]} <= ports.keys()


def test_everything_selects_the_pods() -> None:
    labels = manifest("deployment")["spec"]["template"]["metadata"]["labels"]
    selectors = (
        manifest("deployment")["spec"]["selector"]["matchLabels"],
        manifest("service")["spec"]["selector"],
        manifest("disruption")["spec"]["selector"]["matchLabels"],
        pod()["topologySpreadConstraints"][0]["labelSelector"]["matchLabels"],
    )
    assert all(each == labels for each in selectors)
    target = manifest("autoscaler")["spec"]["scaleTargetRef"]
    assert target["name"] == manifest("deployment")["metadata"]["name"]
    assert "replicas" not in manifest("deployment")["spec"]
    names = {next(iter(each.values()))["name"] for each in container()["envFrom"]}
    assert manifest("config")["metadata"]["name"] in names


def test_it_scales_on_a_figure_that_exists() -> None:
    metrics = manifest("autoscaler")["spec"]["metrics"]
    (name,) = (each["pods"]["metric"]["name"] for each in metrics if each["type"] == "Pods")
    assert hasattr(Counters(), name.removeprefix("anycable_go_"))


def test_the_container_may_do_nothing_that_it_does_not_need() -> None:
    for_pod, for_container = pod()["securityContext"], container()["securityContext"]
    (user,) = (
        each.text for each in stages(ROOT / "deploy" / "Dockerfile")[-1] if each.name == "USER"
    )
    assert f"{for_pod['runAsUser']}:{for_pod['runAsGroup']}" == user
    assert for_pod["runAsNonRoot"]
    assert for_container["readOnlyRootFilesystem"]
    assert not for_container["allowPrivilegeEscalation"]
    assert for_container["capabilities"] == {"drop": ["ALL"]}
    # The standard "restricted" of pod security demands it.
    assert for_pod["seccompProfile"] == {"type": "RuntimeDefault"}

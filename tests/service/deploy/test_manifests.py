"""The manifests for Kubernetes and KServe are what these take, and say what the code and the images say.
So does the page about them.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from service.http.health import router
from service.settings import Settings

ROOT = Path(__file__).resolve().parents[3]
KUBERNETES, KSERVE = ROOT / "deploy" / "kubernetes", ROOT / "deploy" / "kserve"
RENDERED = ["base", "overlays/gpu", "overlays/example"]
CUSTOM = json.loads((ROOT / "tests" / "fixtures" / "custom-resources.json").read_text())
VERSIONS = ["1.32", kubernetes_validate.latest_version()]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
# In the order of docs/operations.md: streams, batches, traces, and some to spare.
(MORE_TIME,) = re.findall(
    r"`--drain-seconds` \+\s`--shutdown-seconds` \+ (\d+)", (ROOT / "docs" / "operations.md").read_text()
)
DOCUMENTED = set(re.findall(r"^\| `([a-z_]+)` \|", (ROOT / "docs" / "metrics.md").read_text(), re.MULTILINE))
OF_KSERVE = {"labels", "minReplicas", "maxReplicas", "timeout", "model"}  # the rest of a predictor is a pod's


def documents(path: Path) -> list[dict[str, Any]]:
    """The resources in a file."""
    return list(yaml.safe_load_all(path.read_text()))


def image_environment(name: str) -> str:
    """What the Dockerfile sets a variable to."""
    (value,) = set(re.findall(rf"^ENV .*\b{name}=(\S+)", DOCKERFILE, re.MULTILINE))
    return str(value)


def render(folder: str) -> list[dict[str, Any]]:
    """The resources that kustomize makes of a folder."""
    if shutil.which("kubectl") is None:
        pytest.skip("there is no kubectl to render them: apt-get install kubernetes-client")
    command = ["kubectl", "kustomize", KUBERNETES / folder]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def one(resources: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    """The only resource of a kind."""
    (found,) = [resource for resource in resources if resource["kind"] == kind]
    return found


def base() -> list[dict[str, Any]]:
    """What stands in the base's files, its settings as kustomize would make them."""
    kustomization = yaml.safe_load((KUBERNETES / "base" / "kustomization.yaml").read_text())
    resources = [
        resource for name in kustomization["resources"] for resource in documents(KUBERNETES / "base" / name)
    ]
    (generator,) = kustomization["configMapGenerator"]
    lines = (KUBERNETES / "base" / "settings.env").read_text().splitlines()
    data = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    return [
        *resources,
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": generator["name"]}, "data": data},
    ]


def pod_of_kserve(name: str) -> dict[str, Any]:
    """The pod that KServe makes of an InferenceService, with what the runtime gives it."""
    (service,) = documents(KSERVE / name)
    predictor = service["spec"]["predictor"]
    pod = {key: value for key, value in predictor.items() if key not in OF_KSERVE}
    if "model" in predictor:
        (runtime,) = documents(KSERVE / "serving-runtime.yaml")
        assert predictor["model"]["runtime"] == runtime["metadata"]["name"]
        pod |= {key: runtime["spec"][key] for key in ("containers", "volumes")}
    return pod


def pods() -> Iterator[Any]:
    """All pods there are, and the data of the ConfigMaps beside them."""
    for name in ("inference-service.yaml", "shipped-models.yaml"):
        yield pytest.param(lambda name=name: (pod_of_kserve(name), []), id=f"kserve {name}")
    yield pytest.param(lambda: pod_and_resources(base()), id="kubernetes base, as it is written")
    for folder in RENDERED:
        yield pytest.param(
            lambda folder=folder: pod_and_resources(render(folder)), id=f"kubernetes {folder}, rendered"
        )


def pod_and_resources(resources: list[dict[str, Any]]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    return one(resources, "Deployment")["spec"]["template"]["spec"], resources


@pytest.fixture(params=pods())
def found(request: pytest.FixtureRequest) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A pod, and the resources around it."""
    pod, resources = request.param()
    return pod, resources


@pytest.fixture
def pod(found: tuple[dict[str, Any], list[dict[str, Any]]]) -> dict[str, Any]:
    return found[0]


@pytest.fixture
def container(pod: dict[str, Any]) -> dict[str, Any]:
    """The one that serves."""
    (container,) = pod["containers"]
    return container


@pytest.fixture
def variables(
    found: tuple[dict[str, Any], list[dict[str, Any]]], container: dict[str, Any]
) -> dict[str, str]:
    """What the manifest adds to the image's environment."""
    variables: dict[str, str] = {}
    for source in container.get("envFrom", []):
        (data,) = [
            resource["data"]
            for resource in found[1]
            if resource["kind"] == "ConfigMap"
            and resource["metadata"]["name"] == source["configMapRef"]["name"]
        ]
        variables |= data
    return variables | {entry["name"]: entry["value"] for entry in container.get("env", [])}


@pytest.fixture
def settings(variables: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Settings:
    """As the server reads them."""
    for name in [name for name in os.environ if name.startswith("MOMENTUM_")]:
        monkeypatch.delenv(name)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return Settings.from_command_line([])


def validate(resource: dict[str, Any]) -> None:
    """Hold a resource to the schema of its kind, which knows all of its fields."""
    if resource["kind"] in CUSTOM:
        jsonschema.validate(resource, CUSTOM[resource["kind"]])
    else:
        for version in VERSIONS:
            kubernetes_validate.validate(resource, version, strict=True)


WRITTEN = [
    *(path for path in (KUBERNETES / "base").glob("*.yaml") if path.name != "kustomization.yaml"),
    KUBERNETES / "components" / "store" / "claim.yaml",
    *(path for path in (KUBERNETES / "components" / "monitoring").glob("*.yaml") if "-" in path.name),
    *KSERVE.glob("*.yaml"),
]


@pytest.mark.parametrize("path", WRITTEN, ids=lambda path: str(path.relative_to(ROOT / "deploy")))
def test_files_fit_the_schemas(path: Path) -> None:
    for resource in documents(path):
        validate(resource)


@pytest.mark.parametrize("folder", RENDERED)
def test_what_is_rendered_fits_the_schemas(folder: str) -> None:
    for resource in render(folder):
        validate(resource)


@pytest.mark.parametrize("change", [{"specs": {}}, {"spec": {"replicas": "many"}}], ids=str)
def test_the_schemas_refuse_what_is_wrong(change: dict[str, Any]) -> None:
    deployment = one(base(), "Deployment")
    with pytest.raises(jsonschema.ValidationError):
        validate(deployment | change)
    (runtime,) = documents(KSERVE / "serving-runtime.yaml")
    with pytest.raises(jsonschema.ValidationError):
        validate(runtime | change)


def test_pods_fit_the_schemas(pod: dict[str, Any]) -> None:
    """Those inside KServe's resources too."""
    validate({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "momentum-serve"}, "spec": pod})


def test_probes_ask_for_what_there_is(container: dict[str, Any]) -> None:
    paths = {route.path for route in router.routes}  # type: ignore[attr-defined]
    probes = {name: container[name]["httpGet"] for name in container if name.endswith("Probe")}
    assert {name: probe["path"] for name, probe in probes.items()} == {
        "startupProbe": "/v2/health/live",
        "readinessProbe": "/v2/health/ready",
        "livenessProbe": "/v2/health/live",
    }
    assert {probe["path"] for probe in probes.values()} <= paths
    (port,) = container["ports"]
    assert {probe["port"] for probe in probes.values()} <= {port["name"], port["containerPort"]}


def test_the_port_is_the_images(container: dict[str, Any], variables: dict[str, str]) -> None:
    (port,) = container["ports"]
    assert f"\nEXPOSE {port['containerPort']}\n" in DOCKERFILE
    assert image_environment("MOMENTUM_PORT") == str(port["containerPort"])
    assert not variables.keys() & {"MOMENTUM_PORT", "MOMENTUM_HOST"}


def test_variables_are_settings(variables: dict[str, str]) -> None:
    known = {f"MOMENTUM_{name.upper()}" for name in Settings.model_fields}
    assert variables.keys() <= known | {"CUDA_CACHE_PATH"}


def test_there_is_time_to_end(pod: dict[str, Any], container: dict[str, Any], settings: Settings) -> None:
    """All of what the server takes after SIGTERM; and it serves until its probes have found that out."""
    needed = settings.drain_seconds + settings.shutdown_seconds + int(MORE_TIME)
    assert pod["terminationGracePeriodSeconds"] >= needed
    readiness = container["readinessProbe"]
    noticed = readiness["failureThreshold"] * readiness["periodSeconds"] + readiness["timeoutSeconds"]
    assert settings.drain_seconds >= noticed


def test_pods_may_do_nothing_but_serve(pod: dict[str, Any]) -> None:
    """As little as Compose lets them."""
    (user,) = set(re.findall(r"^USER (\d+):\1$", DOCKERFILE, re.MULTILINE))
    context = pod["securityContext"]
    assert context["runAsNonRoot"] is True
    assert context["runAsUser"] == context["runAsGroup"] == context["fsGroup"] == int(user)
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    assert pod["enableServiceLinks"] is False
    for container in pod["containers"] + pod.get("initContainers", []):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["resources"].keys() == {"requests", "limits"}
    mounted = {mount["mountPath"]: mount for mount in pod["containers"][0]["volumeMounts"]}
    assert [path for path, mount in mounted.items() if not mount.get("readOnly")] == ["/tmp"]  # noqa: S108


def test_everything_selects_the_pods() -> None:
    resources = base()
    deployment = one(resources, "Deployment")
    labels = deployment["spec"]["template"]["metadata"]["labels"].items()
    assert deployment["spec"]["selector"]["matchLabels"].items() <= labels
    services = [resource["spec"] for resource in resources if resource["kind"] == "Service"]
    selectors = [service["selector"] for service in services] + [
        one(resources, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        one(resources, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
    ]
    assert all(selector and selector.items() <= labels for selector in selectors)
    (port,) = deployment["spec"]["template"]["spec"]["containers"][0]["ports"]
    used = [port["targetPort"] for service in services for port in service["ports"]]
    used += [port["port"] for port in one(resources, "NetworkPolicy")["spec"]["ingress"][0]["ports"]]
    assert set(used) == {port["name"]}


def test_all_pods_are_scraped() -> None:
    """KServe's too, which the Services of the base leave alone."""
    (monitor,) = documents(KUBERNETES / "components" / "monitoring" / "pod-monitor.yaml")
    wanted = monitor["spec"]["selector"]["matchLabels"].items()
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    template = one(base(), "Deployment")["spec"]["template"]
    found = [(template["metadata"]["labels"], template["spec"])]
    for name in ("inference-service.yaml", "shipped-models.yaml"):
        (service,) = documents(KSERVE / name)
        found.append((service["spec"]["predictor"]["labels"], pod_of_kserve(name)))
    for labels, pod in found:
        assert wanted <= labels.items()
        assert [port["name"] for port in pod["containers"][0]["ports"]] == [endpoint["port"]]
    selector = one(base(), "Deployment")["spec"]["selector"]["matchLabels"].items()
    assert all(not selector <= labels.items() for labels, _ in found[1:])


def test_streams_keep_their_replica() -> None:
    """For as long as one may last."""
    services = {
        resource["metadata"]["name"]: resource["spec"] for resource in base() if resource["kind"] == "Service"
    }
    streams = services["momentum-serve-streams"]
    assert streams["sessionAffinity"] == "ClientIP"
    seconds = streams["sessionAffinityConfig"]["clientIP"]["timeoutSeconds"]
    assert seconds == Settings.model_fields["max_stream_seconds"].default
    assert "sessionAffinity" not in services["momentum-serve"]


def metrics_of(autoscaler: dict[str, Any]) -> set[str]:
    """Those that come from the pods themselves."""
    metrics = autoscaler["spec"]["metrics"]
    return {entry["pods"]["metric"]["name"] for entry in metrics if entry["type"] == "Pods"}


def check_metrics(autoscaler: dict[str, Any]) -> None:
    adapter = yaml.safe_load((KUBERNETES / "prometheus-adapter.yaml").read_text())
    (rule,) = adapter["rules"]["custom"]
    (pattern,) = re.findall(r'__name__=~"([^"]+)"', rule["seriesQuery"])
    offered = set(pattern.split("|"))
    assert offered <= DOCUMENTED
    assert "momentum_backlog_seconds" in metrics_of(autoscaler)
    assert metrics_of(autoscaler) <= offered


def test_it_scales_by_what_is_measured() -> None:
    resources = base()
    autoscaler = one(resources, "HorizontalPodAutoscaler")
    check_metrics(autoscaler)
    assert autoscaler["spec"]["scaleTargetRef"]["name"] == one(resources, "Deployment")["metadata"]["name"]
    assert "replicas" not in one(resources, "Deployment")["spec"]

    (of_kserve,) = documents(KSERVE / "autoscaler.yaml")
    target = of_kserve["spec"]["scaleTargetRef"]["name"]
    for name in ("inference-service.yaml", "shipped-models.yaml"):
        (service,) = documents(KSERVE / name)
        assert target == f"{service['metadata']['name']}-predictor"
        assert service["metadata"]["annotations"]["serving.kserve.io/autoscalerClass"] == "external"
    autoscaler["spec"]["scaleTargetRef"]["name"] = target
    assert of_kserve == autoscaler


def test_kserve_finds_the_runtime() -> None:
    (runtime,) = documents(KSERVE / "serving-runtime.yaml")
    (service,) = documents(KSERVE / "inference-service.yaml")
    model = service["spec"]["predictor"]["model"]
    formats = [(entry["name"], entry["version"]) for entry in runtime["spec"]["supportedModelFormats"]]
    assert (model["modelFormat"]["name"], model["modelFormat"]["version"]) in formats
    assert model["protocolVersion"] in runtime["spec"]["protocolVersions"]


def test_the_example_has_keys_and_a_store() -> None:
    resources = render("overlays/example")
    pod = one(resources, "Deployment")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    (keys,) = [entry["value"] for entry in container["env"] if entry["name"] == "MOMENTUM_API_KEYS"]
    assert Path(keys).parent == Path(mounts["keys"])
    assert mounts["store"] == image_environment("MOMENTUM_STORE")
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    claim = one(resources, "PersistentVolumeClaim")
    assert volumes["store"]["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
    images = {each["image"] for each in pod["containers"] + pod["initContainers"]}
    assert images == {"registry.example.org/momentum-serve:0.1.0"}


def test_the_gpu_is_asked_for() -> None:
    resources = render("overlays/gpu")
    (container,) = one(resources, "Deployment")["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "momentum-serve-gpu:latest"
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"
    autoscaler = one(resources, "HorizontalPodAutoscaler")
    check_metrics(autoscaler)
    assert {entry["type"] for entry in autoscaler["spec"]["metrics"]} == {"Pods"}


def test_the_store_is_filled_with_what_it_lacks(tmp_path: Path) -> None:
    """By what the images call fill-store. And what is there already stays as it is."""
    shipped, store = tmp_path / "shipped", tmp_path / "store"
    for version in ("digits/1", "digits/2", "frames/1"):
        (shipped / version).mkdir(parents=True)
        (shipped / version / "card.json").write_text("shipped")
    (store / "digits" / "2").mkdir(parents=True)
    (store / "digits" / "2" / "card.json").write_text("trained")
    for _ in range(2):
        subprocess.run(
            [ROOT / "deploy" / "fill-store.sh", store],
            env=os.environ | {"MOMENTUM_STORE": str(shipped)},
            check=True,
        )
    found = {str(path.parent.relative_to(store)): path.read_text() for path in store.rglob("card.json")}
    assert found == {"digits/1": "shipped", "digits/2": "trained", "frames/1": "shipped"}
    assert not list(store.rglob(".*"))


def test_kubernetes_fills_its_store_by_that() -> None:
    (patch,) = documents(KUBERNETES / "components" / "store" / "mount.yaml")
    (filling,) = patch["spec"]["template"]["spec"]["initContainers"]
    (mount,) = filling["volumeMounts"]
    assert filling["command"] == ["fill-store", mount["mountPath"]]
    assert "deploy/fill-store.sh /usr/local/bin/fill-store\n" in (ROOT / "Dockerfile").read_text()

"""The Helm chart, rendered by Helm's engine: valid for Kubernetes, of one piece, and never with a secret in it."""

import math
import os
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import click
import kubernetes_validate
import pytest
import typer
import yaml

from orgstats.cli.app import app
from orgstats.consumer.daemon import LEAVE_SECONDS
from orgstats.consumer.health import Health
from orgstats.consumer.settings import ConsumerSettings
from orgstats.errors import ConfigurationError, OrgstatsError, Refused, Unavailable
from orgstats.query.app import create_app
from orgstats.query.settings import QuerySettings
from orgstats.schemas.migrate import MigrateSettings
from orgstats.settings import Settings

ROOT: Final = Path(__file__).parents[2]
CHART: Final = ROOT / "deploy/helm/orgstats"
KUBERNETES: Final = ("1.27", "1.37")
CUSTOM: Final = ("ScaledObject", "ServiceMonitor", "PrometheusRule", "HTTPRoute")
"""Kinds that Kubernetes itself does not know."""

SETTINGS: Final[Mapping[str, type[Settings]]] = {
    "consume": ConsumerSettings,
    "serve": QuerySettings,
    "migrate": MigrateSettings,
}
FULL: Final = {
    "serviceAccount": {
        "create": True,
        "annotations": {"eks.amazonaws.com/role-arn": "arn:aws:iam::111122223333:role/a"},
    },
    "imagePullSecrets": [{"name": "registry"}],
    "kafka": {
        "bootstrapServers": "kafka-0:9093,kafka-1:9093",
        "topics": ["outcomes", "outcomes-billing"],
        "partitions": 32,
        "properties": {
            "security.protocol": "SASL_SSL",
            "sasl.mechanism": "SCRAM-SHA-512",
            "sasl.username": "orgstats",
            "fetch.max.bytes": 60_000_000,
        },
        "secret": {"name": "orgstats-kafka", "properties": {"sasl.password": "password"}},
    },
    "consumer": {
        "settings": {"MAX_EVENT_AGE_SECONDS": 7_776_000, "DEAD_LETTER_SHARE": 0.5, "REVOKE_SECONDS": 12.5},
        "rules": '[[rule]]\noutcome = "filtered"\nreason = "bots"\nuser_agent = ["*bot*"]\n',
        "autoscaling": {"enabled": True, "authenticationRef": "kafka"},
        "nodeSelector": {"disk": "any"},
        "tolerations": [{"key": "counting", "operator": "Exists"}],
        "priorityClassName": "counting",
        "podAnnotations": {"team": "stats"},
        "podLabels": {"tier": "counting"},
        "topologySpreadConstraints": [
            {"maxSkew": 2, "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "DoNotSchedule"}
        ],
        "extraEnv": [{"name": "ORGSTATS_KAFKA__CLIENT_RACK", "value": "a"}],
    },
    "api": {
        "settings": {"QUERY_TIMEOUT_SECONDS": 20, "RATE_LIMIT": 0},
        "gatewayKeys": {"secret": "orgstats-gateway"},
        "autoscaling": {"enabled": True},
        "affinity": {"nodeAffinity": {}},
        "secret": {"name": "orgstats-reader"},
        "opsSecret": {"name": "orgstats-ops"},
        "priorityClassName": "answers",
        "podAnnotations": {"team": "stats"},
        "podLabels": {"tier": "api"},
        "service": {"annotations": {"visible": "inside"}},
        "ingress": {"enabled": True, "className": "nginx", "hosts": ["stats.example.com"], "annotations": {"a": "b"}},
        "httpRoute": {"enabled": True, "parentRefs": [{"name": "gateway"}], "hosts": ["stats.example.com"]},
    },
    "migrate": {"secret": {"name": "orgstats-ddl"}},
    "clickhouse": {"cluster": "counting"},
    "image": {"digest": "sha256:" + "0" * 64},
    "env": {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"},
    "extraVolumes": [{"name": "ca", "configMap": {"name": "ca"}}],
    "extraVolumeMounts": [{"name": "ca", "mountPath": "/etc/ca"}],
    "networkPolicy": {
        "gateways": [{"namespaceSelector": {"matchLabels": {"name": "gateways"}}}],
        "prometheus": [{"podSelector": {"matchLabels": {"app": "prometheus"}}}],
        "egress": [{"ports": [{"port": 9000}, {"port": 9093}]}],
    },
    "monitoring": {
        "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
        "prometheusRule": {"enabled": True, "labels": {"release": "prometheus"}},
        "dashboards": {"enabled": True, "annotations": {"grafana_folder": "orgstats"}},
    },
}
VALUES: Final[Mapping[str, dict[str, Any]]] = {
    "default": {},
    "full": FULL,
    "inside": {  # a cluster of its own network, without anything from outside
        "serviceAccount": {"name": "counting"},
        "networkPolicy": {"egress": [{"ports": [{"port": 9000}, {"port": 9092}]}]},
        "migrate": {"enabled": False},
        "image": {"repository": "registry.example.com/stats/orgstats", "tag": "1"},
    },
    "open": {  # answers to the outside, without policies of its own
        "networkPolicy": {"enabled": False},
        "api": {"service": {"type": "LoadBalancer"}, "ingress": {"enabled": True, "hosts": ["stats.example.com"]}},
    },
    "watched": {
        "monitoring": {
            "serviceMonitor": {"enabled": True},
            "prometheusRule": {"enabled": True},
            "dashboards": {"enabled": True},
        },
        "consumer": {"replicas": 12, "autoscaling": {"enabled": True, "minReplicas": 2}},
    },
}
"""Five renderings, each of which has to pass what all have to."""

QUERY_SETTINGS: Final = QuerySettings.from_env({"ORGSTATS_CLICKHOUSE_URL": "clickhouse://nobody@127.0.0.1:1/none"})

Document = dict[str, Any]
Render = Callable[[dict[str, Any]], list[Document]]


@pytest.fixture(scope="module")
def render() -> Iterator[Render]:
    """Renders the chart with values, as the release `try`."""
    try:
        import helm_python as helm
    except ImportError:
        missing = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
        missing("needs Helm's engine: pip install helm-python-sdk")
    with helm.Chart.load(CHART) as chart:

        def rendered(values: dict[str, Any]) -> list[Document]:
            try:
                texts = chart.render(values, name="try", namespace="here")
            except helm.HelmError as error:
                raise ValueError(error) from None
            manifests = [text for path, text in texts.items() if path.endswith(".yaml")]
            return [document for text in manifests for document in yaml.safe_load_all(text) if document]

        yield rendered


@pytest.fixture(params=VALUES)
def documents(request: pytest.FixtureRequest, render: Render) -> list[Document]:
    """All documents, with the default values and with everything on."""
    return render(VALUES[request.param])


def pods(documents: list[Document]) -> list[Document]:
    """The pod templates."""
    return [d["spec"]["template"] for d in documents if d["kind"] in ("StatefulSet", "Deployment", "Job")]


def containers(documents: list[Document]) -> list[Document]:
    """The containers of all pods."""
    return [container for pod in pods(documents) for container in pod["spec"]["containers"]]


def of_kind(documents: list[Document], kind: str) -> list[Document]:
    """The documents of a kind."""
    return [document for document in documents if document["kind"] == kind]


@pytest.mark.parametrize("version", KUBERNETES)
def test_every_document_is_valid(documents: list[Document], version: str) -> None:
    """The oldest and the newest Kubernetes accept all of it, without a field that they do not know."""
    for document in documents:
        if document["kind"] not in CUSTOM:
            kubernetes_validate.validate(document, version, strict=True)
    names = [(document["kind"], document["metadata"]["name"]) for document in documents]
    assert len(set(names)) == len(names)


def test_options_add_their_kinds(render: Render) -> None:
    """What is off by default is made when it is asked for."""
    default = {document["kind"] for document in render({})}
    assert default == {"StatefulSet", "Deployment", "Job", "Service", "PodDisruptionBudget", "NetworkPolicy"}
    asked = {"ScaledObject", "HorizontalPodAutoscaler", "ConfigMap", "ServiceMonitor", "PrometheusRule"}
    asked |= {"Ingress", "HTTPRoute", "ServiceAccount"}
    assert {document["kind"] for document in render(FULL)} == default | asked


def test_selectors_match_pods_of_one_component(documents: list[Document]) -> None:
    """Whatever selects pods selects those of one component, and all of them."""
    labels = {
        pod["metadata"]["labels"]["app.kubernetes.io/component"]: pod["metadata"]["labels"].items()
        for pod in pods(documents)
    }
    assert set(labels) - {"migrate"} == {"consumer", "api"}
    for document in documents:
        spec = document.get("spec", {})
        selector = spec.get("podSelector", spec.get("selector"))
        if selector and document["kind"] != "ServiceMonitor":
            component = document["metadata"]["labels"]["app.kubernetes.io/component"]
            wanted = selector.get("matchLabels", selector).items()
            assert [name for name, have in labels.items() if wanted <= have] == [component], document["kind"]
    for pod in pods(documents):
        for constraint in pod["spec"].get("topologySpreadConstraints", ()):
            assert constraint["labelSelector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()


def test_autoscaling_targets_exist(documents: list[Document]) -> None:
    """What scales names a workload of the chart; each says how many there are, or it would fall to 1 first."""
    workloads = {(d["kind"], d["metadata"]["name"]): d for d in documents}
    scaled = {
        (d["spec"]["scaleTargetRef"]["kind"], d["spec"]["scaleTargetRef"]["name"])
        for d in [*of_kind(documents, "ScaledObject"), *of_kind(documents, "HorizontalPodAutoscaler")]
    }
    for kind in ("StatefulSet", "Deployment"):
        for document in of_kind(documents, kind):
            target = (kind, document["metadata"]["name"])
            assert workloads[target]["spec"]["replicas"] > 1
    assert scaled <= set(workloads)
    for document in of_kind(documents, "StatefulSet"):
        assert ("Service", document["spec"]["serviceName"]) in workloads


def test_named_ports_exist_and_are_listened_on(documents: list[Document]) -> None:
    """Services, probes and network policies name ports that a container has and a process listens on."""
    ports = {port["name"]: set[int]() for c in containers(documents) for port in c.get("ports", ())}
    for container in containers(documents):
        listened = {e["value"].rpartition(":")[2] for e in container["env"] if e["name"].endswith("LISTEN")}
        for port in container.get("ports", ()):
            ports[port["name"]].add(port["containerPort"])
            assert str(port["containerPort"]) in listened
        for probe in ("livenessProbe", "readinessProbe"):
            if probe in container:
                assert container[probe]["httpGet"]["port"] in {port["name"] for port in container["ports"]}
    for service in of_kind(documents, "Service"):
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= set(ports)
    allowed = {
        port["port"]
        for policy in of_kind(documents, "NetworkPolicy")
        for rule in policy["spec"]["ingress"]
        for port in rule["ports"]
    }
    assert allowed == (set.union(*ports.values()) if of_kind(documents, "NetworkPolicy") else set())
    for monitor in of_kind(documents, "ServiceMonitor"):
        wanted = monitor["spec"]["selector"]["matchLabels"].items()
        watched = [s for s in of_kind(documents, "Service") if wanted <= s["metadata"]["labels"].items()]
        names = [port["name"] for service in watched for port in service["spec"]["ports"]]
        assert [names.count(endpoint["port"]) for endpoint in monitor["spec"]["endpoints"]] == [2]


def test_probes_use_existing_health_paths(documents: list[Document]) -> None:
    """Probes ask for health, each path at a port where it is answered."""
    paths = {getattr(route, "path", "") for route in create_app(QUERY_SETTINGS).routes}
    known = {"api": ("http", paths), "consumer": ("metrics", {path for path in paths if Health().answer(path)})}
    probed = [container for container in containers(documents) if container["name"] in known]
    assert len(probed) == 2
    for container in probed:
        port, answered = known[container["name"]]
        for probe, path in (("livenessProbe", "/healthz/live"), ("readinessProbe", "/healthz/ready")):
            assert container[probe]["httpGet"] == {"path": path, "port": port}
            assert path in answered


def test_commands_and_environment_are_accepted(documents: list[Document], tmp_path: Path) -> None:
    """Each container runs a command that exists, and that command takes its environment as it is."""
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]  # a group
    for name, text in (
        ("clickhouse/url", "clickhouse://orgstats:s3cret@clickhouse:9000/orgstats"),
        ("clickhouse-ops/url", "clickhouse://ops:s3cret@clickhouse:9000/orgstats"),
        ("kafka/password", "s3cret"),
        ("gateway/keys", "k" * 32),
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    for container in containers(documents):
        program, command = container["command"]
        assert (program, command in commands) == ("orgstats", True)
        names = [entry["name"] for entry in container["env"]]
        assert len(set(names)) == len(names)
        known = SETTINGS[command].variables().values()
        unknown = [
            name
            for name in names
            if name.startswith("ORGSTATS_")
            and not {name, name.removesuffix("_FILE")} & set(known)
            and not name.startswith(tuple(variable for variable in known if variable.endswith("__")))
        ]
        assert unknown == []
        env = {
            e["name"]: e.get("value", "try-consumer-0").replace("/etc/orgstats", str(tmp_path))
            for e in container["env"]
        }
        assert "s3cret" in SETTINGS[command].from_env(env).clickhouse_url  # type: ignore[attr-defined]  # all three have it


def test_service_accounts_exist_before_use(render: Render) -> None:
    """The hook runs before the release's account exists, so it has the namespace's; a given one is everybody's."""
    documents = render(FULL)
    (account,) = of_kind(documents, "ServiceAccount")
    assert account["automountServiceAccountToken"] is False
    named = {c["name"]: p["spec"].get("serviceAccountName") for p in pods(documents) for c in p["spec"]["containers"]}
    created = account["metadata"]["name"]
    assert named == {"consumer": created, "api": created, "migrate": None}
    everybody = pods(render({"serviceAccount": {"name": "counting"}}))
    assert {pod["spec"]["serviceAccountName"] for pod in everybody} == {"counting"}


def test_pods_are_spread_as_asked(render: Render) -> None:
    """Constraints of an operator replace the chart's, and find the pods of their component alone."""
    (consumer,) = of_kind(render(FULL), "StatefulSet")
    (constraint,) = consumer["spec"]["template"]["spec"]["topologySpreadConstraints"]
    assert (constraint["maxSkew"], constraint["whenUnsatisfiable"]) == (2, "DoNotSchedule")
    assert constraint["labelSelector"]["matchLabels"]["app.kubernetes.io/component"] == "consumer"


def test_dashboards_are_those_of_deploy_grafana(render: Render) -> None:
    """The ConfigMap has the files of deploy/grafana, and the label by which Grafana's sidecar finds it."""
    (found,) = [one for one in of_kind(render(FULL), "ConfigMap") if "dashboards" in one["metadata"]["name"]]
    assert found["metadata"]["labels"]["grafana_dashboard"] == "1"
    folder = ROOT / "deploy/grafana"
    assert found["data"] == {f"orgstats-{path.name}": path.read_text() for path in sorted(folder.glob("*.json"))}


def test_instance_id_is_the_pod_name(render: Render) -> None:
    """Static membership: a pod that is made again comes back under the name that the group knows."""
    for container in containers(render({})):
        fields = {e["name"]: e["valueFrom"]["fieldRef"]["fieldPath"] for e in container["env"] if "valueFrom" in e}
        assert fields == ({"ORGSTATS_INSTANCE_ID": "metadata.name"} if container["name"] == "consumer" else {})


def test_files_are_mounted(documents: list[Document]) -> None:
    """Each file that a variable names lies in a mounted volume, which has it; each mount has its volume."""
    for pod in pods(documents):
        volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
        (container,) = pod["spec"]["containers"]
        mounts = {mount["mountPath"]: volumes[mount["name"]] for mount in container["volumeMounts"]}
        assert len(mounts) == len(volumes)
        for path in [e["value"] for e in container["env"] if e.get("value", "").startswith("/")]:
            folder, _, name = path.rpartition("/")
            items = mounts[folder].get("secret", {}).get("items")
            assert items is None or [item["path"] for item in items] == [name]


def test_no_secret_is_in_a_manifest(render: Render) -> None:
    """The chart makes no Secret, and refuses a password among Kafka's plain properties."""
    assert of_kind(render(FULL), "Secret") == []
    with pytest.raises(ValueError, match=r"sasl\.password"):
        render({"kafka": {"properties": {"sasl.password": "s3cret"}}})


def test_pods_have_least_privileges(documents: list[Document]) -> None:
    """Nobody is root, writes to the image, gains rights or holds a token of the cluster; memory is bounded."""
    for pod in pods(documents):
        spec = pod["spec"]
        assert (spec["automountServiceAccountToken"], spec["enableServiceLinks"]) == (False, False)
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["runAsUser"] > 0
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in spec["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert "memory" in container["resources"]["limits"]


def test_termination_grace_period_covers_shutdown(documents: list[Document]) -> None:
    """Kubernetes waits longer than the consumer's last flush and than the API's last request may take."""
    for container, pod in zip(containers(documents), pods(documents), strict=True):
        env = {entry["name"]: entry.get("value") for entry in container["env"]}
        grace = pod["spec"].get("terminationGracePeriodSeconds")
        if container["name"] == "consumer":
            default = ConsumerSettings.model_fields["revoke_seconds"].default
            assert grace > float(env.get("ORGSTATS_REVOKE_SECONDS") or default) + LEAVE_SECONDS
        if container["name"] == "api":
            default = QuerySettings.model_fields["query_timeout_seconds"].default
            timeout = float(env.get("ORGSTATS_QUERY_TIMEOUT_SECONDS") or default)
            assert grace > float(env["ORGSTATS_DRAIN_SECONDS"] or 0) + math.floor(timeout) + 1


def test_rolling_update_waits_for_each_consumer(render: Render) -> None:
    """One consumer at a time, the next when the last has had time to count again; tables come first."""
    (consumer,) = of_kind(render({}), "StatefulSet")
    assert consumer["spec"]["updateStrategy"] == {"type": "RollingUpdate"}
    assert consumer["spec"]["minReadySeconds"] == 30
    assert [budget["spec"]["maxUnavailable"] for budget in of_kind(render({}), "PodDisruptionBudget")] == [1, 1]
    (migrate,) = of_kind(render({}), "Job")
    assert migrate["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"


def test_changed_rules_restart_consumers(render: Render) -> None:
    """The pods carry a sum of the rules: another file is another template."""
    first, second = (
        of_kind(render({"consumer": {"rules": text}}), "StatefulSet")[0]["spec"]["template"]["metadata"]["annotations"]
        for text in ("# one", "# two")
    )
    assert first != second


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"consumer": {"replicas": 13}}, r"consumer\.replicas is 13, but the topics have at most 12 partitions"),
        ({"consumer": {"autoscaling": {"maxReplicas": 13}}}, "maxReplicas is 13, but the topics have at most 12"),
        ({"consumer": {"autoscaling": {"enabled": True, "minReplicas": 5, "maxReplicas": 4}}}, "is above"),
        ({"consumer": {"replicas": 12, "settings": {"FLUSH_SECONDS": 1}}}, "FLUSH_SECONDS: 12 consumers would insert"),
        ({"image": {"digest": "sha256:x"}}, "digest"),
        ({"consumer": {"replicas": 0}}, "/consumer/replicas"),
        ({"consumer": {"settings": {"FLUSH_SECOND": 2}}}, "FLUSH_SECOND"),
        ({"api": {"settings": {"CLICKHOUSE_URL": "clickhouse://x"}}}, "CLICKHOUSE_URL"),
        ({"kafka": {"properties": {"group.id": "other"}}}, r"group\.id"),
        ({"kafka": {"topics": []}}, "/kafka/topics"),
        ({"env": {"ORGSTATS_GROUP": "other"}}, "ORGSTATS_GROUP"),
        ({"replicas": 3}, "replicas"),
    ],
)
def test_invalid_values_are_refused(render: Render, values: dict[str, Any], told: str) -> None:
    """Values that cannot be meant are refused before anything is installed, with the value's name."""
    with pytest.raises(ValueError, match=told):
        render(values)


def test_autoscaling_is_bounded_by_partitions(render: Render) -> None:
    """No more consumers than the most divided topic has partitions; one trigger per topic."""
    (scaled,) = of_kind(render(FULL), "ScaledObject")
    assert (scaled["spec"]["minReplicaCount"], scaled["spec"]["maxReplicaCount"]) == (3, 32)
    triggers = [(t["metadata"]["topic"], t["metadata"]["lagThreshold"]) for t in scaled["spec"]["triggers"]]
    assert triggers == [("outcomes", "500000"), ("outcomes-billing", "500000")]
    for trigger in scaled["spec"]["triggers"]:
        # More consumers help neither against a ClickHouse that is away nor where no partition is behind.
        assert {trigger["metadata"][name] for name in ("excludePersistentLag", "limitToPartitionsWithLag")} == {"true"}
    behavior = scaled["spec"]["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    assert all(behavior[way]["policies"] and behavior[way]["stabilizationWindowSeconds"] for way in behavior)
    assert set(behavior) == {"scaleUp", "scaleDown"}


@pytest.mark.parametrize(
    ("consumer", "seconds"),
    [
        ({"replicas": 3}, "1"),
        ({"replicas": 12}, "2"),
        ({"autoscaling": {"enabled": True}}, "2"),
        ({"autoscaling": {"enabled": True, "maxReplicas": 10}}, "1"),
        ({"replicas": 12, "settings": {"FLUSH_SECONDS": 1.5}}, "1.5"),
    ],
)
def test_consumers_together_insert_ten_times_a_second_at_most(
    render: Render, consumer: dict[str, Any], seconds: str
) -> None:
    """The flush's length follows from how many consumers there may be, unless it is said."""
    (container,) = [one for one in containers(render({"consumer": consumer})) if one["name"] == "consumer"]
    assert {e["name"]: e.get("value") for e in container["env"]}["ORGSTATS_FLUSH_SECONDS"] == seconds


def test_migration_job_fails_before_helm_timeout(render: Render) -> None:
    """What no retry mends ends the Job; one that goes on trying ends before helm's five minutes."""
    (job,) = of_kind(render({}), "Job")
    rule = job["spec"]["podFailurePolicy"]["rules"][0]
    codes = {ConfigurationError.exit_code, Refused.exit_code, click.UsageError.exit_code}
    assert (rule["action"], set(rule["onExitCodes"]["values"])) == ("FailJob", codes)
    assert not {Unavailable.exit_code, OrgstatsError.exit_code, 1} & codes
    assert rule["onExitCodes"]["containerName"] == job["spec"]["template"]["spec"]["containers"][0]["name"]
    assert job["spec"]["activeDeadlineSeconds"] < 300


@pytest.mark.parametrize(("days", "told"), [(None, []), ("", []), (0, ["0", "0"]), (365, ["365", "365"])])
def test_a_retention_is_told_only_if_it_is_set(render: Render, days: object, told: list[str]) -> None:
    """Tables that keep counts longer than a default would have the migrate hook refuse; 0 is a retention too."""
    documents = render({} if days is None else {"clickhouse": {"retentionDays": days}})
    found = [e["value"] for c in containers(documents) for e in c["env"] if e["name"] == "ORGSTATS_RETENTION_DAYS"]
    assert found == told


def test_the_api_may_have_a_user_of_its_own(render: Render) -> None:
    """The API's ClickHouse user is another than the consumers', unless `api.secret` is empty."""

    def secrets(values: dict[str, Any]) -> dict[str, str]:
        return {
            pod["spec"]["containers"][0]["name"]: volume["secret"]["secretName"]
            for pod in pods(render(values))
            for volume in pod["spec"]["volumes"]
            if volume["name"] == "clickhouse"
        }

    assert secrets(FULL) == {"consumer": "orgstats-clickhouse", "api": "orgstats-reader", "migrate": "orgstats-ddl"}
    shared = dict.fromkeys(("consumer", "api", "migrate"), "orgstats-clickhouse")
    assert secrets({}) == {**shared, "api": "orgstats-clickhouse-api"}
    assert secrets({"api": {"secret": {"name": ""}}}) == shared


def test_the_operators_page_may_have_a_user_of_its_own(render: Render) -> None:
    """Its address is in a file of its own Secret, which nobody else mounts; without one there is none."""
    (api,) = [c for c in containers(render(FULL)) if c["name"] == "api"]
    assert {"name": "ORGSTATS_OPS_CLICKHOUSE_URL_FILE", "value": "/etc/orgstats/clickhouse-ops/url"} in api["env"]
    mounted = {pod["spec"]["containers"][0]["name"]: str(pod["spec"]["volumes"]) for pod in pods(render(FULL))}
    assert [name for name, volumes in mounted.items() if "orgstats-ops" in volumes] == ["api"]
    assert not any("OPS" in entry["name"] for c in containers(render({})) for entry in c["env"])


def test_a_variable_may_come_from_a_secret(render: Render) -> None:
    """What Kubernetes can refer to, any variable may refer to."""
    source = {"secretKeyRef": {"name": "orgstats-kafka", "key": "username"}}
    for part, name in (("consumer", "ORGSTATS_KAFKA__SASL_USERNAME"), ("api", "ORGSTATS_LOG_LEVEL")):
        named = {"name": name, "valueFrom": source}
        found = containers(render({part: {"extraEnv": [named]}}))
        assert [container["name"] for container in found if named in container["env"]] == [part]


def test_routes_lead_to_the_api_and_not_to_health(render: Render) -> None:
    """Ingress and HTTPRoute name the API's Service and port, and leave out what is not for the outside."""
    documents = render(FULL)
    (service,) = [d for d in of_kind(documents, "Service") if d["metadata"]["name"] == "try-orgstats-api"]
    (ingress,), (route,) = of_kind(documents, "Ingress"), of_kind(documents, "HTTPRoute")
    (rule,) = ingress["spec"]["rules"]
    for path in rule["http"]["paths"]:
        assert path["backend"]["service"] == {"name": "try-orgstats-api", "port": {"name": "http"}}
    (backends,) = [one["backendRefs"] for one in route["spec"]["rules"]]
    assert backends == [{"name": "try-orgstats-api", "port": service["spec"]["ports"][0]["port"]}]
    matched = {(m["path"]["value"], m["path"]["type"]) for one in route["spec"]["rules"] for m in one["matches"]}
    assert matched == {
        (path["path"], path["pathType"].replace("Prefix", "PathPrefix")) for path in rule["http"]["paths"]
    }
    prefixes = [path for path, kind in matched if kind == "PathPrefix"]
    assert not any(inside.startswith(path) for path in prefixes for inside in ("/healthz/ready", "/metrics"))
    routes = {getattr(one, "path", "") for one in create_app(QUERY_SETTINGS).routes}
    outside = {path for path in routes if not path.startswith(("/healthz", "/metrics"))}
    assert {
        path for path in outside if (path, "Exact") not in matched and not path.startswith(tuple(prefixes))
    } == set()


@pytest.mark.parametrize(
    ("part", "command", "elsewhere"),
    [
        (
            "consumer",
            "consume",
            {
                "bootstrap_servers",
                "topic",
                "group",
                "clickhouse_url",
                "instance_id",
                "rules",
                "metrics_listen",
                "kafka",
            },
        ),
        (
            "api",
            "serve",
            {"clickhouse_url", "ops_clickhouse_url", "listen", "metrics_listen", "retention_days"}
            | {"gateway_key", "gateway_key_file"},
        ),
        ("migrate", "migrate", {"clickhouse_url", "retention_days", "cluster"}),
    ],
)
def test_the_schema_knows_every_setting(part: str, command: str, elsewhere: set[str]) -> None:
    """What a command can be told is a value of its own or may stand under `settings`."""
    schema = yaml.safe_load((CHART / "values.schema.json").read_text())
    settings = schema["properties"][part]["properties"].get("settings", {"propertyNames": {"enum": []}})
    names = settings["propertyNames"]["enum"]
    assert {name.lower() for name in names} | elsewhere == set(SETTINGS[command].model_fields)


def test_alerts_are_those_of_the_project(render: Render) -> None:
    """The chart's alerts are the one file that is tested elsewhere, with its names and templates untouched."""
    (rule,) = of_kind(render(FULL), "PrometheusRule")
    assert rule["spec"] == yaml.safe_load((ROOT / "deploy/prometheus/alerts.yml").read_text())


def test_chart_version_equals_package_version() -> None:
    """The image that the chart takes by default is the one of this version."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"] == project["version"]

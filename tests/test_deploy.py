"""The files of ``deploy/``: what they name is there, and agrees. Nothing is built or started: no Docker is needed."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from fnmatch import fnmatch
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from test_project import LOCK, ROOT, locked

from ragkit import cli

DEPLOY = ROOT / "deploy"
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
COLLECTOR: dict[str, Any] = yaml.safe_load((DEPLOY / "collector.yaml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]


def instructions() -> list[tuple[str, str]]:
    """The instructions of the Dockerfile, continued lines joined: their name and the rest."""
    lines = [line for line in (DEPLOY / "Dockerfile").read_text().splitlines() if not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [(name, rest.strip()) for name, _, rest in (line.partition(" ") for line in joined.splitlines() if line)]


def only(instruction: str) -> str:
    """The last of an instruction: of the image that is shipped."""
    return [rest for name, rest in instructions() if name == instruction][-1]


def copied() -> list[str]:
    """What the build copies out of the checkout."""
    rests = [shlex.split(rest) for name, rest in instructions() if name == "COPY"]
    return [source for rest in rests if not rest[0].startswith("--from") for source in rest[:-1]]


def environment() -> dict[str, str]:
    """The variables that the image sets."""
    return dict(pair.split("=", 1) for pair in shlex.split(only("ENV")))


def test_the_build_sees_what_it_copies_and_nothing_else():
    ignored, *allowed = [line for line in (DEPLOY / "Dockerfile.dockerignore").read_text().split("\n")[1:] if line]
    assert ignored == "*"
    assert {line[1:] for line in allowed if line.startswith("!")} == set(copied())
    assert [name for name in copied() if not (ROOT / name).exists()] == []
    assert not any(fnmatch(".env", line.lstrip("!")) for line in allowed)


def test_what_is_copied_builds_the_same_wheel(tmp_path):
    command = next(rest for name, rest in instructions() if name == "RUN" and "hatchling build" in rest)
    here = tmp_path / "context"
    here.mkdir()
    for name in copied():
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, here / name)
    for folder in (here, ROOT):
        build = [sys.executable, *shlex.split(command)[1:], "-d", str(tmp_path / folder.name)]
        subprocess.run(build, cwd=folder, check=True, capture_output=True)
    inside = [set(zipfile.ZipFile(wheel).namelist()) for wheel in sorted(tmp_path.glob("*/*.whl"))]
    assert len(inside) == 2
    assert inside[0] == inside[1]


def test_every_version_is_pinned():
    images = [rest.split()[0] for name, rest in instructions() if name == "FROM"]
    images += [service["image"] for service in SERVICES.values() if "build" not in service]
    assert [image for image in images if not re.search(r":\d[\w.-]*$|@sha256:[0-9a-f]{64}$", image)] == []
    installs = [rest for name, rest in instructions() if name == "RUN" and "pip install" in rest]
    pins = dict(pin for rest in installs for pin in re.findall(r"([\w-]+)==(\S+)", rest))
    assert "--constraint requirements.lock" in installs[-1]
    assert pins["hatchling"] == locked(LOCK)["hatchling"]
    assert pins["opentelemetry-exporter-otlp-proto-http"] == locked(LOCK)["opentelemetry-sdk"]
    assert pins["opentelemetry-distro"] == locked(LOCK)["opentelemetry-semantic-conventions"]
    words = [word for rest in installs for word in shlex.split(rest.partition("pip install")[2])]
    loose = [word for word in words if re.fullmatch(r"[a-z][a-z0-9-]+", word) and word != "requirements"]
    assert loose == []


def test_the_extras_of_the_image_are_declared():
    from make_lock import declared

    (extras,) = {found for _, rest in instructions() for found in re.findall(r"\.whl\)\[([\w,]+)\]", rest)}
    assert set(extras.split(",")) <= declared().keys()


def test_the_image_runs_ragkit_as_nobody_in_particular():
    assert int(only("USER")) > 1000
    launcher, program = json.loads(only("ENTRYPOINT"))
    assert (launcher, program) == ("opentelemetry-instrument", "ragkit")
    options = cli._parser().parse_args(json.loads(only("CMD")))
    assert options.corpus in {volume.split(":")[-2] for volume in SERVICES["ragkit"]["volumes"]}
    assert environment()["RAGKIT_HOME"] in {volume.split(":")[-1] for volume in SERVICES["ragkit"]["volumes"]}
    assert only("EXPOSE") == str(options.port)
    published = SERVICES["ragkit"]["ports"]
    assert [port.rpartition(":")[2] for port in published] == [str(options.port)]
    check = urlsplit(re.search(r"http://[^']+", only("HEALTHCHECK"))[0])
    assert (check.hostname, check.port, check.path) == ("127.0.0.1", options.port, "/health")


def test_only_this_machine_reaches_a_port():
    ports = [port for service in SERVICES.values() for port in service.get("ports", ())]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)
    assert not any("network_mode" in service or "privileged" in service for service in SERVICES.values())


def test_secrets_come_from_the_environment_and_have_no_default():
    secret = re.compile("PASSWORD|TOKEN|KEY|SECRET")
    for service in SERVICES.values():
        for name, value in service.get("environment", {}).items():
            if secret.search(name):
                assert value is None or re.fullmatch(r"\$\{\w+:\?[^}]+\}", value), name
    assert not any(secret.search(name) for name in environment())


def test_what_compose_names_is_there():
    build = SERVICES["ragkit"]["build"]
    assert (DEPLOY / build["context"] / build["dockerfile"]).samefile(DEPLOY / "Dockerfile")
    assert (DEPLOY / build["context"]).samefile(ROOT)
    for service in SERVICES.values():
        assert service.get("depends_on", {}).keys() <= SERVICES.keys()
        for volume in service["volumes"]:
            source = volume.split(":")[0]
            assert source in COMPOSE["volumes"] or source.startswith("${") or (DEPLOY / source).is_file(), volume
    for name, need in SERVICES["ragkit"]["depends_on"].items():
        assert need["condition"] != "service_healthy" or "healthcheck" in SERVICES[name]


def test_the_service_reaches_database_and_collector():
    service, database = SERVICES["ragkit"]["environment"], SERVICES["postgres"]["environment"]
    assert service["PGHOST"] in SERVICES
    pairs = {"PGDATABASE": "POSTGRES_DB", "PGUSER": "POSTGRES_USER", "PGPASSWORD": "POSTGRES_PASSWORD"}
    assert [service[here] for here in pairs] == [database[there] for there in pairs.values()]

    endpoint = urlsplit(service["OTEL_EXPORTER_OTLP_ENDPOINT"])
    assert endpoint.hostname in SERVICES
    protocol = {"http/protobuf": "http", "grpc": "grpc"}[service["OTEL_EXPORTER_OTLP_PROTOCOL"]]
    receiver = COLLECTOR["receivers"]["otlp"]["protocols"][protocol]["endpoint"]
    assert receiver == f"0.0.0.0:{endpoint.port}"
    command, (volume,) = SERVICES["collector"]["command"], SERVICES["collector"]["volumes"]
    assert command == [f"--config={volume.split(':')[1]}"]


@pytest.mark.parametrize("kind", ["receivers", "processors", "exporters"])
def test_every_part_of_the_collector_is_configured_and_used(kind):
    used = {part for pipeline in COLLECTOR["service"]["pipelines"].values() for part in pipeline.get(kind, ())}
    assert used == COLLECTOR.get(kind, {}).keys()


def test_the_readme_names_every_variable_that_must_be_set():
    required = re.findall(r"\$\{(\w+):\?", (DEPLOY / "compose.yaml").read_text())
    readme = (DEPLOY / "README.md").read_text()
    assert [name for name in required if f"export {name}=" not in readme] == []

"""compose.yaml agrees with the budget, the code and the Compose specification, closed to strangers.

No Docker engine runs it here; tests/integration/deploy starts what it starts, as processes.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
import sys
import time
from fractions import Fraction
from functools import cache
from importlib import resources
from math import ceil
from pathlib import Path
from typing import Any

import compose_spec
import jsonschema
import pytest
import yaml
from typer.testing import CliRunner

from chrono_ray import settings
from chrono_ray.cli.main import app
from chrono_ray.cluster import haproxy, head, owner, pools
from chrono_ray.model.budget import (
    CONTAINERS,
    MIB,
    OBJECT_STORE_MEMORY,
    PLACED,
    REFERENCE_CPUS,
    REFERENCE_MEMORY,
    fit,
)
from tools import compose as made

ROOT = Path(__file__).resolve().parents[3]
BUDGET = fit(REFERENCE_CPUS, REFERENCE_MEMORY)
OPERATIONS = (ROOT / "docs" / "operations.md").read_text()
OURS = {"head", "worker", "backup"}
CHOSEN = {"SECRETS_GID": "1000"}
SECONDS = {"s": 1, "m": 60, "h": 3600}


@cache
def compose() -> dict[str, Any]:
    """As Compose reads it: variables and merges resolved."""
    return yaml.safe_load(interpolated((ROOT / "compose.yaml").read_text()))


def interpolated(text: str, chosen: dict[str, str] = CHOSEN) -> str:
    def value(found: re.Match[str]) -> str:
        name, operator, rest = found.groups()
        return chosen.get(name) or (rest if operator == ":-" else "")

    text = re.sub(r"(?<!\$)\$\{(\w+)(:[-?])([^}]*)\}", value, text)
    assert not re.search(r"(?<!\$)\$(?!\$)[\w{]", text.replace("$$", "")), "a variable with no rule"
    return text.replace("$$", "$")


def services() -> dict[str, dict[str, Any]]:
    return compose()["services"]


def memory_of(text: str) -> int:
    assert text.endswith("M")
    return int(text[:-1]) * MIB


def seconds_of(text: str) -> int:
    return int(text[:-1]) * SECONDS[text[-1]]


def options(service: str) -> dict[str, str]:
    words = [word for word in services()[service]["command"] if word.startswith("--")]
    return dict(word.removeprefix("--").split("=", 1) for word in words if "=" in word)


def spoilt(wrong: dict[str, Any]) -> dict[str, Any]:
    return {**compose(), "services": {"redis": {**services()["redis"], **wrong}}}


def test_it_is_what_the_compose_specification_accepts():
    compose_spec.PyCompose.from_json(json.dumps(compose())).validate()
    for wrong, told in (
        ({"cpuss": 1}, "cpuss"),
        ({"restart": "now"}, "unless-stopped"),
        ({"networks": ["no"]}, "`no`"),
    ):
        with pytest.raises(ValueError, match=told):
            compose_spec.PyCompose.from_json(json.dumps(spoilt(wrong))).validate()


def test_it_is_what_the_schema_of_the_specification_accepts():
    """The schema as check-jsonschema brings it: newer keys than the parser above knows."""
    vendored = resources.files("check_jsonschema") / "builtin_schemas/vendor/compose-spec.json"
    schema = json.loads(vendored.read_text())
    jsonschema.validate(compose(), schema)
    for wrong in ({"cpuss": 1}, {"healthcheck": {"tests": ["CMD"]}}, {"ports": 8000}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(spoilt(wrong), schema)


def test_every_container_has_its_share_of_the_budget_and_no_more():
    assert set(services()) == set(CONTAINERS)
    for name, service in services().items():
        resources = service["deploy"]["resources"]
        share = BUDGET.container(name)
        for given in (resources["limits"], resources["reservations"]):
            assert (float(given["cpus"]), memory_of(given["memory"])) == (
                share.cpus,
                share.memory,
            ), name


def test_all_containers_together_leave_the_machine_what_is_the_system_s():
    limits = [service["deploy"]["resources"]["limits"] for service in services().values()]
    cpus = sum(Fraction(each["cpus"]) for each in limits)
    memory = sum(memory_of(each["memory"]) for each in limits)
    assert cpus + Fraction(str(BUDGET.system.num_cpus)) <= REFERENCE_CPUS
    assert memory + BUDGET.system.memory <= REFERENCE_MEMORY
    parts = dict(BUDGET.parts())
    del parts["system"]
    assert cpus == sum(Fraction(str(each.num_cpus)) * each.count for each in parts.values())
    assert memory == sum(each.memory * each.count for each in parts.values())


def test_every_part_is_shared_out_exactly():
    for name, _ in BUDGET.parts():
        fractions = [of[name] for of in CONTAINERS.values() if name in of]
        assert sum(fractions) == (0 if name == "system" else 1), name
    assert sum(BUDGET.container(name).memory for name in CONTAINERS) % MIB == 0


def test_the_figures_of_the_document_are_these():
    rows = re.findall(r"^\| (`.+?) \| .+? \| ([\d., ]+) \| ([\d, ]+) \|$", OPERATIONS, re.MULTILINE)
    found = {
        name: (float(cpus), int(mib))
        for names, all_cpus, all_mib in rows
        for name, cpus, mib in zip(
            re.findall(r"`(\w+)`", names), all_cpus.split(", "), all_mib.split(", "), strict=True
        )
    }
    shares = {name: BUDGET.container(name) for name in CONTAINERS}
    assert found == {name: (each.cpus, each.memory // MIB) for name, each in shares.items()}
    left = REFERENCE_MEMORY - sum(each.memory for each in shares.values())
    cpus = REFERENCE_CPUS - sum(each.cpus for each in shares.values())
    assert f"left to the system | {cpus:.2f} | {left // MIB} |" in OPERATIONS


def test_ray_is_told_what_the_containers_have():
    worker, scraper = options("worker"), BUDGET.scraper
    assert int(worker["memory"]) == scraper.memory * scraper.count
    assert int(worker["num-cpus"]) == ceil(round(scraper.num_cpus * scraper.count, 4))
    assert int(worker["object-store-memory"]) == OBJECT_STORE_MEMORY
    assert json.loads(worker["resources"]) == {pools.SCRAPERS_NODE: 1}
    alone = BUDGET.without_scrapers()
    placed = [getattr(BUDGET, name) for name in PLACED if name != "scraper"]
    assert alone.ray_memory == sum(each.memory * each.count for each in placed)
    assert alone.ray_memory < BUDGET.container("head").memory
    for name in ("head", "worker"):
        assert int(services()[name]["shm_size"][:-1]) * MIB > OBJECT_STORE_MEMORY


def test_the_worker_joins_the_head_where_it_is():
    assert options("worker")["address"] == f"ray-head:{head.JOINED['port']}"
    assert services()["head"]["environment"]["CHRONO_RAY_HOST"] == "ray-head"
    assert services()["head"]["networks"]["private"]["aliases"] == ["ray-head"]
    assert int(options("worker")["metrics-export-port"]) == head.JOINED["metrics-export-port"]


@pytest.mark.parametrize("name", made.FILES)
def test_what_the_servers_are_configured_with_is_what_the_embedded_ones_have(name):
    assert (made.FOLDER / name).read_text() == made.FILES[name](), "run python -m tools.compose"


def test_meilisearch_indexes_within_half_its_memory_on_its_processors():
    chosen = services()["meilisearch"]["environment"]
    memory = int(chosen["MEILI_MAX_INDEXING_MEMORY"].removesuffix("MiB")) * MIB
    assert memory == BUDGET.meilisearch.memory // 2
    assert int(chosen["MEILI_MAX_INDEXING_THREADS"]) == ceil(BUDGET.meilisearch.num_cpus)


def test_go_programs_collect_their_garbage_before_their_container_is_full():
    for name in ("prometheus", "grafana", "loki"):
        limit = int(services()[name]["environment"]["GOMEMLIMIT"].removesuffix("MiB")) * MIB
        assert 0.75 <= limit / BUDGET.container(name).memory <= 0.9, name


def test_only_the_api_s_port_is_published_and_on_loopback_unless_chosen():
    assert {name for name, each in services().items() if "ports" in each} == {"head"}
    port = settings.Serving().port
    assert services()["head"]["ports"] == [f"127.0.0.1:{port}:{port}"]


def test_what_is_no_archive_s_business_has_no_way_out():
    assert compose()["networks"]["private"]["internal"] is True
    outside = {name for name, each in services().items() if "outside" in each["networks"]}
    assert outside == {"head", "worker", "prometheus"}  # it tells an Alertmanager anywhere
    assert all("private" in each["networks"] for each in services().values())


def test_a_proxy_on_this_machine_has_an_address_that_stays():
    [chosen] = compose()["networks"]["outside"]["ipam"]["config"]
    assert chosen["subnet"] == chosen["gateway"].rpartition(".")[0] + ".0/24"
    assert f"CHRONO_SERVING__TRUSTED_PROXIES={chosen['gateway']}`" in OPERATIONS
    assert chosen["subnet"] != compose()["networks"]["private"]["ipam"]["config"][0]["subnet"]


def test_nginx_accepts_the_proxy_of_the_docs(tmp_path: Path):
    nginx = shutil.which("nginx", path=f"/usr/sbin:{os.environ['PATH']}")
    if nginx is None:
        pytest.skip("nginx is not installed")
    [server] = re.findall(r"```nginx\n(.*?)```", OPERATIONS, re.DOTALL)
    key, made_of = tmp_path / "chrono.key", ("-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1")
    openssl = ["openssl", "req", *made_of, "-subj", "/CN=a", "-keyout", key, "-out"]
    subprocess.run([*openssl, tmp_path / "chrono.pem"], check=True, capture_output=True, timeout=30)
    here = server.replace("/etc/ssl", str(tmp_path)).replace("443", "8443")
    (tmp_path / "nginx.conf").write_text(f"events {{}}\nhttp {{\n{here}}}\n")
    said = subprocess.run(
        [nginx, "-t", "-p", tmp_path, "-e", tmp_path / "log", "-c", tmp_path / "nginx.conf"],
        check=False, capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    assert "syntax is ok" in said.stderr
    assert f"client_max_body_size {haproxy.BODY_BYTES_MAX // MIB}m;" in server


def test_every_container_is_hardened():
    for name, each in services().items():
        assert each["cap_drop"] == ["ALL"], name
        assert each["security_opt"] == ["no-new-privileges:true"], name
        assert each["read_only"] is True, name
        assert each["restart"] == "unless-stopped", name
        assert each["ulimits"]["nofile"]["soft"] >= 65536, name
        assert each["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL"), name
        assert each["pids_limit"] > 0, name
        assert seconds_of(each["stop_grace_period"]) >= 10, name
        assert not {"privileged", "cap_add", "network_mode", "pid"} & set(each), name
        assert "docker.sock" not in str(each), name


def test_every_image_is_pinned_to_a_version():
    bases = re.findall(r"^FROM (\S+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    images = [each["image"] for each in services().values()]
    for image in [*images, *(base for base in bases if ":" in base)]:
        assert re.search(r":v?\d+\.\d+(\.\d+)?(-[\w.]+)*$", image), image
    targets = {each["build"]["target"] for each in services().values() if "build" in each}
    stages = set(re.findall(r" AS (\w+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE))
    assert targets == stages - {"build"}


def test_secrets_are_files_without_a_default_and_go_to_whom_they_concern():
    files = {name: each["file"] for name, each in compose()["secrets"].items()}
    assert files == {name: f"./secrets/{name}" for name in files}
    for name, each in services().items():
        for value in map(str, each.get("environment", {}).values()):
            assert not re.search(r"://\w*:[^/@]+@", value), name
            assert not value.startswith("/run/secrets/") or value[13:] in each["secrets"], name
        named = re.findall(r"/run/secrets/(\w+)", str(each))
        assert set(each.get("secrets", [])) >= set(named), name
    assert "secrets" in (ROOT / ".gitignore").read_text()
    assert "!secrets" not in (ROOT / ".dockerignore").read_text()


def test_without_the_group_of_the_secrets_nothing_starts():
    text = (ROOT / "compose.yaml").read_text()
    assert text.count("SECRETS_GID:?") == len(re.findall(r"group_add:", text))


def test_our_containers_have_the_same_settings_and_they_exist():
    known = {*settings.names(), *settings.BY_FILE}
    for name in OURS:
        chosen = {
            k: v for k, v in services()[name]["environment"].items() if k.startswith("CHRONO_")
        }
        assert set(chosen) <= known
        assert chosen == {
            k: v for k, v in compose()["x-environment"].items() if k.startswith("CHRONO_")
        }
        assert services()[name]["environment"]["RAY_AUTH_MODE"] == "token"
        assert services()[name]["environment"].items() >= head.ROTATION.items()


def test_the_head_has_the_time_it_takes_to_drain_and_goes_before_its_worker():
    grace = seconds_of(services()["head"]["stop_grace_period"])
    assert grace >= owner.DRAIN_SECONDS + head.STOP_SECONDS + 15
    assert seconds_of(services()["worker"]["stop_grace_period"]) >= head.STOP_SECONDS
    assert "worker" in services()["head"]["depends_on"]  # who depends is stopped first
    assert "head" not in services()["worker"]["depends_on"]


@pytest.mark.parametrize(
    ("now", "waits"), [("00:00:00", 9000), ("02:29:59", 1), ("02:30:00", 86400), ("23:59:59", 9001)]
)
def test_a_backup_is_made_at_half_past_two_whatever_was_restarted_when(tmp_path, now, waits):
    hours, minutes, seconds = map(int, now.split(":"))
    at = 20_000 * 86400 + hours * 3600 + minutes * 60 + seconds
    told = nightly(
        tmp_path, date=f"echo {at}", sleep='echo "sleeps $1"',
        chrono='echo "chrono $1"; kill $PPID',
    )  # fmt: skip
    assert told.stdout.splitlines() == [f"sleeps {waits}", "chrono backup"]


@pytest.mark.parametrize(
    ("code", "says"),
    [(0, ""), (3, "a backup is made, but"), (1, "the backup failed"), (2, "the backup failed")],
)
def test_a_backup_that_lacks_bytes_is_not_called_failed_and_the_nights_go_on(tmp_path, code, says):
    twice = f'echo night; test -e "{tmp_path}/slept" && kill $PPID; touch "{tmp_path}/slept"'
    told = nightly(tmp_path, date="echo 0", sleep="", chrono=f"{twice}; exit {code}")
    assert told.stdout.splitlines() == ["night", "night"]
    assert told.stderr.count("\n") == bool(says)
    assert told.stderr.startswith(says)


def nightly(folder: Path, **programs: str) -> subprocess.CompletedProcess[str]:
    """What the container does every night, with these programs; one of them ends it."""
    for name, does in programs.items():
        (folder / name).write_text(f"#!/bin/sh\n{does}\n")
        (folder / name).chmod(0o755)
    return subprocess.run(
        services()["backup"]["command"], env={"PATH": f"{folder}:/usr/bin:/bin"},
        capture_output=True, timeout=20, check=False, text=True,
    )  # fmt: skip


def test_only_a_backup_that_is_whole_and_young_is_healthy(tmp_path):
    [kind, asked] = services()["backup"]["healthcheck"]["test"]
    backup = tmp_path / "20260302T023000.000Z"
    backup.mkdir()
    (backup / "record.dump").touch()

    def healthy() -> bool:
        command = ["/bin/sh", "-c", asked.replace("/backups", str(tmp_path))]
        return subprocess.run(command, timeout=20, check=False).returncode == 0

    assert kind == "CMD-SHELL"
    assert not healthy(), "half a backup"
    (backup / "manifest.json").touch()
    assert healthy()
    os.utime(backup / "manifest.json", (time.time() - 27 * 3600,) * 2)
    assert not healthy(), "of the day before yesterday"


def test_a_restore_may_have_what_the_stopped_head_has():
    text = (ROOT / "deploy" / "compose" / "restore.yaml").read_text()
    assert set(yaml.safe_load(text)["services"]) == {"backup"}
    limits = yaml.safe_load(text)["services"]["backup"]["deploy"]["resources"]["limits"]
    assert limits == services()["head"]["deploy"]["resources"]["limits"]
    assert "--file deploy/compose/restore.yaml" in OPERATIONS


def test_the_nightly_command_is_one_that_there_is():
    lines = services()["backup"]["command"][2].splitlines()
    [words] = [line.split("||")[0].split() for line in lines if "chrono " in line]
    assert words[:3] == ["chrono", "backup", "/backups"]
    shown = CliRunner().invoke(app, ["backup", "--help"]).stdout
    assert all(word in shown for word in words if word.startswith("--"))


def test_what_a_security_linter_finds_is_known():
    pytest.importorskip("compose_lint", reason="compose-lint is not installed")
    command = [sys.executable, "-m", "compose_lint", "--format", "json", ROOT / "compose.yaml"]
    told = subprocess.run(command, capture_output=True, timeout=60, check=False).stdout
    found = {
        (each["rule_id"], "RAY_AUTH_TOKEN_PATH" in each["message"])
        for each in json.loads(told)["findings"]
    }
    # No digest beside the tag (docs/operations.md says how to add it); a file's path is no secret.
    assert found <= {("CL-0019", False), ("CL-0020", True)}


def test_what_is_mounted_is_there():
    for name, each in services().items():
        for mount in each.get("volumes", []):
            source, target, *mode = mount.split(":")
            if source.startswith("./"):
                assert (ROOT / source).exists(), name
                assert mode == ["ro"], target
            else:
                assert source in compose()["volumes"], name


def test_logs_are_kept_only_when_asked_for():
    profiles = {name: each["profiles"] for name, each in services().items() if "profiles" in each}
    assert profiles == {"loki": ["logs"], "shipper": ["logs"]}


def test_prometheus_asks_where_things_are():
    chosen = yaml.safe_load((made.FOLDER / "prometheus.yml").read_text())
    jobs = {each["job_name"]: each for each in chosen["scrape_configs"]}
    [record] = jobs["chrono-record"]["static_configs"]
    assert record["targets"] == [f"ray-head:{settings.Serving().port}"]
    [nodes] = jobs["ray"]["dns_sd_configs"]
    aliases = [services()[name]["networks"]["private"]["aliases"][0] for name in ("head", "worker")]
    assert (nodes["names"], nodes["port"]) == (aliases, head.JOINED["metrics-export-port"])
    subnet = compose()["networks"]["private"]["ipam"]["config"][0]["subnet"]
    assert services()["head"]["environment"]["CHRONO_METRICS__FROM"] == subnet


def test_whom_prometheus_tells_is_a_file_of_the_operator_s():
    chosen = yaml.safe_load((made.FOLDER / "prometheus.yml").read_text())
    [told] = chosen["alerting"]["alertmanagers"]
    [[files]] = [each["files"] for each in told["file_sd_configs"]]
    [mount] = [each for each in services()["prometheus"]["volumes"] if "alertmanagers" in each]
    folder, inside, _ = mount.split(":")
    assert files == f"{inside}/*.yml"
    assert "*.yml" in (ROOT / folder / ".gitignore").read_text().split()
    assert f"cat > {folder.removeprefix('./')}/mine.yml" in OPERATIONS


def test_grafana_has_the_source_that_ray_s_panels_ask_for():
    text = (made.FOLDER / "grafana" / "datasources" / "chrono.yml").read_text()
    sources = {each["type"]: each for each in yaml.safe_load(text)["datasources"]}
    assert sources["prometheus"]["name"] == services()["head"]["environment"]["RAY_PROMETHEUS_NAME"]


def test_prometheus_accepts_its_configuration():
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed")
    command = [promtool, "check", "config", "--syntax-only", made.FOLDER / "prometheus.yml"]
    subprocess.run(command, check=True, capture_output=True, timeout=30)


def test_the_dockerfile_is_what_hadolint_accepts():
    hadolint = shutil.which("hadolint") or shutil.which(
        "hadolint", path=str(Path(sys.executable).parent)
    )
    if hadolint is None:
        pytest.skip("hadolint is not installed")
    found = subprocess.run(
        [hadolint, ROOT / "Dockerfile"], capture_output=True, timeout=30, check=False
    )
    assert (found.returncode, found.stdout) == (0, b"")


def test_the_image_holds_nothing_but_what_it_copies_and_does_not_run_as_root():
    text = (ROOT / "Dockerfile").read_text()
    copied = {
        word.removeprefix("./")
        for line in re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.MULTILINE)
        for word in line.split()
    }
    allowed = {
        line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] == "!"
    }
    assert copied == allowed
    assert all((ROOT / name).exists() for name in copied)
    stages = re.split(r"^FROM ", text, flags=re.MULTILINE)[2:]
    assert all(re.search(r"^USER [1-9]\d*:[1-9]\d*$", stage, re.MULTILINE) for stage in stages)


def test_secrets_are_made_once_private_and_random(tmp_path):
    def make() -> None:
        subprocess.run([made.FOLDER / "secrets.sh"], cwd=tmp_path, check=True, timeout=30)

    def kept() -> dict[str, str]:
        return {path.name: path.read_text() for path in (tmp_path / "secrets").iterdir()}

    make()
    first = kept()
    assert set(compose()["secrets"]) <= set(first)
    make()
    assert kept() == first
    assert stat.S_IMODE((tmp_path / "secrets").stat().st_mode) == 0o700
    group = {path.stat().st_gid for path in (tmp_path / "secrets").iterdir()}
    assert all(not path.stat().st_mode & 0o007 for path in (tmp_path / "secrets").iterdir())
    assert (tmp_path / ".env").read_text() == f"SECRETS_GID={group.pop()}\n"
    assert not group
    alone = [
        first[name]
        for name in ("postgres_password", "redis_password", "meilisearch_key", "ray_token")
    ]
    assert len({*alone, first["grafana_password"]}) == 5
    assert all(re.fullmatch("[0-9a-f]{64}", each) for each in alone)
    (tmp_path / "secrets" / "meilisearch_key").unlink()
    make()
    assert {name for name, text in kept().items() if text != first[name]} == {"meilisearch_key"}


def test_our_settings_can_be_read_from_what_was_made(tmp_path):
    subprocess.run([made.FOLDER / "secrets.sh"], cwd=tmp_path, check=True, timeout=30)
    chosen = {
        name: value.replace("/run/secrets", str(tmp_path / "secrets"))
        for name, value in services()["head"]["environment"].items()
    }
    loaded = settings.load(chosen)
    password = (tmp_path / "secrets" / "postgres_password").read_text()
    assert loaded.database_url is not None
    assert f":{password}@postgresql:5432/" in loaded.database_url.get_secret_value()
    assert loaded.redis_url is not None
    assert loaded.redis_url.get_secret_value().endswith("@redis:6379/0")


def test_a_compose_that_is_too_old_is_refused_before_anything_is_made(tmp_path: Path):
    docker = tmp_path / "docker"
    path = f"{tmp_path}:{os.environ['PATH']}"
    for version, old in (("", True), ("2.9.1", True), ("v2.23.3", True), ("2.24.0", False)):
        docker.write_text(f"#!/bin/sh\necho {version}\n")
        docker.chmod(0o755)
        done = subprocess.run(
            ["make", "-f", str(ROOT / "Makefile"), "compose-up"], cwd=tmp_path, text=True,
            env={**os.environ, "PATH": path}, capture_output=True, timeout=20, check=False,
        )  # fmt: skip
        assert done.returncode != 0, "nothing of ours is in this folder"
        assert ("2.24 or newer" in done.stderr) is old, (version, done.stderr)
        assert ("secrets.sh" in done.stderr) is not old, (version, done.stderr)

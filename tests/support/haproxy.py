"""HAProxy's configuration as Ray Serve writes it, for an API of one process."""

from __future__ import annotations

from pathlib import Path

from ray.serve._private.haproxy import BackendConfig, HAProxyApi, HAProxyConfig, ServerConfig
from ray.serve.config import HTTPOptions

from chrono_ray.cluster import front


async def written(
    folder: Path, *, host: str, port: int, replica: int, ports: front.Ports, check: str = "5s"
) -> str:
    """The text, which stands in `folder/haproxy.cfg` too; the socket is `folder/s`."""
    (folder / "servers").touch()
    chosen = HAProxyConfig(
        http_options=HTTPOptions(host=host, port=port), socket_path=str(folder / "s"),
        server_state_base=str(folder), server_state_file=str(folder / "servers"),
        stats_port=ports.statistics, metrics_port=ports.metrics, metrics_enabled=False,
        timeout_server_s=120, is_head=True, health_check_inter=check,
        retry_on="conn-failure empty-response",
    )  # fmt: skip
    backends = {
        name: BackendConfig(
            name=name, path_prefix=prefix, app_name=name,
            servers=[ServerConfig(name="one", host="127.0.0.1", port=replica)],
        )
        for name, prefix in (("api", "/"), ("live", "/api/v1/live"))
    }  # fmt: skip
    where = folder / "haproxy.cfg"
    HAProxyApi(chosen, backends, str(where))._generate_config_file_internal()
    return where.read_text()

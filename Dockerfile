# syntax=docker/dockerfile:1
# The image of chrono_ray (target `chrono`), and three of others' with a folder that their users may
# write to: a named volume begins with the owner that its folder has in the image.
# Versions are pinned by tag; `docker buildx imagetools inspect IMAGE` tells the digest to pin beside it.

FROM python:3.11.15-slim-trixie AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    URLLIB3_NO_OVERRIDE=1
WORKDIR /src
# What the project needs and nothing of its tests, in the pinned versions; kept as a layer of its own.
COPY pyproject.toml requirements.txt ./
RUN python -m venv /opt/chrono \
    && python -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['dependencies'], sep='\n')" > wanted.txt \
    && /opt/chrono/bin/pip install --constraint requirements.txt --requirement wanted.txt
COPY README.md LICENSE ./
COPY chrono_ray ./chrono_ray
RUN /opt/chrono/bin/pip install --constraint requirements.txt --no-deps .

FROM python:3.11.15-slim-trixie AS chrono
RUN groupadd --gid 10001 chrono \
    && useradd --uid 10001 --gid 10001 --home-dir /ray --no-create-home --shell /usr/sbin/nologin chrono \
    && install --directory --owner=chrono --group=chrono --mode=0700 /data /backups /ray \
    && install --directory --owner=chrono --group=chrono --mode=0755 /dashboards
COPY --from=build /opt/chrono /opt/chrono
COPY jobs /opt/chrono/jobs
ENV PATH=/opt/chrono/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/ray \
    TMPDIR=/ray \
    CHRONO_DATA_DIR=/data
WORKDIR /opt/chrono
USER 10001:10001
EXPOSE 8000
CMD ["python", "-m", "chrono_ray.cluster.owner"]

FROM getmeili/meilisearch:v1.53.1 AS meilisearch
RUN mkdir -p /meili_data/tmp && chown -R 10002:10002 /meili_data
ENV TMPDIR=/meili_data/tmp
USER 10002:10002

FROM timberio/vector:0.57.0-alpine AS shipper
RUN mkdir -p /var/lib/vector && chown 10001:10001 /var/lib/vector
USER 10001:10001

# The image of the gateway and of the Ray nodes: both need the same Python, the same Ray and the same kinds.

ARG BASE_IMAGE=python:3.11-slim-bookworm

FROM ${BASE_IMAGE} AS builder
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
RUN python3 -m venv /opt/jetray
# The packages first: this layer stays as it is until the lock changes.
COPY requirements-runtime.lock ./
RUN /opt/jetray/bin/python -m pip install --quiet --require-hashes -r requirements-runtime.lock
COPY pyproject.toml README.md LICENSE ./
COPY contracts contracts
COPY infra infra
COPY workers workers
RUN /opt/jetray/bin/python -m pip install --quiet --no-build-isolation --no-deps .

FROM ${BASE_IMAGE}
RUN groupadd --gid 10001 jetray && useradd --uid 10001 --gid 10001 --create-home --shell /usr/sbin/nologin jetray
COPY --from=builder /opt/jetray /opt/jetray
ENV PATH=/opt/jetray/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    RAY_ENABLE_UV_RUN_RUNTIME_ENV=0 \
    RAY_USAGE_STATS_ENABLED=0
USER 10001:10001
WORKDIR /home/jetray
ENTRYPOINT ["jetray"]
CMD ["worker"]

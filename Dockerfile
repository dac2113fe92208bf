# The worker as an image: docker build --tag prefect-gcp-cloud-run .
# docs/cloud-run-service.md says how to run it. The arguments after the image's name are those of `prefect worker start`.
ARG PYTHON=3.12
ARG DEBIAN=bookworm

# 1. The wheel, with link-time optimization.
FROM rust:1.95-slim-bookworm AS wheel
# Debian keeps one version of a package only: a pinned one would break the build with the next fix.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3-venv \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY docker/build.lock docker/
RUN python3 -m venv /opt/build \
    && /opt/build/bin/pip install --no-cache-dir --disable-pip-version-check --no-deps --require-hashes --requirement docker/build.lock
COPY Cargo.toml Cargo.lock pyproject.toml README.md LICENSE ./
COPY benches/core.rs benches/
COPY src src
COPY python python
COPY python-data python-data
RUN /opt/build/bin/maturin build --release --out /wheels

# 2. The packages, with the versions and hashes of the lock file.
FROM python:${PYTHON}-slim-${DEBIAN} AS packages
COPY docker/worker.lock /
RUN python -m venv /opt/worker \
    && /opt/worker/bin/pip install --no-cache-dir --disable-pip-version-check --no-deps --require-hashes --requirement /worker.lock
COPY --from=wheel /wheels /wheels
RUN /opt/worker/bin/pip install --no-cache-dir --disable-pip-version-check --no-deps --no-index /wheels/*.whl \
    && /opt/worker/bin/pip check \
    && /opt/worker/bin/prefect-gcp-cloud-run --version

# 3. What is left: Python, the packages, and a user that may write its home only.
FROM python:${PYTHON}-slim-${DEBIAN}
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="prefect-gcp-cloud-run" \
      org.opencontainers.image.description="The Prefect worker that runs flow runs as Google Cloud Run jobs" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
RUN groupadd --gid 10001 worker \
    && useradd --uid 10001 --gid worker --create-home --shell /usr/sbin/nologin worker
COPY --from=packages /opt/worker /opt/worker
# Cloud Run asks the port 8080 unless it is told otherwise.
ENV PATH=/opt/worker/bin:$PATH \
    PREFECT_HOME=/home/worker/.prefect \
    PREFECT_WORKER_WEBSERVER_HOST=0.0.0.0 \
    PREFECT_WORKER_WEBSERVER_PORT=8080 \
    PYTHONUNBUFFERED=1
# By number, so that Kubernetes can see that it is not root.
USER 10001:10001
WORKDIR /home/worker
EXPOSE 8080
# What /health says: whether the worker has polled its work pool lately.
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen('http://127.0.0.1:' + os.environ['PREFECT_WORKER_WEBSERVER_PORT'] + '/health', timeout=4)"]
# Without a shell in between, SIGTERM reaches the worker. `never`: nothing is installed over what is here.
ENTRYPOINT ["prefect", "worker", "start", "--type", "cloud-run", "--install-policy", "never", "--with-healthcheck"]
CMD ["--help"]

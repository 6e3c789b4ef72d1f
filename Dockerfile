# The image that every pod runs: target cpu, or gpu with TensorRT and pycuda.
#   docker build --target cpu --tag headrace:0.2.0-cpu .
# Bases are pinned by version; who needs them by digest puts @sha256:DIGEST behind it.
FROM python:3.12.11-slim-bookworm AS python
FROM nvidia/cuda:13.0.1-devel-ubuntu24.04 AS cuda-devel
FROM nvidia/cuda:13.0.1-runtime-ubuntu24.04 AS cuda

# What we are made of; of this folder, .dockerignore lets nothing else in.
FROM python AS sources
COPY pyproject.toml README.md /app/
COPY requirements/run.txt requirements/gpu.txt /app/requirements/
COPY autoscaling /app/autoscaling
COPY batching /app/batching
COPY cache /app/cache
COPY deployments /app/deployments
COPY engines /app/engines
COPY examples /app/examples
COPY headrace /app/headrace
COPY optimize /app/optimize
COPY rollout /app/rollout
COPY monitoring /app/monitoring
COPY profiling /app/profiling
COPY protocol /app/protocol

FROM python AS cpu-build
RUN python -m venv /opt/venv
COPY --from=sources /app/requirements/run.txt /tmp/
RUN /opt/venv/bin/pip install --no-cache-dir --require-hashes --no-deps -r /tmp/run.txt
COPY --from=sources /app /app
RUN sh /app/deployments/image.sh

# Ray takes no node whose Python differs from the head's, not even by its last number: so the same one everywhere.
FROM cuda-devel AS gpu-build
COPY --from=python /usr/local /usr/local
RUN ldconfig && python3 -m venv /opt/venv
COPY --from=sources /app/requirements /tmp/
RUN /opt/venv/bin/pip install --no-cache-dir --require-hashes --no-deps -r /tmp/run.txt
# pycuda is compiled here; TensorRT's package fetches its libraries from its vendor, past the hashes.
RUN sed -n '/^wheel/,/[^\\]$/p' /tmp/gpu.txt > /tmp/build.txt \
    && /opt/venv/bin/pip install --no-cache-dir --require-hashes --no-deps -r /tmp/build.txt \
    && PATH=/usr/local/cuda/bin:$PATH /opt/venv/bin/pip install --no-cache-dir --require-hashes --no-deps \
       --no-build-isolation -r /tmp/gpu.txt
COPY --from=sources /app /app
RUN sh /app/deployments/image.sh

FROM python AS cpu
COPY --from=cpu-build /opt/venv /opt/venv
COPY --from=cpu-build /app /app
COPY --from=cpu-build /usr/local/bin/headrace /usr/local/bin/ray /usr/local/bin/serve /usr/local/bin/
ENV PATH=/opt/venv/bin:$PATH PYTHONPATH=/app PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
WORKDIR /app
USER 10001:10001
HEALTHCHECK --start-period=60s CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/-/healthz', timeout=5)"]
CMD ["headrace", "--help"]

FROM cuda AS gpu
RUN apt-get update \
    && apt-get install --yes --no-install-recommends \
       ca-certificates libbz2-1.0 libffi8 liblzma5 libsqlite3-0 libssl3t64 zlib1g \
    && rm -rf /var/lib/apt/lists/*
COPY --from=python /usr/local /usr/local
RUN ldconfig
COPY --from=gpu-build /opt/venv /opt/venv
COPY --from=gpu-build /app /app
COPY --from=gpu-build /usr/local/bin/headrace /usr/local/bin/ray /usr/local/bin/serve /usr/local/bin/
ENV PATH=/opt/venv/bin:$PATH PYTHONPATH=/app PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
WORKDIR /app
USER 10001:10001
HEALTHCHECK --start-period=60s CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/-/healthz', timeout=5)"]
CMD ["headrace", "--help"]

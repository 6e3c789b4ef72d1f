#!/bin/sh
# What the Dockerfile's builds do last, with the locked packages in /opt/venv and our sources in /app.
set -eu
/opt/venv/bin/python -m pip install --no-cache-dir --no-deps --no-build-isolation --editable /app \
  --config-settings editable_mode=compat
# Where deployments/k8s/ray_service.py says that HAProxy lies, whatever the version of Python.
ln -s "$(/opt/venv/bin/python -c 'from ray.serve._private.haproxy import get_haproxy_binary as f; print(f())')" \
  /opt/venv/bin/haproxy
# A login shell, as older operators start Ray by, knows no other folder.
for name in headrace ray serve; do ln -s "/opt/venv/bin/$name" "/usr/local/bin/$name"; done
# Pods write no bytecode, and start sooner with it.
/opt/venv/bin/python -m compileall -q /app

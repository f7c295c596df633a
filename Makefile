# Momentum Serve: every task a developer, operator or visitor runs. `make help` lists them.
PYTHON ?= python3
HOST ?= 127.0.0.1
PORT ?= 8000
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help serve setup test test-docker coverage lint locks models bench bench-training bench-streaming bench-serving bench-page soak clean

help:  ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

serve: .venv/serve.stamp  ## Set up what serving needs and serve the shipped models (HOST, PORT)
	$(BIN)/python -m service --host $(HOST) --port $(PORT)

setup: .venv/dev.stamp  ## Set up .venv with everything for development

test: .venv/bin/python  ## Set up, check style, types and architecture, and run the tests
	$(MAKE) --jobs=2 .venv/dev.stamp .venv/kserve.stamp .venv/ray.stamp lint
	$(BIN)/python -m pytest --ignore tests/docker --numprocesses 4 --dist loadfile --no-loadscope-reorder

test-docker: .venv/dev.stamp  ## Build the images and test what docker compose runs (needs a Docker engine)
	$(BIN)/python -m pytest tests/docker

coverage: .venv/dev.stamp .venv/kserve.stamp .venv/ray.stamp  ## Run the tests and say which lines they miss (they take nearly twice as long)
	$(BIN)/python -m pytest --ignore tests/docker --cov --cov-report=term:skip-covered

lint: .venv/dev.stamp  ## Check style, types and import directions
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/hadolint Dockerfile

locks: .venv/dev.stamp  ## Renew the versions and hashes that the images are built from
	PATH="$(CURDIR)/$(BIN):$$PATH" deploy/locks.sh

models: .venv/dev.stamp  ## Train the shipped models from data and export them as new versions (hours)
	$(BIN)/python -m training fit --config training/recipes/digits.yaml \
		$$(test ! -f runs/digits/last.ckpt || echo --ckpt_path runs/digits/last.ckpt)
	$(BIN)/python -m exports runs/digits/best.ckpt --name digits
	$(BIN)/python -m training fit --config training/recipes/frames.yaml \
		$$(test ! -f runs/frames/last.ckpt || echo --ckpt_path runs/frames/last.ckpt)
	$(BIN)/python -m exports runs/frames/best.ckpt --name frames

bench: bench-training bench-streaming bench-serving bench-page  ## Run all benchmarks, into docs/results

bench-training: .venv/dev.stamp  ## Measure how fast the cells train, into docs/results (20 minutes on 2 cores)
	$(BIN)/python -m benchmarks.training

bench-streaming: .venv/dev.stamp  ## Measure how many live streams the service carries, into docs/results (3 minutes)
	$(BIN)/python -m benchmarks.streaming

bench-serving: .venv/dev.stamp  ## Measure the service beside other servers, into docs/results (20 minutes; needs wrk)
	$(BIN)/python -m benchmarks.serving
	$(BIN)/python -m benchmarks.serving.frontend

bench-page: .venv/dev.stamp  ## Measure how soon the page answers, and take its pictures (needs chromium)
	$(BIN)/python -m benchmarks.page

soak: .venv/dev.stamp  ## Load the service with everything at once, into docs/results (16 minutes)
	$(BIN)/python -m benchmarks.soak

clean:  ## Remove the virtual environment and what tools left; training runs stay
	rm -rf .venv build *.egg-info .coverage .coverage.* .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache

.venv/bin/python:
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "Python 3.11 or newer is needed: make PYTHON=..."'
	$(PYTHON) -m venv .venv

# An environment for development can serve too.
.venv/serve.stamp: pyproject.toml | .venv/bin/python
	test .venv/dev.stamp -nt pyproject.toml || $(BIN)/python -m pip install --quiet --editable '.[cpu]'
	touch $@

.venv/dev.stamp: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[cpu,train,dev]'
	$(BIN)/python -m models.kernels || echo 'Everything works without the kernels, some of it slower.'
	touch $@

# A foreign client for the tests, in an environment of its own: what it requires does not go with the rest.
.venv/kserve.stamp: | .venv/bin/python
	$(PYTHON) -m venv .venv/kserve
	.venv/kserve/bin/python -m pip install --quiet --no-compile 'kserve==0.21.0'
	touch $@

# Ray is as large as all the rest of what serving needs, and only its own tests want it. Not beside the other one that
# builds this project, into the same folder.
.venv/ray.stamp: pyproject.toml | .venv/dev.stamp
	$(PYTHON) -m venv .venv/ray
	.venv/ray/bin/python -m pip install --quiet --no-compile --editable '.[cpu,ray,batch,ray-data]'
	touch $@

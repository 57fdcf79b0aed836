# Each target sets up what it needs in a virtual environment of its own, with PYTHON: 3.11 to 3.13, as TensorFlow needs;
# for upscale-ready also 3.14.
PYTHON ?= python3

evaluate: .venv/ready  ## the paper's table and grids
	.venv/bin/python train.py --mode=evaluate

test: .venv/ready  ## lint, types and all tests, on TensorFlow
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/python -m pytest -q -n auto --dist=loadfile --no-loadscope-reorder

test-jax: .venv/ready .venv-jax/ready  ## on JAX, where TensorFlow is not installed, and one backend against the other
	JAX_PYTHON=.venv-jax/bin/python .venv/bin/python -m pytest -q tests/test_backends.py
	KERAS_BACKEND=jax .venv-jax/bin/python -m pytest -q -n auto --dist=loadfile --no-loadscope-reorder \
		--ignore=tests/test_quick.py --ignore=tests/test_backends.py

upscale-ready: .venv-upscale/ready  ## what upscale.py needs, and nothing else: half a minute

test-thorough: .venv/ready .venv-jax/ready  ## the numerical tests as other processors would run them; an hour or two
	tests/thorough.sh

test-ray: .venv-ray/ready  ## workers, nodes and commands that are killed, on a cluster of this machine
	PYTHONPATH=$(CURDIR) .venv-ray/bin/python -m pytest -n 0 tests/test_cluster.py tests/test_readme.py -k cluster

.venv/ready: requirements.txt requirements-study.txt
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install -q -r requirements.txt -r requirements-study.txt
	touch $@

.venv-jax/ready: requirements-jax.txt
	$(PYTHON) -m venv .venv-jax
	.venv-jax/bin/python -m pip install -q -r $<
	touch $@

.venv-upscale/ready: requirements-upscale.txt
	$(PYTHON) -m venv .venv-upscale
	.venv-upscale/bin/python -m pip install -q -r $<
	touch $@

.venv-ray/ready: requirements.txt requirements-ray.txt
	$(PYTHON) -m venv .venv-ray
	.venv-ray/bin/python -m pip install -q -r requirements.txt -r requirements-ray.txt 'ray[data]'
	touch $@

.PHONY: evaluate test test-jax test-ray test-thorough upscale-ready

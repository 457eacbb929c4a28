# A fresh Debian or Ubuntu with python3 >= 3.11 and make is enough; everything else is set up in .venv.
PYTHON ?= python3
SETUP = $(PYTHON) tools/setup.py
CHECK = .venv/bin/python tools/check.py

FUZZ_SECONDS ?= 300

.PHONY: help setup demo test test-all test-gpu gpu-box test-vllm fuzz lint format docs examples \
	binder screenshots clean

help:
	@echo "make demo       JupyterLab on the tour; HEADLESS=1: run the tour and print its times"
	@echo "make test       every gate and every test but the long and the GPU ones"
	@echo "make test-all   the long ones too"
	@echo "make test-gpu   those that need an NVIDIA GPU"
	@echo "make gpu-box    what a GPU machine without a network needs for those, into .gpu-box"
	@echo "make test-vllm  a real vLLM engine on the CPU, 3 GB in an environment of its own"
	@echo "make fuzz       atheris against all that reads a wheel, for FUZZ_SECONDS=300"
	@echo "make lint       ruff, mypy, import-linter, tsc and the panel's unit tests"
	@echo "make format     format what ruff can"
	@echo "make docs       write the generated pages of docs/ anew"
	@echo "make examples   run the notebooks of examples/ and keep what they show"
	@echo "make binder     what Binder would build and run, as a user made for it (root)"
	@echo "make screenshots the pictures of docs/pictures, out of the browser tests"
	@echo "make clean      remove everything that was set up or built here"

setup:
	@$(SETUP) dev criu browser frontend hub kvikio vllm

demo:
	@$(SETUP) criu
	@.venv/bin/python tools/demo.py

test:
	@$(SETUP) dev criu browser frontend hub kvikio vllm
	@$(CHECK) test

test-all:
	@$(SETUP) dev criu browser frontend hub kvikio vllm
	@$(CHECK) all

test-gpu:
	@$(PYTHON) tools/gpu_box.py set-up
	@test -d .gpu-box || $(SETUP) dev criu
	@$(CHECK) gpu

gpu-box:
	@$(SETUP) dev criu
	@.venv/bin/python tools/gpu_box.py pack

test-vllm:
	@$(SETUP) dev
	@.venv/bin/python tools/set_up_vllm.py engine
	@$(CHECK) vllm

fuzz:
	@$(SETUP) dev
	@.venv/bin/python tools/fuzz.py $(FUZZ_SECONDS)

lint:
	@$(SETUP) dev frontend
	@$(CHECK) lint

format:
	@$(SETUP) dev
	@.venv/bin/ruff format . && .venv/bin/ruff check --fix .

docs:
	@$(SETUP) dev
	@.venv/bin/python tools/write_docs.py

examples:
	@$(SETUP) dev criu
	@.venv/bin/python tools/run_examples.py

binder:
	@$(PYTHON) tools/try_binder.py

screenshots:
	@$(SETUP) dev criu browser frontend
	@.venv/bin/python tools/pictures.py --run

clean:
	rm -rf .venv dist build tests/servers/proxy/node_modules
	rm -rf labextension/node_modules labextension/lib labextension/*.tsbuildinfo
	rm -rf zerostart_jupyter/labextension tests/artifacts .coverage .hypothesis
	rm -rf .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

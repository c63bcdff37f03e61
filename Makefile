# defectd: `make` alone lists the targets. Needs Python 3.11 or newer, nothing else.
PYTHON ?= python3
VENV   ?= .venv
CONFIG ?= config.yaml
WORKERS ?= 2
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check install --progress-bar on

.DEFAULT_GOAL := help
.PHONY: help run test test-quick train-quick lint docs man pictures pictures-terminal pictures-diagrams wheels-arm64 test-arm64 soak-delivery test-install deb release bench clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: $(VENV)/.run ## install what the daemon needs and start it: generated strip, embedded broker
	@exec $(BIN)/defectd run -c $(CONFIG)

# Half of the suite is waiting for processes: two workers wait at the same time. WORKERS=0 runs one test after the other.
test: $(VENV)/.dev ## install everything and run the whole suite; WORKERS=
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

test-quick: $(VENV)/.dev ## the suite without the tests that start brokers, servers and daemons
	$(BIN)/python -m pytest -m "not system"

train-quick: $(VENV)/.dev ## the whole training pipeline on generated pictures of steel, in a few minutes; DATA=, OUT=
	@test -n "$(DATA)" || PYTHONPATH=. $(BIN)/python tests/trainer/steel_textures.py runs/steel
	$(BIN)/defectd-train all --quick --data $(or $(DATA),runs/steel) --out $(or $(OUT),runs/quick)

lint: $(VENV)/.dev ## ruff, mypy --strict and the import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(VENV)/.dev ## the reference pages from the code, then the documentation into site/
	$(BIN)/python tests/docs/reference_pages.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

man: $(VENV)/.dev ## manual pages of all commands, in dist/man
	PYTHONPATH=. $(BIN)/python deploy/man_pages.py dist/man

pictures-terminal: $(VENV)/.dev ## pictures of terminal screens for the documentation, in docs/terminal; needs tmux
	$(BIN)/python tests/docs/terminal_pictures.py

pictures-diagrams: $(VENV)/.dev ## diagrams of the documentation, in docs/diagrams; MERMAID= dist/mermaid.min.js of npm's mermaid 11
	$(BIN)/python tests/docs/diagrams.py $(MERMAID)

wheels-arm64: $(VENV)/.run ## does every dependency of the edge have a wheel for aarch64?
	PYTHON=$(BIN)/python tests/arm64.sh wheels

test-arm64: $(VENV)/.run ## the edge tests on an emulated aarch64, as root, on Debian; the first time takes long
	PYTHON=$(BIN)/python tests/arm64.sh test -q

soak-delivery: $(VENV)/.dev ## 15 minutes of kills and cuts: is any event lost? MINUTES=, SEED=, ROWS= (a tiny outbox)
	$(BIN)/python tests/system/soak_delivery.py --minutes $(or $(MINUTES),15) $(if $(SEED),--seed $(SEED)) $(if $(ROWS),--max-rows $(ROWS))

pictures: $(VENV)/.dev ## the pictures of the page in docs/web, from a real daemon in a browser; minutes
	$(BIN)/python tests/web/make_pictures.py

test-install: $(VENV)/.dev ## install.sh and the unit in a booted Debian container; as root, minutes
	$(BIN)/python -m pytest -m plant tests/plant

deb: ## a Debian package in dist/, for this release and architecture; needs dpkg-deb
	deploy/deb.sh dist

release: $(VENV)/.dev ## wheel, source archive, package and model with checksums, in dist/; KEY= signs the model
	BIN=$(BIN) KEY=$(KEY) deploy/release.sh dist

bench: $(VENV)/.run ## latency and throughput of this box
	$(BIN)/defectd bench

clean: ## remove the virtual environment and caches; keeps ./var
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "defectd needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1). Try: make $(MAKECMDGOALS) PYTHON=python3.11"; exit 1; }
	@echo "Making the virtual environment $(VENV) ..."
	@$(PYTHON) -m venv $(VENV) || \
	  { echo "No venv module. On Debian and Raspberry Pi OS: sudo apt-get install python3-venv"; rm -rf $(VENV); exit 1; }

# Python compiles what a command imports; to compile all of it takes as long as to install it.
$(VENV)/.run: setup.cfg pyproject.toml | $(BIN)/python
	@echo "Installing defectd and its dependencies (about 150 MB, once) ..."
	$(PIP) --no-compile -e '.[demo,report]'
	@echo 'Installed. To type defectd without its folder: . $(BIN)/activate'
	@touch $@

# The CPU build of torch comes first, by its exact version: a range would take the build with CUDA libraries.
$(VENV)/.dev: $(VENV)/.run setup.cfg
	@echo "Installing the trainer and the development tools ..."
	$(PIP) torch==2.13.0
	$(PIP) --no-deps torchvision==0.28.0
	$(PIP) -e '.[demo,report,trainer,dev]'
	@$(BIN)/python -m compileall -q $(VENV)/lib || true  # what .run left uncompiled: tests start hundreds of processes
	@touch $@

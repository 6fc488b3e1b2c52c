# The recipes of this repository. `make demo` and `make test` are all that a newcomer needs.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test check golden bench build clean

demo: .venv/installed          # see it all work on synthetic records; ARGS=--once ends by itself
	-@sh scripts/fetch_servers.sh
	@$(BIN)/sqm demo $(ARGS)

test: .venv/installed-dev      # all tests; ARGS="-k name" for some of them
	sh scripts/fetch_servers.sh
	$(BIN)/python -m pytest $(ARGS)

check: .venv/installed-dev     # formatting, lint, types, import rules, content, rendered files
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	PYTHONPATH=. $(BIN)/lint-imports
	$(BIN)/sqm check
	$(BIN)/sqm render --check
	sh scripts/fetch_servers.sh
	PATH=.tools/usr/bin:$$PATH promtool check config dashboards/prometheus/prometheus.yaml
	PATH=.tools/usr/bin:$$PATH amtool check-config dashboards/alertmanager/alertmanager.yaml

golden: .venv/installed-dev    # write again what is derived from other files
	$(BIN)/sqm render
	$(BIN)/python scripts/render_vocabulary.py

bench: .venv/installed-dev     # ratios measured side by side, one script per claim
	for script in bench/*.py; do $(BIN)/python $$script; done

build: .venv/installed-dev     # wheel and sdist into dist/
	$(BIN)/python -m build

clean:                         # all that was made here, the demo's data and results too
	rm -rf .venv .tools dist build data var examples/*/var

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(PIP) --editable .
	@touch $@

.venv/installed-dev: .venv/installed
	$(PIP) --editable '.[dev]'
	@touch $@

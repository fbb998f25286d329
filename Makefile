# make ablation   the README's main job: six objectives, one decoder, one report
# make test       everything that must hold
# make lint       style and types
# make install    only the environment: .venv/bin/unmask
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --no-compile -c constraints.txt

.PHONY: ablation install test lint browser clean

ablation: $(VENV)/.run
	$(BIN)/unmask sweep --gin_file=gin/sweeps/core.gin

install: $(VENV)/.run

test: $(VENV)/.test lint browser
	$(BIN)/pytest -n 3 --dist loadfile --no-loadscope-reorder $$($(PYTHON) tests/browser.py) $$($(BIN)/python tests/t5x_source.py) $$($(BIN)/python tests/other_python.py)

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyrefly check

# In a container, where one is root, the browser is Debian's; nobody else's machine gets packages.
browser:
	@$(PYTHON) tests/browser.py 2>/dev/null | grep -q ignore && test "$$(id -u)" = 0 && command -v apt-get >/dev/null && \
		echo 'Installing Chromium' && timeout 300 sh -c 'apt-get -qq update && \
		DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends chromium' >/dev/null 2>&1 || true

$(VENV)/.run: requirements.txt constraints.txt pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 11) <= v < (3, 13) else "unmask needs Python 3.11 or 3.12; this is %d.%d: run make PYTHON=python3.11" % v)'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo 'Installing pinned requirements into $(VENV) (1 to 3 minutes the first time)'
	@$(PIP) -r requirements.txt
	@$(PIP) --no-deps --editable .
	@touch $@

$(VENV)/.test: $(VENV)/.run requirements-test.txt
	@echo 'Adding the test tools'
	@$(PIP) -r requirements-test.txt
	@touch $@

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .hypothesis .ruff_cache

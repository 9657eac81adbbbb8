# `make run` and `make test` need Python >= 3.11 and nothing else.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: run test lint format messages lock bench flood soak

run: .venv/run .env
	@$(BIN)/python manage.py demo --migrate
	@$(BIN)/python manage.py serve

# All tests of a module run in the same process. Browser tests run separately, because they share browsers and servers.
# Many tests wait for a process or a page, so there are two workers for each core.
export PYTEST_XDIST_AUTO_NUM_WORKERS := $(shell echo $$(($$(getconf _NPROCESSORS_ONLN) * 2)))
PYTEST := $(BIN)/pytest -n auto --maxprocesses=8 --dist=loadscope --no-loadscope-reorder --durations=20
# Write .pyc files: tests start hundreds of processes, which start faster with them.
unexport PYTHONDONTWRITEBYTECODE
# Tests of servers and pages wait for them a limited time. What fails where many share the machine runs once more, alone,
# and has to pass then: the first that fails again ends it. The output shows both.
ALONE := $(BIN)/pytest -n0 --last-failed --last-failed-no-failures=none --maxfail=1
test: .venv/dev lint
	$(PYTEST) --ignore=tests/browser || $(ALONE)
	$(PYTEST) tests/browser || $(ALONE)

lint: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/djlint templates --lint --quiet
	$(BIN)/lint-imports

format: .venv/dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Collect the translatable texts and compile the translations. Needs GNU gettext.
LANGUAGES := de fr es pt it nl pl ja zh_Hans ar he
messages: .venv/dev .env
	$(BIN)/python manage.py makemessages --no-obsolete --no-location --no-wrap $(LANGUAGES:%=--locale=%) \
		--ignore=.venv --ignore=build --ignore=tests
	$(BIN)/python manage.py compilemessages --ignore=.venv --ignore=build

bench: .venv/dev
	$(BIN)/python -m tests.bench

flood: .venv/dev
	$(BIN)/python -m tests.flood

# Long tests with failing servers, databases and connections: 30 minutes. They need chromium, nginx, redis-server, postgresql and mariadb-server.
soak: .venv/dev .env
	$(BIN)/python -m tests.soak

# Upgrade all dependencies. The locks have names, versions and hashes, and no index URL.
COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url
lock: .venv/dev
	$(COMPILE) --upgrade pyproject.toml -o requirements/run.txt
	$(COMPILE) --upgrade pyproject.toml --extra sentry -c requirements/run.txt -o requirements/sentry.txt
	$(COMPILE) --upgrade pyproject.toml --extra analysis -c requirements/run.txt -o requirements/analysis.txt
	$(COMPILE) --upgrade pyproject.toml --group dev -c requirements/run.txt -o requirements/dev.txt

# For `make run`: debug mode, which answers only requests of this machine.
.env:
	@umask 077 && printf '# Made by `make run`, to try Chatsite on this machine. See .env.example for all settings.\nDEBUG=on\n' > $@

.venv/pip:
	$(PYTHON) -c 'import sys; sys.exit("Chatsite needs Python 3.11 or newer.") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv .venv
	@touch $@

# The time of the files .venv/run and .venv/dev is that of the last installation: make installs only after a change.
.venv/run: .venv/pip requirements/run.txt
	@echo "Installing the dependencies into .venv. This takes a minute or two."
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/run.txt
	@touch $@

.venv/dev: .venv/pip requirements/run.txt requirements/dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@touch $@ .venv/run

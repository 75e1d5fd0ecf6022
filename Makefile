# The commands of the project; `make help` lists them.
# Python 3.11 or 3.12; found on PATH unless named: make run PYTHON=/path/to/python3.11
PYTHON ?= $(shell for python in python3.11 python3.12 python3 python; do \
	"$$python" -c '$(IS_SUPPORTED)' 2>/dev/null && echo "$$python" && break; done)
AWS_PORT ?= 5555
WEB_PORT ?= 8083
DASHBOARD_PORT ?= 8501
# As given: no $ in a path is make's to expand.
override DATA := $(value DATA)
override DATES := $(value DATES)
override RUN := $(value RUN)
export DATA DATES RUN

# Packages of another environment must not mix with those of the lock.
unexport PYTHONPATH PYTHONHOME

IS_SUPPORTED = import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))
INSTALLED = .venv/.installed-from-lock
CLASSES_ARCHIVED = .venv/.spark-classes-archived
AIRFLOW3_INSTALLED = .venv-airflow3/.installed-from-lock
DASHBOARD_INSTALLED = .venv-dashboard/.installed-from-lock
COMMAND = .venv/bin/python -m include.local_airflow
UV = uv==0.13.9
# A day on which the tests passed with the newest packages; for Airflow 2, pyproject.toml names one.
AIRFLOW3_PACKAGES_OF = 2026-11-20T00:00:00Z
# Of the random sequences of the fault tests.
SEED ?= 1

.PHONY: help run reprocess redrive up dashboard down doctor test test-faults test-browser test-airflow3 test-containers \
	bench lint fix lock clean

help: ## Say what each command does
	@echo 'make COMMAND, where COMMAND is:'
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  %-15s %s\n", $$1, $$2 }' Makefile
	@echo 'Ports of local AWS, of the UI and of the dashboard:' \
		'AWS_PORT=$(AWS_PORT) WEB_PORT=$(WEB_PORT) DASHBOARD_PORT=$(DASHBOARD_PORT)'

run: $(INSTALLED) ## Run the pipeline once on sample data, or on your own: make run DATA=folder
	@$(COMMAND) run --aws-port '$(AWS_PORT)' -- "$$DATA"

reprocess: $(INSTALLED) ## Compute days again with today's catalogs: make reprocess DATES=2024-06-25,2024-06-26 [DATA=folder]
	@$(COMMAND) reprocess --aws-port '$(AWS_PORT)' -- "$$DATES" "$$DATA"

redrive: $(INSTALLED) ## Bring back, corrected, what a run put into quarantine: make redrive [RUN=run_key]
	@$(COMMAND) redrive --aws-port '$(AWS_PORT)' -- "$$RUN"

up: $(INSTALLED) ## Start the pipeline under a scheduler, with Airflow's UI on WEB_PORT
	@$(COMMAND) up --aws-port '$(AWS_PORT)' --web-port '$(WEB_PORT)'

dashboard: $(INSTALLED) $(DASHBOARD_INSTALLED) ## Start the dashboard on DASHBOARD_PORT, on local AWS
	@$(COMMAND) dashboard --aws-port '$(AWS_PORT)' --dashboard-port '$(DASHBOARD_PORT)'

# Without the environment nothing can have been started; a newer lock must not replace what is running.
down: ## Stop all that run, up and dashboard started
	@if [ -e $(INSTALLED) ]; then $(COMMAND) down; else echo 'Nothing was running.'; fi

doctor: $(INSTALLED) ## Say what is missing or wrong in settings and AWS: those of .env, else local AWS
	@.venv/bin/python -m include.doctor --aws-port '$(AWS_PORT)'

test: $(INSTALLED) $(DASHBOARD_INSTALLED) ## Run the tests: of the faults a fast cut, none in a browser
	@echo 'Running the tests'
	@.venv/bin/python -m pytest -m 'not slow'
	@.venv-dashboard/bin/python -m pytest tests/dashboard

test-faults: $(INSTALLED) ## Let everything go wrong that can, at every AWS call; ends with a table [SEED=number]
	@echo 'Running the fault tests; this takes 20 to 30 minutes'
	@.venv/bin/python -m pytest -m scenarios --all-scenarios --hypothesis-seed='$(SEED)' --durations=10

test-browser: $(INSTALLED) $(DASHBOARD_INSTALLED) ## Run the tests of Airflow's UI and of the dashboard in Chromium
	@echo 'Running the tests in Chromium; screenshots are kept in .local/screenshots'
	@.venv-dashboard/bin/python -m pytest tests/browser

# Not the notes on runs: callbacks of Airflow 3 do not reach its database.
test-airflow3: $(AIRFLOW3_INSTALLED) ## Run the tests of the DAG, of its helpers and of whole runs on Airflow 3
	@echo 'Running the tests on Airflow 3'
	@.venv-airflow3/bin/python -m pytest -m 'not slow' .astro tests/dags --ignore tests/dags/helpers/test_note_run.py \
		tests/e2e/test_dag_runs.py tests/e2e/test_dag_runs_that_fail.py tests/include/local_airflow/test_pipeline_run.py

test-containers: $(INSTALLED) ## Build the image and run the DAG in the containers of `astro dev start`, with podman
	@echo 'Running the tests of the containers; logs are kept in .local/test-containers'
	@.venv/bin/python -m pytest tests/containers; status=$$?; \
		cat .local/test-containers/figures.json 2>/dev/null; exit $$status

bench: $(INSTALLED) ## Measure beside references: make bench [PARTS='ingest glue_job ...'] [SIZES=...] [REPEAT=3]
	@.venv/bin/python -m tests.benchmarks $(PARTS) $(if $(SIZES),--sizes $(SIZES)) $(if $(REPEAT),--repeat $(REPEAT))

lint: $(INSTALLED) ## Check code style and types, and change nothing
	@echo 'Checking with ruff and mypy'
	@.venv/bin/python -m ruff check --no-cache
	@.venv/bin/python -m ruff format --check
	@.venv/bin/python -m mypy dags/helpers glue_script include dashboard

fix: $(INSTALLED) ## Mend what ruff can mend, and format
	@echo 'Mending and formatting with ruff'
	@.venv/bin/python -m ruff check --fix
	@.venv/bin/python -m ruff format

lock: ## Resolve all locks again: of the tools, of Airflow 3 and of the dashboard
	@$(require_python)
	@echo 'Resolving three requirements files with $(UV)'
	@"$(PYTHON)" -m venv --clear .local/lock-venv
	@.local/lock-venv/bin/python -m pip install --quiet --disable-pip-version-check '$(UV)'
	@.local/lock-venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-header requirements-dev.txt -o requirements-lock.txt
	@.local/lock-venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-header --exclude-newer $(AIRFLOW3_PACKAGES_OF) \
		requirements-airflow3.txt -o requirements-airflow3-lock.txt
	@.local/lock-venv/bin/uv pip compile --no-config --quiet --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-header dashboard/requirements-dev.txt -o dashboard/requirements-lock.txt

clean: down ## Stop everything and remove the environments, local state and caches
	@echo 'Removing .venv*, .local and caches'
	@rm -rf .venv .venv-airflow3 .venv-dashboard .local .mypy_cache .pytest_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Made anew each time: an environment whose making was interrupted is not to be trusted, and one of an
# older lock has packages that the new one does not name.
$(INSTALLED): requirements-lock.txt
$(AIRFLOW3_INSTALLED): requirements-airflow3-lock.txt
$(DASHBOARD_INSTALLED): dashboard/requirements-lock.txt
$(INSTALLED) $(AIRFLOW3_INSTALLED) $(DASHBOARD_INSTALLED):
	@$(require_python)
	@echo 'Making the Python environment in $(@D) from $<; this takes a few minutes, once'
	@"$(PYTHON)" -m venv --clear $(@D)
	@$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r $<
	@touch $@

# A prerequisite of what runs this environment's Spark. A Java that cannot archive classes is none to stop for.
run reprocess up test test-faults test-browser bench: $(CLASSES_ARCHIVED)
$(CLASSES_ARCHIVED): $(INSTALLED)
	@echo "Archiving Spark's classes, from which it starts sooner; this takes half a minute, once"
	@.venv/bin/python -m include.local_aws.class_archive || \
		echo 'Spark does without: each start takes seconds longer. To try again: rm $@'
	@touch $@

define require_python
if ! "$(PYTHON)" -c '$(IS_SUPPORTED)' 2>/dev/null; then \
	echo 'Error: Python 3.11 or 3.12 is needed$(if $(PYTHON),; PYTHON=$(PYTHON) is neither). Install one of them,' \
		'or name it: make PYTHON=/path/to/python3.11' >&2; exit 1; fi
endef

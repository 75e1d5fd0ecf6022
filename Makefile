# The commands of the project; `make help` lists them.
# Python 3.11 or 3.12 from PATH, or the one that you name: make run PYTHON=/path/to/python3.11
PYTHON ?= $(shell for python in python3.11 python3.12 python3 python; do \
	"$$python" -c '$(IS_SUPPORTED)' 2>/dev/null && echo "$$python" && break; done)
# Airflow 2, which the image has, or 3. An AIRFLOW of the shell may mean something else, so it is ignored.
AIRFLOW = 2
TAKE_AIRFLOW = help run reprocess redrive replay forget up dashboard down doctor
AWS_PORT ?= 5555
WEB_PORT ?= 8083
DASHBOARD_PORT ?= 8501
# Names of the variables on make's command line. A command uses or refuses each of them, and ignores the shell's.
GIVEN_SETTINGS := $(strip $(foreach name,$(.VARIABLES),$(if $(filter command,$(firstword $(origin $(name)))),$(name))))
# `value` keeps make from expanding a $ in a path.
override DATA := $(value DATA)
override DATES := $(value DATES)
override RUN := $(value RUN)
override REMOVE := $(value REMOVE)
override QUERY := $(value QUERY)
# The shell has a USER of its own.
override USERS_TO_FORGET := $(if $(filter command,$(firstword $(origin USER))),$(value USER))
override FILE := $(value FILE)
export DATA DATES RUN REMOVE QUERY USERS_TO_FORGET FILE GIVEN_SETTINGS

# Packages of another environment must not mix with the locked ones.
unexport PYTHONPATH PYTHONHOME

ifeq ($(value AIRFLOW),2)
ENVIRONMENT = .venv
else ifeq ($(value AIRFLOW),3)
ENVIRONMENT = .venv-airflow3
else
$(error AIRFLOW is '$(value AIRFLOW)', but it must be 2 or 3, as in: make up AIRFLOW=3)
endif
ifeq ($(origin AIRFLOW),command line)
ifneq ($(filter-out $(TAKE_AIRFLOW),$(MAKECMDGOALS)),)
$(error make $(filter-out $(TAKE_AIRFLOW),$(MAKECMDGOALS)) does not take AIRFLOW; make test-airflow3 tests on Airflow 3)
endif
endif

IS_SUPPORTED = import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))
AIRFLOW2_INSTALLED = .venv/.installed-from-lock
# Of the chosen version, as is ENVIRONMENT. A command that does not take AIRFLOW has Airflow 2.
INSTALLED = $(ENVIRONMENT)/.installed-from-lock
CLASSES_ARCHIVED = $(ENVIRONMENT)/.spark-classes-archived
S3A_JARS = .local/s3a-jars
AIRFLOW3_INSTALLED = .venv-airflow3/.installed-from-lock
DASHBOARD_INSTALLED = .venv-dashboard/.installed-from-lock
COMMAND = $(ENVIRONMENT)/bin/python -m include.commands
UV = uv==0.13.9
# A day on which the tests passed with the newest packages; pyproject.toml has the day for Airflow 2.
AIRFLOW3_PACKAGES_OF = 2026-11-20T00:00:00Z
# Seed of the random sequences in the fault tests.
SEED ?= 1
# Each process has its own local AWS, Airflow and Spark. More processes would cost memory and save little time.
IN_PARALLEL = -n logical --maxprocesses 4 --dist worksteal
# A file stays in one process, so only one starts Spark. The tests of the three tasks with the most calls of AWS take
# as long as all others.
FAST_TESTS = -m 'not slow' $(IN_PARALLEL) --dist loadfile tests/dags/helpers tests/plugins \
	tests/dags/test_dag_example.py tests/glue_script/test_glue_script.py \
	$(foreach task,trigger_glue_job store_kpis_in_dynamodb archive_streams_data,--ignore tests/dags/helpers/test_$(task).py)

.PHONY: help run reprocess redrive replay forget up dashboard down doctor sql smoke test test-fast test-faults test-browser \
	test-s3a test-airflow3 test-containers bench bench-quick lint fix lock clean

help: ## List the commands
	@echo 'make COMMAND, where COMMAND is:'
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  %-15s %s\n", $$1, $$2 }' Makefile
	@echo 'run, reprocess, redrive, replay, forget, up, dashboard and doctor take AIRFLOW=3: Airflow 3 in place of Airflow 2'
	@echo 'Ports of local AWS, of the UI and of the dashboard:' \
		'AWS_PORT=$(AWS_PORT) WEB_PORT=$(WEB_PORT) DASHBOARD_PORT=$(DASHBOARD_PORT)'

run: $(INSTALLED) ## Run the pipeline once on sample data, or on your own: make run DATA=folder
	@$(COMMAND) run --aws-port '$(AWS_PORT)' $(if $(ACCEPT_CHECKS),--accept-checks) -- "$$DATA"

reprocess: $(INSTALLED) ## Reprocess days with the current catalogs: make reprocess DATES=2024-06-25,2024-07-01..2024-07-31 [DATA=folder]
	@$(COMMAND) reprocess --aws-port '$(AWS_PORT)' $(if $(ACCEPT_CHECKS),--accept-checks) -- "$$DATES" "$$DATA"

redrive: $(INSTALLED) ## Fetch a run's quarantined data, then redeliver the corrected files: make redrive [RUN=run_key]
	@$(COMMAND) redrive --aws-port '$(AWS_PORT)' -- "$$RUN"

replay: $(INSTALLED) ## Put archived files back, by listen days or run: make replay DATES=2024-06-01..2024-06-30 [RUN=run_key] [YES=yes]
	@$(COMMAND) replay --aws-port '$(AWS_PORT)' $(if $(YES),--yes) -- "$$DATES" "$$RUN"

forget: $(INSTALLED) ## Remove users from every copy, and reprocess their days: make forget USER=id,id [FILE=ids.txt] [REFUSE=yes] [YES=yes]
	@$(COMMAND) forget --aws-port '$(AWS_PORT)' $(if $(YES),--yes) $(if $(REFUSE),--refuse) -- "$$USERS_TO_FORGET" "$$FILE"

up: $(INSTALLED) $(DASHBOARD_INSTALLED) ## Start the pipeline with a scheduler, Airflow's UI (WEB_PORT) and the dashboard [AIRFLOW=3 STREAMS_QUEUE=name]
	@$(COMMAND) up --aws-port '$(AWS_PORT)' --web-port '$(WEB_PORT)' --dashboard-port '$(DASHBOARD_PORT)'

dashboard: $(INSTALLED) $(DASHBOARD_INSTALLED) ## Start the dashboard for local AWS, on DASHBOARD_PORT
	@$(COMMAND) dashboard --aws-port '$(AWS_PORT)' --dashboard-port '$(DASHBOARD_PORT)'

# Without an environment nothing was started; each one stops what both started. It is not a prerequisite, because a
# newer lock must not replace it now.
down: ## Stop everything that run, up and dashboard started
	@for installed in $(AIRFLOW2_INSTALLED) $(AIRFLOW3_INSTALLED); do \
		if [ -e $$installed ]; then exec $${installed%/*}/bin/python -m include.commands down; fi; \
	done; echo 'Nothing was running.'

doctor: $(INSTALLED) ## Check the settings, AWS resources and rights of .env, or of local AWS
	@$(ENVIRONMENT)/bin/python -m include.doctor --aws-port '$(AWS_PORT)'

sql: $(INSTALLED) ## Ask the archive by SQL, with DuckDB: make sql [QUERY='SELECT ...' [FORMAT=csv]]
	@.venv/bin/python -m include.sql --aws-port '$(AWS_PORT)' $(if $(FORMAT),--format '$(FORMAT)') -- "$$QUERY"

smoke: $(INSTALLED) ## Prove on your AWS account what local AWS cannot; asks first, removes everything [REMOVE=suffix]
	@.venv/bin/python -m include.smoke $(if $(REMOVE),--remove "$$REMOVE")

test: $(INSTALLED) $(DASHBOARD_INSTALLED) ## Run the tests, without slow ones such as the scenarios of whole runs, and those in a browser
	@echo 'Running the tests'
	@.venv/bin/python -m pytest -m 'not slow' $(IN_PARALLEL)
	@.venv-dashboard/bin/python -m pytest tests/dashboard

test-fast: $(INSTALLED) ## Run most tests of the DAG, its helpers and the Glue script's functions, in a minute
	@echo 'Running the fast tests'
	@.venv/bin/python -m pytest $(FAST_TESTS)

test-faults: $(INSTALLED) ## Run every scenario, and inject every failure at every AWS call; ends with a table [SEED=number]
	@echo 'Running the fault tests; this takes 10 to 35 minutes'
	@.venv/bin/python -m pytest -m scenarios $(IN_PARALLEL) --all-scenarios --hypothesis-seed='$(SEED)' --durations=10

test-browser: $(INSTALLED) $(AIRFLOW3_INSTALLED) $(DASHBOARD_INSTALLED) ## Test both Airflows' UIs and the dashboard in Chromium
	@echo 'Running the tests in Chromium; screenshots are kept in .local/screenshots'
	@.venv-dashboard/bin/python -m pytest tests/browser

test-s3a: $(INSTALLED) $(S3A_JARS) ## Test the Glue script on Hadoop's S3A, as on Glue 5.1, under its role
	@echo 'Running the Glue script on S3A; this takes a few minutes'
	@.venv/bin/python -m pytest tests/s3a

test-airflow3: $(AIRFLOW3_INSTALLED) ## Test the DAG, its helpers, whole runs and the commands on Airflow 3
	@echo 'Running the tests on Airflow 3'
	@.venv-airflow3/bin/python -m pytest -m 'not slow or scenarios' .astro tests/dags tests/plugins \
		tests/e2e/test_dag_runs.py tests/e2e/test_dag_runs_that_fail.py tests/e2e/test_deployments.py \
		tests/include/commands/test_airflow_version.py tests/include/commands/test_commands.py \
		tests/include/commands/test_pipeline_run.py tests/include/commands/test_scheduled_run.py
	@echo 'Running the tests whose services start runs by event, fail or are killed'
	@.venv-airflow3/bin/python -m pytest tests/e2e/test_services_killed.py tests/e2e/test_announced_files.py \
		tests/e2e/test_lineage.py

test-containers: $(INSTALLED) ## Test the image and the services of `astro dev start`, with podman
	@echo 'Running the tests of the containers; logs are kept in .local/test-containers'
	@.venv/bin/python -m pytest tests/containers; status=$$?; \
		tail -n +1 .local/test-containers/*/figures.json 2>/dev/null; exit $$status

bench: $(INSTALLED) $(DASHBOARD_INSTALLED) ## Measure the parts beside references: make bench [PARTS='ingest glue_job ...'] [SIZES=...] [REPEAT=3]
	@.venv/bin/python -m tests.benchmarks $(PARTS) $(if $(SIZES),--sizes $(SIZES)) $(if $(REPEAT),--repeat $(REPEAT))

bench-quick: $(INSTALLED) ## Measure ingest and Glue job on little data; fails if a ratio is a quarter worse than usual
	@.venv/bin/python -m tests.benchmarks --quick --json .local/benchmarks-quick.json

lint: $(INSTALLED) ## Check style and types, change nothing
	@echo 'Checking with ruff and mypy'
	@.venv/bin/python -m ruff check --no-cache
	@.venv/bin/python -m ruff format --check
	@.venv/bin/python -m mypy dags plugins glue_script include dashboard

fix: $(INSTALLED) ## Fix and format with ruff
	@echo 'Fixing and formatting with ruff'
	@.venv/bin/python -m ruff check --fix
	@.venv/bin/python -m ruff format

lock: ## Resolve all locks again: the tools', Airflow 3's, the dashboard's and uv's
	@$(require_python)
	@echo 'Resolving four requirements files with $(UV)'
	@"$(PYTHON)" -m venv --clear .local/lock-venv
	@.local/lock-venv/bin/python -m pip install --quiet --disable-pip-version-check '$(UV)'
	@.local/lock-venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-header requirements-dev.txt -o requirements-lock.txt
	@.local/lock-venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-header --exclude-newer $(AIRFLOW3_PACKAGES_OF) \
		requirements-airflow3.txt -o requirements-airflow3-lock.txt
	@.local/lock-venv/bin/uv pip compile --no-config --quiet --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-header dashboard/requirements-dev.txt -o dashboard/requirements-lock.txt
	@echo '$(UV)' | .local/lock-venv/bin/uv pip compile --no-config --quiet --universal --python-version 3.11 \
		--generate-hashes --no-emit-index-url --no-header --no-annotate - -o requirements-uv.txt

clean: down ## Stop everything and remove the environments, local state and caches
	@echo 'Removing .venv*, .local and caches'
	@rm -rf .venv .venv-airflow3 .venv-dashboard .local .mypy_cache .pytest_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Always created from scratch. An interrupted installation leaves a partial environment, and an older lock leaves
# packages that the new one does not name.
$(AIRFLOW2_INSTALLED): requirements-lock.txt requirements-uv.txt
$(AIRFLOW3_INSTALLED): requirements-airflow3-lock.txt requirements-uv.txt
$(DASHBOARD_INSTALLED): dashboard/requirements-lock.txt requirements-uv.txt
$(AIRFLOW2_INSTALLED) $(AIRFLOW3_INSTALLED) $(DASHBOARD_INSTALLED):
	@$(require_python)
	@echo 'Creating the Python environment in $(@D) from $<; this takes half a minute to a few minutes, once'
	@"$(PYTHON)" -m venv --clear $(@D)
	@$(install_locked)
	@touch $@

# A prerequisite of the commands that run Spark. They also work if Java cannot archive classes.
run reprocess forget up test test-fast test-faults test-browser bench bench-quick: $(CLASSES_ARCHIVED)
$(CLASSES_ARCHIVED): $(INSTALLED)
	@echo "Archiving Spark's classes, so Spark starts faster; this takes half a minute, once"
	@$(ENVIRONMENT)/bin/python -m include.local_aws.class_archive || \
		echo 'Spark works without the archive, but starts seconds later. To try again: rm $@'
	@touch $@

$(S3A_JARS): tests/s3a/ivy.xml tests/s3a/jars.sha256 | $(INSTALLED)
	@echo 'Fetching S3A into $@ from Maven Central, 610 MB, once'
	@.venv/bin/python -m tests.s3a.jars
	@touch $@

# pip installs uv, which installs the rest several times faster. If uv is not available, or cannot reach the index of
# pip's settings, pip installs everything. --no-config: the settings in pyproject.toml are for resolving.
define install_locked
if ! { $(@D)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-uv.txt && \
	$(@D)/bin/uv pip install --quiet --no-config --python $(@D) --no-deps --require-hashes --compile-bytecode -r $<; }; then \
	echo 'Installing with pip instead; this takes a few minutes'; \
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r $<; fi
endef

define require_python
if ! "$(PYTHON)" -c '$(IS_SUPPORTED)' 2>/dev/null; then \
	echo 'Error: Python 3.11 or 3.12 is needed$(if $(PYTHON),; PYTHON=$(PYTHON) is neither). Install one of them,' \
		'or name it: make PYTHON=/path/to/python3.11' >&2; exit 1; fi
endef

# `make` lists the targets. Every target builds what it needs.
PYTHON ?= python3
VENV ?= .venv
PY := $(VENV)/bin/python
READY := $(VENV)/.ready
ARGS ?=
TIMEOUT ?= 20
MAKEFLAGS += --no-builtin-rules
.DEFAULT_GOAL := help
.NOTPARALLEL:
FIG1 := fig1a fig1b fig1c fig1d fig1e fig1f fig1g fig1h fig1i fig1j
PAIRS := fig1ab fig1cd fig1ef fig1gh fig1ij
.PHONY: help all setup .install data plan fig1 $(FIG1) $(PAIRS) fig2 fig3 fig4 fig5 fig6 fig7 figures smoke claims report table1 table2 table3 tables theory redraw verify paper paper-check gpu-check gpu-evidence sync watch dashboard .dashboards .browser test test-slow test-slurm test-faults mutants lint clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo '  TIER=paper|laptop|short|smoke (default: paper where a CPU does it in minutes)   ARGS="Hydra overrides"'

setup: $(READY)  ## .venv with the pinned dependencies

# The stamp says what was installed. It is written last, so that an interrupted installation starts again. The lock is for
# two makes at once; Python takes it, since a Mac has no flock command.
WANTED := $(shell cat requirements.txt constraints.txt | cksum)
ifneq ($(shell cat $(READY) 2>/dev/null),$(WANTED))
.PHONY: $(READY)
endif
$(READY):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	    echo "setup: Python 3.11 or newer is needed, '$(PYTHON)' is not; use make PYTHON=/path/to/python3.11" >&2; exit 2; }
	@$(PYTHON) -c 'import fcntl, subprocess, sys; lock = open(".setup.lock", "w"); fcntl.flock(lock, fcntl.LOCK_EX); \
	    sys.exit(subprocess.call(sys.argv[1:], close_fds=False))' $(MAKE) --no-print-directory .install

.install:
	@set -e; fail() { echo "setup: $$1" >&2; exit 2; }; \
	if [ "$$(cat $(READY) 2>/dev/null)" = "$(WANTED)" ]; then exit 0; fi; \
	$(PY) -m pip --version >/dev/null 2>&1 || { \
	    if [ -L $(VENV) ]; then fail "$(VENV) links to an environment without pip; remove the link"; fi; \
	    { rm -rf $(VENV); $(PYTHON) -m venv $(VENV) >/dev/null 2>&1; } || \
	    { $(PYTHON) -m venv --clear --without-pip $(VENV) && $(PYTHON) -m pip --python $(PY) install -q pip; } 2>/dev/null || \
	    { rm -rf $(VENV); fail "this Python cannot make a virtual environment; on Debian: apt install python3-venv"; }; }; \
	echo "setup: installing into $(VENV), once (about 3 GB with CUDA; README says how to get the CPU build)"; \
	$(PY) -m pip install -q --disable-pip-version-check -r requirements.txt -c constraints.txt || \
	    fail "pip failed, see above; rerun the same command"; \
	echo "$(WANTED)" > $(READY)

data: $(READY)  ## download and verify MNIST, CIFAR-10 and CIFAR-100
	@$(PY) -m data $(ARGS)

# If runs are missing, the picture is drawn anyway and says so; the exit status is the sweep's.
SWEEP = $(PY) sweep.py tier=$(TIER) launcher=local $(ARGS)
pair_of = $(strip $(foreach pair,ab cd ef gh ij,$(if $(findstring $1,$(pair)),$(pair))))
fig2 fig4 plan: TIER ?= paper
$(FIG1) $(PAIRS) fig1 fig5 fig6 fig7: TIER ?= laptop

plan: $(READY)  ## runs, done and hours of every experiment at a tier; trains nothing
	@$(PY) sweep.py plan=true tier=$(TIER) launcher=local $(ARGS)

# ImageNet has no laptop tier.
fig1: $(if $(filter-out laptop,$(TIER)),$(PAIRS),$(filter-out fig1ij,$(PAIRS)))  ## figure 1, all networks; fig1ab ... fig1ij, or fig1a ...: one network

# At the laptop tier the controls come after the paper's methods are drawn, and the first epochs are a separate experiment.
FIRST = $(if $(findstring only=,$(ARGS)),,'only=[sgdm,powersgd,powersgdm,adagrad,rmsprop,adam]')
$(FIG1) $(PAIRS): fig1%: $(READY)
	@drawn() { $(SWEEP) experiment=$$1 $$3; status=$$?; [ $$status = 2 ] || $(PY) -m figures $$2 --tier $(TIER); return $$status; }; \
	name=fig1$(call pair_of,$*); \
	$(if $(filter laptop,$(TIER)),$(if $(FIRST),drawn $$name $@ $(FIRST) && )drawn $$name $@ && \
	drawn $${name}_early $${name}_early,drawn $$name $@)

fig2: $(READY)  ## figure 2: SGD and PowerSGD on 13 layers, MNIST
fig4: $(READY)  ## figure 4: which depths train, MNIST (hours)
fig5: $(READY)  ## figure 5: best test accuracy by gamma and lr, CIFAR-10
fig6: $(READY)  ## figure 6: train loss by gamma and lr, CIFAR-10
fig7: $(READY)  ## figure 7: warm restarts, CIFAR-10
fig2 fig4 fig5 fig6 fig7:
	@$(SWEEP) experiment=$@; status=$$?; [ $$status = 2 ] || $(PY) -m figures $@ --tier $(TIER); exit $$status

fig3: $(READY)  ## figure 3: the amplification, computed
	@$(PY) -m figures fig3

figures: fig1 fig2 fig3 fig4 fig5 fig6 fig7  ## all figures, each at its own tier unless TIER= says otherwise

table1 table2 table3: $(READY)
	@$(PY) -m figures $@

# ImageNet's panels need its images; the others download their data.
SMOKE := tables $(filter-out fig1ij,$(PAIRS)) fig2 fig3 fig4 fig5 fig6 fig7 claims report
smoke: $(READY)  ## everything at the smoke tier, end to end (minutes); shows that it runs
	@$(MAKE) --no-print-directory TIER=smoke $(SMOKE)

claims: TIER ?= laptop
claims: $(READY)  ## every claim of the paper with its verdict and evidence, at a tier
	@$(PY) -m analysis.claims --tier $(TIER)

report: $(READY)  ## results/report.html: every claim with its verdict, every figure, and the cost of what was not run
	@set -e; for tier in $(filter-out short,$(or $(TIER),paper laptop)); do \
	    $(PY) sweep.py plan=true archive=true tier=$$tier launcher=local $(ARGS) > /dev/null; done
	@$(PY) -m report $(if $(TIER),--tier $(TIER))
	@set -e; for tier in $(or $(TIER),paper laptop short); do $(PY) -m analysis.claims --tier $$tier > /dev/null; done

all: tables figures theory claims report  ## all tables and figures, the theorems, the verdicts, the report

tables: table1 table2 table3  ## the paper's three tables, from code and configs

theory: $(READY)  ## the four theorems and the proofs' remarks, tested numerically (about 10 minutes)
	@$(PY) -m theory $(ARGS)

redraw: $(READY)  ## all figures from the tables in git; trains nothing
	@$(PY) -m figures --redraw
	@$(PY) -m figures fig3
	@$(PY) -m theory redraw=true

paper-check: $(READY)  ## every paper-tier experiment: built, stepped on meta, one real step (no GPU)
	@$(PY) -m sweeps.paper_check

# Each step skips what is done, so rerun the same command to resume after Ctrl-C.
PAPER = $(PY) sweep.py experiments=[all] tier=paper launcher=local launcher.gpus=$(GPUS) keep=weights $(ARGS)
paper: $(READY)  ## the whole paper tier on GPUS=8 of this machine, at most HOURS=168 on each; plan=true only shows the plan (docs/cluster.md)
	@test -n "$(GPUS)" || { echo "paper: how many GPUs? make paper GPUS=8" >&2; exit 2; }
ifdef plan
	@$(PAPER) plan=true
else
	@$(PY) -m benchmarks.gpu_check --gpus $(GPUS) --once
	@$(PAPER) calibrate=true
	@$(PAPER) plan=true
	@test -n "$(HOURS)" || { echo "paper: to train, allow hours on each GPU: make paper GPUS=$(GPUS) HOURS=168" >&2; exit 2; }
	@$(PAPER) retry=true report=true budget=$$(($(GPUS) * $(HOURS)))
endif

gpu-check:  ## does everything run on this machine's GPU? needs only torch, torchvision and numpy
	@$(or $(wildcard $(PY)),$(PYTHON)) -m benchmarks.gpu_check $(ARGS)

verify: $(READY)  ## is every run, table, plan and data file intact? restores what it can
	@$(PY) sweep.py verify=true $(ARGS)

MINUTES ?= 25
gpu-evidence:  ## for a GPU for half an hour: gpu-check, then whole paper-tier runs, the most decisive first (docs/cluster.md)
	@$(or $(wildcard $(PY)),$(PYTHON)) -m benchmarks.gpu_evidence --minutes $(MINUTES) $(ARGS)

sync: $(READY)  ## upload to W&B what was logged offline or not received because a server failed
	@$(PY) -m dashboards sync

watch: $(READY)  ## live curves of this machine's runs in the terminal, without an account (wandb leet)
	@$(PY) -m dashboards watch

dashboard: $(READY) .dashboards  ## in your W&B project: a view per figure, the archive's runs, claims, a report (docs/wandb.md)
	@$(PY) -m dashboards publish $(ARGS)

# wandb-workspaces is only for the dashboard and its tests, which are skipped without it.
.dashboards: $(READY)
	@$(PY) -c 'import wandb_workspaces' 2>/dev/null || \
	    $(PY) -m pip install -q --disable-pip-version-check -r requirements-dashboards.txt || \
	    echo "wandb-workspaces cannot be installed, see above" >&2

# selenium and axe test the report in a browser, if there is one.
.browser: $(READY)
	@! command -v chromedriver > /dev/null || $(PY) -c 'import axe_core_python, selenium' 2>/dev/null || \
	    $(PY) -m pip install -q --disable-pip-version-check -r requirements-browser.txt || \
	    echo "selenium cannot be installed, see above" >&2

test: $(READY) .dashboards .browser  ## the tests, minutes; none may take more than TIMEOUT=20 seconds
	@$(PY) -m pytest -q -n auto --maxprocesses 8 --dist worksteal --timeout $(TIMEOUT)

test-slow: $(READY)  ## the long tests
	@$(PY) -m pytest -q -m slow

test-slurm: $(READY)  ## launcher=slurm, with a SLURM started for it (needs slurm-wlm, munge, requirements-slurm.txt)
	@POWERSGD_TEST_SLURM=1 $(PY) -m pytest -q -m slow tests/test_slurm.py

test-faults: $(READY)  ## thousands of faults: kills, full disks, power cuts, flipped bits (needs cc); writes docs/reliability.md
	@$(PY) -m tests.faults --write $(ARGS)

mutants: $(READY)  ## which deliberate mistakes in the code that all results depend on do the tests notice? (minutes)
	@$(PY) -m tests.mutants

lint: $(READY)  ## ruff and types
	@$(PY) -m ruff check . && $(PY) -m ruff format --check . && $(VENV)/bin/basedpyright

clean:  ## caches and build leftovers; keeps .venv, downloads and results
	rm -rf .cache build mutants *.egg-info .pytest_cache .ruff_cache .hypothesis results/.multirun
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

.DEFAULT:
	@near=$$($(PYTHON) -c 'import difflib, sys; print(*difflib.get_close_matches(sys.argv[1], sys.argv[2:], 1))' $@ \
	    $(FIG1) $(PAIRS) table1 table2 table3 $$(awk -F: '/^[a-z0-9-]+:.*## / {print $$1}' Makefile)); \
	echo "make: there is no target '$@'$${near:+; did you mean make $$near}$${near:+?}" >&2; \
	[ "$$near" ] || echo "make lists them" >&2; exit 2

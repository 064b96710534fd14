# make setup   a virtual environment in .venv with facefind and all it takes to work on it
# make demo    find the faces of two public-domain portraits and of a crowd made from them
# make lint    ruff (check and format) and mypy
# make test    lint, then the whole test suite
# make docs    the documentation as a site, build/site, whose links are checked
# make test-oldest, make test-newest   the test suite (or TESTS="tests/images ...") with the oldest
#              or newest versions that pyproject.toml allows, each in an environment of its own
# make clean   remove what the other targets made, the environment excepted

PYTHON ?= $(shell command -v python3.11 || command -v python3)
# Named exactly, and installed first: a bare `torch` may resolve to a build with gigabytes of CUDA.
TORCH ?= torch==2.13.0
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/setup.stamp

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: setup demo test test-oldest test-newest lint docs clean

setup: $(STAMP)

# pip 25.1 is the first that knows --group. Where venv comes without ensurepip, the pip outside
# puts one in.
$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "facefind needs Python 3.11 or newer: make setup PYTHON=python3.11" >&2; exit 1; }
	$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv $(VENV) || { \
	  $(PYTHON) -m venv --clear --without-pip $(VENV) \
	  && $(PYTHON) -m pip --python $(BIN)/python install --quiet pip; }
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet "$(TORCH)"
	$(BIN)/python -m pip install --quiet --editable . --group dev
	@touch $@
	@echo "facefind is ready: $(BIN)/facefind --help"

demo: $(STAMP)
	$(BIN)/python examples/demo.py demo

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Two processes, each with one thread; a file's tests share what they build and stay together.
test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

# Torch is the same one in all: its old builds bring gigabytes of CUDA. Old versions warn of what has
# become old since.
test-oldest: RESOLUTION := lowest-direct
test-newest: RESOLUTION := highest
# What only the group names would be new in both.
test-oldest test-newest: EXTRAS := cv,onnx,train,export,quantize,eval,video,serve,cloud,tables
test-oldest test-newest: $(STAMP)
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(VENV)/$@
	$(BIN)/python -m pip --python $(VENV)/$@/bin/python install --quiet "$(TORCH)"
	$(BIN)/uv pip install --quiet --python $(VENV)/$@/bin/python --resolution $(RESOLUTION) \
	  "$(TORCH)" --editable ".[$(EXTRAS)]" --group test
	$(BIN)/uv pip list --python $(VENV)/$@/bin/python
	OMP_NUM_THREADS=1 $(VENV)/$@/bin/python -m pytest -n 2 --dist loadfile \
	  --no-loadscope-reorder -W ignore::DeprecationWarning $(TESTS)

# The Markdown is copied as it lies in the repository, so that links are the same in both. Browsers
# search only what comes from a server: python -m http.server -d build/site
docs: $(STAMP)
	$(BIN)/python -m pip install --quiet --group docs
	rm -rf build/docs build/site
	mkdir -p build/docs
	cp -R README.md CONTRIBUTING.md CHANGELOG.md docs deploy build/docs
	$(BIN)/zensical build --clean --strict
	$(BIN)/python docs/check_site.py build/site

clean:
	rm -rf demo dist build .cache .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

# Every target makes its own virtual environment where there is none.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.PHONY: demo test lint docs audit fuzz wheel bench quality clean

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt torch
	$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $(STAMP)

# The main job on real data, from an embedded Kafka-protocol broker to a report.
demo: $(STAMP)
	$(BIN)/python -m examples.demo

test: $(STAMP)
	$(BIN)/python -m pytest -q -n 2 --dist worksteal

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The site, in build/site; its tutorials run while it is built.
docs: $(STAMP)
	$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt -e '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build -q

# Known vulnerabilities of what is installed; fails when there are any, or nobody could be asked.
audit: $(STAMP)
	$(BIN)/python .ci/audit.py

# The HTTP API, asked what its description allows and what it forbids.
fuzz: $(STAMP)
	$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt -e '.[fuzz]'
	$(BIN)/python .ci/fuzz.py

# The wheel in an empty environment: what a user installs, with all that it names.
wheel: $(STAMP)
	rm -rf build/wheel && $(PYTHON) -m venv build/wheel
	$(BIN)/pip wheel -q --disable-pip-version-check --no-deps -w build/wheel .
	build/wheel/bin/pip install -q --disable-pip-version-check -c constraints.txt build/wheel/*.whl
	cd build/wheel && bin/python -c "print('x,c', *(f'{i},{\"ab\"[i % 2]}' for i in range(200)), sep='\n')" > rows.csv
	cd build/wheel && bin/streamsketch init rows.csv > p.toml && bin/streamsketch replay rows.csv --pipeline p.toml

bench: $(STAMP)
	$(BIN)/python -m benchmarks.kernels
	$(BIN)/python -m benchmarks.sources

quality: $(STAMP)
	$(BIN)/python -m benchmarks.quality_tables
	$(BIN)/python -m benchmarks.quality

clean:
	rm -rf $(VENV) build dist *.egg-info

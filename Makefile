# Everything a newcomer needs: `make demo` and `make test`. Who changes the code: `make dev`, `make check`, `make lint`.
# Each target sets up what it needs and may be repeated.
#
# The package is built in two ways that never mix:
# - with Cargo's profile `dev`, which builds quickly, in .venv: for demo and tests (installed from a wheel), and for
#   `make dev` (installed in place, until a target needs the wheel again);
# - with the profile `release`, in dist/ and .venv-release: for users and benches.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CARGO ?= cargo
# Property tests draw the same cases in every run, so that the gate is red for a reason; `make fuzz` draws new ones.
export PROPTEST_RNG_SEED ?= 20261126
# uv trusts the certificates of the machine, as pip and Cargo do: some networks have one of their own.
export UV_SYSTEM_CERTS ?= true
# Many build machines set these. A test that needs the first would fail for everybody else; the second makes each process
# compile Prefect again, for seconds.
unexport PYTHONUNBUFFERED
unexport PYTHONDONTWRITEBYTECODE
DENY_VERSION := 0.20.2
DENY := .tools/cargo-deny-$(DENY_VERSION)/bin/cargo-deny
# Most tests wait for something, so three run at a time on two cores.
PYTEST := -m pytest -n 3 --dist worksteal
RUST_SOURCES := Cargo.toml Cargo.lock $(shell find src -name '*.rs' -o -name '*.html')
WHEEL_SOURCES := $(RUST_SOURCES) pyproject.toml $(shell find python python-data -name '*.py' -o -name '*.pyi' -o -name '*.pth' -o -name py.typed)

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

# Before a build: a Rust that is too old fails late, and with a page of errors.
.PHONY: rust
rust:
	@sh tools/need.sh rust $(CARGO)

.PHONY: demo
demo: $(VENV)/.wheel ## run a Prefect flow on an emulated Cloud Run, from deployment to clean-up
	@$(BIN)/python demo/run.py $(ARGS)

.PHONY: wheel
wheel: dist/.wheel ## build the release wheel into dist/

.PHONY: dist
dist: $(VENV)/.packages .tools/dist/.packages rust ## make, check and try the files of a release, in dist/release/; about 20 minutes
	@$(BIN)/python -m tools.dist $(ARGS)

.PHONY: image-check
image-check: $(VENV)/.packages rust ## run the commands of the Dockerfile's build stages, without a container engine; some minutes
	@$(BIN)/python -m tools.image

.PHONY: release-notes
release-notes: $(VENV)/.packages ## print what CHANGELOG.md says about this version
	@$(BIN)/python tools/release_notes.py

.PHONY: dev
dev: $(VENV)/.packages rust ## build the package in place, for development
	@# The wheel that was installed is replaced.
	rm -f $(VENV)/.wheel
	VIRTUAL_ENV=$(abspath $(VENV)) PATH="$(abspath $(BIN)):$$PATH" maturin develop --uv --quiet

.PHONY: check
check: dev ## test what can be tested in three minutes: all of Rust with 1 000 property cases, Python without slow tests
	@# macOS has a make that lacks this option.
	@$(MAKE) --no-print-directory --jobs=2 $(if $(filter output-sync,$(.FEATURES)),--output-sync=target) check-rust check-python

.PHONY: check-rust
check-rust: rust
	PROPTEST_CASES=1000 $(CARGO) test --locked --no-default-features --lib --tests

.PHONY: check-python
check-python:
	$(BIN)/python $(PYTEST) -m "not slow"

.PHONY: test
test: test-rust test-python test-prefects ## run all tests

.PHONY: test-rust
test-rust: rust ## test the core and the emulator, without Python
	$(CARGO) test --locked --no-default-features

.PHONY: test-python
test-python: $(VENV)/.wheel $(VENV)-beside/.packages ## test the installed wheel
	$(BIN)/python $(PYTEST)

.PHONY: test-prefects
test-prefects: $(VENV)-oldest/.wheel $(VENV)-newest/.wheel ## test what depends on Prefect's functions with its oldest and newest
	for venv in $(VENV)-oldest $(VENV)-newest; do $$venv/bin/python $(PYTEST) \
		tests/python/test_rendering.py tests/python/test_configuration.py tests/python/test_submission.py || exit 1; done

.PHONY: docs
docs: $(VENV)/.wheel ## write the parts of the documents that are made from the code: settings, and errors from a test's output
	$(BIN)/python tools/settings_table.py
	WRITE_DOCS=1 $(BIN)/python -m pytest -q tests/python/test_first_errors.py

.PHONY: bench
bench: bench-rendering bench-worker ## measure all, Prefect's rendering and the upstream worker too; about 40 minutes

.PHONY: bench-rendering
bench-rendering: $(VENV)-release/.wheel ## measure rendering, and Prefect's own
	$(CARGO) bench --locked --no-default-features --bench core
	$(VENV)-release/bin/python benches/rendering.py

.PHONY: bench-worker
bench-worker: $(VENV)-release/.wheel $(VENV)-bench/.packages ## measure this worker and upstream's (ARGS="--only submission --quick")
	$(VENV)-release/bin/python -m benches.worker $(ARGS)

.PHONY: plot-shares
plot-shares: $(VENV)-bench/.packages ## simulate three workers on one quota, and draw docs/quota-shares.png
	QUOTA_SHARES=$(abspath $(VENV)-bench/shares.csv) $(CARGO) test --locked --no-default-features --lib begins_later
	$(VENV)-bench/bin/python benches/watching/plot_shares.py $(VENV)-bench/shares.csv docs/quota-shares.png

.PHONY: bench-burst
bench-burst: $(VENV)-release/.wheel $(VENV)-bench/.packages ## measure hundreds of flow runs due at once, with PostgreSQL (ARGS="--runs 50 --sqlite")
	$(VENV)-release/bin/python -m benches.burst $(ARGS)

.PHONY: bench-deletions
bench-deletions: $(VENV)-release/.wheel ## measure the memory of deletes that wait; about 4 minutes
	$(VENV)-release/bin/python -m benches.deletions $(ARGS)

.PHONY: bench-observer
bench-observer: $(VENV)/.wheel ## count the calls of the observer's passes; about 1 minute
	$(BIN)/python -m benches.observer $(ARGS)

.PHONY: fuzz
fuzz: ## draw a million new cases of each property of the state machine, of templates and of job bodies; about an hour
	env -u PROPTEST_RNG_SEED PROPTEST_CASES=$${PROPTEST_CASES:-1000000} $(CARGO) test --locked --no-default-features --release --test it -- \
		odd_input:: lifecycle_machine::

.PHONY: soak
soak: $(VENV)/.wheel ## run 1 000 flow runs, 200 at once, against an API that fails one call in ten (ARGS="--seed 1")
	$(BIN)/python -m tests.python.soak $(ARGS)

.PHONY: lint
lint: $(VENV)/.wheel $(DENY) ## check formatting, lints, types, licences and sources
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	$(CARGO) check --locked --no-default-features
	$(DENY) --locked check -D warnings licenses bans sources
	$(BIN)/python src/schema/generate.py --check
	$(BIN)/python tools/check_structure.py
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/python -m mypy.stubtest prefect_gcp_cloud_run._core

.PHONY: site
site: .tools/site/.packages ## make the site of the documentation in .site/html/; a broken link is an error
	.tools/site/bin/python tools/site.py

.PHONY: audit
audit: $(VENV)/.packages $(DENY) ## look for known vulnerabilities, where the advisory databases can be reached
	@found=$$($(DENY) --locked check advisories 2>&1) || { echo "$$found"; case "$$found" in \
		*"failed to fetch"*) echo "make audit: RustSec's advisory database (github.com) can't be reached from here";; \
		*) echo "make audit: an advisory applies to a crate";; esac; exit 1; }
	@for lock in requirements.lock benches/requirements.lock docker/*.lock tools/*.lock tests/prefect-*.lock; do \
		found=$$($(BIN)/uv tool run --quiet pip-audit@2.10.1 --strict --disable-pip --require-hashes -r $$lock 2>&1) || { \
		echo "$$found"; case "$$found" in \
		*"ound "*"vulnerabilit"*) echo "make audit: an advisory applies to a package of $$lock";; \
		*) echo "make audit: PyPI's advisories (pypi.org) can't be reached from here";; esac; exit 1; }; done

.PHONY: lock
lock: $(VENV)/.packages ## renew the pinned Python packages of demo, tests and benches (KEEP=1: only add and remove)
	$(BIN)/uv pip compile --quiet $(if $(KEEP),,--upgrade) --universal --python-version 3.10 --generate-hashes --no-emit-index-url \
		--extra all-extras --group dev pyproject.toml --output-file requirements.lock --custom-compile-command "make lock"
	$(BIN)/uv pip compile --quiet $(if $(KEEP),,--upgrade) --universal --python-version 3.10 --generate-hashes --no-emit-index-url \
		benches/requirements.in --output-file benches/requirements.lock --custom-compile-command "make lock"
	$(BIN)/uv pip compile --quiet $(if $(KEEP),,--upgrade) --universal --python-version 3.10 --generate-hashes --no-emit-index-url \
		tools/dist.in --output-file tools/dist.lock --custom-compile-command "make lock"
	$(BIN)/uv pip compile --quiet $(if $(KEEP),,--upgrade) --universal --python-version 3.10 --generate-hashes --no-emit-index-url \
		tools/site.in --output-file tools/site.lock --custom-compile-command "make lock"
	# The image has the versions that are tested.
	$(BIN)/uv pip compile --quiet --universal --python-version 3.10 --generate-hashes --no-emit-index-url --constraint requirements.lock \
		pyproject.toml --output-file docker/worker.lock --custom-compile-command "make lock"
	$(BIN)/uv pip compile --quiet --universal --python-version 3.10 --generate-hashes --no-emit-index-url --constraint requirements.lock \
		docker/build.in --output-file docker/build.lock --custom-compile-command "make lock"

.PHONY: schema
schema: $(VENV)/.packages ## renew src/schema/run_v1.rs from the pinned google-api-python-client
	$(BIN)/python src/schema/generate.py

.PHONY: clean
clean: ## remove everything that the other targets made
	rm -rf $(VENV) $(VENV)-beside $(VENV)-oldest $(VENV)-newest $(VENV)-release $(VENV)-bench .bench .demo .site .tools dist target
	rm -f python/prefect_gcp_cloud_run/_core.*so

# The packages that demo and tests need, with the versions and hashes of the lock file.
$(VENV)/.packages: requirements.lock
	@sh tools/need.sh python $(PYTHON)
	$(PYTHON) -m venv $(VENV)
	@# pip installs uv only, which takes a fraction of pip's time for the rest. uv does not read where pip finds packages.
	awk '/^[^ ]/ {is_uv = /^uv==/} is_uv' requirements.lock > $(VENV)/uv.lock && test -s $(VENV)/uv.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --require-hashes --requirement $(VENV)/uv.lock
	index=$$($(BIN)/pip config get global.index-url 2>/dev/null || true); \
	UV_DEFAULT_INDEX=$${UV_DEFAULT_INDEX:-$${PIP_INDEX_URL:-$${index:-https://pypi.org/simple}}} \
	$(BIN)/uv pip install --quiet --python $(VENV) --compile-bytecode --no-deps --require-hashes --requirement requirements.lock
	@touch $@

$(DENY):
	CARGO_PROFILE_DEV_DEBUG=0 $(CARGO) install --quiet --locked --debug --root $(@D)/.. cargo-deny@$(DENY_VERSION)

# The programs that a release or the site needs.
.tools/%/.packages: $(VENV)/.packages tools/%.lock
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python .tools/$*
	$(BIN)/uv pip install --quiet --python .tools/$* --no-deps --require-hashes --requirement tools/$*.lock
	@touch $@

# The upstream worker's environment.
$(VENV)-bench/.packages: $(VENV)/.packages benches/requirements.lock
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(VENV)-bench
	$(BIN)/uv pip install --quiet --python $(VENV)-bench --require-hashes --requirement benches/requirements.lock
	@touch $@

# The wheel for demo and tests.
$(VENV)/.wheel: $(VENV)/.packages $(WHEEL_SOURCES) | rust
	rm -rf target/wheels/dev
	$(BIN)/maturin build --out target/wheels/dev
	$(BIN)/pip install --quiet --disable-pip-version-check --force-reinstall --no-deps target/wheels/dev/*.whl
	@touch $@

# What the tests of this package beside upstream's need, so that they stay on this machine: the packages that both need,
# in an environment to be copied, and upstream's wheel.
$(VENV)-beside/.packages: $(VENV)/.packages requirements.lock tests/prefect-gcp.lock
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(VENV)-beside
	@# Upstream imports most of Google's packages. The copies of the environment share what is compiled here.
	$(BIN)/uv pip install --quiet --python $(VENV)-beside --compile-bytecode --no-deps --require-hashes \
		--requirement requirements.lock
	$(BIN)/pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: --require-hashes \
		--requirement tests/prefect-gcp.lock --dest $(VENV)-beside/upstream
	@touch $@

# The wheel for users and benches.
dist/.wheel: $(VENV)/.packages $(WHEEL_SOURCES) | rust
	rm -f dist/*.whl
	$(BIN)/maturin build --release --out dist
	@touch $@

$(VENV)-release/.wheel: dist/.wheel requirements.lock
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(VENV)-release
	$(BIN)/uv pip install --quiet --python $(VENV)-release --no-deps --require-hashes --requirement requirements.lock
	$(BIN)/uv pip install --quiet --python $(VENV)-release --no-deps dist/*.whl
	@touch $@

# The wheel for tests with another Prefect: one that the lock file's packages serve well enough for the tests of its functions.
$(VENV)-%/.wheel: $(VENV)/.wheel tests/prefect-%.lock
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(VENV)-$*
	for lock in requirements.lock tests/prefect-$*.lock; do $(BIN)/uv pip install --quiet --python $(VENV)-$* \
		--no-deps --require-hashes --requirement $$lock || exit 1; done
	$(BIN)/uv pip install --quiet --python $(VENV)-$* --no-deps target/wheels/dev/*.whl
	@touch $@

# make demo     the tour, in one process: a broker, a producer, Rondel; join it with psql
# make test     every test, the real Kafka's among them
# make oracle   random queries against DataFusion's batch answer, and DuckDB's: CASES=10000 SEED=1
# make simulate  whole servers that are killed at any step: SEEDS=20000 SEED=1
# make fuzz     bytes that no protobuf library would write: SECONDS=1800
# make fmt lint bench docs setup
SHELL := bash

# One cache of compiled dependencies for all checkouts and all targets, outside of them.
export CARGO_TARGET_DIR ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/rondel/target

CASES ?= 1000
SEED ?=
SEEDS ?= 1000
SECONDS ?= 60

# Always the whole workspace, whatever is built of it: parts of it would choose other features of the dependencies, and
# compile them again.
CARGO_ARGS := --workspace --locked

.PHONY: demo test oracle simulate fuzz fmt lint docs bench bench-protobuf setup components

demo: toolchain
	@tests/components/setup.sh build
	cargo build $(CARGO_ARGS) --bin rondel
	@exec "$(CARGO_TARGET_DIR)/debug/rondel" demo

test: toolchain components
	cargo test $(CARGO_ARGS)

# Empty SEED: a new one for each run; a failure prints it.
oracle: toolchain components
	RONDEL_ORACLE_CASES=$(CASES) $(if $(SEED),RONDEL_ORACLE_SEED=$(SEED)) \
		cargo test $(CARGO_ARGS) --test integration -- --nocapture oracle

# Empty SEED: the seeds from 0 on; a failure prints its own.
simulate: toolchain
	@tests/components/setup.sh build
	RONDEL_SIMULATE_SEEDS=$(SEEDS) $(if $(SEED),RONDEL_SIMULATE_SEED=$(SEED)) \
		cargo test $(CARGO_ARGS) --lib -- --nocapture --include-ignored --exact \
		simulation::readers_see_what_an_undisturbed_run_would_show

fuzz: toolchain
	@tests/components/setup.sh build
	fuzz/run.sh $(SECONDS)

fmt:
	cargo fmt --all

lint: toolchain
	cargo fmt --all --check
	cargo clippy $(CARGO_ARGS) --all-targets -- -D warnings

docs: toolchain
	RUSTDOCFLAGS="-D warnings" cargo doc $(CARGO_ARGS) --no-deps

bench: toolchain
	@tests/components/setup.sh build
	cargo bench $(CARGO_ARGS) --benches
	cargo build $(CARGO_ARGS) --release --bin rondel --bin rondel-poll
	"$(CARGO_TARGET_DIR)/release/rondel" bench

# The protobuf format alone, without what else Rondel is made of.
bench-protobuf: toolchain
	@tests/components/setup.sh build
	cargo run --release --locked --manifest-path bench/Cargo.toml --target-dir "$(CARGO_TARGET_DIR)/bench" -- --ratios

# What compiling and testing need of the system and of the package registries, if it is not there yet.
setup: components

components:
	@tests/components/setup.sh build tests

.PHONY: toolchain
toolchain:
	@tests/components/setup.sh toolchain

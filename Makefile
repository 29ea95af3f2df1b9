# Everything a contributor does. `make` alone says what there is.

# What one night has time for.
CUTS = 500
FAULTS = 1000
KILLS = 1000
BIG = 10
# What to fuzz, and for how long.
TARGET = all
SECONDS = 3600
# Tests at a time: many wait for a peer, a disk or a flush more than they compute.
export RUST_TEST_THREADS ?= 4

.PHONY: help setup compiler build demo test check format fuzz power-cut faults kill-night bench bench-flush bench-codec \
	bench-scale bench-link big

help: ## This list
	@sed -n 's/^\([a-z-]*\):[^#]*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 13
	@echo
	@echo 'Variables: STUDY=folder and ARCHIVE=url for demo; WAYSTATION_STUDIES=folder for test (a folder of DICOM files;'
	@echo 'without it the tests send the files that pydicom brings along); CUTS, FAULTS, KILLS: how many; BIG: how many GiB;'
	@echo 'BENCH=options for the benchmarks, such as "--rounds 3"; for bench-link also "--only 10m-loss", "--quick".'

setup: ## Install what building and testing need: C and C++ compilers, cmake, DCMTK, Orthanc, pynetdicom, dcmjs-dimse (Debian)
	@scripts/setup-test-peers

build: compiler ## The gateway, optimised: target/release/waystation
	cargo build --release --locked

demo: compiler ## Two gateways, a throw-away CA and a study, on this machine: sent, carried over TLS, proven
	cargo build --release --locked --bin waystation --example demo
	cargo run --release --locked --quiet --example demo

compiler:
	@scripts/setup-test-peers compiler

check: ## Format, lints, documentation, dependencies (cargo-deny, if it is installed)
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps --document-private-items --locked --quiet
	@if command -v cargo-deny >/dev/null; then cargo deny check; else echo 'cargo-deny is not installed: dependencies not checked'; fi

test: setup ## Format, lints and every test, with real peers as modality and archive
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	cargo test --workspace --locked

fuzz: compiler ## Fuzz everything that reads what a peer sent: TARGET=one of them (or all) for SECONDS each
	scripts/fuzz $(TARGET) $(SECONDS)

power-cut: setup ## Cut the power of a disk with a volatile cache under the gateway, CUTS times (root)
	WAYSTATION_CUTS=$(CUTS) cargo test --locked --test faults power_cut -- --nocapture

faults: setup ## Let the system calls of the gateway fail, up to FAULTS of them for each kind of fault
	WAYSTATION_FAULTS=$(FAULTS) cargo test --locked --test faults calls -- --nocapture

kill-night: setup ## Kill the gateway KILLS times while a study passes through it
	WAYSTATION_KILLS=$(KILLS) cargo test --locked --test end_to_end kill9 -- --nocapture

big: setup ## One instance of BIG GiB, and eight at once with half as much together (twice BIG GiB of disk)
	WAYSTATION_BIG=$(BIG) cargo test --locked --test end_to_end large -- --nocapture --test-threads 1

bench: setup ## Durable ingest beside DCMTK, Orthanc and dicom-storescp: a table, also in target/bench/ingest.md
	@scripts/setup-bench-peers
	cargo bench --locked --bench ingest -- $(BENCH)

bench-flush: setup ## The same on a disk with a slow flush (root): target/bench/flush.md
	@scripts/setup-bench-peers flush
	cargo bench --locked --bench ingest -- $(BENCH) flush

bench-codec: setup ## Pixel data filtered, beside zstd, JPEG-LS and HTJ2K, for each folder of WAYSTATION_STUDIES (or a phantom)
	@scripts/setup-bench-peers codec
	cargo bench --locked --bench codec

bench-scale: ## The spool with a million queued instances beside an empty one (8 GB of disk): target/bench/scale.md
	cargo bench --locked --bench scale -- $(BENCH)

bench-link: setup ## Over a bad link, beside dcmsend, storescu and Orthanc (root; hours): target/bench/link.md
	@scripts/setup-bench-peers codec
	cargo bench --locked --bench link -- $(BENCH)

format: ## Format all sources
	cargo fmt --all

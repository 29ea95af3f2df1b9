# Everything a contributor does. `make` alone says what there is.

.PHONY: help setup compiler build demo test bench-codec check format

help: ## This list
	@sed -n 's/^\([a-z-]*\):[^#]*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 13
	@echo
	@echo 'Variables: STUDY=folder and ARCHIVE=url for demo; WAYSTATION_STUDIES=folder for test (a folder of DICOM files;'
	@echo 'without it the tests send the files that pydicom brings along).'

setup: ## Install what building and testing need: a C compiler, DCMTK, Orthanc, pynetdicom (Debian)
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

bench-codec: ## Size and speed of pixel data, filtered and not, for each folder of WAYSTATION_STUDIES (or a phantom)
	cargo bench --locked --bench codec

format: ## Format all sources
	cargo fmt --all

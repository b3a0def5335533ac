# runfleet: `make scale` does the main job, `make test` runs all tests, `make` lists the rest.
STACK ?= local
ARGS  ?=
SHELL := /bin/bash
export CARGO_TARGET_DIR ?= $(HOME)/.cache/runfleet-target
export CARGO_INCREMENTAL := 0
BUILT    := $(CARGO_TARGET_DIR)/debug/runfleet
RUNFLEET := $(BUILT) --stack $(STACK)
STAGE    := scripts/stage

.DEFAULT_GOAL := help
.PHONY: help build whole scale plan apply destroy status test check bench docs test-crash fuzz mutants

help: ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo '  STACK=NAME or PATH chooses the stack (default: local, the embedded sandbox); ARGS="…" is passed on.'

# What the stack needs and no more: Amazon's SDK alone compiles for minutes.
build:
	@scripts/setup build
	@cargo build --quiet --locked $$(scripts/features $(STACK))

whole:
	@scripts/setup build
	@cargo build --quiet --locked --all-features

scale: build ## one tick: read the demand, plan, apply
	@$(RUNFLEET) scale $(ARGS)

plan: build ## show what a tick would do
	@$(RUNFLEET) plan $(ARGS)

apply: build ## plan, ask, apply
	@$(RUNFLEET) apply $(ARGS)

destroy: build ## remove everything of the stack
	@$(RUNFLEET) destroy $(ARGS)

status: build ## who is doing what, and what it costs
	@$(RUNFLEET) status $(ARGS)

test: ## all tests
	@scripts/setup test
	@$(STAGE) test-build 1500 cargo test --locked --all-features --no-run
	@$(STAGE) test 2100 scripts/run-tests $(ARGS)

check: ## what CI runs: format, lints, tests, docs, generated files, licences
	@scripts/setup test
	@$(STAGE) format 60 cargo fmt --check
	@$(STAGE) clippy 900 cargo clippy --locked --all-features --all-targets -- -D warnings
	@$(STAGE) features 600 scripts/check-features
	@$(MAKE) --no-print-directory test
	@$(STAGE) kube-fake 900 scripts/kube-fake
	@$(STAGE) docs 300 env RUSTDOCFLAGS='-D warnings' cargo doc --locked --no-deps --all-features
	@$(STAGE) generated 120 scripts/check-generated
	@$(STAGE) deny 900 scripts/deny
	@scripts/run-tests --total

bench: ## speed at 100, 1,000 and 10,000 runners, and of the whole program against a sandbox
	@scripts/setup bench
	@cargo bench --locked --bench fleet -- $(ARGS)
	@benches/end_to_end.py --runfleet $(CARGO_TARGET_DIR)/release/runfleet

docs: whole ## write the generated pages of docs/ anew
	@$(BUILT) docs --out docs
	@echo 'docs/providers.md and docs/ci-systems.md come from the runs of the conformance suites; to write them anew:'
	@echo '  RUNFLEET_WRITE_DOCS=1 cargo test --locked --all-features --test conformance the_page'

test-crash: ## 1,000 kills with kill -9 while applying
	@scripts/setup test
	@RUNFLEET_KILLS=1000 cargo test --locked --all-features --test crash -- --nocapture

fuzz: whole ## any bytes as stack file, state, journal and plan file, a minute each (needs cargo-fuzz)
	@scripts/fuzz

mutants: ## mutation testing of scaling, drain and placement (needs cargo-mutants)
	@cargo mutants $(ARGS)

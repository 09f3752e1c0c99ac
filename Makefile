# Everything that a person or CI runs. Needs Rust (rustup), Go 1.24 or newer, a C compiler and cmake;
# the control plane is built by the targets that need it, once.

# The end-to-end tests wait more than they compute.
export RUST_TEST_THREADS ?= 8
# The pinned toolchain and nothing else decides what a warning is.
CARGO ?= cargo
CHART := charts/cert-controller-manager
REFERENCE := docs/reference
GENERATED := $(CHART)/crds $(CHART)/roles $(REFERENCE)
MANAGER := target/debug/cert-controller-manager

.PHONY: help
help: ## Lists the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: controlplane ## The examples become Secrets on a real API server; KEEP=1 keeps it running
	$(CARGO) build --package cert-controller-manager --package tests --bin cert-controller-manager --bin demo
	@KEEP=$(KEEP) target/debug/demo

.PHONY: test
test: controlplane tools ## All tests: units, protocol, end to end
	$(CARGO) build --workspace --all-targets
	$(CARGO) test --workspace --no-fail-fast

.PHONY: bench
bench: controlplane ## Issues N certificates (200), compares with a bare loop; SCALE=10000: memory of each; RESPONDER=1: DNS
	$(CARGO) build --release --package cert-controller-manager --package tests --bin cert-controller-manager --bin bench
	@target/release/bench

.PHONY: check
check: ## Format, lints, documentation, generated files, words and commit subjects
	@.ci/subjects
	@.ci/words
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- --deny warnings
	RUSTDOCFLAGS='--deny warnings' $(CARGO) doc --workspace --no-deps --document-private-items
	$(MAKE) generate
	@git diff --exit-code -- $(GENERATED) || { echo 'generated files differ: commit what `make generate` wrote'; exit 1; }
	@untracked=$$(git ls-files --others --exclude-standard -- $(GENERATED)); test -z "$$untracked" || { echo "not committed: $$untracked"; exit 1; }

.PHONY: generate
generate: ## Writes the generated files
	$(CARGO) build --workspace --all-targets
	@mkdir -p $(GENERATED)
	$(MANAGER) generate crds --directory $(CHART)/crds
	$(MANAGER) generate roles --directory $(CHART)/roles
	$(MANAGER) generate access --directory $(REFERENCE)
	$(MANAGER) generate flags --directory $(REFERENCE)
	$(MANAGER) generate metrics --directory $(REFERENCE)

.PHONY: controlplane
controlplane: ## Builds etcd, kube-apiserver and Pebble into a cache, unless they are there
	@tests/controlplane/build >/dev/null

.PHONY: tools
tools: ## Builds or installs what only some tests need, unless it is there
	@tests/controlplane/tool helm >/dev/null
	@tests/controlplane/tool kube-controller-manager >/dev/null
	@tests/controlplane/tool kubectl >/dev/null
	@tests/controlplane/tool gateway-crds >/dev/null
	@tests/controlplane/tool keytool >/dev/null
	@tests/controlplane/tool openssl >/dev/null
	@tests/controlplane/tool named >/dev/null
	@tests/controlplane/tool knotd >/dev/null
	@tests/controlplane/tool powerdns >/dev/null
	@tests/controlplane/tool sqlite3 >/dev/null

.PHONY: clean
clean: ## Removes what was built here, not the control plane's cache
	$(CARGO) clean

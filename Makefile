# The stages of the build. Every stage of `make test` also runs alone.
.PHONY: check test test-core test-conformance test-tidy test-e2e testbin bench deny docs snap

# Formatting, the feature walls, lints.
check:
	cargo fmt --check
	cargo check --no-default-features --lib
	cargo clippy --all-targets -- -D warnings

test: test-core test-conformance test-tidy test-e2e

# Unit and property tests.
test-core:
	cargo test --lib --bins

# The recorded decisions of Knative and of the default mode.
test-conformance:
	cargo test --test conformance

# The tree's own rules.
test-tidy:
	cargo test --test tidy

# A real control plane, real pods' servers, a real Prometheus.
test-e2e: testbin
	cargo test --test e2e

# The Go programs that test-e2e runs, built once.
testbin:
	tests/testbin.sh

bench:
	cargo bench

deny:
	cargo deny check bans licenses sources

# Rewrites the generated pages and manifests.
docs:
	UPDATE_DOCS=1 cargo test --lib --test tidy

snap:
	INSTA_UPDATE=always cargo test --lib

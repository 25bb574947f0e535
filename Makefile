# The stages of the build. Every stage of `make test` also runs alone.
TEST_STAGES := testbin test-core test-conformance test-tidy test-sim test-e2e test-keda test-faults test-page test-demo

.PHONY: test demo check fmt walls lint deny $(TEST_STAGES) swarm bench bench-core bench-cluster bench-keda record-hpa docs snap

# All tests. Installs and builds what is missing on the way.
test:
	tests/stages.sh $(TEST_STAGES)

# Formatting, the feature walls, lints.
check: fmt walls lint

fmt:
	cargo fmt --check

# The core alone, and the simulator with it: no tokio, no kube, no clock.
walls:
	cargo check --no-default-features --lib
	cargo check --no-default-features -F simulator --lib

lint:
	cargo clippy --all-targets -- -D warnings

deny:
	PATH="$$(tests/tools.sh):$$PATH" cargo deny --log-level error check bans licenses sources

# The Go programs that the tests run (a real control plane, Knative's own code, publishers and consumers), and
# Debian's Prometheus, RabbitMQ and NATS.
testbin:
	tests/testbin.sh

# Unit tests, scenarios and properties of the engine, documentation examples.
test-core:
	cargo test --lib --bins --test engine --test process
	cargo test --doc

# Recorded decisions of Knative and of the default mode, then fresh ones against Knative's own code.
test-conformance: testbin
	cargo test --test conformance --test oracle

# The tree's own rules.
test-tidy:
	cargo test --test tidy

# Every scenario of simulations/ with its expectations and its report, a thousand drawn ones, and the command.
test-sim:
	cargo test --no-default-features -F simulator --test sim
	cargo test --test simulate

# Drawn scenarios from many seeds, in an optimised build: make swarm N=10000 FROM=0.
N ?= 1000
FROM ?= 0
swarm:
	PODSWELL_SWARM=$(N) PODSWELL_SWARM_FROM=$(FROM) cargo test --profile swarm \
		--no-default-features -F simulator --test sim swarm

# A real control plane, real pods' servers, a real Prometheus, real queues.
test-e2e: testbin
	cargo test --test e2e -- --nocapture --test-threads=3

# The server that KEDA asks, then KEDA's own client, operator and metrics adapter against podswell.
test-keda: testbin
	cargo test --test keda_server
	cargo test --test keda -- --nocapture --test-threads=2

# Faults under load on a real control plane; order and moments come from a seed, which is printed.
# PODSWELL_FAULT_SEED=N plays it again, PODSWELL_FAULTS=clock,rights only the runs of these names.
test-faults: testbin
	cargo test --test faults -- --nocapture

# The page and the demo in a real browser, and the demo's API beside a real API server.
test-page: testbin
	cargo test --test page -- --test-threads=3

# The demo's story, which ends with 0 only if all came as it should.
test-demo: testbin
	cargo test --test demo

# A story of two minutes on a real control plane, to be watched: load comes and goes, podswell scales
# and says why. Builds and installs what it needs; PODSWELL_DEMO_SECONDS (60 to 1200) stretches it.
demo:
	tests/testbin.sh leash prometheus controlplane
	cargo test --test demo

# The core's benches, then Knative's own benchmark of the same window on the same machine, then KEDA's calls.
bench: bench-core bench-keda bench-cluster

bench-core:
	cargo bench --no-default-features --bench core
	cargo bench --no-default-features -F simulator --bench sim
	cd tests/knative/oracle && go test -run '^$$' -bench BenchmarkWindowAverage \
		knative.dev/serving/pkg/autoscaler/aggregation

# Reaction times on a real control plane, beside Knative's own autoscaler and the HPA, and what many
# workloads cost. The reactions are estimated at 35 to 45 minutes in five runs, a fifth of that with
# PODSWELL_BENCH_RUNS=1; PODSWELL_BENCH_SCENARIOS=size chooses the costs alone.
bench-cluster:
	tests/testbin.sh leash prometheus controlplane knative-autoscaler
	cargo bench --bench cluster

# What KEDA's calls and streams cost, beside the least that a server on its stubs can be. About four
# minutes; wants a quiet machine with at least two cores: the servers have the first one.
# PODSWELL_BENCH_KEDA=Calls (or Streams, Cases) takes one part.
bench-keda:
	tests/testbin.sh leash controlplane keda-crds keda-tests-2.16 keda-tests-2.21
	cargo bench --bench keda

# Records anew what the real kube-controller-manager's HPA does, in seven minutes; the simulator's HPA is
# held against it.
record-hpa:
	tests/testbin.sh leash controlplane
	cargo bench --profile dev --bench hpa_recording

# Rewrites the generated pages and manifests.
docs:
	UPDATE_DOCS=1 cargo test --lib --test tidy
	UPDATE_DOCS=1 cargo test --no-default-features -F simulator --test sim schema

# Takes over changed snapshots.
snap:
	INSTA_UPDATE=always cargo test --lib
	INSTA_UPDATE=always cargo test --no-default-features -F simulator --test sim scenario

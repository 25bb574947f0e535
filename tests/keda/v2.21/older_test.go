package keda

import (
	"os"
	"os/exec"
	"testing"
)

// The last version of KEDA without fractions has a module of its own, since both have the same path.
func TestOlderKEDA(t *testing.T) {
	t.Parallel()
	here := newWorkload(t, 1, 34)
	command := exec.Command(os.Getenv("KEDA_TESTS_2_16"), "-test.v")
	command.Env = append(os.Environ(),
		"PODSWELL_KEDA="+world.podswell.address, "NAMESPACE="+here.Namespace, "DEPLOYMENT="+here.Deployment)
	if output, err := command.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
}

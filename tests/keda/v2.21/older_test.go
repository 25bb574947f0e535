package keda

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// older runs the tests of the last version of KEDA without fractions, which has a module of its own,
// since both have the same path.
func older(t *testing.T, address string, environment ...string) {
	t.Helper()
	here := newWorkload(t, 1, 34)
	command := exec.Command(os.Getenv("KEDA_TESTS_2_16"), "-test.v")
	command.Env = append(os.Environ(),
		"PODSWELL_KEDA="+address, "NAMESPACE="+here.Namespace, "DEPLOYMENT="+here.Deployment)
	command.Env = append(command.Env, environment...)
	if output, err := command.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
}

func TestOlderKEDA(t *testing.T) {
	t.Parallel()
	older(t, world.podswell.address)
}

func TestOlderKEDAWithMutualTLS(t *testing.T) {
	t.Parallel()
	known := newAuthority(t, "podswell test")
	own, folder := known.serve("podswell-older", "keda-operator")
	certificate, key := known.sign("keda-operator")
	for name, text := range map[string]string{"client.crt": certificate, "client.key": key} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	older(t, own.address, "KEDA_TLS="+folder)
}

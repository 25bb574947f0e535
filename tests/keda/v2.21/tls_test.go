package keda

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// authority signs certificates.
type authority struct {
	t           *testing.T
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	pem         string
}

func newAuthority(t *testing.T, name string) *authority {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(raw)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{t, certificate, key, encode("CERTIFICATE", raw)}
}

// sign makes a certificate for loopback and for the DNS name, for clients and servers; PEM.
func (a *authority) sign(name string) (certificate, key string) {
	a.t.Helper()
	own, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	serial, _ := rand.Int(rand.Reader, big.NewInt(1<<62))
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name},
		DNSNames: []string{name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, a.certificate, &own.PublicKey, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	bytes, err := x509.MarshalPKCS8PrivateKey(own)
	if err != nil {
		a.t.Fatal(err)
	}
	return encode("CERTIFICATE", raw), encode("PRIVATE KEY", bytes)
}

func encode(kind string, bytes []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: bytes}))
}

// serve starts a podswell with a certificate of this authority, in the folder that is returned. If clients are
// named, it lets in nobody else.
func (a *authority) serve(system string, clients ...string) (own *process, folder string) {
	a.t.Helper()
	folder = a.t.TempDir()
	certificate, key := a.sign("podswell")
	files(a.t, folder, certificate, key, a.pem)
	flags := []string{"--keda-tls-cert", folder + "/tls.crt", "--keda-tls-key", folder + "/tls.key"}
	if len(clients) > 0 {
		flags = append(flags, "--keda-client-ca", folder+"/ca.crt", "--keda-client-names", strings.Join(clients, ","))
	}
	own, err := start(system, flags...)
	if err != nil {
		a.t.Fatal(err)
	}
	a.t.Cleanup(own.kill)
	return own, folder
}

// files writes the server's certificate, as a mounted secret has it.
func files(t *testing.T, folder, certificate, key, authority string) {
	t.Helper()
	for name, text := range map[string]string{"tls.crt": certificate, "tls.key": key, "ca.crt": authority} {
		path := filepath.Join(folder, name)
		// Never half a file: written beside it and moved into its place.
		if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
}

// C9
func TestTLS(t *testing.T) {
	t.Parallel()
	authority := newAuthority(t, "podswell test")
	own, folder := authority.serve("podswell-tls")
	here := newWorkload(t, 1, 34)
	config := func(authParams map[string]string, more ...string) (specs int, code codes.Code) {
		config := config(here.metadata(more...), own.address)
		config.AuthParams = authParams
		scaler := scaler(t, config)
		_, _, err := scaler.GetMetricsAndActivity(short(t), "s0-any")
		return len(scaler.GetMetricSpecForScaling(short(t))), status.Code(err)
	}
	eventually(t, "the right authority", func() error {
		if specs, code := config(map[string]string{"caCert": authority.pem}); specs != 1 {
			return fmt.Errorf("%d specs, %v", specs, code)
		}
		return nil
	})
	if specs, code := config(map[string]string{"caCert": newAuthority(t, "other").pem}); specs != 0 || code != codes.Unavailable {
		t.Error("a foreign authority is trusted", code)
	}
	eventually(t, "TLS without a look at the certificate", func() error {
		if specs, code := config(nil, "enableTLS", "true", "unsafeSsl", "true"); specs != 1 {
			return fmt.Errorf("%d specs, %v", specs, code)
		}
		return nil
	})
	// KEDA speaks plain then, whatever unsafeSsl says.
	if specs, code := config(nil, "unsafeSsl", "true"); specs != 0 || code != codes.Unavailable {
		t.Error("plain text is taken", code)
	}
	reloaded(t, own, authority, folder, here)
}

// A new certificate counts for new connections and ends no stream.
func reloaded(t *testing.T, own *process, old *authority, folder string, here workload) {
	t.Helper()
	here.scale(0)
	before := config(here.metadata(), own.address)
	before.AuthParams = map[string]string{"caCert": old.pem}
	_, active := push(t, before)
	expectTrue(t, active, "before the new certificate")
	young := newAuthority(t, "podswell test, next year")
	certificate, key := young.sign("podswell")
	files(t, folder, certificate, key, young.pem)
	eventually(t, "the new certificate is served", func() error {
		after := config(here.metadata(), own.address)
		after.AuthParams = map[string]string{"caCert": young.pem}
		if specs := scaler(t, after).GetMetricSpecForScaling(short(t)); len(specs) != 1 {
			return errNotYet
		}
		return nil
	})
	for range 3 {
		expectTrue(t, active, "the old stream lives on")
	}
}

// C9, the other way round: only clients that are known.
func TestMutualTLS(t *testing.T) {
	t.Parallel()
	known := newAuthority(t, "podswell test")
	own, _ := known.serve("podswell-mtls", "keda-operator")
	here := newWorkload(t, 1, 34)
	ask := func(certificate, key string) error {
		config := config(here.metadata(), own.address)
		config.AuthParams = map[string]string{
			"caCert": known.pem, "tlsClientCert": certificate, "tlsClientKey": key,
		}
		scaler := scaler(t, config)
		if len(scaler.GetMetricSpecForScaling(short(t))) == 1 {
			return nil
		}
		_, _, err := scaler.GetMetricsAndActivity(short(t), "s0-any")
		return err
	}
	certificate, key := known.sign("keda-operator")
	eventually(t, "a client that is known", func() error { return ask(certificate, key) })
	for what, err := range map[string]error{
		"no certificate":    ask("", ""),
		"another name":      ask(known.sign("somebody")),
		"another authority": ask(newAuthority(t, "other").sign("keda-operator")),
	} {
		if code := status.Code(err); !isSilence(err) && code != codes.PermissionDenied && code != codes.Unauthenticated {
			t.Errorf("%s: %v", what, err)
		}
	}
}
